"""Artifacts: everything a version needs to run, in a folder named by its digest, and checked against it at every start.

<digest>/app            the upload
<digest>/venv           its environment, and our programs in `mooring`
<digest>/lock           versions and hashes of the environment
<digest>/entry          the command to run, as JSON
<digest>/manifest.json  what all of that has to be; its SHA-256 is the digest
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from servers.runner.building import trees
from servers.runner.building.declarations import Declared
from servers.runner.building.environments import Environment, Lock
from servers.runner.building.inside import archives
from servers.runner.building.interpreters import Interpreter
from servers.runner.building.tools import Tools
from servers.runner.engine import Mode
from servers.runner.errors import Missing, Tampered
from servers.runner.sandbox.launcher import VENV

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PROGRAMS = "mooring"
_MANIFEST_BYTES = 64 * 1024


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`content` is the digest of the upload, `tree` that of `venv`, `programs` that of ours in it.

    `target` is what is served: a file, a server in it, or a command. `runtime` is the interpreter on this machine,
    `python` its version.
    """

    format: int = 1
    content: str
    tree: str
    programs: str
    lock: str
    environment: str
    entry: tuple[str, ...]
    target: str
    mode: Mode
    runtime: str
    python: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """One that has just been checked. `entry`, `runtime` and `folder` are what a `RunSpec` asks for."""

    digest: str
    folder: Path
    manifest: Manifest
    size: int

    @property
    def entry(self) -> tuple[str, ...]:
        return self.manifest.entry

    @property
    def runtime(self) -> str:
        return self.manifest.runtime

    @property
    def lock(self) -> str:
        return (self.folder / "lock").read_text()


@dataclass(slots=True)
class Artifacts:
    """Those below `folder`."""

    folder: Path
    incoming: Path
    _checked: dict[str, tuple[str, Artifact]] = field(default_factory=dict)

    async def pack(
        self,
        files: Mapping[str, bytes],
        declared: Declared,
        lock: Lock,
        environment: Environment,
        interpreter: Interpreter,
        tools: Tools,
    ) -> Artifact:
        """The artifact of these parts, the one that is there already if it is the same."""
        return await asyncio.to_thread(self._pack, files, declared, lock, environment, interpreter, tools)

    async def open(self, digest: str) -> Artifact:
        """The artifact, if it is still what was built: to be called before every start. Raises `Missing`, `Tampered`.

        Everything is read the first time; after that only what tells that nothing was written since.
        """
        return await asyncio.to_thread(self._open, digest)

    async def remove(self, digest: str) -> None:
        """Do nothing if there is none."""
        if _DIGEST.fullmatch(digest):
            await asyncio.to_thread(self.discard, digest)

    def digests(self) -> list[str]:
        """Of all that are here, checked or not."""
        return [path.name for path in self.folder.iterdir() if _DIGEST.fullmatch(path.name)]

    def has(self, digest: str) -> bool:
        return bool(_DIGEST.fullmatch(digest)) and (self.folder / digest).is_dir()

    def manifest(self, digest: str) -> Manifest | None:
        """As it stands there, unchecked; None if it cannot be read."""
        try:
            raw = (self.folder / digest / "manifest.json").read_bytes()[:_MANIFEST_BYTES]
            return msgspec.json.decode(raw, type=Manifest)
        except (OSError, ValueError):
            return None

    def age(self, digest: str) -> float:
        """Seconds since it was made; without an end where there is none."""
        try:
            return time.time() - (self.folder / digest).stat().st_mtime
        except OSError:
            return float("inf")

    def environments(self) -> set[str]:
        """The keys of the environments that artifacts have."""
        manifests = (self.manifest(digest) for digest in self.digests())
        # One that cannot be read cannot be opened either.
        return {manifest.environment for manifest in manifests if manifest is not None}

    def discard(self, digest: str) -> None:
        self._checked.pop(digest, None)
        shutil.rmtree(self.folder / digest, ignore_errors=True)

    def _pack(
        self,
        files: Mapping[str, bytes],
        declared: Declared,
        lock: Lock,
        environment: Environment,
        interpreter: Interpreter,
        tools: Tools,
    ) -> Artifact:
        made = Path(tempfile.mkdtemp(dir=self.incoming))
        try:
            _write_app(made / "app", files)
            # Links to the same files: an environment is kept once, however many artifacts have it.
            shutil.copytree(environment.venv, made / "venv", copy_function=os.link, symlinks=True)
            tools.copy_programs(made / "venv" / _PROGRAMS)
            manifest = Manifest(
                content=archives.digest(files),
                tree=environment.tree,
                programs=trees.digest(made / "venv" / _PROGRAMS),
                lock=lock.digest,
                environment=environment.key,
                entry=(f"{VENV}/bin/python", "-I", f"{VENV}/{_PROGRAMS}", "serve", str(declared.entry)),
                target=str(declared.entry),
                mode=declared.mode,
                runtime=interpreter.path,
                python=interpreter.version,
            )
            (made / "lock").write_text(lock.text)
            (made / "entry").write_bytes(msgspec.json.encode(manifest.entry))
            (made / "manifest.json").write_bytes(msgspec.json.encode(manifest))
            for name in ("lock", "entry", "manifest.json"):
                os.chmod(made / name, 0o644)
            os.chmod(made, 0o755)
            return self._placed(made, manifest)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _placed(self, made: Path, manifest: Manifest) -> Artifact:
        digest = hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()
        target = self.folder / digest
        if target.exists():
            try:
                return self._open(digest)
            except Tampered:
                shutil.rmtree(target)
        made.rename(target)
        artifact = Artifact(digest, target, manifest, trees.size(target))
        self._checked[digest] = (trees.signature(target), artifact)
        return artifact

    def _open(self, digest: str) -> Artifact:
        folder = self.folder / digest
        if not _DIGEST.fullmatch(digest) or not folder.is_dir():
            self._checked.pop(digest, None)
            raise Missing(f"The artifact {digest[:12]} is not on this machine. Build it again.")
        try:
            signature = trees.signature(folder)
            known = self._checked.get(digest)
            if known is None or known[0] != signature:
                self._checked[digest] = known = (signature, _checked(digest, folder))
        except (OSError, ValueError) as error:
            self._checked.pop(digest, None)
            raise Tampered(
                f"The artifact {digest[:12]} cannot be read ({type(error).__name__}). Build it again."
            ) from None
        except Tampered:
            self._checked.pop(digest, None)
            raise
        return known[1]


