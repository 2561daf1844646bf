"""Whether there is room for one more call: the journal first, then rates and concurrency together."""

from __future__ import annotations

from mooring.errors import RateLimited, Unavailable
from servers.pipeline.call import Call
from servers.pipeline.directory import Endpoint
from servers.pipeline.journal import Journal
from servers.pipeline.principals import Principal
from tenants.quotas import Quotas, Rate

# Callers of one server whose rates are remembered.
MOST_RATES = 1_000


async def admit(
    call: Call, endpoint: Endpoint, principal: Principal, quotas: Quotas, journal: Journal
) -> str:
    """Take a slot and return its name for `quotas.release`.

    Raises `Unavailable` while calls cannot be recorded, and `RateLimited` naming the limit.
    """
    if not journal.accepting:
        raise Unavailable(
            "Calls cannot be recorded at the moment, so none are taken.", code="journal_unavailable"
        )
    limits, whole = endpoint.facts.limits, endpoint.facts.rate
    rates = endpoint.rates.get(principal.key) or _rates(endpoint, principal)
    refused = await quotas.admit(rates, slot=whole.name, slots=limits.concurrent_calls)
    if refused is None:
        return whole.name
    if refused.name == "concurrency":
        raise RateLimited(
            f"{refused.limit} calls of this organisation run already. Try again when one has ended.",
            retry_after=refused.retry_after,
            code="too_many_running",
            limit=refused.limit,
        )
    whose = "This organisation" if refused.name == whole.name else "This key"
    raise RateLimited(
        f"{whose} may make {refused.limit} calls a minute.",
        retry_after=refused.retry_after,
        code="rate_limited",
        limit=refused.limit,
    )


def _rates(endpoint: Endpoint, principal: Principal) -> tuple[Rate, Rate]:
    """The whole organisation's and the caller's own; those of keys are remembered."""
    facts = endpoint.facts
    name = f"{facts.rate.name}:{principal.kind}:{principal.id or principal.user}"
    rates = (facts.rate, Rate(name, facts.limits.calls_per_minute_per_key))
    if principal.kind == "key":
        if len(endpoint.rates) >= MOST_RATES:
            endpoint.rates.clear()
        endpoint.rates[principal.key] = rates
    return rates
