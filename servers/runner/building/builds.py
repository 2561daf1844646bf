"""A build as a whole: from the bytes that were uploaded to an artifact and what it offers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec
from packaging.specifiers import SpecifierSet

from servers.runner.building import imports, interpreters, tools
from servers.runner.building import index as indexes
from servers.runner.building.artifacts import Artifact, Artifacts, Manifest
from servers.runner.building.declarations import Declared, declared, names_of
from servers.runner.building.doors import Doors
from servers.runner.building.dry_run import Offer, offered
from servers.runner.building.environments import Environment, Environments, Lock
from servers.runner.building.imports import Survey, Use, Uses
from servers.runner.building.index import NOWHERE, Reach
from servers.runner.building.inside import parcels
from servers.runner.building.inside.bounds import MIB, PACKED, UPLOAD, Refusal
from servers.runner.building.interpreters import Interpreter
from servers.runner.building.progress import Event, Reporter
from servers.runner.building.rooms import Ended, Rooms
from servers.runner.building.shelf import Shelf
from servers.runner.building.tools import PROGRAMS, Tools
from servers.runner.engine import BuildResult, Limits, RunSpec
from servers.runner.errors import BuildFailed, Missing, Refused, Unbuildable
from servers.runner.sandbox.cgroups import Limiter
from servers.runner.sandbox.launcher import runtime_trees
from servers.runner.sandbox.users import Users

_PARCEL_BYTES = UPLOAD.total + 16 * MIB
_SURVEY_BYTES = 32 * MIB
READ_SECONDS = 30.0
# What is not named any more was counted as somebody's until then, so it goes soon; a build may not be written down yet.
UNWANTED_SECONDS = 86_400.0
LEAST_FREE = 1024 * MIB
# How long environments stay that no artifact has, where the disk is nearly full.
SPARED_SECONDS = 3600.0
REACH_SECONDS, _MOST_REACHES = 300.0, 100
_FOLDERS = ("artifacts", "doors", "environments", "incoming", "records", "tools")


@dataclass(frozen=True, slots=True)
class Source:
    """What was uploaded: the bytes, what the file was called, and when, which decides what versions are taken.

    `variables` and `secrets` are what the server sees when it is tried, within `limits`, and `hosts` what it can reach;
    the build itself sees none of them. `masked` is kept out of logs as the values of secrets are.
    """

    data: bytes
    name: str
    when: datetime
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    masked: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Built:
    artifact: Artifact
    offer: Offer
    packages: tuple[str, ...]

    @property
    def result(self) -> BuildResult:
        """As it is told to other processes."""
        artifact = self.artifact
        return BuildResult(
            digest=artifact.digest,
            size=artifact.size,
            python=artifact.manifest.python,
            packages=self.packages,
            target=artifact.manifest.target,
            mode=artifact.manifest.mode,
            **msgspec.structs.asdict(self.offer),
        )


class Builder:
    """Builds below `folder`, which every user of the machine must be able to reach and only we can write to.

    `doors` are the ways out of what is tried. `python` is the interpreter the operator has chosen, empty for the newest
    that can be used. `environ` is where the configuration of uv and pip is looked for, None for our own environment.
    Nothing is built where less than `least_free` bytes are left.
    """

    def __init__(
        self,
        folder: Path,
        limiter: Limiter,
        users: Users,
        *,
        doors: Doors | None = None,
        python: str = "",
        environ: Mapping[str, str] | None = None,
        least_free: int = LEAST_FREE,
    ) -> None:
        self._folder, self._limiter, self._python, self._environ = folder, limiter, python, environ
        self._least_free = least_free
        self._rooms = Rooms(limiter, users)
        self._doors = doors or Doors(folder / "doors")
        for name in _FOLDERS:
            path = folder / name
            path.mkdir(parents=True, exist_ok=True)
            # To be passed through by those who know a name, and not to be listed.
            os.chmod(path, 0o711)
        self.artifacts = Artifacts(folder / "artifacts", folder / "incoming")
        self.shelf = Shelf(folder / "records")
        self._environments: Environments | None = None
        self._reaches: dict[frozenset[str], tuple[float, Reach]] = {}
        self._trying: Counter[str] = Counter()
        self._present = interpreters.Present()

    def clear(self) -> None:
        """Remove what a runner that was killed has left: to be called before anything is built or run."""
        self._doors.clear()
        for path in (self._folder / "incoming").iterdir():
            shutil.rmtree(path)

    async def opened(self, digest: str) -> Artifact:
        """The artifact that is run where this one is asked for: to be called before every start.

        Raises `Missing` and `Tampered`.
        """
        artifact = await self.artifacts.open(await asyncio.to_thread(self._in_place_of, digest))
        if not await self._has_its_python(artifact.manifest):
            raise Missing(
                f"The artifact {digest[:12]} was built for Python {interpreters.short(artifact.manifest.python)} at "
                f"{artifact.runtime}, which is not there any more. Build it again."
            )
        return artifact

    async def lost(self, digests: Iterable[str]) -> list[str]:
        """Those that have to be built again."""
        found = []
        for digest in digests:
            manifest = await asyncio.to_thread(
                lambda of: self.artifacts.manifest(self._in_place_of(of)), digest
            )
            if manifest is None or not await self._has_its_python(manifest):
                found.append(digest)
        return found

    async def stand_in(self, digest: str, by: str) -> None:
        """Run another artifact where this one is asked for. Raises `Missing`."""
        if not self.artifacts.has(by):
            raise Missing(f"The artifact {by[:12]} is not on this machine. Build it again.")
        era = await asyncio.to_thread(self.shelf.wanted, by)
        await asyncio.to_thread(self.shelf.put, digest, era or "modern", by=by)

    def _in_place_of(self, digest: str) -> str:
        by = self.shelf.stand_in(digest)
        return by if self.artifacts.has(by) else digest

    async def _has_its_python(self, manifest: Manifest) -> bool:
        """What was installed for one is of no use to another, but for the last number of its version."""
        return await self._present.at(manifest.runtime) == interpreters.short(manifest.python)

    async def missing(self) -> list[str]:
        """Why uploads cannot be built here, in sentences; empty where they can."""
        found = [self._shut()] if self._shut() else []
        try:
            await self._interpreters()
        except BuildFailed as failed:
            found.append(failed.message)
        return found

    async def _interpreters(self) -> list[Interpreter]:
        """Newest first, and at least one. Raises `BuildFailed`."""
        every = await interpreters.usable(self._python)
        if not every:
            raise BuildFailed(interpreters.none_usable(self._python))
        return every

    def _shut(self) -> str:
        """Sandboxes run as other users, who have to read what is here."""
        if os.geteuid() != 0 or interpreters.is_open_to_all(self._folder.resolve(), to_list=False):
            return ""
        return f"Other users cannot enter {self._folder}. Choose a folder that everybody may enter."

    async def tidy(self, keep: Collection[str], *, unwanted: float = UNWANTED_SECONDS) -> list[str]:
        """Remove artifacts that nobody has started for `unwanted` seconds, but for those to keep, and what only they
        needed. Gives their digests.
        """
        environments = None
        with contextlib.suppress(BuildFailed):  # where nothing can be built, no environment grows old
            environments = self.environments
        return await asyncio.to_thread(self._tidied, {*keep, *self._trying}, unwanted, environments)

    def _tidied(self, keep: Collection[str], unwanted: float, environments: Environments | None) -> list[str]:
        # What was not asked for by its own name is wanted where it stands in.
        keep = {*keep, *(self.shelf.stand_in(digest) for digest in keep)}
        removed = [
            digest
            for digest in {*self.artifacts.digests(), *self.shelf.digests()}
            if digest not in keep and min(self.shelf.idle(digest), self.artifacts.age(digest)) > unwanted
        ]
        for digest in removed:
            self.artifacts.discard(digest)
            self.shelf.remove(digest)
        if environments is not None:
            environments.tidy(self.artifacts.environments(), unwanted)
        return removed

    @property
    def tools(self) -> Tools:
        """Raises `BuildFailed` where this machine is not ready for builds."""
        return self.environments.tools

    async def build(self, source: Source, heard: Callable[[Event], None] = lambda _: None) -> Built:
        """Raises `Unbuildable` where the upload is at fault, and `BuildFailed`; both with the last lines of the log."""
        report = Reporter(heard, secrets=(*source.secrets.values(), *source.masked))
        try:
            return await self._build(source, report)
        except Refused as refused:
            refused.data.setdefault("stage", report.stage)
            refused.data["log"] = report.tail()
            raise

    async def _build(self, source: Source, report: Reporter) -> Built:
        await self._check_room()
        every = await self._interpreters()
        first = interpreters.chosen(every, SpecifierSet())
        report.begin("read")
        files = await self._read(source, first)
        report.begin("declare")
        survey = await self._survey(files, first)
        stated = declared(files, survey)
        interpreter = interpreters.chosen(every, stated.python)
        uses = uses_of(stated, survey)
        requirements = complete(stated, uses)
        report.line(f"Python {interpreter.version} at {interpreter.path} serves {stated.entry}.")
        lock, environment = await self._environment(requirements, interpreter, source.when, report)
        report.begin("pack")
        _check_imports(uses, environment, interpreter, requirements, stated)
        artifact = await self.artifacts.pack(files, stated, lock, environment, interpreter, self.tools)
        report.begin("try", "Starting it once to see what it offers.")
        async with self._kept_if_it_works(artifact.digest):
            offer = await self._tried(artifact, lock, source, report)
            self.shelf.put(artifact.digest, offer.era)
        report.begin("done", f"It offers {len(offer.tools)} tools, {len(offer.prompts)} prompts.")
        return Built(artifact, offer, lock.packages)

    async def _check_room(self) -> None:
        """Raises `BuildFailed` where there is none, even without what failed builds have left."""
        if self._is_full():
            needed = await asyncio.to_thread(self.artifacts.environments)
            await asyncio.to_thread(self.environments.tidy, needed, SPARED_SECONDS)
        if self._is_full():
            raise BuildFailed(
                f"Less than {self._least_free // MIB} MiB are free below {self._folder}. Make room there."
            )

    def _is_full(self) -> bool:
        return shutil.disk_usage(self._folder).free < self._least_free

    @property
    def environments(self) -> Environments:
        """Raises `BuildFailed` where this machine is not ready for builds."""
        if self._environments is None:
            if shut := self._shut():
                raise BuildFailed(shut)
            ready = tools.prepared(self._folder / "tools")
            folder, incoming = self._folder / "environments", self._folder / "incoming"
            self._environments = Environments(folder, incoming, self._rooms, ready)
        return self._environments

    # ---- reading ---------------------------------------------------------------------------------------------

    async def _read(self, source: Source, interpreter: Interpreter) -> dict[str, bytes]:
        if len(source.data) > PACKED:
            raise Unbuildable(f"The upload has more than {PACKED // MIB} MiB.")
        name = [source.name] if source.name.endswith(".py") else []
        async with self._inside("read", name, source.data, _PARCEL_BYTES, interpreter) as ended:
            try:
                return {path: b"".join(pieces) for path, pieces in parcels.read(ended.output, UPLOAD)}
            except Refusal as refusal:
                raise Unbuildable(
                    f"The upload cannot be read: {ended.why}." if ended.why else str(refusal)
                ) from None

    async def _survey(self, files: Mapping[str, bytes], interpreter: Interpreter) -> Survey:
        parcel = io.BytesIO()
        parcels.write(parcel, list(files.items()))
        async with self._inside("survey", [], parcel.getvalue(), _SURVEY_BYTES, interpreter) as ended:
            try:
                return msgspec.json.decode(ended.output.read(), type=Survey)
            except msgspec.DecodeError:
                raise Unbuildable(f"The program cannot be read: {ended.why or 'it is too large'}.") from None

    @asynccontextmanager
    async def _inside(
        self, program: str, arguments: list[str], feed: bytes, most: int, interpreter: Interpreter
    ) -> AsyncIterator[Ended]:
        """One of our own programs over a stranger's bytes, without any way out."""
        mounted = [*runtime_trees(Path(interpreter.path)), self.tools.tree]
        command = [interpreter.path, "-I", PROGRAMS, program, *arguments]
        async with (
            self._rooms.user() as user,
            self._rooms.run(
                command, user=user, trees=mounted, feed=feed, most=most, seconds=READ_SECONDS
            ) as ended,
        ):
            yield ended

    # ---- packages --------------------------------------------------------------------------------------------

    async def _environment(
        self, requirements: tuple[str, ...], interpreter: Interpreter, when: datetime, report: Reporter
    ) -> tuple[Lock, Environment]:
        environments = self.environments
        reach = NOWHERE
        if requirements:
            report.begin("resolve", "Asking the package index.")
            reach = await self._reach(environments, names_of(requirements))
            report.secrets = (*report.secrets, *reach.index.secrets)
        lock = await environments.resolve(requirements, interpreter, when=when, reach=reach, report=report)
        report.begin("install", f"Installing {len(lock.packages)} packages.")
        return lock, await environments.ensure(lock, interpreter, reach=reach, report=report)

    async def _reach(self, environments: Environments, names: frozenset[str]) -> Reach:
        """Asking pip and looking at pages takes a second, and changes seldom."""
        known = self._reaches.get(names)
        if known and time.monotonic() - known[0] < REACH_SECONDS:
            return known[1]
        index = await indexes.configured(environments.tools.folder / "uv", self._environ)
        found = await indexes.reach(index, names)
        if len(self._reaches) >= _MOST_REACHES:
            self._reaches.clear()
        self._reaches[names] = time.monotonic(), found
        return found

    # ---- the dry run -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _kept_if_it_works(self, digest: str) -> AsyncIterator[None]:
        """An artifact that has never worked is removed with the last of those who try it."""
        self._trying[digest] += 1
        self.shelf.wanted(digest)
        try:
            yield
        finally:
            self._trying[digest] -= 1
            if not self._trying[digest]:
                del self._trying[digest]
                if not self.shelf.has(digest):
                    await self.artifacts.remove(digest)

    async def _tried(self, artifact: Artifact, lock: Lock, source: Source, report: Reporter) -> Offer:
        spec = RunSpec(
            tenant="-build",
            server="-build",
            digest=artifact.digest,
            artifact=str(artifact.folder),
            entry=artifact.entry,
            runtime=artifact.runtime,
            # Its first release knows the handshake alone, and complains at length when it is asked anything before.
            era="handshake" if any(each.startswith("mcp==1.") for each in lock.packages) else "probe",
            variables=dict(source.variables),
            secrets=dict(source.secrets),
            masked=source.masked,
            hosts=source.hosts,
            limits=source.limits,
        )
        async with (
            self._rooms.user() as user,
            self._doors.opened(source.hosts, user=user, tell=report.line) as others,
        ):
            return await offered(spec, self._limiter, user=user, heard=report.line, others=others)


