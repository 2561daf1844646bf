"""`mooring deploy`: from a file to an endpoint, without a question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mooring.cli import packing, sources
from mooring.cli.backend import Backend, backend
from mooring.cli.failures import UsageError
from mooring.cli.output import Json, TenantOption, print_json, remark, say
from mooring.cli.packing import Upload, is_code
from mooring.cli.sources import Source
from mooring.cli.uploading import LOOK_PAUSE, Run, environment_of, followed, hand_in
from mooring.errors import InvalidInput, MooringError

if TYPE_CHECKING:
    from servers.manifests import Credential

app = typer.Typer()
# What `mooring deploy URL` calls the upstream it declares.
UPSTREAM = "main"


@dataclass(slots=True)
class Deployment:
    server: str
    endpoint: str
    version: str
    is_new_version: bool
    tools: int
    missing_secrets: list[str] = field(default_factory=list)
    missing_variables: list[str] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)


@app.command("deploy")
def deploy(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH|URL",
            help="A manifest or an OpenAPI document, - reads it; an MCP server in Python, as a .py file, a folder, "
            "a .zip or a .tar.gz; or the address of one elsewhere.",
        ),
    ],
    server: Annotated[str, typer.Option("--server", help="Short name; the server is made if need be.")],
    tenant: TenantOption = "",
    public: Annotated[bool, typer.Option("--public", help="Let anybody call it without a key.")] = False,
    base_url: Annotated[str, typer.Option("--base-url", metavar="URL", help="Where the API is.")] = "",
    secret: Annotated[
        list[str] | None, typer.Option("--secret", metavar="NAME=VALUE", help="A secret's value. Repeat.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="'NAME: VALUE'", help="Sent to the server elsewhere. Repeat."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env", metavar="NAME=VALUE", help="A variable of uploaded code's environment. Repeat."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="HOST", help="A host that uploaded code may reach. Repeat."),
    ] = None,
    notes: Annotated[str, typer.Option("--notes", help="What is new in this version.")] = "",
    as_json: Json = False,
) -> None:
    """Publish a file, a program, or an MCP server elsewhere, as the next version.

    The last line is the URL for MCP clients.
    """
    secrets = secrets_of(secret or [])
    if is_code(path):
        if base_url or header:
            raise UsageError("--base-url and --header have nothing to do with Python code.")
        run = Run(environment_of(env or []), allow_host or [], secrets)
        done = upload(tenant, server, packing.read(path), run, public=public, notes=notes)
        _tell_connected(done, as_json=as_json)
        return
    if env or allow_host:
        raise UsageError("--env and --allow-host belong to Python code: a .py file, a folder or an archive.")
    if path.startswith(("http://", "https://")):
        if base_url:
            raise UsageError("--base-url belongs to an OpenAPI document.")
        origin = Origin(path, headers_of(header or []))
        done = connect(tenant, server, origin, public=public, secrets=secrets, notes=notes)
        _tell_connected(done, as_json=as_json)
        return
    if header:
        raise UsageError("--header belongs to the address of an MCP server elsewhere.")
    source = sources.read(path)
    _check_base_url(source, base_url)
    with backend(tenant) as work:
        done = carry_out(work, server, source, public=public, base_url=base_url, secrets=secrets, notes=notes)
    if as_json:
        print_json({name: getattr(done, name) for name in Deployment.__slots__})
    else:
        _tell(done, source, secrets)


def carry_out(
    work: Backend,
    slug: str,
    source: Source,
    *,
    public: bool,
    base_url: str,
    secrets: Mapping[str, str],
    notes: str,
) -> Deployment:
    """Everything is in place before the new version is served.

    A manifest is the whole server. Of a server that is there an OpenAPI document replaces the tools alone.
    """
    from servers.manifests import with_tools_of  # as in headers_of

    is_new = _ensure_server(work, slug, source.manifest["server"]["title"], public=public)
    for name, value in secrets.items():
        work.set_secret(slug, name, value)
    manifest = source.manifest
    if source.is_openapi and not is_new:
        manifest = with_tools_of(manifest, work.draft(slug))
    work.replace_draft(slug, manifest)
    declared = manifest.get("variables", {})
    kept = {name: value for name, value in work.variables(slug).items() if name in declared}
    variables = kept | ({"base_url": base_url} if base_url else {})
    number, is_new_version = _published(work, slug, variables, notes)
    return Deployment(
        server=f"{work.tenant}/{slug}",
        endpoint=f"{work.origin}/t/{work.tenant}/{slug}/mcp",
        version=number,
        is_new_version=is_new_version,
        tools=len(source.manifest.get("tools", [])),
        missing_secrets=work.missing_secrets(slug),
        missing_variables=[
            name for name, about in declared.items() if not about.get("default") and not variables.get(name)
        ],
        left_out=source.left_out,
    )


# ---- an MCP server in Python


def upload(
    tenant: str, slug: str, code: Upload, run: Run, *, public: bool, notes: str, pause: float = LOOK_PAUSE
) -> Deployment:
    """Hand it in, wait for its build, take all that it offers, publish; in steps, as `connect`."""
    with backend(tenant) as work:
        _ensure_server(work, slug, slug, public=public)
        build = hand_in(work, slug, code, run, upstream=UPSTREAM)
    followed(tenant, slug, build, pause=pause)
    with backend(tenant) as work:
        refused = work.accept_build(slug, build["id"])
        return _published_from_elsewhere(work, slug, refused, notes)


# ---- an MCP server elsewhere


@dataclass(frozen=True, slots=True)
class Origin:
    """Where it is. The credentials' values are apart from what stands in the manifest."""

    url: str
    headers: tuple[Credential, ...]

    @property
    def definition(self) -> dict[str, Any]:
        headers = {part.header: part.template for part in self.headers}
        return {"url": self.url} | ({"headers": headers} if headers else {})


