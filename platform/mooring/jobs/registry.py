"""Which function does which kind of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mooring.jobs.models import Job


class Progress(Protocol):
    def __call__(self, text: str, percent: int, /) -> None:
        """Show how far the work is. Raises `LeaseLost` when somebody else does it meanwhile: stop then."""


# Runs outside any scope and more than once when its worker dies, so what it does must be repeatable.
Work = Callable[["Job", Progress], dict[str, Any]]
_works: dict[str, Work] = {}
_at_once: dict[str, int] = {}


def register(kind: str, *, at_once: int | None = None) -> Callable[[Work], Work]:
    """Decorate the function that does jobs of this kind; what it returns becomes the job's result.

    `at_once` is how many one tenant may have under way, so that slots are left for others; the rest of its jobs wait.
    """

    def add(work: Work) -> Work:
        if at_once is not None:
            _at_once[kind] = at_once
        if _works.setdefault(kind, work) is not work:
            raise ValueError(f"Two functions want to do {kind!r}.")
        return work

    return add


def work_of(kind: str) -> Work:
    """Raises `LookupError` for a kind this process has not been taught."""
    return _works[kind]


def most_at_once() -> Mapping[str, int]:
    """How many of a kind one tenant may have under way, for the kinds that have such a bound."""
    return _at_once
