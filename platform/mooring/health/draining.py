"""Whether this process is about to stop: it still answers, but wants no new callers."""

from __future__ import annotations

_is_draining = False


def start() -> None:
    global _is_draining
    _is_draining = True


def stop() -> None:
    global _is_draining
    _is_draining = False


def is_draining() -> bool:
    return _is_draining
