"""Virtual environments for one's own programs, made by uv in a cache, one for each set of requirements."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from servers.runner.building import index as indexes
from servers.runner.building.index import Index
from servers.runner.errors import BuildFailed, Unbuildable

SECONDS = 600.0
_LONGEST_LINE = 64 * 1024
_LAST_LINES, _MARKS = 8, " \u00d7\u2570\u2500\u25b6\u2502"


async def ensure(folder: Path, uv: Path, requirements: Sequence[str], heard: Callable[[str], None]) -> Path:
    """The interpreter of an environment below `folder` with all of them in it, made if there is none.

    Versions are those that are newest when it is made. Raises `Unbuildable` when they cannot be installed.
    """
    if not requirements:
        return Path(sys.executable)
    known = hashlib.sha256("\n".join([sys.executable, *requirements]).encode()).hexdigest()[:16]
    target = folder / known
    if not target.is_dir():
        await _make(target, uv, requirements, heard)
    return target / "bin" / "python"


async def _make(target: Path, uv: Path, requirements: Sequence[str], heard: Callable[[str], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=target.parent))
    environment = os.environ | _environment(await indexes.configured(uv)) | {"VIRTUAL_ENV": ""}
    python = made / "bin" / "python"
    install = ["pip", "install", "--python", str(python), "--compile-bytecode", "--", *requirements]
    try:
        # Relocatable: it is made under another name, so that one that was not finished is never taken for whole.
        for command in (["venv", "--relocatable", "--python", sys.executable, str(made), "--clear"], install):
            await _run([str(uv), "--no-progress", *command], environment, heard)
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _environment(index: Index) -> dict[str, str]:
    """What the operator has told uv or pip, as uv takes it."""
    found = {
        "UV_INDEX": " ".join(index.extra),
        "UV_FIND_LINKS": ",".join(index.links),
        "UV_INDEX_STRATEGY": "unsafe-best-match" if index.is_merged else "",
        "UV_INSECURE_HOST": " ".join(index.insecure),
        "UV_DEFAULT_INDEX": index.default or "",
        "SSL_CERT_FILE": index.certificates,
    }
    return {name: value for name, value in found.items() if value}


async def _run(command: list[str], environment: dict[str, str], heard: Callable[[str], None]) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            limit=_LONGEST_LINE,
        )
    except OSError as error:
        raise BuildFailed(f"uv cannot be started: {error.strerror}.") from None
    said: list[str] = []
    try:
        async with asyncio.timeout(SECONDS):
            assert process.stdout is not None
            async for line in process.stdout:
                said.append(line.decode("utf-8", "replace").rstrip())
                heard(said[-1])
            code = await process.wait()
    except TimeoutError:
        raise Unbuildable(f"Installing has taken more than {SECONDS:g} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code:
        # uv folds its sentences, and puts marks before them.
        reason = " ".join(line.strip(_MARKS) for line in said[-_LAST_LINES:]).strip()
        reason = reason or f"uv ended with code {code}."
        raise Unbuildable(f"What the program needs cannot be installed: {reason}", stage="install")
