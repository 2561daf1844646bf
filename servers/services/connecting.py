"""New servers that are something which is there already: an MCP server elsewhere, or a program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from mooring.audit.record import Actor
from servers import manifests
from servers.models import Build, Server
from servers.services.builds import start_build
from servers.services.hosting import create_server
from servers.services.secrets import set_secret
from servers.services.upstreams import save_upstream, start_look
from tenants.models import Tenant


def connect_server(
    tenant: Tenant,
    *,
    slug: str,
    title: str,
    actor: Actor,
    url: str,
    transport: str = "auto",
    header: str = "",
    credential: str = "",
    upstream: str = "main",
) -> Server:
    """A server with one upstream, which a worker is woken to look at. The credential is kept as a secret.

    Raises what `create_server`, `set_secret` and `save_upstream` raise; nothing is left behind then.
    """
    definition: dict[str, Any] = {"url": url} | ({"transport": transport} if transport != "auto" else {})
    kept = manifests.credential_of(header, credential) if header and credential else None
    if kept is not None:
        definition["headers"] = {kept.header: kept.template}
    with transaction.atomic():
        server = create_server(tenant, slug=slug, title=title, actor=actor)
        save_upstream(server, actor=actor, name=upstream, definition=definition)
        if kept is not None and kept.secret:
            set_secret(server, name=kept.secret, value=kept.value, actor=actor)
        start_look(server, name=upstream)
    server.refresh_from_db()
    return server


def upload_server(
    tenant: Tenant,
    *,
    slug: str,
    title: str,
    actor: Actor,
    name: str,
    data: bytes,
    settings: Mapping[str, Any],
) -> Build:
    """A server for a program that was uploaded, which a worker is woken to build. As `start_build` otherwise."""
    with transaction.atomic():
        server = create_server(tenant, slug=slug, title=title, actor=actor)
        return start_build(server, actor=actor, name=name, data=data, settings=settings)
