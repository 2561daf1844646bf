"""A new server that stands for an MCP server elsewhere."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from mooring.audit.record import Actor
from servers import manifests
from servers.models import Server
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
