"""The `_meta` of what uploaded code is asked: the envelope of its revision, and who calls."""

from __future__ import annotations

from typing import Any

import msgspec

from servers.protocol import modern
from servers.protocol.revisions import MODERN
from servers.runtimes.remote.endpoint import Introduction

CALLER = "mooring/caller"
# Callers whose `_meta` is kept ready.
_PREPARED = 1_000


class Envelope:
    """Of one server. Nothing of a client's own `_meta` travels on, so nobody can say that they are somebody else.

    No signature is needed: the code reads it from its standard input, which nobody but the runner writes to, and the
    runner takes requests from nobody but us. Whoever could forge the one could read the key of the other.
    """

    def __init__(self, introduction: Introduction, tenant: str, server: str) -> None:
        self._place = {"tenant": tenant, "server": server}
        self._modern = {modern.VERSION: MODERN, modern.CLIENT: introduction.as_json, modern.CAPABILITIES: {}}
        self._prepared: dict[tuple[str, bool], msgspec.Raw] = {}

    def of(self, caller: str, *, is_modern: bool) -> msgspec.Raw:
        """`caller` is the key of a principal; "" is Mooring itself."""
        meta = self._prepared.get((caller, is_modern))
        if meta is None:
            if len(self._prepared) >= _PREPARED:
                self._prepared.clear()
            meta = msgspec.Raw(msgspec.json.encode(self._made(caller, is_modern)))
            self._prepared[caller, is_modern] = meta
        return meta

    def _made(self, caller: str, is_modern: bool) -> dict[str, Any]:
        kind, _, number = caller.partition(":")
        who = {"kind": kind or "mooring", "id": number, **self._place}
        return {**(self._modern if is_modern else {}), CALLER: who}
