"""What was served before goes on being served for a while, and for no longer however often it is replaced."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, cast

from servers.pipeline.snapshot import Snapshot
from servers.pipeline.succession import Successions

SERVER = uuid.uuid4()


class Code:
    """Of an upload that answers, or never does."""

    def __init__(self, *, is_answering: bool) -> None:
        self.is_answering = is_answering

    async def wake(self) -> None:
        await asyncio.Event().wait()


def snapshot(ordinal: int, *, is_answering: bool) -> Snapshot:
    return Snapshot(
        server=SERVER,
        version=f"1.0.{ordinal}",
        channel="live",
        info={},
        instructions="",
        tools={},
        resources={},
        templates=(),
        prompts={},
        listed={},
        ordinal=ordinal,
        code=cast(Any, (Code(is_answering=is_answering),)),
    )


async def test_what_was_replaced_is_not_served_for_ever_by_being_replaced_again_and_again() -> None:
    successions = Successions(seconds=0.2)
    old, served = snapshot(1, is_answering=True), []
    began = asyncio.get_running_loop().time()
    for number in range(2, 500):
        successions.note("live", old)  # it is still what is kept when the next change comes
        served.append(
            successions.served("live", snapshot(number, is_answering=False), lambda _before, _made: None)
        )
        if served[-1] is not old:
            break
        await asyncio.sleep(0.02)
    successions.close()
    assert served[0] is old
    assert served[-1] is not old
    assert asyncio.get_running_loop().time() - began < 20
