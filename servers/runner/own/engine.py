"""The engine of `mooring dev`."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from servers.runner import eras
from servers.runner.building import builds, dry_run, tools
from servers.runner.building.declarations import Declared, declared
from servers.runner.building.imports import Survey
from servers.runner.building.inside import archives, parcels, survey
from servers.runner.building.inside.bounds import Refusal
from servers.runner.connections import Prepared
from servers.runner.engine import (
    MIB,
    BuildEvent,
    BuildResult,
    BuildSpec,
    Capabilities,
    Era,
    Heard,
    RunSpec,
)
from servers.runner.errors import Missing, Refused, Unbuildable
from servers.runner.hosted import HostedEngine
from servers.runner.instances import Instances
from servers.runner.logs import Log
from servers.runner.own import environments
from servers.runner.own.processes import Process, Processes, Recipe
from servers.runner.relay import Relay
from servers.runner.sandboxed import Waiting

MEMORY = 4096 * MIB
WITHOUT_SANDBOX = "This is `mooring dev`: programs run as you do, without a sandbox."
CAPABILITIES = Capabilities(engine="own", missing=(WITHOUT_SANDBOX,), allows_unsafe=True)


@dataclass(frozen=True, slots=True)
class Program:
    """A copy of an upload in `folder`, and what it is run with."""

    digest: str
    folder: Path
    python: str
    target: str


class OwnEngine(HostedEngine):
    """Below `folder` are copies of programs and what they need. `python` runs them as it is, "" for environments
    with what they declare. To be used by one person for one's own programs alone.
    """

    def __init__(self, folder: Path, *, socket: Path, bearer: str, python: str = "") -> None:
        super().__init__(Instances(self._launch, memory=MEMORY), socket=socket, bearer=bearer)
        self._folder, self._python = folder, python
        folder.mkdir(parents=True, exist_ok=True)
        self._tools = tools.prepared(folder)
        self._processes = Processes(folder / "slots")
        self._programs: dict[str, tuple[Program, Era]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def probe(self) -> Capabilities:
        return CAPABILITIES

    async def keep(self, digests: Iterable[str]) -> list[str]:
        unwanted = sorted(self._programs.keys() - {*digests, *self._instances.digests})
        gone = [self._programs.pop(digest)[0].folder for digest in unwanted]
        for folder in {*gone} - {program.folder for program, _ in self._programs.values()}:
            shutil.rmtree(folder, ignore_errors=True)
        return unwanted

    async def missing(self, digests: Iterable[str]) -> list[str]:
        return [digest for digest in digests if digest not in self._programs]

    async def stand_in(self, digest: str, by: str) -> None:
        if by not in self._programs:
            raise Missing(f"The program {by[:12]} is not here any more. Save it once more.")
        self._programs[digest] = self._programs[by]

    async def close(self, grace: float) -> None:
        await super().close(grace)
        await self._processes.close()
        if self._ending:
            await asyncio.wait(self._ending)

    # ---- building ----------------------------------------------------------------------------------------

    async def _built(self, spec: BuildSpec, upload: bytes, heard: Heard) -> BuildResult:
        stage = "read"

        def tell(line: str) -> None:
            heard(BuildEvent(stage, line, time.time()))

        try:
            files = _files(spec.name, upload)
            stage = "declare"
            stated, requirements = _stated(files)
            stage = "install"
            python = self._python or str(await self._interpreter(requirements, tell))
            stage = "try"
            program = self._copied(files, python, stated, upload, requirements)
            offer = await self._tried(program, spec, tell)
        except Refused as refused:
            refused.data.setdefault("stage", stage)
            raise
        self._programs[program.digest] = program, offer.era
        return _result(program, offer, len(upload), requirements, stated)

    async def _interpreter(self, requirements: tuple[str, ...], tell: Any) -> Path:
        return await environments.ensure(
            self._folder / "environments", self._tools.folder / "uv", requirements, tell
        )

    def _copied(
        self,
        files: dict[str, bytes],
        python: str,
        stated: Declared,
        upload: bytes,
        requirements: tuple[str, ...],
    ) -> Program:
        """A copy, so that what is served is what was built, however often the original is saved meanwhile."""
        about = "\n".join([python, str(stated.entry), *requirements]).encode()
        digest = hashlib.sha256(upload + about).hexdigest()
        folder = self._folder / "code" / digest
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return Program(digest, folder, python, str(stated.entry))

    async def _tried(self, program: Program, spec: BuildSpec, tell: Any) -> dry_run.Offer:
        log = dry_run.Whole((*spec.secrets.values(), *spec.masked))
        run = RunSpec(tenant="dev", server="dev", digest=program.digest, limits=spec.limits)
        variables = {**spec.variables, **spec.secrets}
        try:
            async with self._running(program, variables, run, log) as relay:
                opened = await eras.open_up(relay, "probe", seconds=spec.limits.start)
                return await dry_run.asked(relay, opened)
        except (Refused, eras.Unintelligible, msgspec.DecodeError, TimeoutError) as error:
            raise dry_run.failure(error, run, log) from None
        finally:
            for line in log.after(0):
                tell(line.text)

    # ---- running -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _running(
        self, program: Program, variables: dict[str, str], spec: RunSpec, log: Log
    ) -> AsyncIterator[Relay]:
        process = await self._process(program, variables)
        relay = Relay(process.child, spec.limits, log, process.kill)
        try:
            yield relay
        finally:
            await relay.stop(0)
            await process.remove()

    async def _process(self, program: Program, variables: dict[str, str]) -> Process:
        programs = str(self._tools.folder / "programs")
        recipe = Recipe(program.python, programs, program.target, tuple(sorted(variables.items())))
        process = await self._processes.take(recipe)
        process.show(program.folder)
        return process

    async def _launch(self, spec: RunSpec, name: str, log: Log) -> Prepared:
        if spec.digest not in self._programs:
            raise Missing(f"The program {spec.digest[:12]} is not here any more. Save it once more.")
        program, era = self._programs[spec.digest]
        async with AsyncExitStack() as stack:
            running = self._running(program, {**spec.variables, **spec.secrets}, spec, log)
            relay = await stack.enter_async_context(running)
            known = msgspec.structs.replace(spec, era=era)
            return Waiting(known, relay, log, stack.pop_all(), _nothing, _nothing_of, self._track)

    def _track(self, ending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task


async def _nothing() -> None:
    """Nobody else can have changed what was built."""


async def _nothing_of(_: Era) -> None:
    """It is known already."""


def _files(name: str, upload: bytes) -> dict[str, bytes]:
    """Raises `Unbuildable`."""
    try:
        return dict(archives.read(upload, *([name] if name.endswith(".py") else [])))
    except Refusal as refusal:
        raise Unbuildable(str(refusal)) from None


def _stated(files: dict[str, bytes]) -> tuple[Declared, tuple[str, ...]]:
    """What the program says of itself, and all that it needs. Raises `Unbuildable`."""
    given, found = io.BytesIO(), io.BytesIO()
    parcels.write(given, list(files.items()))
    given.seek(0)
    survey.main(given, found)
    seen = msgspec.json.decode(found.getvalue(), type=Survey)
    stated = declared(files, seen)
    return stated, builds.complete(stated, builds.uses_of(stated, seen))


def _result(
    program: Program, offer: dry_run.Offer, size: int, requirements: tuple[str, ...], stated: Declared
) -> BuildResult:
    return BuildResult(
        digest=program.digest,
        size=size,
        python=os.path.basename(program.python),
        packages=requirements,
        target=program.target,
        mode=stated.mode,
        **msgspec.structs.asdict(offer),
    )
