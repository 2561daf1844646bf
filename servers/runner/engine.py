"""What the platform asks of whatever runs code: this machine's sandboxes now, a cluster later.

The shapes travel between processes as JSON, so they are msgspec structs; bounds are checked when they are decoded.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

from msgspec import Meta, Struct, field

from servers.runner import egress

KIB, MIB, GIB = 2**10, 2**20, 2**30

Mode = Literal["shared", "session"]
Era = Literal["modern", "handshake"]
State = Literal["starting", "ready", "draining", "stopped", "crashed", "broken"]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Digest = Annotated[str, Meta(min_length=8, max_length=128, pattern=r"^[A-Za-z0-9_-]+$")]
Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
Value = Annotated[str, Meta(max_length=48 * KIB, pattern=r"^[^\x00]*$")]
Variables = Annotated[dict[Variable, Value], Meta(max_length=100)]
# What is kept out of logs beside the values of secrets themselves: what they are made of.
Masked = Annotated[tuple[Value, ...], Meta(max_length=100)]
# Names that code may reach, as `servers.runner.egress.allowed` reads them; none by default.
Hosts = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=260)], ...], Meta(max_length=50)]
# A definition as a server has listed it.
Item = dict[str, Any]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one instance may take. Bytes, seconds, cores and counts."""

    memory: Annotated[int, Meta(ge=16 * MIB, le=GIB)] = 256 * MIB
    # Importing an SDK takes a second of processor time, so the tighter quota begins when the server is ready.
    cpu_starting: Annotated[float, Meta(gt=0, le=2)] = 1.0
    cpu: Annotated[float, Meta(gt=0, le=2)] = 0.5
    # Threads count. Two belong to the sandbox itself.
    pids: Annotated[int, Meta(ge=8, le=256)] = 128
    tmp: Annotated[int, Meta(ge=MIB, le=256 * MIB)] = 64 * MIB
    shm: Annotated[int, Meta(ge=4 * KIB, le=64 * MIB)] = MIB
    files: Annotated[int, Meta(ge=32, le=4096)] = 256
    file_size: Annotated[int, Meta(ge=MIB, le=256 * MIB)] = 64 * MIB
    line: Annotated[int, Meta(ge=64 * KIB, le=16 * MIB)] = 4 * MIB
    in_flight: Annotated[int, Meta(ge=1, le=64)] = 16
    queue: Annotated[int, Meta(ge=0, le=256)] = 64
    call: Annotated[float, Meta(gt=0, le=300)] = 60.0
    start: Annotated[float, Meta(gt=0, le=60)] = 30.0
    drain: Annotated[float, Meta(ge=0, le=300)] = 60.0
    idle: Annotated[float, Meta(gt=0, le=86_400)] = 600.0
    # Only where a process belongs to one client session.
    sessions: Annotated[int, Meta(ge=1, le=50)] = 5


def _check_hosts(hosts: tuple[str, ...]) -> None:
    """Raises `ValueError`, which makes the whole specification refused when it is decoded."""
    for host in hosts:
        egress.allowed(host)


class RunSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of one server, ready to run.

    `digest` names its artifact, which the runner finds, checks and fills in; `artifact`, `entry` and `runtime` are
    for code that was prepared elsewhere. `artifact` is a prepared folder that ordinary users of the machine can read:
    `app/` with the code, and `venv/` with what it needs, if anything. Both are mounted read-only at `/app` and
    `/venv`. `entry` is the command line inside, with `/app` as its folder and the `bin` folders of `/venv` and of the
    interpreter on its PATH. `runtime` is the interpreter, by its path on this machine and inside alike; empty for the
    engine's own. `variables` and `secrets` are the only environment the code sees; values of secrets are kept out of
    logs. `hosts` are the only names it can reach.
    """

    tenant: Name
    server: Name
    # In mode `session`, what of the server it is: a session that is asked for with another version of the same has lost
    # its process.
    place: Annotated[str, Meta(max_length=200)] = ""
    digest: Digest
    artifact: Annotated[str, Meta(pattern=r"^(/[^\x00]+)?$", max_length=1024)] = ""
    entry: tuple[Annotated[str, Meta(pattern=r"^[^\x00]*$", max_length=4096)], ...] = ()
    runtime: Annotated[str, Meta(pattern=r"^(/[^\x00]+)?$", max_length=1024)] = ""
    mode: Mode = "shared"
    # What the dry run has found; `probe` asks the server, unless the runner knows from the build.
    era: Era | Literal["probe"] = "probe"
    variables: Variables = field(default_factory=dict)
    secrets: Variables = field(default_factory=dict)
    masked: Masked = ()
    hosts: Hosts = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if bool(self.artifact) != bool(self.entry):
            raise ValueError("An artifact has an entry, and is given with it or not at all.")
        _check_hosts(self.hosts)


class BuildSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to build beside the bytes of the upload: what the file was called, and when it was handed in, which
    decides what versions are taken. The rest is what the server sees when it is tried; the build sees none of it.
    """

    name: Annotated[str, Meta(max_length=255)]
    when: Annotated[datetime, Meta(tz=True)]
    variables: Variables = field(default_factory=dict)
    secrets: Variables = field(default_factory=dict)
    masked: Masked = ()
    hosts: Hosts = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        _check_hosts(self.hosts)


class BuildEvent(Struct, frozen=True):
    """One step: `line` is a line of the log, without secrets, or empty when only the stage has changed; `at` is Unix
    time. Stages are those of `servers.runner.building.progress.Stage`.
    """

    stage: str
    line: str
    at: float