def headers_of(given: list[str]) -> tuple[Credential, ...]:
    from servers.manifests import credential_of  # reading manifests is not for every command

    found = []
    for number, line in enumerate(given, start=1):
        name, colon, value = line.partition(":")
        if not name.strip() or not colon or not value.strip():
            # Without the line itself: it may be a credential.
            raise UsageError(f"--header number {number} is not 'NAME: VALUE'.")
        found.append(credential_of(name, value))
    return tuple(found)


def connect(
    tenant: str, slug: str, origin: Origin, *, public: bool, secrets: Mapping[str, str], notes: str
) -> Deployment:
    """Declare it, ask what it offers, take all of that, publish.

    In steps that are committed one by one, since asking takes up to a minute and others may wait for the server.
    """
    with backend(tenant) as work:
        _ensure_server(work, slug, slug, public=public)
        work.save_upstream(slug, UPSTREAM, _kept(work, slug, origin) | origin.definition)
        sealed = {part.secret: part.value for part in origin.headers if part.secret}
        for name, value in (sealed | dict(secrets)).items():
            work.set_secret(slug, name, value)
    with backend(tenant) as work:
        work.look(slug, UPSTREAM)
    with backend(tenant) as work:
        return _published_from_elsewhere(work, slug, work.take_all(slug, UPSTREAM), notes)


def _published_from_elsewhere(work: Backend, slug: str, refused: list[str], notes: str) -> Deployment:
    number, is_new = _published(work, slug, work.variables(slug), notes)
    return Deployment(
        server=f"{work.tenant}/{slug}",
        endpoint=f"{work.origin}/t/{work.tenant}/{slug}/mcp",
        version=number,
        is_new_version=is_new,
        tools=len(work.tools(slug)),
        missing_secrets=work.missing_secrets(slug),
        left_out=[dict(zip(("what", "why"), line.split(": ", 1), strict=False)) for line in refused],
    )


def _kept(work: Backend, slug: str, origin: Origin) -> dict[str, Any]:
    """What was said of the same address before; what was meant for another one is not sent there."""
    before = next((row for row in work.upstreams(slug) if row["name"] == UPSTREAM), None)
    if before is None or before["definition"].get("url") != origin.url:
        return {}
    return dict(before["definition"])


def _tell_connected(done: Deployment, *, as_json: bool) -> None:
    if as_json:
        print_json({name: getattr(done, name) for name in Deployment.__slots__})
        return
    for part in done.left_out:
        remark(f"Left out: {': '.join(part.values())}")
    say(f"Published {done.version}." if done.is_new_version else f"Unchanged; {done.version} is served.")
    say(f"Tools: {done.tools}")
    _tell_missing_secrets(done)
    say(done.endpoint)


def _ensure_server(work: Backend, slug: str, title: str, *, public: bool) -> bool:
    """True when it was not there before."""
    row = work.server(slug)
    if row is None:
        work.create_server(slug, title=title, is_public=public)
    elif public and not row["is_public"]:
        work.make_public(slug)
    return row is None


def _published(work: Backend, slug: str, variables: Mapping[str, str], notes: str) -> tuple[str, bool]:
    """The number that is served now, and whether it is new. The same manifest is not published twice."""
    try:
        return work.publish(slug, variables=variables, notes=notes)["number"], True
    except MooringError as refusal:
        if refusal.reason != "nothing_changed":
            raise
        number = str(refusal.data["version"])
    work.rollback(slug, number)
    if variables != work.variables(slug):
        work.set_variables(slug, variables)
    return number, False


def secrets_of(given: list[str]) -> dict[str, str]:
    pairs = {}
    for number, text in enumerate(given, start=1):
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            # Without the text itself: it may be a secret that was typed the wrong way.
            raise UsageError(f"--secret number {number} is not NAME=VALUE.")
        pairs[name] = value
    return pairs


def _check_base_url(source: Source, base_url: str) -> None:
    if not base_url:
        return
    if not base_url.startswith(("http://", "https://")):
        raise UsageError(f"--base-url {base_url!r} is not a URL. Start it with https://.")
    if "base_url" not in source.manifest.get("variables", {}):
        raise InvalidInput("This manifest has no variable base_url, so --base-url would change nothing.")


def _tell(done: Deployment, source: Source, secrets: Mapping[str, str]) -> None:
    for name in sorted(set(secrets) - set(source.manifest.get("secrets", {}))):
        remark(f"Note: the manifest names no secret {name!r}.")
    for part in done.left_out:
        remark(f"Left out: {part['what']}: {part['why']}")
    say(f"Published {done.version}." if done.is_new_version else f"Unchanged; {done.version} is served.")
    say(f"Tools: {done.tools}")
    _tell_missing_secrets(done)
    if done.missing_variables:
        say(f"Variables without a value: {', '.join(done.missing_variables)}. Set base_url with --base-url.")
    say(done.endpoint)


def _tell_missing_secrets(done: Deployment) -> None:
    if done.missing_secrets:
        say(f"Secrets without a value: {', '.join(done.missing_secrets)}. Set them with --secret NAME=VALUE.")