def _checked(digest: str, folder: Path) -> Artifact:
    raw = (folder / "manifest.json").read_bytes()[:_MANIFEST_BYTES]
    if hashlib.sha256(raw).hexdigest() != digest:
        raise _changed(digest, "manifest.json")
    manifest = msgspec.json.decode(raw, type=Manifest)
    lock = (folder / "lock").read_bytes()
    if hashlib.sha256(lock).hexdigest() != manifest.lock:
        raise _changed(digest, "lock")
    if (folder / "entry").read_bytes() != msgspec.json.encode(manifest.entry):
        raise _changed(digest, "entry")
    if _digest_of_app(folder / "app") != manifest.content:
        raise _changed(digest, "app")
    if trees.digest(folder / "venv", without=_PROGRAMS) != manifest.tree:
        raise _changed(digest, "venv")
    if trees.digest(folder / "venv" / _PROGRAMS) != manifest.programs:
        raise _changed(digest, "a program of ours")
    if {path.name for path in folder.iterdir()} != {"app", "venv", "lock", "entry", "manifest.json"}:
        raise _changed(digest, "the folder")
    return Artifact(digest, folder, manifest, trees.size(folder))


def _digest_of_app(app: Path) -> str:
    if app.is_symlink() or any(path.is_symlink() for path in app.rglob("*")):
        raise Tampered("A link is among the files of an artifact.")
    return archives.digest(
        {path.relative_to(app).as_posix(): path.read_bytes() for path in app.rglob("*") if path.is_file()}
    )


def _changed(digest: str, part: str) -> Tampered:
    return Tampered(f"The artifact {digest[:12]} is not what was built: {part} has changed. Build it again.")


def _write_app(app: Path, files: Mapping[str, bytes]) -> None:
    app.mkdir(mode=0o755)
    for path, content in files.items():
        target = app / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    for base, _, names in os.walk(app):
        os.chmod(base, 0o755)
        for name in names:
            os.chmod(Path(base, name), 0o644)
