"""The only way interface code reaches something of a tenant's servers.

Missing, deleted and foreign things answer alike (`NotFound`), and so do servers a limited key does not name; a
member without the permission gets `Forbidden`. All of it runs inside the tenant's scope.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import Q, QuerySet

from mooring.audit.models import AuditEvent
from mooring.errors import Forbidden, NotFound
from mooring.scope import tenant_scope
from servers.manifests import is_storable, source_of
from servers.models import (
    Build,
    CallRecord,
    Channel,
    DraftRow,
    Import,
    Override,
    Prompt,
    Resource,
    ResourceTemplate,
    Server,
    Tool,
    UpstreamState,
    Version,
)
from tenants.access import Access
from tenants.models import Tenant
from tenants.slugs import SLUG

_Row = TypeVar("_Row", bound=DraftRow)


def list_servers(access: Access) -> QuerySet[Server]:
    """Servers that are not deleted, by slug; for a limited key only those it names."""
    access.require("servers:read")
    servers: QuerySet[Server] = Server.objects.filter(tenant=access.tenant, deleted_at__isnull=True)
    if access.servers is not None:
        servers = servers.filter(id__in=access.servers)
    return servers.order_by("slug")


def require_all_servers(access: Access) -> None:
    """Refuse keys limited to some servers what concerns the whole organisation, such as making a server."""
    if access.servers is not None:
        raise Forbidden("This key is limited to some servers. Use a key for all servers of the organisation.")


def get_server(access: Access, slug: str, permission: str = "servers:read") -> Server:
    access.require(permission)
    server: Server | None = None
    if SLUG.fullmatch(slug):
        server = Server.objects.filter(tenant=access.tenant, slug=slug, deleted_at__isnull=True).first()
    if server is None or (access.servers is not None and str(server.id) not in access.servers):
        raise NotFound("There is no server by that name.")
    return server


def get_tool(
    access: Access, server: Server, name_or_id: str | uuid.UUID, permission: str = "servers:read"
) -> Tool:
    """The draft's tool by its name or, when no tool has that name, by its id."""
    access.require(permission)
    tools = Tool.objects.filter(tenant=access.tenant, server=server)
    name = str(name_or_id)
    tool: Tool | None = tools.filter(name=name).first() if is_storable(name) else None
    return tool or _row(Tool, access, server, name_or_id, "tool")


def get_resource(
    access: Access, server: Server, row: str | uuid.UUID, permission: str = "servers:read"
) -> Resource:
    access.require(permission)
    return _row(Resource, access, server, row, "resource")


def get_template(
    access: Access, server: Server, row: str | uuid.UUID, permission: str = "servers:read"
) -> ResourceTemplate:
    access.require(permission)
    return _row(ResourceTemplate, access, server, row, "resource template")


def get_prompt(
    access: Access, server: Server, row: str | uuid.UUID, permission: str = "servers:read"
) -> Prompt:
    access.require(permission)
    return _row(Prompt, access, server, row, "prompt")


def get_version(access: Access, server: Server, number: str) -> Version:
    access.require("servers:read")
    version: Version | None = None
    if is_storable(number):
        version = Version.objects.filter(tenant=access.tenant, server=server, number=number).first()
    if version is None:
        raise NotFound("There is no version by that number.")
    return version


def get_upstream(
    access: Access, server: Server, name: str, permission: str = "servers:read"
) -> UpstreamState | None:
    """What is known of an upstream the draft declares; None while nothing is, as before its first look."""
    access.require(permission)
    if name not in server.upstreams:
        raise NotFound("There is no upstream by that name.")
    states = UpstreamState.objects.filter(tenant=access.tenant, server=server).select_related("job")
    found: UpstreamState | None = states.filter(source=source_of(server.upstreams[name])).first()
    return found


def get_override(
    access: Access, server: Server, row: str | uuid.UUID, permission: str = "servers:operate"
) -> Override:
    access.require(permission)
    known = _uuid(row)
    overrides = Override.objects.filter(tenant=access.tenant, server=server)
    found: Override | None = overrides.filter(id=known).first() if known else None
    if found is None:
        raise NotFound("There is no such switch.")
    return found


