"""`mooring call`: one tool of one server, as any MCP client would call it."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from mooring.cli.backend import here
from mooring.cli.failures import UsageError
from mooring.cli.mcp_client import LATEST, REVISIONS, call_tool
from mooring.cli.names import ServerArgument, split
from mooring.cli.output import Json, print_json, remark, say

app = typer.Typer()


@app.command("call")
def call(
    server: ServerArgument,
    tool: Annotated[str, typer.Argument(help="The tool's name.")],
    arguments: Annotated[str, typer.Argument(metavar="JSON", help="The arguments as a JSON object.")] = "{}",
    key: Annotated[
        str, typer.Option("--key", envvar="MOORING_KEY", help="An API key; none for public ones.")
    ] = "",
    revision: Annotated[
        str, typer.Option("--revision", help=f"MCP revision: {', '.join(REVISIONS)}.")
    ] = LATEST,
    as_json: Json = False,
) -> None:
    """Call a tool over HTTP and print what it answers. TENANT/SERVER@CHANNEL and @VERSION work too."""
    if revision not in REVISIONS:
        raise UsageError(
            f"{revision!r} is no revision this command speaks. Choose from {', '.join(REVISIONS)}."
        )
    tenant, slug = split(server)
    url = f"{here()}/t/{quote(tenant)}/{quote(slug, safe='@')}/mcp"
    result = call_tool(url, tool, _arguments(arguments), key=key, revision=revision)
    failed = result.get("isError") is True
    if as_json:
        print_json(result)
    else:
        (remark if failed else say)(_text_of(result))
    if failed:
        raise typer.Exit(1)


def _arguments(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The arguments are not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise UsageError("""The arguments are a JSON object, for example '{"city": "Oslo"}'.""")
    return value


def _text_of(result: dict[str, Any]) -> str:
    blocks = result.get("content") or []
    if not blocks and "structuredContent" in result:
        return json.dumps(result["structuredContent"], indent=2, ensure_ascii=False)
    return "\n".join(map(_block, blocks))


def _block(block: dict[str, Any]) -> str:
    if block.get("type") == "text":
        return str(block.get("text", ""))
    resource = block.get("resource") or block
    if "text" in resource:
        return str(resource["text"])
    about = resource.get("uri") or resource.get("mimeType") or ""
    return f"[{block.get('type')} {about}; use --json to see it]"
