from __future__ import annotations

from typing import Annotated

import typer

from mooring.cli.backend import Row, backend, is_remote, start_django
from mooring.cli.failures import UsageError
from mooring.cli.output import Json, Limit, TenantOption, print_json, print_rows, remark, say

app = typer.Typer()
audits = typer.Typer(
    help="Show who changed what; `verify` checks the log itself.", invoke_without_command=True
)


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


@audits.callback()
def audit(
    context: typer.Context, tenant: TenantOption = "", limit: Limit = 50, as_json: Json = False
) -> None:
    """Show who changed what, newest first."""
    if context.invoked_subcommand:
        return
    with backend(tenant) as work:
        rows = work.audit(limit=limit)
    columns = {"No.": "sequence", "Time": "time", "Who": "who", "Action": "action", "What": "what"}
    shown = rows if as_json else [row | _event(row) for row in rows]
    print_rows(shown, columns, as_json=as_json, empty="Nothing was changed yet.")


def _event(row: Row) -> Row:
    return {"who": row["actor"]["name"], "what": f"{row['target']['kind']} {row['target']['name']}"}


@audits.command("verify")
def verify(tenant: TenantOption = "", as_json: Json = False) -> None:
    """Check by their hashes that no entry was changed or is missing; of all organisations when none is named.

    On this machine only. Ends with 1 when a log is broken, and names the first entry that does not follow.
    """
    if is_remote():
        raise UsageError(
            "Audit logs are verified on the machine itself. Unset MOORING_URL and MOORING_KEY there."
        )
    start_django()
    from mooring.cli.local import verified  # needs Django's applications to be loaded

    rows = list(verified(tenant))
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            _tell(row)
    if any(row["first_broken"] for row in rows):
        raise typer.Exit(1)


def _tell(row: Row) -> None:
    if row["first_broken"]:
        remark(
            f"{row['tenant']}: entry {row['first_broken']} does not follow from the one before it; "
            f"{row['entries']} entries in all."
        )
    else:
        say(f"{row['tenant']}: {row['entries']} entries, whole.")