def list_imports(access: Access) -> QuerySet[Import]:
    """Documents handed in, newest first; for a limited key only those for its servers."""
    access.require("servers:write")
    imports: QuerySet[Import] = Import.objects.filter(tenant=access.tenant).select_related("server", "job")
    if access.servers is not None:
        imports = imports.filter(server_id__in=access.servers)
    return imports.order_by("-created_at", "-id")


def get_import(access: Access, row: str | uuid.UUID, server: Server | None = None) -> Import:
    """With `server` only one that is meant for it, or for none yet."""
    imports, known = list_imports(access), _uuid(row)
    if server is not None:
        imports = imports.filter(Q(server=server) | Q(server__isnull=True))
    found: Import | None = imports.filter(id=known).first() if known else None
    if found is None:
        raise NotFound("There is no such import.")
    return found


def list_builds(access: Access, server: Server, permission: str = "servers:read") -> QuerySet[Build]:
    """Uploads of a server on their way into its draft, newest first."""
    access.require(permission)
    builds: QuerySet[Build] = Build.objects.filter(tenant=access.tenant, server=server)
    return (
        builds.select_related("job", "upload", "server").defer("upload__data").order_by("-created_at", "-id")
    )


def get_build(
    access: Access, server: Server, row: str | uuid.UUID, permission: str = "servers:read"
) -> Build:
    builds, known = list_builds(access, server, permission), _uuid(row)
    found: Build | None = builds.filter(id=known).first() if known else None
    if found is None:
        raise NotFound("There is no such build.")
    return found


def calls(access: Access, server: Server | None = None) -> QuerySet[CallRecord]:
    """Recorded calls, newest first; for a limited key only those of its servers."""
    access.require("calls:read")
    records: QuerySet[CallRecord] = CallRecord.objects.filter(tenant=access.tenant)
    if access.servers is not None:
        records = records.filter(server_id__in=access.servers)
    return records if server is None else records.filter(server_id=server.id)


def audit_events(access: Access) -> QuerySet[AuditEvent]:
    """What was changed and by whom, newest first."""
    access.require("audit:read")
    require_all_servers(access)
    events: QuerySet[AuditEvent] = AuditEvent.objects.filter(tenant=access.tenant)
    return events


def _row(model: type[_Row], access: Access, server: Server, row: str | uuid.UUID, what: str) -> _Row:
    known = _uuid(row)
    rows = model.objects.filter(tenant=access.tenant, server=server)
    found: _Row | None = rows.filter(id=known).first() if known else None
    if found is None:
        raise NotFound(f"There is no such {what}.")
    return found


def _uuid(value: str | uuid.UUID) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(value))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class PublicServer:
    """What anybody may know of a public server: its live version."""

    tenant: str
    tenant_name: str
    slug: str
    number: str
    manifest: dict[str, Any]


def require_public(access: Access, wanted: bool, server: Server | None = None) -> None:
    """Making a server public, a new one too, or private again takes who may publish. Raises `Forbidden`."""
    if wanted != (server is not None and server.is_public):
        access.require("servers:publish")


def public_server(tenant: str, slug: str) -> PublicServer:
    """The live version of a public server, for anybody. Raises `NotFound` for all other names alike."""
    owner: Tenant | None = None
    if SLUG.fullmatch(tenant) and SLUG.fullmatch(slug):
        owner = Tenant.objects.filter(slug=tenant, deleted_at__isnull=True, suspended_at__isnull=True).first()
    if owner is not None:
        with tenant_scope(owner.id):
            channel = (
                Channel.objects.filter(
                    name="live", server__slug=slug, server__is_public=True, server__deleted_at__isnull=True
                )
                .select_related("version")
                .first()
            )
        if channel is not None:
            version = channel.version
            return PublicServer(owner.slug, owner.name, slug, version.number, version.manifest)
    raise NotFound("There is no public server by that name.")
