"""From an entry of a manifest's `upstreams` with `code` to what the runner is asked to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servers.runner.engine import KIB, MIB, Limits, RunSpec
from servers.runtimes.http.values import Lookup, Values

MEMORY_MB = 256
LONGEST_VALUE = 48 * KIB
# Calls of a part that says nothing of time, and the longest that the runner lets any call take.
CALL_SECONDS, LONGEST_CALL = 60.0, 300.0


def spec_of(
    upstream: Mapping[str, Any],
    variable: Lookup,
    secret: Lookup,
    *,
    tenant: str,
    server: str,
    place: str = "",
    seconds: float = CALL_SECONDS,
) -> RunSpec:
    """`place` says which upstream of which channel it is, `seconds` is the longest that any of its parts may take.

    Raises NotReady for a value that is missing, ValueError for one that cannot stand in an environment.
    """
    variables, secrets, masked = _environment(upstream.get("environment", {}), variable, secret)
    mode = upstream.get("mode", "shared")
    return RunSpec(
        tenant=tenant,
        server=server,
        # Where all share a process, all channels that run the same do too.
        place=place if mode == "session" else "",
        digest=upstream["code"],
        mode=mode,
        variables=variables,
        secrets=secrets,
        masked=masked,
        hosts=tuple(upstream.get("hosts", ())),
        limits=Limits(
            memory=upstream.get("memory_mb", MEMORY_MB) * MIB,
            call=min(max(seconds, CALL_SECONDS), LONGEST_CALL),
        ),
    )


def _environment(
    environment: Mapping[str, str], variable: Lookup, secret: Lookup
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """What is no secret; what holds one, which the runner keeps out of logs; and the secrets inside, as they are."""
    plain: dict[str, str] = {}
    secrets: dict[str, str] = {}
    inside: dict[str, str] = {}
    for name, text in environment.items():
        values = Values(variable, secret)
        filled = values.fill(text)
        values.check()
        if "\0" in filled or len(filled) > LONGEST_VALUE:
            raise ValueError(f"{name} in its environment is too long or holds a zero byte.")
        (secrets if values.used_secrets else plain)[name] = filled
        inside |= values.used_secrets
    return plain, secrets, tuple(sorted(set(inside.values()) - set(secrets.values())))
