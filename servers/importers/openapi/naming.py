"""Names of tools, arguments and secrets: readable, of few characters, the same on every import."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import count

MAX_NAME = 64  # what clients of every maker accept, in [A-Za-z0-9_-]
_OTHER = re.compile(r"[^A-Za-z0-9_-]+")
_VERSIONS = re.compile(r"(api|rest|v\d+(\.\d+)*)", re.IGNORECASE)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def cleaned(text: str) -> str:
    """Only `[A-Za-z0-9_-]`, accents dropped, none at the ends; may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _OTHER.sub("_", plain).strip("_-")[:MAX_NAME].strip("_-")


def snake(text: str) -> str:
    """`bearerAuth` → `bearer_auth`, for variables and secrets; starts with a letter."""
    name = _HUMP.sub("_", cleaned(text.replace("OAuth", "Oauth"))).replace("-", "_").lower()
    name = re.sub(r"__+", "_", name)[: MAX_NAME - 12].strip("_")  # leaves room for an ending
    return name if name[:1].isalpha() else f"api_{name}".strip("_")


def tool_names(operation_id: str, method: str, path: str) -> Iterable[str]:
    """Names for an operation, the best first. The last ones never end."""
    by_path = [_from_path(method, path, whole=False), _from_path(method, path, whole=True)]
    own = cleaned(operation_id)
    if own and not own[0].isalpha():
        own = cleaned(f"{method.lower()}_{own}")
    names = [own, *by_path] if own else by_path
    yield from names
    for number in count(2):
        yield f"{names[0][: MAX_NAME - 6].rstrip('_-')}_{number}"


def _from_path(method: str, path: str, *, whole: bool) -> str:
    """`GET /api/v1/users/{id}` → `get_users_by_id`; with `whole`, `get_api_v1_users_by_id`."""
    steps = [step for step in path.split("/") if step]
    while not whole and len(steps) > 1 and _VERSIONS.fullmatch(steps[0]):
        steps.pop(0)
    words = [cleaned(re.sub(r"\{([^{}]*)\}", r"_by_\1_", step)) for step in steps]
    return (
        cleaned("_".join([method.lower(), *filter(None, words)])) if any(words) else f"{method.lower()}_root"
    )


class Names:
    """Names given out once each, regardless of capitals."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.casefold() for name in taken}

    def claim(self, candidates: Iterable[str]) -> str:
        for name in candidates:
            if name and name.casefold() not in self._taken:
                self._taken.add(name.casefold())
                return name
        raise ValueError("the candidates ran out")  # callers pass an endless row


def numbered(name: str) -> Iterable[str]:
    """`name`, `name_2`, `name_3` …"""
    yield name
    for number in count(2):
        yield f"{name[: MAX_NAME - 6]}_{number}"
