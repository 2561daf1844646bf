"""Changes of single rows of a draft: tools, resources, resource templates, prompts."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from django.db import transaction
from django.db.models import Max

from mooring.audit.record import Actor
from mooring.errors import Conflict, NotFound
from servers import manifests
from servers.models import DraftRow, Prompt, Resource, ResourceTemplate, Server, Tool
from servers.services.drafts import settings_manifest
from servers.services.kinds import PROMPT, RESOURCE, TEMPLATE, TOOL, Definition, Kind, kind_of
from servers.services.recording import changed_fields, count_draft_change, locked, note

_Row = TypeVar("_Row", bound=DraftRow)


def save_tool(server: Server, *, actor: Actor, tool: Tool | None, definition: Definition) -> Tool:
    """Create a tool, or change `tool`. `definition` is one entry of a manifest's `tools`.

    Secrets it names are added to those the server needs. Raises `InvalidInput` with every problem under
    `data["fields"]`, and `Conflict` when another tool has the name.
    """
    return _save(TOOL, server, actor=actor, row=tool, definition=definition)


def save_resource(server: Server, *, actor: Actor, row: Resource | None, definition: Definition) -> Resource:
    return _save(RESOURCE, server, actor=actor, row=row, definition=definition)


def save_template(
    server: Server, *, actor: Actor, row: ResourceTemplate | None, definition: Definition
) -> ResourceTemplate:
    return _save(TEMPLATE, server, actor=actor, row=row, definition=definition)


def save_prompt(server: Server, *, actor: Actor, row: Prompt | None, definition: Definition) -> Prompt:
    return _save(PROMPT, server, actor=actor, row=row, definition=definition)


def _save(
    kind: Kind[_Row], server: Server, *, actor: Actor, row: _Row | None, definition: Definition
) -> _Row:
    with transaction.atomic():
        held = locked(server)
        secrets = held.secrets_needed | {name: {} for name in manifests.secrets_named(definition)}
        secrets = {name: held.secrets_needed.get(name, {}) for name in secrets}
        within = settings_manifest(held) | {"secrets": held.secrets_needed | secrets}
        checked = manifests.check_part(kind.section, definition, within=within)
        fields = kind.fields_of(checked)
        saved, before, after = _stored(kind, held, row, fields)
        if row is not None and not after:
            return row
        held.secrets_needed = secrets
        count_draft_change(held, seen=server, also=("secrets_needed",))
        verb = "created" if row is None else "changed"
        note(server, f"{_code(kind)}.{verb}", actor=actor, before=before, after=after, row=saved)
    return saved


def _stored(
    kind: Kind[_Row], server: Server, row: _Row | None, fields: dict[str, Any]
) -> tuple[_Row, dict[str, Any] | None, dict[str, Any]]:
    """The saved row, and what changed in it."""
    _refuse_twin(kind, server, row, fields[kind.key])
    if row is None:
        made = kind.model(tenant_id=server.tenant_id, server=server, position=_end(kind, server), **fields)
        made.save(force_insert=True)
        return made, None, fields
    current = _fresh(kind, server, row)
    before, after = changed_fields({name: getattr(current, name) for name in fields}, fields)
    for name, value in fields.items():
        setattr(row, name, value)
    if after:
        row.save(update_fields=list(after))
    return row, before, after


def _fresh(kind: Kind[_Row], server: Server, row: _Row) -> _Row:
    current = kind.model.objects.filter(server=server, id=row.id).first()
    if current is None:
        raise NotFound(f"The {kind.noun} {row.name!r} was deleted meanwhile.")
    return cast("_Row", current)


def _refuse_twin(kind: Kind[_Row], server: Server, row: _Row | None, value: str) -> None:
    twins = kind.model.objects.filter(server=server, **{kind.key: value})
    if (twins if row is None else twins.exclude(id=row.id)).exists():
        word = kind.key.replace("_", " ").replace("uri", "URI")
        raise Conflict(
            f"This server has a {kind.noun} with the {word} {value!r} already. Choose another.",
            code="name_taken",
            fields={kind.key: ["It is taken."]},
        )


def _end(kind: Kind[_Row], server: Server) -> int:
    last = kind.model.objects.filter(server=server).aggregate(Max("position"))["position__max"]
    return 0 if last is None else int(last) + 1


def _code(kind: Kind[Any]) -> str:
    return kind.noun.replace(" ", "_")


def set_tool_enabled(tool: Tool, *, enabled: bool, actor: Actor) -> None:
    """A disabled tool stays in the draft and is not served. Doing it twice is recorded once."""
    server = tool.server
    with transaction.atomic():
        held = locked(server)
        if Tool.objects.filter(id=tool.id).exclude(is_enabled=enabled).update(is_enabled=enabled) != 1:
            tool.is_enabled = enabled
            return
        tool.is_enabled = enabled
        count_draft_change(held, seen=server)
        action = "tool.enabled" if enabled else "tool.disabled"
        note(
            server, action, actor=actor, before={"enabled": not enabled}, after={"enabled": enabled}, row=tool
        )


def delete_row(row: DraftRow, *, actor: Actor) -> None:
    """Take a row out of its server's draft. Published versions keep what they have."""
    kind, server = kind_of(row), row.server
    with transaction.atomic():
        held = locked(server)
        before = kind.definition_of(_fresh(kind, server, row))
        kind.model.objects.filter(id=row.id).delete()
        count_draft_change(held, seen=server)
        note(server, f"{_code(kind)}.deleted", actor=actor, before=before, row=row)
