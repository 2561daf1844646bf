"""A call on its way through the pipeline, and the facts the stages leave on it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from random import Random
from typing import Any

from servers.pipeline.directory import Endpoint
from servers.pipeline.principals import Principal
from servers.pipeline.snapshot import Snapshot
from servers.protocol.envelope import Envelope

Headers = Mapping[str, str]
_random = Random()
os.register_at_fork(after_in_child=_random.seed)


class Call:
    """One JSON-RPC request. Times are of `time.perf_counter`, in seconds."""

    __slots__ = (
        "address",
        "answer_bytes",
        "channel",
        "client",
        "code",
        "duplicated",
        "endpoint",
        "envelope",
        "headers",
        "method",
        "principal",
        "request_bytes",
        "request_id",
        "revision",
        "selector",
        "server_slug",
        "snapshot",
        "started",
        "status",
        "subject",
        "tenant_slug",
    )

    def __init__(
        self, tenant_slug: str, server_slug: str, selector: str, headers: Headers, address: str
    ) -> None:
        self.started = time.perf_counter()
        # Names a request in logs; it is no secret, and the system's generator costs five times as much.
        self.request_id = f"{_random.getrandbits(96):024x}"
        self.tenant_slug = tenant_slug
        self.server_slug = server_slug
        self.selector = selector
        self.headers = headers
        self.duplicated: frozenset[str] = frozenset()
        self.address = address
        self.endpoint: Endpoint | None = None
        self.principal: Principal | None = None
        self.envelope: Envelope | None = None
        self.snapshot: Snapshot | None = None
        self.revision = ""
        self.client = ""
        self.channel = ""
        self.method = ""
        self.subject = ""
        self.status = "ok"
        self.code = ""
        self.request_bytes = 0
        self.answer_bytes = 0

    @property
    def params(self) -> dict[str, Any]:
        params = self.envelope.params if self.envelope is not None else None
        return params if isinstance(params, dict) else {}

    @property
    def is_draft(self) -> bool:
        return self.selector == "draft"
