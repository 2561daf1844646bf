"""Where a command does its work: on this machine's data directory, or through another installation's API."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from mooring.cli.failures import UsageError

Row = dict[str, Any]


class Backend(Protocol):
    """One organisation, as the commands see it. Rows have the shapes of the REST API. Raises `mooring.errors`."""

    tenant: str
    origin: str

    def servers(self) -> list[Row]: ...
    def server(self, slug: str) -> Row | None: ...
    def create_server(self, slug: str, *, title: str, is_public: bool) -> Row: ...
    def make_public(self, slug: str) -> None: ...
    def tools(self, slug: str) -> list[Row]: ...
    def draft(self, slug: str) -> Row: ...
    def replace_draft(self, slug: str, manifest: Row) -> None: ...
    def set_secret(self, slug: str, name: str, value: str) -> None: ...
    def missing_secrets(self, slug: str) -> list[str]: ...
    def variables(self, slug: str) -> dict[str, str]:
        """Of the channel `live`; empty before the first version."""

    def set_variables(self, slug: str, variables: Mapping[str, str]) -> None: ...
    def publish(self, slug: str, *, variables: Mapping[str, str], notes: str) -> Row: ...
    def versions(self, slug: str) -> list[Row]: ...
    def rollback(self, slug: str, number: str) -> Row: ...
    def upstreams(self, slug: str) -> list[Row]: ...
    def save_upstream(self, slug: str, name: str, definition: Row) -> None: ...
    def look(self, slug: str, name: str) -> Row:
        """Wait until an upstream was asked what it offers. Raises `UpstreamFailed` with the reason it gave none."""

    def take_all(self, slug: str, name: str) -> list[str]:
        """Take what the upstream lists into the draft. Returns sentences on what could not be taken."""

    def start_build(self, slug: str, name: str, data: bytes, *, upstream: str, settings: Row) -> Row:
        """Hand in Python code. Raises `Unavailable` with the reason where it cannot be run."""

    def build(self, slug: str, pk: str, log_from: int = 0) -> Row: ...
    def accept_build(self, slug: str, pk: str) -> list[str]:
        """Take all of it into the draft. Returns sentences on what could not be taken."""

    def processes(self, slug: str) -> list[Row]: ...
    def stop_process(self, slug: str, instance: str) -> None: ...
    def logs(self, slug: str, after: int, limit: int) -> Row:
        """The end of the log, or with `after` what follows it: `{"data": [line, …], "next": number}`."""

    def drifts(self, slug: str) -> list[Row]: ...
    def accept(self, slug: str, drift: Row) -> str | None:
        """The number of the version that was published with it, if one was."""

    def overrides(self, slug: str) -> list[Row]: ...
    def set_override(self, slug: str, override: Row) -> Row: ...
    def clear_override(self, slug: str, pk: str) -> None: ...
    def keys(self) -> list[Row]: ...
    def create_key(
        self, *, name: str, scopes: Sequence[str], servers: Sequence[str], days: int | None
    ) -> Row: ...
    def revoke_key(self, pk: str) -> None: ...
    def calls(self, *, server: str | None, limit: int) -> list[Row]: ...
    def audit(self, *, limit: int) -> list[Row]: ...


def is_remote() -> bool:
    return bool(os.environ.get("MOORING_URL") and os.environ.get("MOORING_KEY"))


def backend(tenant: str) -> AbstractContextManager[Backend]:
    """The remote one when MOORING_URL and MOORING_KEY are set, else the local one for `tenant`."""
    if is_remote():
        from mooring.cli.remote import connected  # neither side's machinery is loaded for the other

        return connected(os.environ["MOORING_URL"], os.environ["MOORING_KEY"], tenant)
    if not tenant:
        raise UsageError("Say which organisation: --tenant SLUG.")
    start_django()
    from mooring.cli.local import opened  # needs Django's applications to be loaded

    return opened(tenant)


def working(tenant: str, build: Row) -> AbstractContextManager[None]:
    """Meanwhile do here what a worker does, unless one has taken the build; another installation has its own."""
    if is_remote():
        return nullcontext()
    from mooring.cli.local import building  # as above

    return building(tenant, build["id"])


def here() -> str:
    """The origin of this machine's installation: as the environment says, else where it runs, else the default."""
    port = os.environ.get("PORT")
    found = os.environ.get("MOORING_URL") or ("" if port else _running())
    return (found or f"http://localhost:{port or 8000}").rstrip("/")


def _running() -> str:
    from mooring.cli.presence import running_origin  # these read the environment and the disk, which
    from mooring.environment import data_directory  # no command needs that only shows its help

    return running_origin(data_directory())


def start_django() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mooring.settings")
    if not (os.environ.get("MOORING_URL") or os.environ.get("PORT")) and (found := _running()):
        os.environ["MOORING_URL"] = found
    import django

    django.setup()
