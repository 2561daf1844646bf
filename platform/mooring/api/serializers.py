"""The shapes of requests and answers. Rules about the things themselves live in the services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework import serializers

from servers.models import Server
from servers.services.kinds import TOOL


class Strict(serializers.Serializer[Any]):
    """Refuses fields it does not know: a misspelt one would otherwise be lost in silence."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, Mapping) else []
        if unknown:
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                {name: [f"There is no such field. Known: {known}."] for name in unknown}
            )
        return super().to_internal_value(data)


# ---- servers ---------------------------------------------------------------------------------------------
class ServerRow(serializers.Serializer[Server]):
    slug = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    instructions = serializers.CharField()
    is_public = serializers.BooleanField()
    variables = serializers.JSONField(help_text="Variables of the draft: name → {default, description}")
    secrets = serializers.JSONField(
        source="secrets_needed", help_text="Secrets the draft needs: name → {description}"
    )
    endpoint = serializers.SerializerMethodField(help_text="The URL MCP clients connect to")
    live = serializers.SerializerMethodField(help_text="Number of the version on the channel live, or null")
    created_at = serializers.DateTimeField()
    changed_at = serializers.DateTimeField()

    def get_endpoint(self, server: Server) -> str:
        tenant: str = self.context["access"].tenant.slug
        return f"{settings.ORIGIN}/t/{tenant}/{server.slug}/mcp"

    def get_live(self, server: Server) -> str | None:
        live = next((channel for channel in server.channels.all() if channel.name == "live"), None)
        return live.version.number if live else None


class NewServer(Strict):
    slug = serializers.CharField(max_length=63)
    title = serializers.CharField(max_length=120, required=False, help_text="The slug when left out")
    description = serializers.CharField(max_length=2_000, allow_blank=True, default="")
    is_public = serializers.BooleanField(default=False)


class ServerChange(Strict):
    title = serializers.CharField(max_length=120, required=False)
    description = serializers.CharField(max_length=2_000, allow_blank=True, required=False)
    instructions = serializers.CharField(max_length=20_000, allow_blank=True, required=False)
    is_public = serializers.BooleanField(required=False)
    variables = serializers.DictField(required=False)
    secrets = serializers.DictField(required=False, source="secrets_needed")


# ---- drafts and tools ------------------------------------------------------------------------------------
class ToolRow(serializers.Serializer[Any]):
    """A tool in the manifest's shape. Exactly one of http, remote and static is there."""

    name = serializers.CharField()
    title = serializers.CharField(required=False)
    description = serializers.CharField(required=False)
    input_schema = serializers.JSONField()
    output_schema = serializers.JSONField(required=False)
    annotations = serializers.JSONField(required=False)
    http = serializers.JSONField(required=False)
    remote = serializers.JSONField(required=False)
    static = serializers.JSONField(required=False)
    cache = serializers.JSONField(required=False)
    enabled = serializers.BooleanField(required=False)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return TOOL.definition_of(instance)


class LeftOut(serializers.Serializer[Any]):
    what = serializers.CharField()
    why = serializers.CharField()


class ImportSummary(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField(help_text="file name or URL it came from")
    state = serializers.CharField(help_text="waiting, running, done (now apply it), applied or failed")
    progress = serializers.CharField(source="job.progress", default="")
    error = serializers.CharField(source="problem")
    server = serializers.CharField(
        source="server.slug", default=None, allow_null=True, help_text="where it goes or went"
    )
    created_at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(allow_null=True)
    applied_at = serializers.DateTimeField(allow_null=True)


class ImportRow(ImportSummary):
    kind = serializers.CharField(source="result.kind", default="openapi", help_text="openapi or manifest")
    operations = serializers.ListField(
        source="result.operations", default=list, child=serializers.DictField()
    )
    left_out = LeftOut(source="result.left_out", default=list, many=True)


class ImportChoice(Strict):
    chosen = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="METHOD /path of the wanted operations; all",
    )


# ---- versions and channels -------------------------------------------------------------------------------
class VersionRow(serializers.Serializer[Any]):
    number = serializers.CharField()
    digest = serializers.CharField()
    notes = serializers.CharField()
    author = serializers.CharField()
    created_at = serializers.DateTimeField()
    retired_at = serializers.DateTimeField(allow_null=True)
    channels = serializers.SerializerMethodField(help_text="Names of the channels that serve it now")

    def get_channels(self, version: Any) -> list[str]:
        serving: Mapping[str, Any] = self.context["serving"]
        return sorted(name for name, served in serving.items() if served == version.id)


class VersionDetail(VersionRow):
    manifest = serializers.JSONField(help_text="the whole server as one document")


