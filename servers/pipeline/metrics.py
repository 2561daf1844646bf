"""Prometheus metrics of the data plane. No label is controlled by a tenant or a client.

Counting happens on every call, so it is kept in plain lists and put into Prometheus' shape when it is scraped:
the library's own histogram costs four times as much an observation.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from threading import Lock

from prometheus_client import REGISTRY, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from servers.pipeline import shipping
from servers.protocol import handshake, modern

_METHODS = handshake.METHODS | modern.METHODS
_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
OTHER = "other"
# Sorting a thousand durations at once costs a fifth of sorting each when it is noted.
SETTLE_EVERY = 1_000


class Durations:
    """Counts of durations, in seconds, by bucket. `observe` only notes one; `settle` sorts what was noted."""

    __slots__ = ("_noted", "counts", "observe", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0
        self._noted: list[float] = []
        self.observe = self._noted.append

    def settle(self) -> None:
        """What is noted meanwhile, by another thread, stays for the next time. To be called by one at a time."""
        noted = self._noted[:]
        del self._noted[: len(noted)]
        for seconds in noted:
            self.counts[bisect_left(_BOUNDS, seconds)] += 1
        self.total += sum(noted)

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        running = 0
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self.counts, strict=True):
            running += count
            yield bound, running


class Active:
    """Requests being worked on at the moment, and those counted since durations were last sorted."""

    number = 0
    counted = 0


active = Active()
_settling = Lock()
STAGES = ("authenticate", "admit", "run", "record")
_stages = {stage: Durations() for stage in STAGES}
note_authenticating, note_admitting, note_running, note_recording = (
    durations.observe for durations in _stages.values()
)
_durations = {method: Durations() for method in (*sorted(_METHODS), OTHER)}
_requests = {method: dict.fromkeys(("ok", "error", "refused"), 0) for method in _durations}

refusals = Counter("mcp_refusals", "Requests refused before a server was reached", ["code"])
unlogged = Counter("mcp_unlogged_calls", "Answered calls whose record could not be written")


def count(method: str, status: str, seconds: float) -> None:
    name = method if method in _durations else OTHER
    _requests[name][status] += 1
    _durations[name].observe(seconds)
    settle_sometimes()


def settle_sometimes() -> None:
    active.counted += 1
    if active.counted >= SETTLE_EVERY:
        _settle()


def _settle() -> None:
    active.counted = 0
    with _settling:
        for durations in (*_stages.values(), *_durations.values()):
            durations.settle()


class _Calls(Collector):
    def collect(self) -> Iterable[Metric]:
        _settle()
        yield GaugeMetricFamily("mcp_active_connections", "Requests being worked on", value=active.number)
        requests = CounterMetricFamily(
            "mcp_requests", "JSON-RPC requests and notifications", labels=["method", "status"]
        )
        for method, numbers in _requests.items():
            for status, number in numbers.items():
                requests.add_metric([method, status], number)
        yield requests
        yield _family("mcp_request_duration_seconds", "From head of request to answer", "method", _durations)
        yield _family("mcp_stage_duration_seconds", "Time in a stage of the pipeline", "stage", _stages)
        yield from _lag()


def _lag() -> Iterator[Metric]:
    shipper = shipping.running()
    if shipper is not None:
        lag = shipper.lag()
        text = "Records of calls that are not in the database yet"
        yield GaugeMetricFamily("mcp_journal_lag_records", text, value=lag.records)
        text = "Since all records of calls were in the database"
        yield GaugeMetricFamily("mcp_journal_lag_seconds", text, value=lag.seconds)


def _family(name: str, text: str, label: str, parts: dict[str, Durations]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=[label])
    for value, durations in parts.items():
        family.add_metric([value], list(durations.buckets()), durations.total)
    return family


REGISTRY.register(_Calls())
