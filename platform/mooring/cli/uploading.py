"""`mooring deploy PATH` for Python code: handed in, built while its log is shown, taken, published."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mooring.cli.backend import Backend, Row, backend, working
from mooring.cli.failures import UsageError
from mooring.cli.output import remark
from mooring.cli.packing import Upload
from mooring.errors import ClientError, InvalidInput, UpstreamFailed

# A build takes half an hour at most, and may have to wait for others and for a worker.
BUILD_SECONDS, LOOK_PAUSE = 3_600, 0.5
# What code is called on a server whose usual name for an upstream is one elsewhere.
BESIDE_A_URL = "code"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class Run:
    """What the code is to be run with, beside what its server has already."""

    environment: Mapping[str, str]
    hosts: Sequence[str]
    secrets: Mapping[str, str]

    def settings(self, before: Row) -> dict[str, Any]:
        """A secret that no variable names becomes a variable by its own name: how else would the code get it?"""
        environment = dict(before.get("environment", {})) | dict(self.environment)
        texts = " ".join(environment.values())
        for name in self.secrets:
            if f"{{secret:{name}}}" not in texts and _VARIABLE.fullmatch(name):
                environment[name] = f"{{secret:{name}}}"
        hosts = list(dict.fromkeys([*before.get("hosts", []), *self.hosts]))
        return {name: value for name, value in (("environment", environment), ("hosts", hosts)) if value}


def environment_of(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for number, text in enumerate(given, start=1):
        name, equals, value = text.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            # Without the text itself: it may be a credential.
            raise UsageError(f"--env number {number} is not NAME=VALUE.")
        pairs[name] = value
    return pairs


def hand_in(work: Backend, slug: str, upload: Upload, run: Run, *, upstream: str) -> Row:
    """Secrets first, since the code may ask for them when it is tried."""
    for name, value in run.secrets.items():
        work.set_secret(slug, name, value)
    known: dict[str, Row] = {row["name"]: row["definition"] for row in work.upstreams(slug)}
    if "url" in known.get(upstream, {}):
        upstream = BESIDE_A_URL
    settings = run.settings(known.get(upstream, {}))
    return work.start_build(slug, upload.name, upload.data, upstream=upstream, settings=settings)


def followed(tenant: str, slug: str, build: Row, *, pause: float = LOOK_PAUSE) -> Row:
    """Show the log on standard error until the build is over. Raises what it failed with."""
    end = time.monotonic() + BUILD_SECONDS
    shown = 0
    with working(tenant, build):
        while time.monotonic() < end:
            with backend(tenant) as work:
                row = work.build(slug, build["id"], shown)
            shown = row["log_next"]
            for line in row["log"].splitlines():
                remark(line)
            if row["state"] == "failed":
                raise _failure(row)
            if row["artifact"]:
                return row
            time.sleep(pause)  # a command has nothing else to do meanwhile
    raise UpstreamFailed(f"The build has not ended within {BUILD_SECONDS // 60} minutes.")


def _failure(row: Row) -> ClientError:
    """What is to be put into the file is shown as it is to be put there."""
    failure = row["failure"]
    if "block" in failure:
        remark(f"\nTo be put at the top of the file:\n{failure['block']}")
    kept = {name: failure[name] for name in ("stage", "file", "line", "block") if name in failure}
    code = failure.get("code") or "build_failed"
    return InvalidInput(row["error"] or "The build did not come to an end.", code=code, **kept)
