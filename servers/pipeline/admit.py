"""Whether there is room for one more call: the journal first, then rates and concurrency together."""

from __future__ import annotations

from mooring.errors import RateLimited, Unavailable
from servers.pipeline.call import Call
from servers.pipeline.directory import Endpoint
from servers.pipeline.journal import Journal
from servers.pipeline.principals import Principal
from tenants.quotas import Quotas, Rate


async def admit(
    call: Call, endpoint: Endpoint, principal: Principal, *, quotas: Quotas, journal: Journal
) -> str:
    """Take a slot and return its name for `quotas.release`.

    Raises `Unavailable` while calls cannot be recorded, and `RateLimited` naming the limit.
    """
    if not journal.accepting:
        raise Unavailable(
            "Calls cannot be recorded at the moment, so none are taken.", code="journal_unavailable"
        )
    limits = endpoint.facts.limits
    tenant = endpoint.facts.tenant.hex
    caller = principal.id or principal.user
    refused = await quotas.admit(
        (
            Rate(f"tenant:{tenant}", limits.calls_per_minute),
            Rate(f"{principal.kind}:{tenant}:{caller}", limits.calls_per_minute_per_key),
        ),
        slot=tenant,
        slots=limits.concurrent_calls,
    )
    if refused is None:
        return tenant
    if refused.name == "concurrency":
        raise RateLimited(
            f"{refused.limit} calls of this organisation run already. Try again when one has ended.",
            retry_after=refused.retry_after,
            code="too_many_running",
            limit=refused.limit,
        )
    whose = "This organisation" if refused.name.startswith("tenant:") else "This key"
    raise RateLimited(
        f"{whose} may make {refused.limit} calls a minute.",
        retry_after=refused.retry_after,
        code="rate_limited",
        limit=refused.limit,
    )
