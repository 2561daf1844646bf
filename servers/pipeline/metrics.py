"""Prometheus metrics of the data plane. No label is controlled by a tenant or a client."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from servers.protocol import handshake, modern

_METHODS = handshake.METHODS | modern.METHODS
_STATUSES = ("ok", "error", "refused")
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

requests = Counter("mcp_requests", "JSON-RPC requests and notifications", ["method", "status"])
duration = Histogram(
    "mcp_request_duration_seconds", "From head of request to answer", ["method"], buckets=_BUCKETS
)
stages = Histogram(
    "mcp_stage_duration_seconds", "Time in a stage of the pipeline", ["stage"], buckets=_BUCKETS
)
active = Gauge("mcp_active_connections", "Requests being worked on")
refusals = Counter("mcp_refusals", "Requests refused before a server was reached", ["code"])
unlogged = Counter("mcp_unlogged_calls", "Answered calls whose record could not be written")

# Children are looked up once: `labels()` costs more than the observation.
_requests = {(m, s): requests.labels(m, s) for m in (*_METHODS, "other") for s in _STATUSES}
_durations = {m: duration.labels(m) for m in (*_METHODS, "other")}
authenticating = stages.labels("authenticate")
admitting = stages.labels("admit")
running = stages.labels("run")
recording = stages.labels("record")


def count(method: str, status: str, seconds: float) -> None:
    name = method if method in _METHODS else "other"
    _requests[name, status].inc()
    _durations[name].observe(seconds)
