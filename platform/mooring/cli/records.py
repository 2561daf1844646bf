from __future__ import annotations

from typing import Annotated

import typer

from mooring.cli.backend import Row, backend
from mooring.cli.output import Json, Limit, TenantOption, print_rows

app = typer.Typer()


@app.command("calls")
def calls(
    tenant: TenantOption = "",
    server: Annotated[str | None, typer.Option("--server", help="Only calls of this server.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Show who called what, newest first."""
    with backend(tenant) as work:
        rows = work.calls(server=server, limit=limit)
    columns = {
        "Time": "time",
        "Server": "server",
        "Method": "method",
        "Subject": "subject",
        "Status": "status",
        "Code": "code",
        "ms": "ms",
        "Who": "who",
        "Version": "version",
        "Client": "client",
        "Revision": "revision",
        "Request": "request_id",
    }
    shown = rows if as_json else [row | _call(row) for row in rows]
    print_rows(shown, columns, as_json=as_json, empty="No calls yet.")


def _call(row: Row) -> Row:
    who = row["principal"]
    return {"ms": f"{row['duration_us'] / 1000:.1f}", "who": who["name"] or who["kind"]}


@app.command("audit")
def audit(tenant: TenantOption = "", limit: Limit = 50, as_json: Json = False) -> None:
    """Show who changed what, newest first."""
    with backend(tenant) as work:
        rows = work.audit(limit=limit)
    columns = {"No.": "sequence", "Time": "time", "Who": "who", "Action": "action", "What": "what"}
    shown = rows if as_json else [row | _event(row) for row in rows]
    print_rows(shown, columns, as_json=as_json, empty="Nothing was changed yet.")


def _event(row: Row) -> Row:
    return {"who": row["actor"]["name"], "what": f"{row['target']['kind']} {row['target']['name']}"}
