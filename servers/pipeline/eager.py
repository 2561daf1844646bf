"""Working without a task for as long as nothing has to be waited for.

Nearly every call of a warm process is answered without waiting, and a task costs a tenth of such a call. Python 3.12
has eager tasks for this; here it is for 3.11 too, with one rule: who is about to use what needs a task of its own
(a limit of time, a cancellation) awaits `in_task()` before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any

Work = Coroutine[Any, Any, None]


def eagerly(work: Work, create_task: Callable[[Work], object]) -> None:
    """Run `work` up to its first wait, at once; what is left of it goes on in a task. Work that fails is a bug."""
    try:
        waited = work.send(None)
    except StopIteration:
        return
    create_task(_rest(work, waited))


@coroutine
def _rest(work: Work, waited: Any) -> Generator[Any, Any, None]:
    """Wait for what `work` waits for, and so on to its end."""
    try:
        while True:
            try:
                sent = yield waited
            except BaseException as error:  # noqa: BLE001  # a cancellation, for one, is the work's to take
                waited = work.throw(error)
            else:
                waited = work.send(sent)
    except StopIteration:
        return


@coroutine
def in_task() -> Generator[None, None, None]:
    """From here on `asyncio.current_task()` is this work's own."""
    if asyncio.current_task() is None:
        yield
