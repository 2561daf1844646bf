"""Commands that run an installation: `up` for everything at once, and its parts for production.

Started as a module (`python -m mooring.cli.running serve`) it is what `up` starts, without the other commands.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from mooring.cli import stepping_down
from mooring.cli.presence import announced
from mooring.cli.supervision import Child, Family, Lowered, hang_on_lifeline
from mooring.errors import MooringError, Unavailable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mooring.settings")

running = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")]
Port = Annotated[
    int | None, typer.Option(help="Port to listen on; PORT says it too.", show_default="PORT or 8000")
]
START_SECONDS = 60.0
# Running calls get this long at the end: people who press Ctrl-C wait, a rolling update may.
GRACE_EMBEDDED, GRACE_PRODUCTION = 2, 20
# And jobs this long, under the minute that containers are given; what is cut off is done again.
WORKER_GRACE = 50.0
# The queues of `mooring.jobs`, which needs Django to be set up.
JOBS, BUILDS = "jobs", "builds"
# Linux's bound on the path of a socket, less the longest name in the runner's folder.
LONGEST_RUNNER_FOLDER = 107 - len("/runner.token")


# ---- the parts -------------------------------------------------------------------------------------------


@running.command()
def serve(
    host: Host = "127.0.0.1",
    port: Port = None,
    data_plane: Annotated[
        bool, typer.Option("--data-plane", help="Serve endpoints and health only.")
    ] = False,
    migrate_first: Annotated[bool, typer.Option("--migrate-first", hidden=True)] = False,
) -> None:
    """Run the web server."""
    hang_on_lifeline()
    _set_port(port)
    from django.conf import settings  # the port above is one of them

    lock = _only_web_process(settings.DATA_DIR)
    from mooring.cli.serving import DrainingServer, bound, configure  # needs uvloop and httptools

    listener = bound(host, settings.PORT)
    _prepare_database(migrate_first=migrate_first)
    _prepare_static_files(are_served=not data_plane)
    from servers.pipeline import following  # needs Django to be set up

    following.prepare(settings.JOURNAL_DIR)
    grace = GRACE_EMBEDDED if settings.EMBEDDED else GRACE_PRODUCTION
    application = "mooring.asgi:data_plane" if data_plane else "mooring.asgi:application"
    server = DrainingServer(configure(application, grace=grace), drain=settings.DRAIN_SECONDS)
    with nullcontext() if lock is None else announced(settings.DATA_DIR, settings.ORIGIN):
        server.run(sockets=[listener])
    if lock is not None:
        os.close(lock)


@running.command()
def worker(
    concurrency: Annotated[
        int, typer.Option(min=0, max=64, help="How many jobs at once, but for builds; 0 for none.")
    ] = 2,
    builds: Annotated[
        int, typer.Option(min=0, max=64, help="How many builds of code at once, beside them; 0 for none.")
    ] = 2,
) -> None:
    """Run a worker for background jobs, and one for builds, which take minutes and hold up nothing else."""
    if not concurrency and not builds:
        raise typer.BadParameter("Say how many jobs or builds to do at once.")
    hang_on_lifeline()
    if concurrency and builds:
        family = Family(_say)
        family.listen()
        try:
            _start_workers(family, concurrency, builds)
            family.watch()
        finally:
            family.stop(WORKER_GRACE)
    elif concurrency:
        _work(JOBS, concurrency, "prefork")
    else:
        _work(BUILDS, builds, "threads")  # they wait for the runner, which does the work


def _start_workers(family: Family, concurrency: int, builds: int, lowered: Lowered | None = None) -> None:
    """Slots of one queue are never taken by the other's jobs."""
    of_jobs, of_builds = ("--concurrency", str(concurrency)), ("--builds", str(builds))
    family.start("worker", "worker", *of_jobs, "--builds", "0", lowered=lowered)
    family.start("worker for builds", "worker", "--concurrency", "0", *of_builds, lowered=lowered)


