"""Every door out of a sandbox is shut. One sandbox tries them all; each test looks at one of them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from servers.runner.engine import MIB, Limits, RunSpec
from servers.runner.sandbox import cgroups, launcher, process
from servers.runner.sandbox.cgroups import Limiter
from servers.runner.sandbox.launcher import Plan, Unprepared
from servers.runner.sandbox.probing import _user_of as user_of
from tests.sandboxes import PYTHON, make_artifact

SECRET = "platform-secret-9f2c"
USER = 265_000
LIMITS = Limits(tmp=8 * MIB, pids=64)


@dataclass(frozen=True, slots=True)
class Ran:
    output: str
    errors: str
    code: int
    seen: dict[str, Any]


def plan_of(artifact: Path, *entry: str, limits: Limits = LIMITS, **variables: str) -> Plan:
    spec = RunSpec(
        tenant="acme",
        server="attack",
        digest="0" * 8,
        artifact=str(artifact),
        entry=entry,
        limits=limits,
        variables=variables,
    )
    return launcher.plan_for(spec, PYTHON)


async def ran(plan: Plan, limiter: Limiter, name: str, *, user: int = USER) -> Ran:
    """Run to the end; what it looks like from outside is noted while it runs."""
    sandbox = await process.start(plan, name=name, limiter=limiter, user=user)
    try:
        seen = outside_view(sandbox.process.pid)
        async with asyncio.timeout(30):
            output, errors = await sandbox.process.communicate(b"")
        return Ran(output.decode(), errors.decode(), sandbox.process.returncode or 0, seen)
    finally:
        await sandbox.remove()


def outside_view(number: int) -> dict[str, Any]:
    folder = Path(f"/proc/{number}")
    return {
        "user": user_of(number),
        "environment": (folder / "environ").read_bytes(),
        "command": (folder / "cmdline").read_bytes(),
    }


@pytest.fixture(scope="module")
def limiter(sandboxes: None) -> Iterator[Limiter]:
    found = cgroups.find(f"mooring-test-{os.getpid()}")
    yield found
    cgroups.sweep(found, found.names())
    found.close()


# ---- one sandbox, all doors ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def attack(workshop: Path, limiter: Limiter, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    os.environ["DJANGO_SECRET_KEY"] = SECRET
    try:
        artifact = attackers_artifact(workshop / "attacker", tmp_path_factory.mktemp("outside"))
        other = make_artifact(workshop / "others", "server.py")
        with OutsideListeners(workshop) as known:
            folders = [str(other), str(workshop), str(Path.cwd()), "/tmp/pytest-of-root"]
            about = json.dumps(known | {"folders": folders, "process": os.getpid()})
            plan = plan_of(artifact, PYTHON, "-I", "-S", "/app/attack.py", about, OWN="mine")
            return asyncio.run(ran(plan, limiter, "attack"))
    finally:
        del os.environ["DJANGO_SECRET_KEY"]


def attackers_artifact(folder: Path, outside: Path) -> Path:
    artifact = make_artifact(folder, "attack.py")
    (artifact / "venv").mkdir()
    (artifact / "app" / "owned.txt").write_text("anybody may write here, outside")
    (artifact / "app" / "owned.txt").chmod(0o666)
    (artifact / "app").chmod(0o777)
    (outside / "secret").write_text(SECRET)
    (artifact / "app" / "way-out").symlink_to(outside / "secret")
    shutil.copy("/usr/bin/id", artifact / "app" / "setuid-id")
    (artifact / "app" / "setuid-id").chmod(0o4755)
    return artifact


class OutsideListeners:
    """Sockets on the machine that a server without walls could connect to."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "outside.sock"
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> dict[str, Any]:
        abstract = f"mooring-test-{os.getpid()}"
        for family, address in (
            (socket.AF_INET, ("127.0.0.1", 0)),
            (socket.AF_UNIX, f"\0{abstract}"),
            (socket.AF_UNIX, str(self._path)),
        ):
            listener = socket.socket(family)
            listener.bind(address)
            listener.listen()
            self._sockets.append(listener)
        self._path.chmod(0o666)
        return {
            "port": self._sockets[0].getsockname()[1],
            "abstract": abstract,
            "socket": str(self._path),
        }

    def __exit__(self, *_: object) -> None:
        for listener in self._sockets:
            listener.close()


@pytest.fixture(scope="module")
def found(attack: Ran) -> dict[str, Any]:
    assert attack.code == 0, attack.errors
    result: dict[str, Any] = json.loads(attack.output)
    return result


ABSENT = "/etc/shadow /etc/passwd /etc/hosts /root /home /var /sys /boot /usr/local /usr/sbin".split()


@pytest.mark.parametrize("path", ABSENT)
def test_the_machines_files_are_not_there(found: dict[str, Any], path: str) -> None:
    assert found[f"look {path}"] == "ENOENT"


