"""Serves an uploaded program over standard input and output, as it is.

The file is imported under another name, so what stands behind `if __name__ == "__main__"` does not run; the server
object in it is served with its lifespan. Only a file without one is run as a program, with TRANSPORT=stdio.

The protocol has the real streams to itself: what a program prints goes to the log, also from its children.

Nothing of the upload runs before the first message is there. Where it is not there yet, this process was started
ahead of time, and reads the SDK meanwhile, which is most of what a start takes.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import functools
import importlib
import importlib.metadata
import importlib.util
import io
import os
import runpy
import select
import sys
import termios
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, BinaryIO, Literal

from . import forwarding

# Begins the line of the log that says why there is no server.
MARK = "mooring: "
_ALIAS = "mooring_app"
_HIGH_LEVEL = {"FastMCP", "MCPServer"}
_SDKS = {"mcp", "fastmcp"}
# What servers on them import, in either release. Of fastmcp only what it needs: it reads its settings when it is
# imported, and uploads may set those before.
_EARLY = (
    "mcp.server.mcpserver",
    "mcp.server.fastmcp",
    "mcp.server.lowlevel",
    "mcp.server.stdio",
    "mcp.server.streamable_http_manager",
    "mcp.client.session",
    "httpx",
    "uvicorn",
    "pydantic_settings",
    "joserfc.jws",
    "rich.console",
    "yaml",
)


class NoServer(Exception):
    """A sentence for whoever has uploaded this."""


def main(target: str, root: Path = Path("/app")) -> None:
    """`target` is `file.py`, `file.py:object` or the name of a command that a package brings."""
    os.environ["TRANSPORT"] = "stdio"
    streams = Streams()
    sys.excepthook = functools.partial(_explain, root, streams)
    if os.path.exists(forwarding.SOCKET):
        forwarding.begin()
    _wait_to_be_asked(streams)
    file, _, name = target.partition(":")
    if not file.endswith(".py"):
        _run_command(target)
        return
    path = root / file
    _look_in(path, root)
    if not any(map(importlib.util.find_spec, _SDKS)):
        # It speaks the protocol by itself, through print and input.
        streams.restore()
        _run_as_program(path, root)
        return
    module = _imported(path, root)
    server = _named(module, file, name) if name else _only_one(module, file)
    if server is None:
        _run_as_program(path, root)
    else:
        asyncio.run(_served(server))


def _wait_to_be_asked(streams: Streams) -> None:
    if streams.unread() is None:
        for name in _EARLY:
            # Whatever is wrong with it is told when the upload asks for it.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        streams.wait()
    if not streams.unread():
        sys.exit(0)  # nobody will ask any more


# ---- streams -------------------------------------------------------------------------------------------------


class _Printing(io.TextIOWrapper):
    """Standard output for people: text goes to the log, and only who asks for `buffer` gets the protocol's stream."""

    def __init__(self, wire: BinaryIO) -> None:
        super().__init__(_opened(1, "wb"), encoding="utf-8", errors="replace", line_buffering=True)
        self._wire = wire

    @property
    def buffer(self) -> BinaryIO:
        return self._wire


class Streams:
    """Moves the protocol's streams out of the way: 0 reads nothing, 1 goes to the log."""

    def __init__(self) -> None:
        self._input, self._output = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdin = io.TextIOWrapper(_opened(self._input, "rb"), encoding="utf-8", errors="replace")
        sys.stdout = _Printing(_opened(self._output, "wb"))

    def restore(self) -> None:
        """For programs that speak the protocol without an SDK, through print and input."""
        os.dup2(self._input, 0)
        os.dup2(self._output, 1)
        sys.stdin, sys.stdout = sys.__stdin__, sys.__stdout__

    def unread(self) -> int | None:
        """Bytes that wait to be read; None while there are none and more may come."""
        if not select.select([self._input], [], [], 0)[0]:
            return None
        found = array.array("i", [0])
        fcntl.ioctl(self._input, termios.FIONREAD, found)
        return found[0]

    def wait(self) -> None:
        select.select([self._input], [], [])

    def say(self, text: str) -> None:
        """Where the protocol was spoken until now, since a flood in the log would drown it."""
        with contextlib.suppress(OSError):
            os.write(self._output, f"\n{text}\n".encode("utf-8", "replace"))


def _opened(descriptor: int, mode: Literal["rb", "wb"]) -> Any:
    """A descriptor that stays open as long as the process."""
    return os.fdopen(descriptor, mode, closefd=False)


# ---- finding the server --------------------------------------------------------------------------------------


def _look_in(path: Path, root: Path) -> None:
    """Modules are found as they are for a program started by hand: beside it; then at the top, and in `src`."""
    folder = path.parent
    while folder != root and (folder / "__init__.py").exists():
        folder = folder.parent
    sys.path[:0] = [str(each) for each in dict.fromkeys([folder, root, root / "src"]) if each.is_dir()]


def _imported(path: Path, root: Path) -> ModuleType:
    """Raises `NoServer` when it ends itself, and whatever it raises."""
    try:
        if (path.parent / "__init__.py").exists() and path.parent != root:
            return importlib.import_module(_dotted(path, root))
        return _loaded(path)
    except SystemExit as ended:
        raise NoServer(f"{path.name} ended itself while it was imported (exit code {ended.code}).") from None


