"""A call on its way through the pipeline, and the facts the stages leave on it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec

from servers.pipeline.directory import Endpoint
from servers.pipeline.principals import Principal
from servers.pipeline.snapshot import Snapshot
from servers.protocol.envelope import Envelope

Headers = Mapping[str, str]
_random = Random()
os.register_at_fork(after_in_child=_random.seed)


def _new_id() -> str:
    """Names a request in logs; it is no secret, and the system's generator costs five times as much."""
    return f"{_random.getrandbits(96):024x}"


class Call(msgspec.Struct, eq=False):
    """One JSON-RPC request. `started` is of `time.perf_counter`, in seconds; `session` names one of the handshake."""

    tenant_slug: str
    server_slug: str
    selector: str
    headers: Headers
    address: str
    duplicated: frozenset[str] = frozenset()
    endpoint: Endpoint | None = None
    principal: Principal | None = None
    envelope: Envelope | None = None
    snapshot: Snapshot | None = None
    revision: str = ""
    client: str = ""
    session: str = ""
    method: str = ""
    subject: str = ""
    status: str = "ok"
    code: str = ""
    log_level: str = ""
    request_bytes: int = 0
    answer_bytes: int = 0
    started: float = msgspec.field(default_factory=time.perf_counter)
    request_id: str = msgspec.field(default_factory=_new_id)

    def of_batch(self, envelope: Envelope) -> Call:
        """The call of one message of the batch that this one brought."""
        return Call(
            self.tenant_slug,
            self.server_slug,
            self.selector,
            self.headers,
            self.address,
            self.duplicated,
            self.endpoint,
            self.principal,
            envelope,
            revision=self.revision,
            method=str(envelope.method),
            request_bytes=len(msgspec.json.encode(envelope)),
        )

    @property
    def params(self) -> dict[str, Any]:
        params = self.envelope.params if self.envelope is not None else None
        return params if isinstance(params, dict) else {}

    @property
    def is_draft(self) -> bool:
        return self.selector == "draft"
