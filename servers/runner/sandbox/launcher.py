"""The command line of one sandbox, and the steps its process takes before it becomes bubblewrap.

Rules that hold whatever the code does:

- bubblewrap starts with an empty environment and reads its options from a file that exists in memory only. It is
  process 1 inside, whose environment and command line the code can read; and a variable such as LD_PRELOAD would
  otherwise act on bubblewrap itself, outside.
- It runs as the server's own user, never as root: older ones follow a symbolic link out of a mounted tree when
  they make a mount point below it (CVE-2026-87766). For the same reason nothing is ever mounted below a tenant's
  tree, which come last and read-only.
- Nothing that can be written is without a bound: `/tmp` and `/dev/shm` have sizes, the rest is read-only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from servers.runner.engine import Limits, RunSpec
from servers.runner.sandbox import seccomp

APP, VENV = "/app", "/venv"
INSIDE = 65534
_SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/usr/bin", "/usr/share/zoneinfo")
_TOP = ("/lib", "/lib64", "/lib32", "/bin")
_BASE_ENVIRONMENT = {
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "PYTHONUNBUFFERED": "1",
    # Nothing it could write is kept, and the trees are read-only.
    "PYTHONDONTWRITEBYTECODE": "1",
}


class Unprepared(Exception):
    """An artifact, an interpreter or bubblewrap itself is not there; the message says which."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder of this machine that is mounted read-only at `inside`."""

    outside: str
    inside: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One sandbox: what is mounted, what runs there, and its bounds. `trees` are mounted last, in their order."""

    command: Sequence[str]
    limits: Limits
    trees: Sequence[Tree] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/"


@dataclass(frozen=True, slots=True)
class Command:
    """What to give to `subprocess`: the environment is empty, `descriptors` stay open, `before` runs after the fork."""

    argv: tuple[str, ...]
    descriptors: tuple[int, ...]
    before: Callable[[], None]


def default_runtime() -> str:
    """The machine's own Python. Ours may lie in a folder that nobody else may enter."""
    found = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    return str(Path(found).resolve()) if found else ""


def plan_for(spec: RunSpec, runtime: str, others: Sequence[Tree] = ()) -> Plan:
    """How a version runs, with `others` mounted too.

    Raises `Unprepared` when its artifact or its interpreter is not there.
    """
    interpreter = _interpreter(spec.runtime or runtime)
    return Plan(
        command=spec.entry,
        limits=spec.limits,
        trees=[*runtime_trees(interpreter), *others, *_artifact(Path(spec.artifact))],
        environment={
            "PATH": f"{VENV}/bin:{interpreter.parent}:/usr/bin:/bin",
            **spec.variables,
            **spec.secrets,
        },
        folder=APP,
    )


@contextlib.contextmanager
def prepared(plan: Plan, *, user: int | None, doors: Sequence[str]) -> Iterator[Command]:
    """The command, for as long as it takes to start it; its descriptors are closed afterwards.

    `user` is who it becomes (None: it stays who we are), `doors` are the files of its control groups. Raises
    `Unprepared`, and `seccomp.Unsupported`.
    """
    program = shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin")
    if program is None:
        raise Unprepared("bubblewrap is not installed: apt install bubblewrap.")
    with contextlib.ExitStack() as stack:
        filters = [_in_memory(stack, "filter", content) for content in seccomp.filters()]
        options = _in_memory(stack, "options", _joined(_options(plan, filters)))
        argv = (program, "--args", str(options), "--", *_limited(plan))
        yield Command(argv, (options, *filters), _steps(user, tuple(doors)))


def _options(plan: Plan, filters: Sequence[int]) -> Iterator[str]:
    limits = plan.limits
    yield from ("--die-with-parent", "--new-session", "--unshare-user", "--unshare-pid", "--unshare-net")
    yield from ("--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox")
    yield from ("--uid", str(INSIDE), "--gid", str(INSIDE), "--disable-userns", "--assert-userns-disabled")
    yield from _system()
    yield from ("--proc", "/proc", "--dev", "/dev")
    yield from (
        "--size",
        str(limits.shm),
        "--tmpfs",
        "/dev/shm",
        "--size",
        str(limits.tmp),
        "--tmpfs",
        "/tmp",
    )
    for tree in plan.trees:
        yield from ("--ro-bind", tree.outside, tree.inside)
    yield from ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", plan.folder)
    for name, value in {**_BASE_ENVIRONMENT, **plan.environment}.items():
        yield from ("--setenv", name, value)
    for descriptor in filters:
        yield from ("--add-seccomp-fd", str(descriptor))


def _system() -> Iterator[str]:
    """The C library, the system's interpreter and its tools; nothing of /etc but the index of libraries."""
    for path in _SYSTEM:
        if os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    for path in _TOP:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    yield from ("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache")


def _limited(plan: Plan) -> Iterator[str]:
    """The command behind `prlimit`: inside, so that processes are counted for this sandbox alone.

    No bound on address space (WebAssembly and Node reserve far more than they use) and none on processor time,
    which adds up over a long life: control groups bound both.
    """
    limits = plan.limits
    yield from ("/usr/bin/prlimit", f"--nproc={limits.pids}", f"--nofile={limits.files}")
    yield from (f"--fsize={limits.file_size}", "--core=0", "--", *plan.command)


def _steps(user: int | None, doors: tuple[str, ...]) -> Callable[[], None]:
    """Between fork and exec: into the control groups while we still may, then become the server's user for good."""

    def steps() -> None:
        for door in doors:
            descriptor = os.open(door, os.O_WRONLY)
            os.write(descriptor, b"0")
            os.close(descriptor)
        os.umask(0o077)
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)

    return steps


def _interpreter(path: str) -> Path:
    interpreter = Path(path).resolve()
    if not path or not os.access(interpreter, os.X_OK):
        raise Unprepared(f"There is no interpreter at {path or 'the usual places: apt install python3'}.")
    return interpreter


def runtime_trees(interpreter: Path) -> list[Tree]:
    """The interpreter's own tree, unless it is the system's. Raises `Unprepared`."""
    prefix = str(interpreter.parent.parent)
    if prefix == "/":
        raise Unprepared(f"{interpreter} has no folder of its own; mounting it would mount everything.")
    return [] if prefix == "/usr" else [Tree(prefix, prefix)]


def _artifact(folder: Path) -> list[Tree]:
    """`app` and `venv` as they are: a link in their place could lead anywhere."""
    trees = []
    for name, inside, is_needed in (("app", APP, True), ("venv", VENV, False)):
        path = folder / name
        if path.is_symlink() or not path.is_dir():
            if is_needed or path.is_symlink():
                raise Unprepared(f"The artifact {folder.name} has no folder {name}.")
            continue
        trees.append(Tree(str(path), inside))
    return trees


def _in_memory(stack: contextlib.ExitStack, name: str, content: bytes) -> int:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _joined(options: Iterator[str]) -> bytes:
    """Options end with a zero byte, so one inside a value would begin another option."""
    encoded = [os.fsencode(option) for option in options]
    if any(b"\0" in option for option in encoded):
        raise Unprepared("A value for the sandbox holds a zero byte.")
    return b"".join(option + b"\0" for option in encoded)
