from __future__ import annotations

from typing import Annotated, Any

import typer

from mooring.cli.backend import is_remote, start_django
from mooring.cli.failures import UsageError
from mooring.cli.output import Json, print_json, print_rows, say

group = typer.Typer(help="Who may see and change every organisation, in /admin/.", no_args_is_help=True)
Email = Annotated[str, typer.Argument(metavar="EMAIL", help="The address that they sign in with.")]


@group.command("add")
def add(email: Email, as_json: Json = False) -> None:
    """Make somebody with an account staff. On this machine only."""
    _set(email, is_staff=True, as_json=as_json)


@group.command("remove")
def remove(email: Email, as_json: Json = False) -> None:
    """Let somebody be staff no more; it holds from their next request on. On this machine only."""
    _set(email, is_staff=False, as_json=as_json)


@group.command("list")
def list_(as_json: Json = False) -> None:
    """List who is staff. On this machine only."""
    print_rows(
        _here().staff(),
        {"address": "email", "name": "name", "last signed in": "last_login"},
        as_json=as_json,
        empty="Nobody is staff. Make somebody staff with `mooring staff add EMAIL`.",
    )


def _set(email: str, *, is_staff: bool, as_json: bool) -> None:
    row = _here().set_staff(email, is_staff=is_staff)
    if as_json:
        print_json(row)
    else:
        say(f"{row['email']} is {'staff' if is_staff else 'no longer staff'}.")


def _here() -> Any:
    if is_remote():
        raise UsageError("Staff are made on the machine itself. Unset MOORING_URL and MOORING_KEY there.")
    start_django()
    from mooring.cli import local  # needs Django's applications to be loaded

    return local
