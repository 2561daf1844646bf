"""What a server needs besides its own files: resolved to a lock with hashes, installed once, shared by all that need
the same.

Wheels only: nothing of what is installed runs while it is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from servers.runner.building import trees
from servers.runner.building.declarations import MOST_PACKAGES
from servers.runner.building.index import Reach
from servers.runner.building.inside import forwarding, parcels
from servers.runner.building.inside.bounds import ENVIRONMENT, MIB, Refusal
from servers.runner.building.inside.installing import SITE
from servers.runner.building.interpreters import Interpreter
from servers.runner.building.progress import Reporter
from servers.runner.building.rooms import Ended, Rooms
from servers.runner.building.tools import PROGRAMS, UV, Tools
from servers.runner.egress import Caps, Proxy
from servers.runner.errors import Tampered, Unbuildable
from servers.runner.sandbox.launcher import Tree, runtime_trees

# A lock names the hashes of every file of a version, for all platforms.
_LOCK_BYTES = 4 * MIB
_LISTING_BYTES = 16 * MIB
# A build takes no more from the index than this, both ways.
_CAPS = Caps(bytes=1024 * MIB, connections=5_000)
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_NO_DATE = "is missing an upload date"
_UV = ("--no-config", "--no-python-downloads", "--no-build", "--cache-dir", "/tmp/cache", "--color", "never")
_ENVIRONMENT = {
    "HOME": "/tmp",
    "UV_LINK_MODE": "hardlink",
    # Twice its own: a build that breaks off is dearer than one that waits.
    "UV_HTTP_RETRIES": "6",
    # Compiled files that hold a digest of their source instead of its time, so that they are the same every time.
    "PYC_INVALIDATION_MODE": "UNCHECKED_HASH",
    "PYTHONHASHSEED": "0",
}


@dataclass(frozen=True, slots=True)
class Lock:
    """Versions and hashes, as requirements that pip and uv read."""

    text: str

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(f"{name}=={version}" for name, version in _PINNED.findall(self.text))

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Environment:
    """An installed lock: `folder` holds `venv`, whose digest is `tree`; `key` is the same for the same contents."""

    key: str
    folder: Path
    tree: str

    @property
    def venv(self) -> Path:
        return self.folder / "venv"

    def site(self, interpreter: Interpreter) -> Path:
        return self.venv / site_of(interpreter)


def site_of(interpreter: Interpreter) -> Path:
    return Path("lib") / f"python{interpreter.short}" / "site-packages"


@dataclass(slots=True)
class _Heard:
    """What uv says, for the log, and to know why it gave up."""

    report: Reporter
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    lacks_dates: bool = False

    def __call__(self, line: str) -> None:
        if _NO_DATE in line:
            self.lacks_dates = True
            return
        self.lines.append(line)
        self.report.line(line)

    @property
    def reason(self) -> str:
        """From the word "error" on; what follows it are causes and hints."""
        lines = list(self.lines)
        start = next(
            (number for number, line in enumerate(lines) if line.startswith("error")), len(lines) - 5
        )
        return self.report.cleaned(" ".join(" ".join(lines[max(0, start) :]).split()))


@dataclass(slots=True)
class Environments:
    """Those below `folder`, complete or not there. Only the runner can write to it."""

    folder: Path
    incoming: Path
    rooms: Rooms
    tools: Tools
    _making: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def resolve(
        self,
        requirements: Iterable[str],
        interpreter: Interpreter,
        *,
        when: datetime,
        reach: Reach,
        report: Reporter,
    ) -> Lock:
        """The versions to install, none uploaded after `when`. Raises `Unbuildable` and `BuildFailed`."""
        asked = "\n".join(requirements).encode()
        if not asked:
            return Lock("")
        cutoff = ("--exclude-newer", when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        heard = _Heard(report)
        lock = await self._compiled(asked, cutoff, interpreter, reach, heard)
        if lock is None and heard.lacks_dates:
            report.line(
                "The index does not say when its files were uploaded, so the newest versions are taken."
            )
            lock = await self._compiled(asked, (), interpreter, reach, heard)
        if lock is None:
            raise Unbuildable(f"The dependencies cannot be resolved. {heard.reason}")
        if len(lock.packages) > MOST_PACKAGES:
            raise Unbuildable(f"{len(lock.packages)} packages would be needed; {MOST_PACKAGES} is the most.")
        return lock

    async def ensure(
        self, lock: Lock, interpreter: Interpreter, *, reach: Reach, report: Reporter
    ) -> Environment:
        """The environment of a lock, made if there is none yet. Raises `Unbuildable` and `BuildFailed`."""
        key = hashlib.sha256(f"1\n{lock.text}\n{interpreter.path}\n{interpreter.build}".encode()).hexdigest()
        async with self._making.setdefault(key, asyncio.Lock()):
            known = await asyncio.to_thread(self._known, key)
            if known is not None:
                report.line("The packages are installed already.")
                return known
            return await self._made(key, lock, interpreter, reach, report)

    def tidy(self, needed: Collection[str], unwanted: float) -> None:
        """Remove those that no artifact has and no build has asked for since `unwanted` seconds, and old tools."""
        for path in self.folder.iterdir():
            if path.name not in needed and time.time() - path.stat().st_mtime > unwanted:
                shutil.rmtree(path, ignore_errors=True)
        for path in self.tools.folder.parent.iterdir():
            if path != self.tools.folder:
                shutil.rmtree(path, ignore_errors=True)

    def _known(self, key: str) -> Environment | None:
        """None if there is none, or if it is not what it was."""
        folder = self.folder / key
        try:
            tree = json.loads((folder / "tree.json").read_text())["tree"]
            if trees.digest(folder / "venv") == tree:
                os.utime(folder)
                return Environment(key, folder, tree)
        except (OSError, ValueError, KeyError, TypeError, Tampered):
            pass  # made anew
        shutil.rmtree(folder, ignore_errors=True)
        return None

    async def _compiled(
        self, asked: bytes, cutoff: tuple[str, ...], interpreter: Interpreter, reach: Reach, heard: _Heard
    ) -> Lock | None:
        command = [
            UV,
            "pip",
            "compile",
            "-",
            "--python",
            interpreter.path,
            "--generate-hashes",
            "--no-header",
        ]
        command += ["--no-annotate", *cutoff, *_UV, *reach.index.options]
        async with self.reaching_index(
            "forward", command, asked, _LOCK_BYTES, interpreter, reach, heard
        ) as ended:
            return None if ended.why else Lock(ended.output.read().decode())

    async def _made(
        self, key: str, lock: Lock, interpreter: Interpreter, reach: Reach, report: Reporter
    ) -> Environment:
        made = Path(tempfile.mkdtemp(dir=self.incoming))
        try:
            if lock.text:
                await self._install(made, lock, interpreter, reach, report)
            environment = await asyncio.to_thread(_finish, made, interpreter, key)
            made.rename(self.folder / key)
            return Environment(key, self.folder / key, environment)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)
            raise

    async def _install(
        self, made: Path, lock: Lock, interpreter: Interpreter, reach: Reach, report: Reporter
    ) -> None:
        command = [UV, "pip", "install", "-r", "-", "--python", interpreter.path, "--target", str(SITE)]
        command += ["--require-hashes", "--no-deps", "--compile-bytecode", *_UV, *reach.index.options]
        most = ENVIRONMENT.total + _LISTING_BYTES
        heard = _Heard(report)
        text = lock.text.encode()
        async with self.reaching_index("install", command, text, most, interpreter, reach, heard) as ended:
            if ended.why:
                raise Unbuildable(f"The dependencies cannot be installed: {ended.why}. {heard.reason}")
            try:
                await asyncio.to_thread(_unpack, ended.output, made / "venv" / site_of(interpreter))
            except Refusal as refusal:
                raise Unbuildable(f"The dependencies cannot be installed: {refusal}") from None

    @contextlib.asynccontextmanager
    async def reaching_index(
        self,
        program: str,
        command: list[str],
        feed: bytes,
        most: int,
        interpreter: Interpreter,
        reach: Reach,
        heard: _Heard,
    ) -> AsyncIterator[Ended]:
        """Run one of our programs in a sandbox whose only way out leads to the index."""
        proxy = Proxy(reach.hosts, permits=lambda address, port: False, caps=_CAPS)
        with tempfile.TemporaryDirectory(dir=self.incoming) as place:
            os.chmod(place, 0o711)
            door = Path(place) / "egress.sock"
            async with self.rooms.user() as user, proxy.listening(door, owner=user):
                mounted = [*runtime_trees(Path(interpreter.path)), self.tools.tree, *reach.trees]
                mounted.append(Tree(str(door), forwarding.SOCKET))
                line = [interpreter.path, "-I", PROGRAMS, program, *command]
                environment = {**_ENVIRONMENT, **reach.index.environment()}
                async with self.rooms.run(
                    line, user=user, trees=mounted, environment=environment, feed=feed, heard=heard, most=most
                ) as ended:
                    for event in proxy.events:
                        if event.refused:
                            heard(f"The way to {event.host} was shut: {event.refused}")
                    yield ended


def _unpack(parcel: IO[bytes], site: Path) -> None:
    """Into a new folder that only we can write to. Raises `Refusal`."""
    site.mkdir(parents=True)
    for path, pieces in parcels.read(parcel, ENVIRONMENT):
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
            for piece in pieces:
                file.write(piece)


def _finish(made: Path, interpreter: Interpreter, key: str) -> str:
    """Make an environment of the folder of packages, as Python's own `venv` lays it out. Gives its digest."""
    venv = made / "venv"
    (venv / site_of(interpreter)).mkdir(parents=True, exist_ok=True)
    home = Path(interpreter.path).parent
    (venv / "pyvenv.cfg").write_text(
        f"home = {home}\ninclude-system-site-packages = false\nversion = {interpreter.version}\n"
    )
    (venv / "bin").mkdir()
    for name in ("python", "python3", f"python{interpreter.short}"):
        (venv / "bin" / name).symlink_to(interpreter.path)
    _open_to_all(made)
    tree = trees.digest(venv)
    (made / "tree.json").write_text(json.dumps({"key": key, "tree": tree}))
    return tree


def _open_to_all(folder: Path) -> None:
    """Whatever our own mask is, the servers' users have to be able to read it."""
    for base, _, files in os.walk(folder):
        os.chmod(base, 0o755)
        for name in files:
            if not Path(base, name).is_symlink():
                os.chmod(Path(base, name), 0o644)
