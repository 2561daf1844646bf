from __future__ import annotations

from typing import Annotated

import typer

from mooring.cli import sources
from mooring.cli.output import Json, print_json, print_rows, say
from mooring.errors import InvalidInput

group = typer.Typer(help="OpenAPI documents.", no_args_is_help=True)


@group.callback()
def imports() -> None:
    """OpenAPI documents."""


@group.command("check")
def check(
    path: Annotated[str, typer.Argument(metavar="PATH", help="An OpenAPI document; - reads standard input.")],
    as_json: Json = False,
) -> None:
    """Show what an OpenAPI document would give. Nothing is changed."""
    source = sources.read(path)
    if not source.is_openapi:
        raise InvalidInput("This is a manifest already. `mooring deploy` takes it as it is.")
    if as_json:
        print_json(
            {"manifest": source.manifest, "operations": source.operations, "left_out": source.left_out}
        )
        return
    columns = {"Tool": "name", "Operation": "key", "Summary": "summary"}
    print_rows(source.operations, columns, as_json=False, empty="No operations.")
    say(f"\nTools: {len(source.manifest.get('tools', []))}")
    for kind in ("secrets", "variables"):
        if names := source.manifest.get(kind):
            say(f"{kind.title()}: {', '.join(names)}")
    for part in source.left_out:
        say(f"Left out: {part['what']}: {part['why']}")
