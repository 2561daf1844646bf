"""Lists: pages of what a snapshot serves, and the cursors between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from servers.pipeline.directory import Directory, Endpoint
from servers.pipeline.material import DRAFT
from servers.pipeline.snapshot import Snapshot
from servers.protocol.errors import ProtocolError, invalid_params
from servers.protocol.tokens import Cursor, ExpiredToken, InvalidToken, Sealer

Json = dict[str, Any]
# In `_meta` of a composition's lists: sentences on members, or parts of them, that are not served.
MISSING = "mooring/missing"
LISTS = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}


async def listed(
    method: str,
    params: Mapping[str, Any],
    snapshot: Snapshot,
    revision: str,
    *,
    endpoint: Endpoint,
    directory: Directory,
    sealer: Sealer,
    principal: str,
) -> Json:
    """A page of a list. A cursor goes on in the version its first page came from, for the same principal's key."""
    kind, offset = LISTS[method], 0
    if params.get("cursor") is not None:
        cursor = _opened(params["cursor"], kind, snapshot, sealer, principal)
        offset = cursor.offset
        if cursor.version != snapshot.version:
            pinned = await directory.snapshot(endpoint, cursor.version)
            if pinned is None or offset >= len(pinned.listed[kind]):
                raise _bad_cursor()
            snapshot = pinned
    result: Json = {kind: msgspec.Raw(snapshot.page(kind, revision, offset))}
    if snapshot.missing:
        result["_meta"] = {MISSING: list(snapshot.missing)}
    following = snapshot.next_offset(kind, offset)
    if following is not None:
        result["nextCursor"] = sealer.new_cursor(
            server=snapshot.server,
            version=snapshot.version,
            kind=kind,
            offset=following,
            principal=principal,
        )
    return result


def _opened(token: object, kind: str, snapshot: Snapshot, sealer: Sealer, principal: str) -> Cursor:
    if not isinstance(token, str):
        raise _bad_cursor()
    try:
        cursor = sealer.open_cursor(token)
    except ExpiredToken:
        raise invalid_params("This cursor has expired. Start again without a cursor.") from None
    except InvalidToken:
        raise _bad_cursor() from None
    # A cursor of the draft must not open it to those who may only call what is published.
    crosses = (cursor.version == DRAFT) != (snapshot.version == DRAFT)
    is_ours = cursor.server == snapshot.server and cursor.principal == principal
    if cursor.kind != kind or not is_ours or crosses:
        raise _bad_cursor()
    return cursor


def _bad_cursor() -> ProtocolError:
    return invalid_params("This cursor is not one of this list. Start again without a cursor.")
