"""Background work: a row says what is to be done, a worker that holds its lease does it.

`enqueue` and `wake` are for who has work, `register` for who can do it, `run` and `sweep` for workers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mooring.jobs.registry import Progress, register

if TYPE_CHECKING:
    from mooring.jobs.execution import run, sweep
    from mooring.jobs.queue import enqueue, wake

__all__ = ["Progress", "enqueue", "register", "run", "sweep", "wake"]
_HOMES = {"enqueue": "queue", "wake": "queue", "run": "execution", "sweep": "execution"}


def __getattr__(name: str) -> object:
    """These need models, and Django imports this package before models may be imported."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"mooring.jobs.{_HOMES[name]}"), name)
