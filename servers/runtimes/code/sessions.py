"""Code whose processes are not shared: each client session has its own, and so has each caller without sessions."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import msgspec

from servers.runtimes.code.instance import Instance
from servers.runtimes.remote.asking import Ask
from servers.runtimes.remote.calling import Caller
from servers.runtimes.remote.messages import Reply

R = TypeVar("R")
# What is kept of each is a connection or two. The runner has bounds of its own on processes, far below this one.
SESSIONS = 200


class Sessions(Caller):
    """`make` gives the instance of a session by its name, which tells nothing of the session."""

    is_told_callers = True

    def __init__(self, make: Callable[[str], Instance]) -> None:
        self._make = make
        # The one that was not used for the longest comes first; the runner ends its process when it is idle.
        self._known: OrderedDict[str, Instance] = OrderedDict()

    def scope_of(self, principal: str, session: str) -> str:
        return f"session {session}" if session else f"caller {principal}"

    async def ask(self, ask: Ask, decoder: msgspec.json.Decoder[Reply[R]], is_repeatable: bool = True) -> R:
        return await self._of(ask.identity.scope).ask(ask, decoder, is_repeatable)

    def _of(self, scope: str) -> Instance:
        instance = self._known.get(scope)
        if instance is None:
            instance = self._known[scope] = self._make(hashlib.sha256(scope.encode()).hexdigest()[:32])
            if len(self._known) > SESSIONS:
                self._known.popitem(last=False)
        self._known.move_to_end(scope)
        return instance
