"""Starting a version once, before anybody may use it, to see what it offers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from msgspec import Raw

from servers.protocol import modern
from servers.protocol.revisions import MODERN
from servers.runner import eras
from servers.runner.building.inside.bootstrap import MARK
from servers.runner.engine import MIB, Era, Item, RunSpec
from servers.runner.errors import BuildFailed, Refused, TimedOut, Unbuildable
from servers.runner.logs import Log
from servers.runner.relay import Relay
from servers.runner.sandbox import launcher, process, seccomp
from servers.runner.sandbox.cgroups import Limiter
from servers.runner.sandbox.launcher import Tree
from servers.runner.sandbox.process import Sandbox

PAGE_SECONDS = 10.0
# At most so many at once; a flood is counted instead.
_LINES = 1_000
MOST_PAGES, MOST_ITEMS, MOST_BYTES = 50, 1_000, 8 * MIB
_numbers = itertools.count(1)
META = {
    f"{modern.PREFIX}protocolVersion": MODERN,
    f"{modern.PREFIX}clientInfo": {"name": "mooring-build", "version": "1"},
    f"{modern.PREFIX}clientCapabilities": {},
}


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself and offers; items are as it has sent them."""

    era: Era
    name: str = ""
    title: str = ""
    version: str = ""
    instructions: str = ""
    tools: tuple[Item, ...] = ()
    resources: tuple[Item, ...] = ()
    resource_templates: tuple[Item, ...] = ()
    prompts: tuple[Item, ...] = ()


class Whole(Log):
    """A log that holds back nothing, within its size: what a program says last is what matters here."""

    def allowance(self) -> int:
        return _LINES

    def add(self, source: str, text: str) -> None:
        self.note(text)


class _Said(msgspec.Struct):
    """A greeting of either era: the newer one has its name among the remarks."""

    remarks: Item = msgspec.field(name="_meta", default_factory=dict)
    serverInfo: Item = {}
    capabilities: Item = {}
    instructions: str | None = None


class _Page(msgspec.Struct):
    tools: tuple[Item, ...] = ()
    resources: tuple[Item, ...] = ()
    resourceTemplates: tuple[Item, ...] = ()
    prompts: tuple[Item, ...] = ()
    nextCursor: str | None = None


# A capability, the method that lists what it means, and where the answer has it.
_LISTS = (
    ("tools", "tools/list", "tools"),
    ("resources", "resources/list", "resources"),
    ("resources", "resources/templates/list", "resourceTemplates"),
    ("prompts", "prompts/list", "prompts"),
)


async def offered(
    spec: RunSpec,
    limiter: Limiter,
    *,
    user: int | None,
    heard: Callable[[str], None],
    others: Sequence[Tree] = (),
) -> Offer:
    """Start it in a sandbox with `others` mounted too, ask, and end it.

    Raises `Unbuildable`, with the reason the program gives.
    """
    log = Whole((*spec.secrets.values(), *spec.masked))
    try:
        async with (
            asyncio.timeout(spec.limits.start + PAGE_SECONDS),
            _started(spec, limiter, user, log, others) as relay,
        ):
            opened = await eras.open_up(relay, spec.era, seconds=spec.limits.start)
            return await asked(relay, opened)
    except (Refused, eras.Unintelligible, msgspec.DecodeError, TimeoutError) as error:
        raise failure(error, spec, log) from None
    finally:
        for line in log.after(0):
            heard(line.text)


@contextlib.asynccontextmanager
async def _started(
    spec: RunSpec, limiter: Limiter, user: int | None, log: Whole, others: Sequence[Tree]
) -> AsyncIterator[Relay]:
    sandbox = await _sandbox(spec, limiter, user, others)
    relay = Relay(sandbox.process, spec.limits, log, sandbox.kill, explain=sandbox.explain)
    try:
        yield relay
    finally:
        await relay.stop(0)
        await sandbox.remove()


async def _sandbox(spec: RunSpec, limiter: Limiter, user: int | None, others: Sequence[Tree]) -> Sandbox:
    try:
        name = f"try-{os.getpid()}-{next(_numbers)}"
        return await process.start(
            launcher.plan_for(spec, spec.runtime, others), name=name, limiter=limiter, user=user
        )
    except (launcher.Unprepared, seccomp.Unsupported) as error:
        raise BuildFailed(str(error)) from None


async def asked(relay: Relay, opened: eras.Opened) -> Offer:
    said = msgspec.json.decode(opened.greeting, type=_Said)
    found: dict[str, tuple[Item, ...]] = {}
    left = MOST_BYTES
    for capability, method, name in _LISTS:
        if capability in said.capabilities:
            found[name], left = await _all(relay, opened.era, method, name, left)
    about = said.remarks.get(modern.SERVER, said.serverInfo)
    about = about if isinstance(about, dict) else {}
    return Offer(
        era=opened.era,
        name=str(about.get("name", ""))[:200],
        title=str(about.get("title") or "")[:200],
        version=str(about.get("version", ""))[:200],
        instructions=(said.instructions or "")[:100_000],
        tools=found.get("tools", ()),
        resources=found.get("resources", ()),
        resource_templates=found.get("resourceTemplates", ()),
        prompts=found.get("prompts", ()),
    )


async def _all(relay: Relay, era: Era, method: str, name: str, left: int) -> tuple[tuple[Item, ...], int]:
    """Every page of a list, and how many bytes may still come."""
    items: list[Item] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        params: dict[str, object] = {"cursor": cursor} if cursor else {}
        if era == "modern":
            params["_meta"] = META
        answer = await relay.call(method, msgspec.json.encode(params), seconds=PAGE_SECONDS)
        if bytes(answer.error):
            raise Unbuildable(
                f"The server answers {method} with an error: {_excerpt(answer.error)}", stage="try"
            )
        left -= len(answer.result)
        page = msgspec.json.decode(answer.result, type=_Page)
        items += getattr(page, name)
        cursor = page.nextCursor
        if left < 0 or len(items) > MOST_ITEMS:
            raise Unbuildable(
                f"The server lists too much: {MOST_ITEMS} items and {MOST_BYTES // MIB} MiB are the most."
            )
        if not cursor:
            return tuple(items), left
    raise Unbuildable(f"The server's answer to {method} has no end: {MOST_PAGES} pages were read.")


def failure(error: Exception, spec: RunSpec, log: Whole) -> Refused:
    """Why it cannot be used, without its secrets: what a program answers may hold them."""
    if isinstance(error, BuildFailed | Unbuildable):
        error.message = log.masked(error.message)
        return error
    tail = log.tail()
    said = [line.removeprefix(MARK) for line in tail if line.startswith(MARK)]
    if said:
        return Unbuildable(said[-1], stage="try", log=tail)
    if isinstance(error, TimeoutError | TimedOut):
        reason = (
            f"it has not answered on standard input and output within {spec.limits.start:g} s. A server that opens a "
            "port of its own has to be told to use stdio"
        )
    else:
        reason = getattr(error, "message", "") or str(error)
    sentence = log.masked(f"The server does not start: {reason.rstrip('.')}.")
    return Unbuildable(sentence, stage="try", log=tail)


def _excerpt(raw: Raw) -> str:
    return bytes(raw)[:300].decode("utf-8", "replace")
