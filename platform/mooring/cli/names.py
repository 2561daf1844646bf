"""`TENANT/SERVER` on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from mooring.cli.failures import UsageError

ServerArgument = Annotated[str, typer.Argument(metavar="TENANT/SERVER", help="For example acme/weather.")]


def split(name: str) -> tuple[str, str]:
    tenant, slash, server = name.partition("/")
    if not tenant or not slash or not server or "/" in server:
        raise UsageError(f"{name!r} does not name a server. Write TENANT/SERVER, for example acme/weather.")
    return tenant, server