class BuildResult(Struct, frozen=True, kw_only=True):
    """An artifact, by its `digest` and its `size` in bytes, and what its server listed when it was tried.

    `packages` are those of its environment (`name==version`), `target` is what is served: a file, a server in it, or
    a command.
    """

    digest: str
    size: int
    python: str
    packages: tuple[str, ...] = ()
    target: str = ""
    mode: Mode = "shared"
    era: Era = "modern"
    name: str = ""
    title: str = ""
    version: str = ""
    instructions: str = ""
    tools: tuple[Item, ...] = ()
    resources: tuple[Item, ...] = ()
    resource_templates: tuple[Item, ...] = ()
    prompts: tuple[Item, ...] = ()


# Is told every step of a build, and must not wait.
Heard = Callable[[BuildEvent], None]


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where an instance answers MCP over Streamable HTTP. `socket` is empty where `url` is reached by TCP."""

    instance: str
    url: str
    bearer: str
    socket: str = ""
    era: Era = "modern"


class Capabilities(Struct, frozen=True, kw_only=True):
    """What is enforced here, found out by trying it. `missing` says in words what is not, and how to get it."""

    engine: str
    namespaces: bool = False
    system_calls: bool = False
    memory: bool = False
    processes: bool = False
    own_user: bool = False
    missing: tuple[str, ...] = ()
    # A developer's setting: run anything although something is missing.
    allows_unsafe: bool = False

    @property
    def is_safe(self) -> bool:
        return self.namespaces and self.system_calls and self.memory and self.processes and self.own_user


class InstanceInfo(Struct, frozen=True, kw_only=True):
    """One instance as people see it. Times are seconds ago; `reason` says why it is not ready. `came_up` tells whether
    its last start has led to anything.
    """

    instance: str
    tenant: str
    server: str
    digest: str
    state: State
    session: str = ""
    era: Era | None = None
    in_flight: int = 0
    starts: int = 0
    crashes: int = 0
    came_up: bool = False
    silent_for: float = 0.0
    reason: str = ""
    # How often it has said that its lists changed, which a new build would find.
    list_changes: int = 0


class LogLine(Struct, frozen=True, kw_only=True):
    """`at` is Unix time; `source` is stderr, stdout or runner.

    `number` counts from 1 among the lines of an instance. Among those of a server, whichever `instance` has written
    them, it begins anywhere and only ever grows, also over a restart of the runner.
    """

    number: int
    at: float
    source: str
    text: str
    instance: str = ""


class Engine(Protocol):
    """Raises `servers.runner.errors.Refused` for whatever it does not do."""

    async def probe(self) -> Capabilities:
        """What this engine enforces. Tried once; the answer is kept."""

    async def ensure(self, spec: RunSpec, session: str = "", opened: int = 0) -> Endpoint:
        """The endpoint of a ready instance, started if need be.

        Idempotent, and single-flight: any number of callers start one process. `session` names a client's
        session in mode `session` and is empty otherwise; `opened` is when the client opened it, in Unix seconds, or 0
        where it stands for a caller who has none. Waits `spec.limits.start` at most. Raises `SessionEnded` where it
        had a process that is gone.
        """

    async def drain(self, instance: str, deadline: float | None = None) -> None:
        """Take no new calls, let the running ones finish for `deadline` seconds (its limit), then stop it."""

    async def stop(self, instance: str) -> None:
        """End it and forget it, its crashes included. Does nothing when there is none by that name."""

    async def instances(self, tenant: str = "") -> list[InstanceInfo]:
        """All that are known, or those of one tenant, oldest first."""

    async def logs(self, instance: str, after: int = 0) -> list[LogLine]:
        """The lines that are kept with a number beyond `after`. Raises `Unknown`."""

    async def server_logs(self, tenant: str, server: str, after: int = 0) -> list[LogLine]:
        """The lines that all instances of a server have written, as far as they are kept, oldest first."""

    async def keep(self, digests: Iterable[str]) -> list[str]:
        """Remove artifacts that were not wanted for long, but for these and those that run. Gives what was removed."""

    async def missing(self, digests: Iterable[str]) -> list[str]:
        """Those of these artifacts that cannot be run: they are gone, or the Python they were built for is."""

    async def stand_in(self, digest: str, by: str) -> None:
        """Run the artifact `by` where `digest` is asked for, from now on. Raises `Missing` without `by`."""

    async def build(self, spec: BuildSpec, upload: bytes, heard: Heard = lambda _: None) -> BuildResult:
        """Make an artifact of an upload. Cancelling it leaves nothing."""

    async def reconcile(self) -> None:
        """Bring what is known and what is there together: evict the idle, notice the hung, sweep up."""


def instance_key(secret: bytes, spec: RunSpec, session: str = "") -> str:
    """The name of an instance: 32 hexadecimal digits, the same wherever `secret` is the same.

    The whole specification counts, so that a changed secret or limit is another instance and the old one drains. Names
    stand in logs and lists; keyed, they cannot be used to try out what a server's secrets are.
    """
    parts = (
        spec.tenant,
        spec.server,
        spec.place,
        spec.digest,
        spec.artifact,
        spec.runtime,
        repr(spec.entry),
        repr(sorted(spec.variables.items())),
        repr(sorted(spec.secrets.items())),
        repr(sorted(spec.hosts)),
        repr(spec.limits),
        session,
    )
    return hmac.new(secret, "\x1f".join(parts).encode(), hashlib.sha256).hexdigest()[:32]
