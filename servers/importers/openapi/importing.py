"""A whole document → what can be made of it, and what cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mooring.errors import InvalidInput
from servers.importers.openapi.addresses import Address, Addresses, address_of, variable
from servers.importers.openapi.findings import Findings, LeaveOut, LeftOut, Remote
from servers.importers.openapi.imported import Imported, Operation, needing_only
from servers.importers.openapi.naming import Names, tool_names
from servers.importers.openapi.operations import MAX_TITLE, Site, Workshop, tool_of
from servers.importers.openapi.reading import mapping, named, sequence, shorten, text
from servers.importers.openapi.references import References
from servers.importers.openapi.schemas import Schemas
from servers.importers.openapi.security import Security

METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
# A tool's schemas are read by a model with every request; a manifest of thousands of tools is also kept whole.
INPUT_BYTES = (2 * 1024, 32 * 1024)
OUTPUT_BYTES = (512, 8 * 1024)
ALL_INPUT_BYTES = 10 * 2**20  # a whole manifest may take 16 MiB
_EVERY = 50  # operations between reports of progress

Progress = Callable[[int, int], None]


def import_openapi(
    document: dict[str, Any], *, source_url: str | None = None, progress: Progress | None = None
) -> Imported:
    """Tools for every operation that can be called. `document` is as `documents.parse` gives it.

    `source_url` is where it was fetched from; relative server addresses start there. `progress` is called with
    the operations done and all there are. Raises `InvalidInput` when it is not OpenAPI 3 or nothing can be made of it.
    """
    _check_kind(document)
    findings = Findings()
    references = References(document, source_url)
    sites = list(_sites(document, references, findings, source_url))
    addresses = Addresses(site.address for site in sites)
    workshop = _workshop(
        document, references, findings, len(sites), {addresses.name(site.address) for site in sites}
    )
    tools, operations = _tools(sites, addresses, workshop, progress)
    if not operations:
        _refuse_nothing(findings)
    _note_the_rest(document, sites, findings)
    manifest = _manifest(document, tools, sites, addresses, workshop.security)
    _note_addresses(manifest, sites, addresses, findings)
    info = mapping(document.get("info"))
    return Imported(_title(info), _told(info), manifest, operations, findings.all())


def _check_kind(document: dict[str, Any]) -> None:
    version = document.get("openapi")
    said = str(version) if isinstance(version, str | int | float) and not isinstance(version, bool) else ""
    if said == "3" or said.startswith("3."):
        return
    raise InvalidInput(_kind_refusal(document, said), code="not_openapi_3")


def _kind_refusal(document: dict[str, Any], said: str) -> str:
    if "swagger" in document or said.startswith("2"):
        return (
            "This is a Swagger 2.0 document. Convert it to OpenAPI 3, for example with `swagger2openapi` or at "
            "editor.swagger.io (Edit → Convert to OpenAPI 3), and import the result."
        )
    if said:
        return f"This is OpenAPI {said[:20]}. Import OpenAPI 3.0 or 3.1."
    if "asyncapi" in document:
        return "This is an AsyncAPI document. Import an OpenAPI 3.0 or 3.1 document of the API's HTTP operations."
    if "mooring" in document:
        return "This is a manifest, not an OpenAPI document. Deploy it as it is."
    if "item" in document and "info" in document:
        return "This looks like a Postman collection. Export the API as OpenAPI 3 and import that."
    return "This is not an OpenAPI document: it does not start with a line like `openapi: 3.1.0`. Choose another file."


def _workshop(
    document: dict[str, Any], references: References, findings: Findings, count: int, variables: set[str]
) -> Workshop:
    siblings_count = not str(document["openapi"]).startswith("3.0")
    share = ALL_INPUT_BYTES // max(count, 1)
    return Workshop(
        references=references,
        inputs=Schemas(references, "input", siblings_count=siblings_count),
        outputs=Schemas(references, "output", siblings_count=siblings_count),
        security=Security(document, references),
        findings=findings,
        variables=frozenset(variables),
        input_limit=_clamped(share, INPUT_BYTES),
        output_limit=_clamped(share // 4, OUTPUT_BYTES),
    )


def _clamped(value: int, bounds: tuple[int, int]) -> int:
    return max(bounds[0], min(value, bounds[1]))


# ---- finding the operations


def _sites(
    document: dict[str, Any], references: References, findings: Findings, source_url: str | None
) -> Iterator[Site]:
    for path, given in named(document.get("paths")):
        try:
            item = _path_item(given, references)
        except LeaveOut as error:
            _leave_out(findings, path, error)
            continue
        for method, operation in named(item):
            if method not in METHODS:
                _note_method(method, path, findings)
            elif isinstance(operation, dict):
                levels = (operation.get("servers"), item.get("servers"), document.get("servers"))
                yield Site(method.upper(), path, item, operation, address_of(levels, source_url))
            else:
                findings.add(f"{method.upper()} {path}"[:300], "The document does not describe it.")


def _path_item(given: object, references: References) -> dict[str, Any]:
    """A path may refer to another one and add to it."""
    node = mapping(given)
    if not isinstance(node.get("$ref"), str):
        return node
    return {
        **mapping(references.follow(node)),
        **{key: value for key, value in node.items() if key != "$ref"},
    }


def _note_method(method: str, path: str, findings: Findings) -> None:
    if method in ("trace", "query", "additionalOperations"):
        findings.count("other methods", f"A tool cannot send {method[:40]} requests.", path)


def _leave_out(findings: Findings, what: str, error: LeaveOut) -> None:
    findings.add(what[:300], str(error))
    findings.has_remote |= isinstance(error, Remote)


# ---- making the tools


def _tools(
    sites: list[Site], addresses: Addresses, workshop: Workshop, progress: Progress | None
) -> tuple[list[dict[str, Any]], list[Operation]]:
    tools, operations, names = [], [], Names()
    for done, site in enumerate(sites):
        if progress and done % _EVERY == 0:
            progress(done, len(sites))
        # Names are claimed for all, so that a mended operation takes no other's name on the next import.
        name = names.claim(tool_names(text(site.operation.get("operationId")), site.method, site.path))
        try:
            tools.append(tool_of(site, name, addresses.name(site.address), workshop))
        except LeaveOut as error:
            _leave_out(workshop.findings, site.key, error)
            continue
        operations.append(_listed(site, name))
    if progress:
        progress(len(sites), len(sites))
    return tools, operations


def _listed(site: Site, name: str) -> Operation:
    tags = [tag for tag in sequence(site.operation.get("tags")) if isinstance(tag, str)]
    summary = (
        text(site.operation.get("summary")) or text(site.operation.get("description")).partition("\n")[0]
    )
    one_line = shorten(" ".join(summary.split()), MAX_TITLE * 2)
    return Operation(
        site.key, site.method, site.path, name, one_line, shorten(tags[0], MAX_TITLE) if tags else ""
    )


def _manifest(
    document: dict[str, Any],
    tools: list[dict[str, Any]],
    sites: list[Site],
    addresses: Addresses,
    security: Security,
) -> dict[str, Any]:
    info = mapping(document.get("info"))
    described = {"description": _told(info)} if _told(info) else {}
    variables: dict[str, dict[str, str]] = {}
    for site in sites:
        variables.setdefault(addresses.name(site.address), variable(site.address))
    manifest = {
        "mooring": 1,
        "server": {"title": _title(info), **described},
        "variables": variables,
        "secrets": security.secrets,
    }
    return needing_only(manifest, tools)


def _title(info: dict[str, Any]) -> str:
    return shorten(" ".join(text(info.get("title")).split()), 120) or "Imported API"


def _told(info: dict[str, Any]) -> str:
    return shorten(text(info.get("description")) or text(info.get("summary")), 2_000)


# ---- what is not in it


def _refuse_nothing(findings: Findings) -> None:
    left_out: list[LeftOut] = findings.all()
    if not left_out:
        raise InvalidInput(
            "The document describes no operations, so there is nothing to import.", code="no_operations"
        )
    first = left_out[0]
    raise InvalidInput(
        f"Nothing of the document can be imported. First, {first.what}: {first.why}",
        code="remote_reference" if findings.has_remote else "no_operations",
        left_out=[{"what": one.what, "why": one.why} for one in left_out[:50]],
    )


def _note_the_rest(document: dict[str, Any], sites: list[Site], findings: Findings) -> None:
    for site in sites:
        if mapping(site.operation.get("callbacks")):
            findings.count("callbacks", "Requests that the API makes to you are not tools.", site.key)
        if any(
            mapping(mapping(node).get("links")) for node in mapping(site.operation.get("responses")).values()
        ):
            findings.count("links", "Links between operations have no counterpart in tools.", site.key)
    if webhooks := mapping(document.get("webhooks")):
        findings.add(
            "webhooks", f"Requests that the API makes to you are not tools ({len(webhooks):,} described)."
        )


def _note_addresses(
    manifest: dict[str, Any], sites: list[Site], addresses: Addresses, findings: Findings
) -> None:
    unresolved: dict[str, Address] = {
        addresses.name(site.address): site.address for site in sites if not site.address.url
    }
    for name in unresolved.keys() & manifest.get("variables", {}).keys():
        written = unresolved[name].written
        findings.add(
            name,
            f"The document names no full address (`{written}`). Set the variable {name} to where the API is.",
        )
