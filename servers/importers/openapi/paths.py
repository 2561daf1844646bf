"""A path template of OpenAPI → the part of a request's URL after the base."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

from servers.importers.openapi.findings import LeaveOut

_PLACE = re.compile(r"\{([^{}]*)\}")
_LITERAL = "/:@!$&'()*+,;=~-._%"  # what may stand in a path as it is
_ROUTER_SUFFIX = re.compile(r"(:.*|[+*])$")  # `{proxy+}`, `{id:[0-9]+}`: spellings of routers


@dataclass(frozen=True)
class Path:
    """`template` starts with `/` and holds `{name}` for each of `names`; `query` is fixed."""

    template: str
    names: list[str]
    query: list[tuple[str, str]]


def read_path(path: str) -> Path:
    """Raises `LeaveOut` when its braces do not match."""
    template, _, query = path.partition("#")[0].partition("?")
    pieces = _PLACE.split(template)
    literals, names = pieces[::2], [_ROUTER_SUFFIX.sub("", name).strip() for name in pieces[1::2]]
    if any("{" in piece or "}" in piece for piece in literals) or not all(names):
        raise LeaveOut("The braces in its path do not enclose a name. Correct the path.")
    fixed = parse_qsl(query, keep_blank_values=True)
    if any("{" in part or "}" in part for pair in fixed for part in pair):
        raise LeaveOut("Its path holds a query with braces. Describe it with parameters `in: query` instead.")
    quoted = [quote(literal, safe=_LITERAL) for literal in literals]
    filled = "".join(
        literal + (f"{{{names[index]}}}" if index < len(names) else "")
        for index, literal in enumerate(quoted)
    )
    return Path("/" + filled.lstrip("/"), list(dict.fromkeys(names)), fixed)
