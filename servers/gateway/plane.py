"""What a running gateway works with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from servers.gateway.request import Bodies
from servers.pipeline import metrics, turned_away
from servers.pipeline.call import Call
from servers.pipeline.directory import Directory
from servers.pipeline.journal import Journal
from servers.pipeline.record import record
from servers.protocol.tokens import Sealer
from tenants.quotas import Quotas


@dataclass(slots=True)
class Plane:
    """Made when the process starts."""

    directory: Directory
    journal: Journal
    quotas: Quotas
    sealer: Sealer
    bodies: Bodies = field(default_factory=Bodies)

    def note(self, call: Call, *, is_admitted: bool) -> None:
        """Record a call that is about to be answered. To be done once for each."""
        if not is_admitted:
            # What was not admitted is only counted: strangers must not fill the log at the speed of a socket.
            metrics.refusals.labels(call.code).inc()
            metrics.settle_sometimes()
            turned_away.register.note(call)
            return
        began = time.perf_counter()
        record(call, self.journal)
        ended = time.perf_counter()
        metrics.note_recording(ended - began)
        metrics.count(call.method, call.status, ended - call.started)
