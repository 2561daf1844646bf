"""All pages of an upstream's list, within bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from servers.protocol.errors import METHOD_NOT_FOUND
from servers.protocol.headers import mirrored_parameters
from servers.runtimes.remote.asking import Json
from servers.runtimes.remote.bounds import DEFINITIONS, LIST_BYTES, PAGES
from servers.runtimes.remote.failures import Refused, legible
from servers.runtimes.remote.messages import Reply

Kind = Literal["tools", "resources", "resourceTemplates", "prompts"]
# The method, the capability that offers it, and the member that tells definitions apart.
_KINDS: dict[Kind, tuple[str, str, str]] = {
    "tools": ("tools/list", "tools", "name"),
    "resources": ("resources/list", "resources", "uri"),
    "resourceTemplates": ("resources/templates/list", "resources", "uriTemplate"),
    "prompts": ("prompts/list", "prompts", "name"),
}
_page: msgspec.json.Decoder[Reply[Json]] = msgspec.json.Decoder(Reply[Json])


@dataclass(frozen=True, slots=True)
class Listing:
    """`definitions` as the upstream wrote them. `problems` are sentences about those left out; `cut` says why the
    list is not whole, or is "".
    """

    definitions: tuple[Json, ...] = ()
    problems: tuple[str, ...] = ()
    cut: str = ""


def checked(kind: Kind, definitions: Sequence[Any], *, is_modern: bool) -> Listing:
    """A list that somebody else has got, checked as one that was asked for here."""
    pages = Pages(kind, is_modern=is_modern)
    for definition in definitions:
        pages._add(definition)
    return pages.listing()


class Pages:
    def __init__(self, kind: Kind, *, is_modern: bool) -> None:
        self._kind = kind
        self._is_modern = is_modern
        self.method, self._capability, self._key = _KINDS[kind]
        self.decoder = _page
        self.bytes_left = LIST_BYTES
        self._found: dict[str, Json] = {}
        self._problems: list[str] = []
        self._cursors: set[str] = set()
        self._next: Json | None = {}
        self._pages = 0
        self._cut = ""

    def is_offered(self, capabilities: Mapping[str, Any] | None) -> bool:
        """Unless the upstream says what it can do and leaves this out."""
        return capabilities is None or capabilities.get(self._capability) is not None

    def next_params(self) -> Json | None:
        """Of the next request, or None at the end."""
        return self._next

    async def take(self, page: Awaitable[Json]) -> None:
        """Raises CallFailed as `page` does, unless it says that there is no such method."""
        self._next = None
        try:
            result = await page
        except Refused as refused:
            if refused.error.code == METHOD_NOT_FOUND and not self._pages:
                return
            raise
        self._pages += 1
        definitions = result.get(self._kind)
        if not isinstance(definitions, list):
            self._cut = "A page of the list holds no list."
            return
        self.bytes_left -= len(msgspec.json.encode(result))
        for definition in definitions:
            self._add(definition)
        self._turn(result.get("nextCursor"))

    def listing(self) -> Listing:
        return Listing(tuple(self._found.values()), tuple(self._problems), self._cut)

    def _turn(self, cursor: Any) -> None:
        """The empty text is a cursor; one that was there already would go round for ever."""
        if not isinstance(cursor, str):
            return
        if cursor in self._cursors:
            self._cut = "The upstream's list goes round in a circle."
        elif self._pages >= PAGES:
            self._cut = f"The upstream's list has more than {PAGES} pages."
        elif len(self._found) >= DEFINITIONS:
            self._cut = f"The upstream's list has more than {DEFINITIONS:,} entries."
        elif self.bytes_left <= 0:
            self._cut = f"The upstream's list has more than {LIST_BYTES // 1024 // 1024} MiB."
        else:
            self._cursors.add(cursor)
            self._next = {"cursor": cursor}

    def _add(self, definition: Any) -> None:
        problem = self._problem(definition)
        if problem is None and len(self._found) < DEFINITIONS:
            self._found[definition[self._key]] = definition
        elif problem is None:
            self._cut = f"The upstream's list has more than {DEFINITIONS:,} entries."
        elif len(self._problems) < PAGES:
            self._problems.append(problem)

    def _problem(self, definition: Any) -> str | None:
        key = definition.get(self._key) if isinstance(definition, dict) else None
        if not isinstance(key, str) or not key:
            return f"An entry has no {self._key}."
        named = legible(key)[:120]
        if key in self._found:
            return f"{named!r} is there twice; the first one counts."
        if self._kind == "tools":
            return self._schema_problem(named, definition.get("inputSchema"))
        return None

    def _schema_problem(self, named: str, schema: Any) -> str | None:
        if not isinstance(schema, dict):
            return f"The tool {named!r} has no input schema."
        if self._is_modern:  # to older eras the annotation means nothing
            try:
                mirrored_parameters(schema)
            except ValueError as error:
                return f"The tool {named!r} cannot be called: {error}"
        return None