class Publication(Strict):
    notes = serializers.CharField(max_length=5_000, allow_blank=True, default="")
    number = serializers.CharField(
        max_length=40, required=False, help_text="Proposed from the change when left out"
    )
    channel = serializers.CharField(max_length=63, default="live")
    variables = serializers.DictField(
        child=serializers.CharField(allow_blank=True, max_length=2_000),
        required=False,
        help_text="The channel's values from now on; unchanged when left out",
    )


class Rollback(Strict):
    version = serializers.CharField(max_length=40)
    channel = serializers.CharField(max_length=63, default="live")


class ChannelRow(serializers.Serializer[Any]):
    name = serializers.CharField()
    version = serializers.CharField(source="version.number")
    variables = serializers.DictField(child=serializers.CharField())


class ChannelVariables(Strict):
    variables = serializers.DictField(child=serializers.CharField(allow_blank=True, max_length=2_000))


# ---- secrets ---------------------------------------------------------------------------------------------
class SecretRow(serializers.Serializer[Any]):
    name = serializers.CharField()
    is_set = serializers.BooleanField()
    is_needed = serializers.BooleanField(help_text="whether the draft names it")
    last_four = serializers.CharField(help_text="of values long enough")
    updated_at = serializers.DateTimeField(allow_null=True)


class SecretList(serializers.Serializer[Any]):
    data = SecretRow(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class body
    missing = serializers.ListField(child=serializers.CharField())


class SecretValue(Strict):
    value = serializers.CharField(max_length=10_000, trim_whitespace=False)


# ---- keys ------------------------------------------------------------------------------------------------
class KeyRow(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    prefix = serializers.CharField()
    user = serializers.CharField(source="user.email")
    scopes = serializers.ListField(child=serializers.CharField())
    servers = serializers.SerializerMethodField(
        help_text="Slugs of the servers it is limited to; empty for all"
    )
    state = serializers.ChoiceField(["active", "expired", "revoked"])
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)

    def get_servers(self, key: Any) -> list[str]:
        slugs: Mapping[str, str] = self.context["slugs"]
        return sorted(slugs.get(server, server) for server in key.servers)


class IssuedKeyRow(KeyRow):
    secret = serializers.CharField(help_text="Shown this once")


class NewKey(Strict):
    name = serializers.CharField(max_length=120)
    scopes = serializers.ListField(child=serializers.CharField(), required=False)
    servers = serializers.ListField(
        child=serializers.CharField(), default=list, help_text="slugs; empty for all"
    )
    days = serializers.IntegerField(
        min_value=1,
        max_value=3_650,
        allow_null=True,
        required=False,
        help_text="90 when left out; null: never expires",
    )


# ---- records ---------------------------------------------------------------------------------------------
class CallRow(serializers.Serializer[Any]):
    id = serializers.CharField()
    time = serializers.DateTimeField()
    server = serializers.CharField(source="server_slug")
    request_id = serializers.CharField()
    principal = serializers.SerializerMethodField()
    method = serializers.CharField()
    subject = serializers.CharField(help_text="tool, prompt or URI")
    version = serializers.CharField()
    channel = serializers.CharField()
    client = serializers.CharField()
    revision = serializers.CharField()
    status = serializers.ChoiceField(["ok", "error", "refused"])
    code = serializers.CharField()
    duration_us = serializers.IntegerField()
    request_bytes = serializers.IntegerField()
    answer_bytes = serializers.IntegerField()

    def get_principal(self, call: Any) -> dict[str, str]:
        return {"kind": call.principal_kind, "id": call.principal_id, "name": call.principal_name}


class AuditRow(serializers.Serializer[Any]):
    sequence = serializers.IntegerField()
    time = serializers.DateTimeField()
    action = serializers.CharField()
    actor = serializers.SerializerMethodField()
    target = serializers.SerializerMethodField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)
    ip = serializers.CharField()
    request_id = serializers.CharField()
    hash = serializers.CharField()

    def get_actor(self, event: Any) -> dict[str, str]:
        return {"kind": event.actor_kind, "id": event.actor_id, "name": event.actor_name}

    def get_target(self, event: Any) -> dict[str, str]:
        return {"kind": event.target_kind, "id": event.target_id, "name": event.target_name}


# ---- the organisation ------------------------------------------------------------------------------------
class TenantRow(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    user = serializers.CharField(help_text="e-mail address of the key's user")
    role = serializers.CharField()
    permissions = serializers.ListField(child=serializers.CharField())
    servers = serializers.ListField(
        child=serializers.CharField(), allow_null=True, help_text="Slugs the key is limited to; null for all"
    )
    key = serializers.DictField(help_text="id, name, prefix and expiry of the key that asked")