def uses_of(stated: Declared, survey: Survey) -> list[Use]:
    """What the program imports from elsewhere. Raises `Unbuildable`."""
    if not stated.entry.file:
        return []
    imports.check_nothing_hides_an_sdk(survey, stated.entry.file)
    return Uses(survey, stated.entry.file).found


def complete(stated: Declared, uses: list[Use]) -> tuple[str, ...]:
    """What was declared, and the SDK the imports ask for. Raises `Unbuildable` when they ask for more than that."""
    sdk = "" if stated.names & set(imports.SDKS) else imports.inferred_sdk(uses)
    requirements = tuple(sorted({*stated.requirements, *filter(None, [sdk])}))
    if not requirements:
        _refuse_missing(uses, (), requirements, stated)
    return requirements


def _check_imports(
    uses: list[Use],
    environment: Environment,
    interpreter: Interpreter,
    requirements: tuple[str, ...],
    stated: Declared,
) -> None:
    site = environment.site(interpreter)
    installed = imports.top_modules(path.relative_to(site).as_posix() for path in site.glob("*/*"))
    installed |= imports.top_modules(path.name for path in site.iterdir() if path.is_file())
    _refuse_missing(uses, installed, requirements, stated)


def _refuse_missing(
    uses: list[Use], installed: Collection[str], requirements: tuple[str, ...], stated: Declared
) -> None:
    absent = imports.missing(uses, installed)
    imports.refuse_missing(
        absent, requirements, entry=stated.entry.file, has_block=stated.source == stated.entry.file
    )
