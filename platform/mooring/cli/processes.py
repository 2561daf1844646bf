"""`mooring processes` and `mooring logs`: what runs of a server that is uploaded code, and what it says."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from mooring.cli.backend import Row, backend
from mooring.cli.names import ServerArgument, split
from mooring.cli.output import Json, print_json, print_rows, remark, say

app = typer.Typer()
LINES_AT_ONCE, PAUSE_SECONDS = 500, 1.0


@app.command("processes")
def processes(
    server: ServerArgument,
    restart: Annotated[
        str, typer.Option("--restart", metavar="PROCESS", help="End this one; the next call starts it anew.")
    ] = "",
    as_json: Json = False,
) -> None:
    """List the processes of a server's uploaded code, newest first, with those that sleep."""
    tenant, slug = split(server)
    with backend(tenant) as work:
        if restart:
            work.stop_process(slug, restart)
        rows = work.processes(slug)
    columns = {
        "Process": "instance",
        "Artifact": "digest",
        "State": "state",
        "Calls": "in_flight",
        "Starts": "starts",
        "Crashes": "crashes",
        "Silent for": "silent",
        "Reason": "reason",
    }
    shown = rows if as_json else [row | _summary(row) for row in rows]
    print_rows(shown, columns, as_json=as_json, empty="No process was started yet; a call starts one.")


def _summary(row: Row) -> Row:
    return {
        "digest": row["digest"][:12],
        "state": "asleep" if row["state"] == "stopped" else row["state"],
        "silent": f"{row['silent_for']:.0f} s",
        "reason": row["reason"] or None,
    }


@app.command("logs")
def logs(
    server: ServerArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until you press Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=LINES_AT_ONCE, help="How many lines.")] = 100,
    as_json: Json = False,
) -> None:
    """Show the last of what a server's uploaded code has said, without the values of secrets.

    With --follow, --json prints one object a line.
    """
    tenant, slug = split(server)
    page = _page(tenant, slug, 0, limit)
    if not follow:
        if as_json:
            print_json(page["data"])
        elif page["data"]:
            _tell(page["data"])
        else:
            remark("Nothing was said yet.")
        return
    while True:
        _tell(page["data"], as_json=as_json)
        if len(page["data"]) < LINES_AT_ONCE:
            time.sleep(PAUSE_SECONDS)  # a command has nothing else to do meanwhile
        page = _page(tenant, slug, page["next"], LINES_AT_ONCE)


def _page(tenant: str, slug: str, after: int, limit: int) -> Row:
    with backend(tenant) as work:
        return work.logs(slug, after, limit)


def _tell(lines: list[Row], *, as_json: bool = False) -> None:
    for line in lines:
        if as_json:
            typer.echo(json.dumps(line, ensure_ascii=False))
        else:
            say(f"{line['at'][11:19]} {line['instance'][:8]} {line['text']}")
