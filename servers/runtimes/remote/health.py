"""What a probe of an upstream says, in words for people."""

from __future__ import annotations

from servers.runtimes.base import Health
from servers.runtimes.remote.asking import Era
from servers.runtimes.remote.failures import BadStatus, CallFailed, NotOpened, Refused


def of(failed: CallFailed | None, era: Era | None, seconds: float) -> Health:
    data = {"era": era.value if era else "", "milliseconds": round(seconds * 1000, 1)}
    if failed is None or isinstance(failed, Refused | NotOpened):
        return Health("healthy", "", data)
    data["failure"] = failed.failure
    if isinstance(failed, BadStatus) and failed.status in (401, 403):
        return Health("healthy", "It is there and asks for credentials.", data)
    if isinstance(failed, BadStatus) and failed.status == 429:
        return Health("degraded", "It is there and refuses requests because there are too many.", data)
    return Health("unhealthy", failed.sentence, data)