def _dotted(path: Path, root: Path) -> str:
    parts, folder = [path.stem], path.parent
    while folder != root and (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


def _loaded(path: Path) -> ModuleType:
    """The file as a module; other files of the upload may import it by its own name and get the same one."""
    found = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    is_itself = found is not None and found.origin is not None and Path(found.origin) == path
    name = path.stem if is_itself else _ALIAS
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise NoServer(f"{path.name} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _only_one(module: ModuleType, file: str) -> Any:
    """The server among the names of a module, None if there is none. Raises `NoServer` where there are several."""
    found = {id(value): (name, value) for name, value in reversed(vars(module).items()) if _is_server(value)}
    inner = {id(part) for _, value in found.values() for part in _inner(value)}
    servers = [pair for key, pair in found.items() if key not in inner]
    if len(servers) > 1:
        names = ", ".join(sorted(name for name, _ in servers))
        raise NoServer(
            f"{file} holds several servers: {names}. Choose one in pyproject.toml: "
            f'[tool.mooring] entry = "{file}:{min(name for name, _ in servers)}"'
        )
    return servers[0][1] if servers else None


def _named(module: ModuleType, file: str, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise NoServer(f"{file} has no {name}. Correct the entry in [tool.mooring].") from None
    if not _is_server(value) and callable(value):
        value = value()
    if not _is_server(value):
        raise NoServer(
            f"{name} in {file} is no server of the mcp or fastmcp package but a {type(value).__name__}."
        )
    return value


def _is_server(value: object) -> bool:
    return _is_high_level(value) or _is_low_level(value)


def _is_high_level(value: object) -> bool:
    return any(_is_of_sdk(kind) and kind.__name__ in _HIGH_LEVEL for kind in type(value).__mro__)


def _is_low_level(value: object) -> bool:
    return any(_is_of_sdk(kind) and kind.__name__ == "Server" for kind in type(value).__mro__) and hasattr(
        value, "create_initialization_options"
    )


def _is_of_sdk(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in _SDKS


def _inner(value: object) -> list[object]:
    """The low-level server inside a high-level one, which a file may have given a name as well."""
    return [
        part for name, part in getattr(value, "__dict__", {}).items() if name.endswith("_server") and part
    ]


# ---- serving -------------------------------------------------------------------------------------------------


async def _served(server: Any) -> None:
    if not _is_high_level(server):
        from mcp.server.stdio import stdio_server  # of the upload's environment, in whichever version

        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
    elif type(server).__module__.startswith("fastmcp") or _takes(server.run_stdio_async, "show_banner"):
        await server.run_stdio_async(show_banner=False)
    else:
        await server.run_stdio_async()


def _takes(function: Callable[..., Any], name: str) -> bool:
    return name in function.__code__.co_varnames[: function.__code__.co_argcount]


def _run_as_program(path: Path, root: Path) -> None:
    for name in (path.stem, _ALIAS):
        if getattr(sys.modules.get(name), "__file__", "") == str(path):
            del sys.modules[name]
    sys.argv = [str(path)]
    if (path.parent / "__init__.py").exists() and path.parent != root:
        runpy.run_module(_dotted(path, root), run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(str(path), run_name="__main__")


def _run_command(name: str) -> None:
    """The command of that name, or the only one of the package of that name."""
    every = importlib.metadata.entry_points(group="console_scripts")
    found = [point for point in every if point.name == name]
    if not found:
        found = [point for point in every if point.dist and _plain(point.dist.name) == _plain(name)]
    if len(found) != 1:
        names = ", ".join(sorted(point.name for point in found)) or "none"
        raise NoServer(
            f"No package brings one command {name} (found: {names}). Name the command in [tool.mooring]."
        )
    sys.argv = [found[0].name]
    sys.exit(found[0].load()())


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


# ---- what went wrong -----------------------------------------------------------------------------------------


def _explain(
    root: Path, streams: Streams, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """The last words of this process: the whole story for the log, then one line for people."""
    if not isinstance(error, NoServer):
        sys.__excepthook__(kind, error, trace)
    streams.say(f"{MARK}{' '.join(_explained(error, root).split())}")


def _explained(error: BaseException, root: Path) -> str:
    """A sentence that begins with the line of the upload that is to blame."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, NoServer):
        return str(error)
    what = f"{type(error).__name__}: {error}"
    file, line = _blamed(error, root)
    if file is None:
        return what
    if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
        what += f". {_version_of(error)} does not know this argument: leave it out, or ask for a version that has it"
    return f"{file}, line {line}: {what}"


def _blamed(error: BaseException, root: Path) -> tuple[str | None, int]:
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(root):
        return Path(error.filename).relative_to(root).as_posix(), error.lineno or 1
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if Path(frame.filename).is_relative_to(root):
            return Path(frame.filename).relative_to(root).as_posix(), frame.lineno or 1
    return None, 0


def _version_of(error: TypeError) -> str:
    """The installed SDK that refused the argument."""
    frames = traceback.extract_tb(error.__traceback__)
    for name in ("fastmcp", "mcp"):
        if name in str(error).lower() or any(f"/{name}/" in frame.filename for frame in frames):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                return f"{name} {importlib.metadata.version(name)}"
    return "The installed package"
