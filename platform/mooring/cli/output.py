"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

Row = dict[str, Any]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TenantOption = Annotated[
    str,
    typer.Option("--tenant", envvar="MOORING_TENANT", help="The organisation's short name.", metavar="SLUG"),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many rows at most.")]
# Wide enough that a table in a pipe is never folded.
_PIPE_WIDTH = 1_000


def say(line: str) -> None:
    typer.echo(plain(line))


def remark(line: str) -> None:
    """Something beside the result, so it goes to standard error."""
    typer.echo(plain(line), err=True)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_rows(rows: Sequence[Row], columns: Mapping[str, str], *, as_json: bool, empty: str) -> None:
    """`columns` maps a heading to a field of the rows."""
    if as_json:
        print_json(list(rows))
    elif not rows:
        remark(empty)
    else:
        _print_table(rows, columns)


def _print_table(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    from rich.console import Console  # a tenth of a second that only tables are worth
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns:
        table.add_column(heading, no_wrap=not sys.stdout.isatty(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row.get(field))) for field in columns.values()))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False).print(table)


def cell(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return plain(", ".join(map(str, value)))
    return plain(str(value).replace("\n", " "))


def plain(text: str) -> str:
    """Text of tenants without control characters, which could steer the terminal."""
    return "".join(mark if mark.isprintable() or mark in "\n\t" else "\ufffd" for mark in text)
