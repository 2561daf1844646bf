"""Who is calling."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from servers.runtimes.base import ANONYMOUS


@dataclass(frozen=True, slots=True)
class Principal:
    """A key, a person at the playground, or anonymous. `expires` is in Unix seconds, 0 for never.

    `name` is what the call log shows; `key` is unique among principals and goes into session tokens. One that
    `is_barred` is known, so that refusing it can be written down, and may nothing.
    """

    kind: str
    id: str
    name: str
    key: str
    tenant: uuid.UUID | None = None
    user: str = ""
    permissions: frozenset[str] = frozenset()
    servers: frozenset[str] | None = None
    expires: float = 0.0
    is_barred: bool = False

    def may(self, permission: str, server: uuid.UUID) -> bool:
        return permission in self.permissions and (self.servers is None or str(server) in self.servers)


def anonymous(address: str) -> Principal:
    return Principal("anonymous", "", "anonymous", ANONYMOUS, user=address)
