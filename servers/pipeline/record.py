"""The one line that remains of a call, written before its answer is sent."""

from __future__ import annotations

import time

from servers.pipeline.call import Call
from servers.pipeline.journal import CallEntry, Journal, JournalFailed
from servers.pipeline.metrics import unlogged


def record(call: Call, journal: Journal) -> None:
    """Append the call's entry. A call that already ran is answered even when this fails, and counted."""
    endpoint, principal = call.endpoint, call.principal
    if endpoint is None or principal is None:
        return
    snapshot = call.snapshot
    entry = CallEntry(
        tenant_id=endpoint.facts.tenant.bytes,
        server_id=endpoint.facts.id.bytes,
        server_slug=endpoint.facts.slug,
        request_id=call.request_id,
        principal_kind=principal.kind,
        principal_id=principal.id,
        principal_name=principal.name,
        method=call.method[:64],
        subject=call.subject[:300],
        version=snapshot.version if snapshot is not None else "",
        channel=snapshot.channel if snapshot is not None else call.selector[:63],
        client=call.client,
        revision=call.revision,
        status=call.status,
        code=call.code,
        duration_us=int((time.perf_counter() - call.started) * 1e6),
        request_bytes=call.request_bytes,
        answer_bytes=call.answer_bytes,
    )
    try:
        journal.append(entry)
    except JournalFailed:
        unlogged.inc()
