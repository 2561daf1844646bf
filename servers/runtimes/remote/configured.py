"""An upstream as a manifest declares it, with the values of a channel in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servers.runtimes.http.values import Values
from servers.runtimes.remote.endpoint import Endpoint
from servers.runtimes.remote.tool import TIMEOUT_SECONDS


def endpoint_of(upstream: Mapping[str, Any], values: Values) -> Endpoint:
    """Of an entry of a manifest's `upstreams`.

    Raises NotReady for a value that is missing, ValueError for an address or header that cannot be.
    """
    url = values.fill(upstream["url"])
    headers = tuple((name, values.fill(value)) for name, value in upstream.get("headers", {}).items())
    values.check()
    return Endpoint(url, headers, upstream.get("transport", "auto"))


def seconds_of(remote: Mapping[str, Any]) -> float:
    """How long one call of a part may take."""
    return float(remote.get("timeout_seconds", TIMEOUT_SECONDS))
