"""A server's draft as a manifest, and back. Both ways are lossless."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from mooring.audit.record import Actor
from servers import manifests
from servers.models import Server
from servers.services.artifacts import refuse_strange_code
from servers.services.kinds import KINDS, Definition, Kind
from servers.services.recording import count_draft_change, locked, note

Manifest = dict[str, Any]
_SETTINGS = ("title", "description", "instructions", "variables", "secrets_needed", "upstreams", "members")
_RECORDED_DIFFERENCES = 50


def draft_manifest(server: Server) -> Manifest:
    """The draft as a manifest with defaults left out; rows in their order."""
    whole = settings_manifest(server) | {
        kind.section: [kind.definition_of(row) for row in kind.model.objects.filter(server=server)]
        for kind in KINDS
    }
    return {name: part for name, part in whole.items() if part or name in ("mooring", "server")}


def settings_manifest(server: Server) -> Manifest:
    """The parts of the manifest which the server's own row holds."""
    about = {"title": server.title, "description": server.description, "instructions": server.instructions}
    return {
        "mooring": manifests.FORMAT,
        "server": {name: text for name, text in about.items() if text},
        "variables": server.variables,
        "secrets": server.secrets_needed,
        "upstreams": server.upstreams,
        "members": server.members,
    }


def replace_draft(server: Server, manifest: object, *, actor: Actor) -> None:
    """Make the draft exactly this manifest, in one transaction. Rows that stay keep their ids.

    Raises `InvalidInput` with every problem under `data["fields"]`. A manifest that changes nothing is not
    recorded.
    """
    checked = manifests.check(manifest)
    with transaction.atomic():
        held = locked(server)
        old = draft_manifest(held)
        if manifests.canonical(old) == manifests.canonical(checked):
            return
        refuse_strange_code(held, checked.get("upstreams", {}))
        _take_settings(held, checked)
        for kind in KINDS:
            _replace_rows(kind, held, checked.get(kind.section, []))
        count_draft_change(held, seen=server, also=_SETTINGS)
        differences = manifests.differences(old, checked)
        note(
            server,
            "draft.replaced",
            actor=actor,
            before={"digest": manifests.digest(old)},
            after={
                "digest": manifests.digest(checked),
                "changes": differences[:_RECORDED_DIFFERENCES],
                "more_changes": max(0, len(differences) - _RECORDED_DIFFERENCES),
            },
        )


def _take_settings(server: Server, manifest: Manifest) -> None:
    about = manifest["server"]
    server.title = about["title"]
    server.description = about.get("description", "")
    server.instructions = about.get("instructions", "")
    server.variables = manifest.get("variables", {})
    server.secrets_needed = manifest.get("secrets", {})
    server.upstreams = manifest.get("upstreams", {})
    server.members = manifest.get("members", [])


def _replace_rows(kind: Kind[Any], server: Server, definitions: list[Definition]) -> None:
    kept = {getattr(row, kind.key): row for row in kind.model.objects.filter(server=server)}
    fresh, changed = [], []
    for position, definition in enumerate(definitions):
        fields = kind.fields_of(definition) | {"position": position}
        row = kept.pop(definition[kind.key], None)
        if row is None:
            fresh.append(kind.model(tenant_id=server.tenant_id, server=server, **fields))
        elif any(getattr(row, name) != value for name, value in fields.items()):
            for name, value in fields.items():
                setattr(row, name, value)
            changed.append(row)
    kind.model.objects.filter(id__in=[row.id for row in kept.values()]).delete()
    kind.model.objects.bulk_update(changed, kind.columns, batch_size=200)
    kind.model.objects.bulk_create(fresh, batch_size=200)