def _work(queue: str, slots: int, pool: str) -> None:
    _forgive_root()
    from mooring.celery import app  # half a second of imports that the other commands do without

    quiet = ["--loglevel=WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    slots_and_pool = [f"--queues={queue}", f"--concurrency={slots}", f"--pool={pool}"]
    app.worker_main(["--quiet", "worker", *slots_and_pool, *quiet])


@running.command()
def beat() -> None:
    """Run the clock of recurring jobs. One is enough; two do no harm."""
    hang_on_lifeline()
    from mooring.celery import app  # as above

    app.start(["--quiet", "beat", "--loglevel=WARNING"])


@running.command()
def runner(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            envvar="MOORING_RUNNER_DIR",
            help="Where its socket is.",
            show_default="runner in the data directory",
        ),
    ] = None,
    memory: Annotated[
        int,
        typer.Option(envvar="MOORING_RUNNER_MEMORY", min=0, help="MiB for all servers; 0 for half of them."),
    ] = 0,
    group: Annotated[
        str, typer.Option(envvar="MOORING_RUNNER_GROUP", help="The group of those who may use the socket.")
    ] = "",
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe", envvar="MOORING_RUNNER_UNSAFE", help="Run code although this machine cannot hold it."
        ),
    ] = False,
) -> None:
    """Run the servers that are code, each in a sandbox. As root, since every server gets a user of its own."""
    hang_on_lifeline()
    from mooring.cli.runner import run  # its machinery is for this command alone
    from mooring.environment import data_directory  # Django's errors, which no help needs

    run((folder or data_directory() / "runner").resolve(), memory=memory, group=group, unsafe=unsafe)


@running.command()
def migrate() -> None:
    """Bring the database up to date, as its owner, and raise the walls between tenants."""
    import django

    django.setup()
    _migrate()


# ---- everything at once ----------------------------------------------------------------------------------


@running.command()
def up(host: Host = "127.0.0.1", port: Port = None) -> None:
    """Run everything on this machine: database, web server, worker, clock and runner. Ctrl-C stops it."""
    _set_port(port)
    from django.conf import settings  # also makes this installation's secrets, before the children look

    lock = _only_web_process(settings.DATA_DIR)
    if lock is not None:
        os.close(lock)  # the web server takes it; this was to refuse before anything is started
    lowered = _lowered()
    family = Family(_say)
    family.listen()
    has_begun = False
    try:
        web = family.start("web server", "serve", "--host", host, "--migrate-first", lowered=lowered)
        has_begun = answers(web, family, host, settings.PORT)
        if has_begun:
            _greet(settings.ORIGIN, settings.DATA_DIR)
            _start_workers(family, 2, 2, lowered)
            family.start("clock", "beat", lowered=lowered)
            _start_runner(family, lowered)
            family.watch()
    finally:
        family.stop(settings.DRAIN_SECONDS + GRACE_EMBEDDED + 3.0)
    if not has_begun and not family.is_stopping():
        raise typer.Exit(1)
    _say("Mooring has stopped.")


def _lowered() -> Lowered | None:
    """The user that all but the runner become, when we are root. None: they stay who we are."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return None
    from django.conf import settings

    folders = (settings.DATA_DIR, settings.RUNNER_DIR, settings.JOURNAL_DIR)
    why = stepping_down.obstacle(*folders, settings.PORT) or stepping_down.give(*folders)
    if why and stepping_down.is_given(settings.DATA_DIR):
        # Root must not run on what another user could write: that user would become root by it.
        raise Unavailable(
            f"{settings.DATA_DIR} belongs to a user without rights by now, and that user cannot be had: {why}. Mend "
            "that; or take the directory back with chown -R root:root, and look at what is in it."
        )
    if why:
        _say(f"The web server and the workers run as root, since {why}.")
        return None
    return Lowered(stepping_down.USER, settings.DATA_DIR)


def _start_runner(family: Family, lowered: Lowered | None) -> None:
    """Where it can do anything; else say what is missing."""
    from django.conf import settings

    from mooring.environment import flag  # as above

    if sys.platform != "linux":
        _say("Uploaded code cannot be run here: its sandboxes need Linux.")
    elif os.geteuid() != 0 and not flag("MOORING_RUNNER_UNSAFE"):
        _say(
            "Uploaded code cannot be run: its sandboxes need root. With MOORING_RUNNER_UNSAFE=1 they do without."
        )
    elif len(os.fsencode(settings.RUNNER_DIR)) > LONGEST_RUNNER_FOLDER:
        _say(
            f"Uploaded code cannot be run: {settings.RUNNER_DIR} is too long a path. Set MOORING_RUNNER_DIR."
        )
    else:
        group = [] if lowered is None else ["--group", str(lowered.user)]
        family.start("runner", "runner", "--folder", str(settings.RUNNER_DIR), *group)


def answers(web: Child, family: Family, host: str, port: int) -> bool:
    """Wait for the first answer. False when the server died, was told to stop, or took too long."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    deadline = time.monotonic() + START_SECONDS
    while not family.is_stopping() and not web.has_died():
        if _is_well(address, port):
            return True
        if time.monotonic() > deadline:
            _say(f"The web server has not answered for {START_SECONDS:.0f} s. Look at its messages above.")
            return False
        family.wait(0.05)
    return False


