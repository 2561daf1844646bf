from __future__ import annotations

import json
from difflib import unified_diff
from typing import Annotated, Any

import typer

from mooring.cli.backend import Row, backend
from mooring.cli.names import ServerArgument, split
from mooring.cli.output import Json, print_json, print_rows, say
from mooring.errors import NotFound

app = typer.Typer()


@app.command("upstreams")
def upstreams(
    server: ServerArgument,
    anew: Annotated[bool, typer.Option("--look", help="Ask each what it offers first.")] = False,
    as_json: Json = False,
) -> None:
    """List the MCP servers elsewhere, and the uploaded code, that a server takes parts from."""
    tenant, slug = split(server)
    with backend(tenant) as work:
        rows = work.upstreams(slug)
        if anew:
            rows = [work.look(slug, row["name"]) if "url" in row["definition"] else row for row in rows]
    columns = {
        "Upstream": "name",
        "Address": "url",
        "It says it is": "is",
        "Taken": "taken",
        "Listed": "listed",
        "Changed": "changed",
        "Looked at": "looked_at",
        "Error": "error",
    }
    shown = rows if as_json else [row | _summary(row) for row in rows]
    print_rows(shown, columns, as_json=as_json, empty="This server has no upstreams.")


def _summary(row: Row) -> Row:
    about = row["about"]
    named = " ".join(str(about[part]) for part in ("name", "version", "revision") if about.get(part))
    definition = row["definition"]
    where = definition["url"] if "url" in definition else f"code {definition['code'][:12]}"
    return {"url": where, "is": named or None, "error": row["error"] or None}


@app.command("accept")
def accept(
    server: ServerArgument,
    part: Annotated[str, typer.Argument(metavar="[PART]", help="Name or URI at its upstream.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Accept all that has changed.")] = False,
    as_json: Json = False,
) -> None:
    """Show what upstreams have changed of a server's parts; accept one of them, or all."""
    tenant, slug = split(server)
    with backend(tenant) as work:
        drifts = work.drifts(slug)
        chosen = [drift for drift in drifts if everything or drift["name"] == part]
        if part and not chosen:
            raise NotFound(f"Nothing by the name {part[:100]!r} has changed.")
        if part or everything:
            drifts = [
                {name: drift[name] for name in ("upstream", "section", "name")}
                | {"version": work.accept(slug, drift)}
                for drift in chosen
            ]
    if as_json:
        print_json(drifts)
    else:
        (_tell_accepted if part or everything else _tell_changed)(drifts)


def _tell_accepted(rows: list[Row]) -> None:
    for row in rows:
        where = f"version {row['version']} serves it" if row["version"] else "it is in the draft"
        say(f"Accepted {row['name']} of {row['upstream']}; {where}.")
    if not rows:
        say("Nothing has changed.")


def _tell_changed(drifts: list[Row]) -> None:
    for drift in drifts:
        held = "live" if drift["is_live"] else "draft"
        say(f"{drift['section'][:-1].replace('_', ' ')} {drift['name']} of {drift['upstream']} ({held})")
        for line in _difference(drift["pinned"], drift["current"]):
            say(f"  {line}")
        for warning in drift["warnings"]:
            say(f"  Hidden characters in {warning}")
    say("Accept one by its name, or all with --all." if drifts else "Nothing has changed.")


def _difference(old: Any, new: Any) -> list[str]:
    # ASCII, so that nothing hides in a terminal.
    was, now = (json.dumps(value, indent=2).split("\n") if value else [] for value in (old, new))
    return [line for line in unified_diff(was, now, n=1, lineterm="") if line[:3] not in ("---", "+++")]
