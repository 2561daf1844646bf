from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from mooring.cli.backend import Row, backend
from mooring.cli.failures import UsageError
from mooring.cli.names import ServerArgument, split
from mooring.cli.output import Json, print_json, print_rows, say

group = typer.Typer(help="Switches over the tools of a server.", no_args_is_help=True)


class Kind(StrEnum):
    DISABLE = "disable"
    MOCK = "mock"
    FAULT = "fault"


@group.callback()
def overrides() -> None:
    """Switches over the tools of a server: they hold at once, without a new version."""


@group.command("list")
def list_(server: ServerArgument, as_json: Json = False) -> None:
    """List the switches that are on."""
    tenant, slug = split(server)
    with backend(tenant) as work:
        rows = work.overrides(slug)
    columns = {
        "Id": "id",
        "Tool": "tool",
        "Kind": "kind",
        "Settings": "settings",
        "Reason": "reason",
        "By": "author",
        "Until": "expires_at",
    }
    shown = rows if as_json else [row | _summary(row) for row in rows]
    print_rows(shown, columns, as_json=as_json, empty="No switch is on.")


def _summary(row: Row) -> Row:
    settings = json.dumps(row["settings"], ensure_ascii=False)[:120] if row["settings"] else None
    return {"tool": row["tool"] or "every tool", "settings": settings, "reason": row["reason"] or None}


@group.command("set")
def set_(
    server: ServerArgument,
    kind: Annotated[Kind, typer.Argument(help="What to do with calls.")],
    tool: Annotated[str, typer.Option("--tool", help="One tool; every tool when left out.")] = "",
    answer: Annotated[
        str, typer.Option("--answer", metavar="JSON", help="For mock: content, structured or both.")
    ] = "",
    share: Annotated[
        float | None, typer.Option("--share", help="For fault: 0.25 is every fourth call.")
    ] = None,
    delay_ms: Annotated[float | None, typer.Option("--delay-ms", help="For fault: wait this long.")] = None,
    error: Annotated[str, typer.Option("--error", help="For fault: what the caller is told.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="For the others, who will wonder.")] = "",
    hours: Annotated[float | None, typer.Option("--hours", min=0.01, help="End after this long.")] = None,
    as_json: Json = False,
) -> None:
    """Switch a tool off, mock its answers or inject faults."""
    tenant, slug = split(server)
    fault = {"share": share, "delay_ms": delay_ms, "error": error or None}
    settings = {name: value for name, value in fault.items() if value is not None} | _answer(answer)
    ends = datetime.now(UTC) + timedelta(hours=hours) if hours else None
    with backend(tenant) as work:
        row = work.set_override(
            slug,
            {
                "kind": kind.value,
                "tool": tool,
                "settings": settings,
                "reason": reason,
                "expires_at": ends.isoformat() if ends else None,
            },
        )
    if as_json:
        print_json(row)
    else:
        say(f"The switch is on. Take it back with `mooring override clear {tenant}/{slug} {row['id']}`.")


def _answer(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError as problem:
        raise UsageError(f"--answer is not JSON: {problem}.") from None
    if not isinstance(found, dict):
        raise UsageError("--answer is a JSON object with content, structured or both.")
    return found


@group.command("clear")
def clear(
    server: ServerArgument,
    pk: Annotated[str, typer.Argument(metavar="[ID]", help="As `mooring override list` shows it.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Take back all of them.")] = False,
    as_json: Json = False,
) -> None:
    """Take a switch back."""
    tenant, slug = split(server)
    if bool(pk) == everything:
        raise UsageError("Say which switch by its id, or --all.")
    with backend(tenant) as work:
        gone = [row["id"] for row in work.overrides(slug)] if everything else [pk]
        for one in gone:
            work.clear_override(slug, one)
    if as_json:
        print_json(gone)
    else:
        say(f"Taken back: {len(gone)}.")
