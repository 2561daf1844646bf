from __future__ import annotations

from typing import Annotated

import typer

from mooring.cli.backend import is_remote, start_django
from mooring.cli.failures import UsageError
from mooring.cli.output import Json, print_json, remark, say

group = typer.Typer(help="Organisations.", no_args_is_help=True)


@group.callback()
def tenants() -> None:
    """Organisations."""


@group.command("create")
def create(
    slug: Annotated[str, typer.Argument(help="Short name for URLs. It can never be changed.")],
    owner: Annotated[str, typer.Option("--owner", help="E-mail address of its owner.", metavar="EMAIL")],
    password: Annotated[
        str,
        typer.Option("--password", envvar="MOORING_PASSWORD", help="For an owner who has no account yet."),
    ],
    name: Annotated[str, typer.Option("--name", help="Display name; the short name when left out.")] = "",
    as_json: Json = False,
) -> None:
    """Make an organisation, and its owner if there is none by that address. On this machine only."""
    if is_remote():
        raise UsageError(
            "Organisations are made on the machine itself. Unset MOORING_URL and MOORING_KEY there."
        )
    if not password:
        raise UsageError("Give the owner a password: --password PW.")
    start_django()
    from mooring.cli.local import make_tenant  # needs Django's applications to be loaded

    tenant, is_new = make_tenant(slug, owner=owner, password=password, name=name)
    if as_json:
        print_json({"slug": tenant.slug, "name": tenant.name, "owner": owner.lower(), "owner_is_new": is_new})
        return
    say(f"Made {tenant.slug}, owned by {owner.lower()}.")
    if not is_new:
        remark(f"{owner.lower()} had an account already and keeps its password.")