def _is_well(address: str, port: int) -> bool:
    connection = http.client.HTTPConnection(address, port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _greet(origin: str, folder: Path) -> None:
    from rich.console import Console  # while the server starts would be too early: it shares the processor
    from rich.panel import Panel

    text = f"[bold]Mooring is ready:[/bold] [link={origin}]{origin}[/link]\n\nData is in {folder}\nCtrl-C stops it."
    Console(highlight=False).print(Panel(text, expand=False, padding=(1, 3), border_style="blue"))


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


# ---- before a process serves -----------------------------------------------------------------------------


def _set_port(port: int | None) -> None:
    if port is not None:
        os.environ["PORT"] = str(port)


def _only_web_process(folder: Path) -> int | None:
    """Take the data directory's lock, held until this process ends. None when Redis lets many share it.

    Raises `Unavailable` when another web process has it: its bus, limits and cache are in its memory alone.
    """
    from django.conf import settings  # read late, so that --port counts

    if settings.REDIS_URL:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "web.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Unavailable(
            f"Another Mooring is already running on {folder}. Stop it, choose another MOORING_DATA_DIR, "
            "or set REDIS_URL to run several."
        ) from None
    return lock


def _prepare_static_files(*, are_served: bool) -> None:
    """Embedded serves them from the sources; production from a folder that an image has filled, or we do now."""
    from django.conf import settings
    from django.core.management import call_command

    # WhiteNoise warns about a folder that is not there.
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    if are_served and not settings.EMBEDDED and not (settings.STATIC_ROOT / "staticfiles.json").exists():
        call_command("collectstatic", interactive=False, verbosity=0)


def _prepare_database(*, migrate_first: bool) -> None:
    import django

    django.setup()
    if migrate_first and _is_outdated():
        _say("Setting up the database …")
        _migrate()
    _refuse_unsafe()


def _is_outdated() -> bool:
    from django.conf import settings
    from django.db import connections
    from django.db.migrations.executor import MigrationExecutor  # Django's own command imports far more

    connection = connections[settings.OWNER_DATABASE]
    try:
        executor = MigrationExecutor(connection)
        return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    finally:
        connection.close()


def _migrate() -> None:
    """The walls go up by `post_migrate`. One at a time on PostgreSQL, where replicas may start together."""
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    connection = connections[settings.OWNER_DATABASE]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_advisory_lock(hashtext('mooring.migrate'))")
    call_command("migrate", database=settings.OWNER_DATABASE, interactive=False, verbosity=0)
    connection.close()


def _refuse_unsafe() -> None:
    """The deployment checks of `mooring.health`, so that production cannot be started without its walls."""
    from mooring.health import deployment  # needs Django to be set up

    for finding in (*deployment.hosts(None), *deployment.database_roles(None)):
        if finding.is_serious():
            raise Unavailable(" ".join(part for part in (finding.msg, finding.hint) if part))


def _forgive_root() -> None:
    """Celery warns of root at length. Containers have a user; on a laptop or in CI the owner has decided.

    The user that `up` has for its workers stands in no list, which Celery takes for root's disguise.
    """
    if os.geteuid() in (0, stepping_down.USER):
        for message in (".*superuser privileges.*", ".*entry for the specified gid.*"):
            warnings.filterwarnings("ignore", message=message)


if __name__ == "__main__":
    try:
        running()
    except MooringError as refused:
        sys.exit(refused.message)