def test_other_artifacts_and_folders_of_the_machine_are_not_there(found: dict[str, Any]) -> None:
    assert [found[f"look outside {index}"] for index in range(4)] == ["ENOENT"] * 4


@pytest.mark.parametrize(
    "path",
    [
        "/app/owned.txt",
        "/app/new",
        "/venv/new",
        "/new",
        "/usr/new",
        "/usr/bin/python3",
        "/dev/new",
        "/etc/new",
    ],
)
def test_nothing_but_tmp_can_be_written(found: dict[str, Any], path: str) -> None:
    assert found[f"write {path}"] in {"EROFS", "EACCES"}
    if path != "/usr/bin/python3":  # only root may write there anyway
        assert found[f"write {path}"] == "EROFS"


def test_only_these_folders_exist(found: dict[str, Any]) -> None:
    expected = {"app", "bin", "dev", "etc", "lib", "lib32", "lib64", "proc", "tmp", "usr", "venv"}
    assert set(found["top folders"]) <= expected


def test_a_link_out_of_the_code_leads_nowhere(found: dict[str, Any]) -> None:
    assert found["follow a link out of the code"] == "ENOENT"


def test_temporary_folders_have_an_end(found: dict[str, Any]) -> None:
    assert 0 < found["room in /tmp"] <= 8
    assert 0 <= found["room in /dev/shm"] <= 1


def test_the_kernels_files_are_closed(found: dict[str, Any]) -> None:
    assert found["make a device"] == "EPERM"
    assert found["hold on to the memory of the kernel"] in {"EACCES", "EPERM", "ENOENT", ""}
    assert found["set a kernel variable"] in {"EROFS", "EACCES"}
    assert found["press a system request"] in {"EROFS", "EACCES", "ENOENT"}
    assert found["write /proc/new"] in {"ENOENT", "EROFS", "EACCES"}


def test_a_set_user_bit_gives_nothing(found: dict[str, Any]) -> None:
    assert found["a file with a set-user bit"] == "65534"


def test_the_environment_is_its_own_and_nobody_elses(found: dict[str, Any]) -> None:
    base = {"HOME", "LANG", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "TMPDIR"}
    assert set(found["own environment"]) == base | {"OWN"}


def test_process_1_shows_neither_our_environment_nor_its_options(found: dict[str, Any], attack: Ran) -> None:
    """bubblewrap is process 1, and keeps what it was started with."""
    assert found["environment of process 1"] == ""
    assert SECRET not in found["command line of process 1"]
    assert "/attacker" not in found["command line of process 1"]
    assert SECRET not in attack.output


def test_only_its_own_processes_are_seen_and_signalled(found: dict[str, Any]) -> None:
    assert found["processes"] == [1]
    assert found["signal everybody"] == "ESRCH"
    assert found["signal a process outside"] == "ESRCH"


def test_its_control_group_looks_like_the_root(found: dict[str, Any]) -> None:
    assert found["control group"] == ["/"]


def test_no_descriptor_is_inherited(found: dict[str, Any]) -> None:
    assert found["descriptors"] == [0, 1, 2]


@pytest.mark.parametrize("kind", ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"])
def test_it_has_no_capability(found: dict[str, Any], kind: str) -> None:
    assert found[kind] == 0


def test_it_can_gain_no_rights_and_its_calls_are_filtered(found: dict[str, Any]) -> None:
    assert (found["NoNewPrivs"], found["Seccomp"]) == (1, 2)
    assert (found["user"], found["groups"], found["host name"]) == (65534, [], "sandbox")


def test_its_limits_are_those_it_was_given(found: dict[str, Any]) -> None:
    limits = [found[f"limit {name}"] for name in ("NOFILE", "NPROC", "CORE", "FSIZE")]
    assert limits == [LIMITS.files, LIMITS.pids, 0, LIMITS.file_size]


def test_nothing_on_the_machine_or_beyond_can_be_connected_to(found: dict[str, Any]) -> None:
    assert found["a listener on the machine"] == "ECONNREFUSED"
    assert found["an abstract socket"] == "ECONNREFUSED"
    assert found["the runner's socket"] == "ENOENT"
    assert found["the internet"] == "ENETUNREACH"
    assert found["cloud metadata"] == "ENETUNREACH"
    assert found["interfaces"] == ["lo"]


@pytest.mark.parametrize("family", "netlink packet alg vsock bluetooth xdp x25 key".split())
def test_sockets_of_other_families_do_not_exist(found: dict[str, Any], family: str) -> None:
    assert found[f"socket {family}"] == "EAFNOSUPPORT"


def test_raw_sockets_are_refused_and_ordinary_ones_are_not(found: dict[str, Any]) -> None:
    assert found["a raw socket"] == "EPERM"
    assert found["an ordinary socket"] == "ok"


REFUSED = (
    "ptrace, process_vm_readv, process_vm_writev, kcmp, pidfd_getfd, io_uring_setup, keyctl, add_key, request_key, "
    "unshare, setns, clone into a user namespace, clone into a network, mount, umount, pivot_root, chroot, fsopen, "
    "open_tree, bpf, perf_event_open, userfaultfd, open_by_handle_at, name_to_handle_at, personality, quotactl, "
    "kexec_load, init_module, delete_module, reboot, swapon, syslog, sethostname, settimeofday, adjtimex, acct, iopl, "
    "memfd_secret"
).split(", ")


@pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the program knows the numbers of this machine only"
)
@pytest.mark.parametrize("name", REFUSED)
def test_system_calls_that_servers_do_not_need_are_refused(found: dict[str, Any], name: str) -> None:
    assert found[f"call {name}"] == "EPERM"


@pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the program knows the numbers of this machine only"
)
def test_calls_whose_arguments_cannot_be_seen_or_are_unknown_do_not_exist(found: dict[str, Any]) -> None:
    assert found["call clone3"] == "ENOSYS"
    assert found["call a call newer than the filter"] == "ENOSYS"
    assert found["a call of another kind"] == "SIGSYS"


def test_terminals_are_not_typed_into(found: dict[str, Any]) -> None:
    assert found["type into a terminal"] == "EPERM"


def test_threads_and_processes_work_as_usual(found: dict[str, Any]) -> None:
    assert (found["a thread"], found["a process"]) == ("ran", "ran")


# ---- from outside ----------------------------------------------------------------------------------------


def test_outside_it_is_a_user_of_its_own_and_its_command_line_tells_nothing(attack: Ran) -> None:
    assert attack.seen["user"] == USER
    assert attack.seen["environment"] == b""
    assert b"OWN" not in attack.seen["command"]
    assert b"--ro-bind" not in attack.seen["command"]


async def test_no_variable_of_a_tenant_acts_on_bubblewrap_itself(workshop: Path, limiter: Limiter) -> None:
    """LD_PRELOAD in its environment would load the tenant's library outside, before there is a sandbox."""
    artifact = make_artifact(workshop / "preload")
    plan = plan_of(
        artifact, PYTHON, "-I", "-S", "-c", "print('ran')", LD_PRELOAD="/app/evil.so", LD_DEBUG="all"
    )
    done = await ran(plan, limiter, "preload")
    assert done.seen["environment"] == b""
    assert done.output == "ran\n"
    assert "bwrap" not in done.errors
    assert "/app/evil.so" in done.errors  # the loader inside looked for it, and found nothing


async def test_no_value_can_hold_another_option(workshop: Path, limiter: Limiter) -> None:
    artifact = make_artifact(workshop / "zero")
    plan = plan_of(artifact, PYTHON, "-c", "0", OWN="x\0--bind\0/\0/mnt")
    with pytest.raises(Unprepared, match="zero byte"):
        await ran(plan, limiter, "zero")
    assert limiter.names() == []


async def test_a_link_in_place_of_the_code_is_not_followed(workshop: Path) -> None:
    artifact = workshop / "linked"
    artifact.mkdir()
    (artifact / "app").symlink_to("/etc")
    with pytest.raises(Unprepared, match="no folder app"):
        plan_of(artifact, "true")


async def test_trees_of_links_make_nothing_outside(workshop: Path, limiter: Limiter) -> None:
    """CVE-2026-87766: links named like mount points, and like what bubblewrap makes on its way to them."""
    target = workshop / "target"
    target.mkdir()
    target.chmod(0o777)
    artifact = make_artifact(workshop / "links")
    (artifact / "venv").mkdir()
    for name in ("app", "venv", "tmp", "proc", "dev", "usr", "lib", "run", "oldroot", "newroot", "x"):
        for folder in ("app", "venv"):
            (artifact / folder / name).symlink_to(f"/oldroot{target}/{name}")
            (artifact / folder / f"{name}-outside").symlink_to(target / name)
    done = await ran(
        plan_of(artifact, PYTHON, "-I", "-S", "-c", "import os; print(os.listdir('/app/x'))"),
        limiter,
        "links",
    )
    assert done.code != 0
    assert "No such file or directory: '/app/x'" in done.errors
    assert list(target.iterdir()) == []


def test_no_mount_is_made_below_a_tenants_tree(workshop: Path) -> None:
    plan = plan_of(make_artifact(workshop / "order"), "true")
    options = list(launcher._options(plan, [3]))
    last = max(
        index for index, option in enumerate(options) if option in {"--tmpfs", "--dev", "--proc", "--dir"}
    )
    first = options.index("--ro-bind", last)
    assert options[first + 2] == "/app"
    targets = [options[index + 2] for index, option in enumerate(options) if option.endswith("-bind")]
    assert not [path for path in targets if path.startswith(("/app/", "/venv/"))]


async def test_nothing_is_left_of_a_sandbox(workshop: Path, limiter: Limiter) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    artifact = make_artifact(workshop / "traces")
    await ran(plan_of(artifact, PYTHON, "-I", "-S", "-c", "print(1)"), limiter, "traces")
    assert limiter.names() == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
