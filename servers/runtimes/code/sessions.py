"""Code whose processes are not shared: each client session has its own, and so has each caller without sessions."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import msgspec

from servers.runtimes.base import ANONYMOUS
from servers.runtimes.breaker import Verdict
from servers.runtimes.code.instance import Instance
from servers.runtimes.remote.asking import Ask
from servers.runtimes.remote.calling import Caller
from servers.runtimes.remote.failures import CallFailed
from servers.runtimes.remote.messages import Reply

R = TypeVar("R")
# What is kept of each is a connection or two. The runner has bounds of its own on processes, far below this one.
SESSIONS = 200
_NOBODY = "nobody"
_NEEDS_SESSION = (
    "This server keeps a process for each client session, and a call without a key or a session belongs to none. Call "
    "with a key, or with a client that opens a session (revision 2025-11-25 or older)."
)


class Sessions(Caller):
    """`make` gives the instance of a session by a name that tells nothing of it, and when it was opened: in Unix
    seconds, or 0 for a caller who has none. Callers who cannot be told apart are refused: they would share a process.
    """

    is_told_callers = True

    def __init__(self, make: Callable[[str, int], Instance]) -> None:
        self._make = make
        # The one that was not used for the longest comes first; the runner ends its process when it is idle.
        self._known: OrderedDict[str, Instance] = OrderedDict()

    def scope_of(self, principal: str, session: str) -> str:
        if session:
            return f"session {session}"
        return _NOBODY if principal in ("", ANONYMOUS) else f"caller {principal}"

    async def ask(self, ask: Ask, decoder: msgspec.json.Decoder[Reply[R]], is_repeatable: bool = True) -> R:
        scope = ask.identity.scope
        if scope == _NOBODY:
            raise CallFailed("code_needs_session", _NEEDS_SESSION, Verdict.UNKNOWN)
        return await self._of(scope).ask(ask, decoder, is_repeatable)

    def _of(self, scope: str) -> Instance:
        instance = self._known.get(scope)
        if instance is None:
            kind, _, name = scope.partition(" ")
            opened = int(name.partition("-")[0]) if kind == "session" else 0
            digest = hashlib.sha256(scope.encode()).hexdigest()[:32]
            instance = self._known[scope] = self._make(digest, opened)
            if len(self._known) > SESSIONS:
                self._known.popitem(last=False)
        self._known.move_to_end(scope)
        return instance
