"""The shapes of requests and answers about upstreams, what changed there, and switches."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from mooring.api.serializers import Strict
from servers.services.offers import change_row, upstream_row
from servers.services.overrides import override_row

_SECTIONS = ["tools", "resources", "resource_templates", "prompts"]


class UpstreamRow(serializers.Serializer[Any]):
    name = serializers.CharField()
    definition = serializers.JSONField(help_text="its entry in the manifest")
    about = serializers.JSONField(
        help_text="name, version, revision, instructions and problems; {} before a look"
    )
    looked_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField(help_text="why the last look failed; empty when it did not")
    job = serializers.CharField(
        allow_null=True, help_text="the newest look: waiting, running, done, failed, or null"
    )
    listed = serializers.IntegerField(help_text="parts it listed when it was last looked at")
    taken = serializers.IntegerField(help_text="parts of it in the draft")
    changed = serializers.IntegerField(help_text="parts it defines differently than they are pinned")

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return upstream_row(instance)


class UpstreamList(serializers.Serializer[Any]):
    data = UpstreamRow(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class body


class PartRow(serializers.Serializer[Any]):
    section = serializers.ChoiceField(_SECTIONS)
    name = serializers.CharField(help_text="its name or URI there")
    digest = serializers.CharField()
    definition = serializers.JSONField(help_text="as the upstream lists it")
    taken_as = serializers.CharField(allow_null=True, help_text="its name in the draft, or null")
    pinned = serializers.CharField(allow_null=True, help_text="the digest the draft has of it, or null")
    warnings = serializers.ListField(
        child=serializers.CharField(), help_text="characters that a reader would not see"
    )

    def to_representation(self, instance: Any) -> dict[str, Any]:
        row: dict[str, Any] = self.context["row_of"](instance)
        return row


class PartName(Strict):
    section = serializers.ChoiceField(_SECTIONS)
    name = serializers.CharField(max_length=1_000, trim_whitespace=False)


class Choice(Strict):
    parts = PartName(
        many=True, required=False, help_text="exactly these are taken; all that is listed when left out"
    )


class Taken(serializers.Serializer[Any]):
    upstream = UpstreamRow()
    refused = serializers.ListField(
        child=serializers.CharField(), help_text="sentences on what could not be taken"
    )


class ChangeRow(serializers.Serializer[Any]):
    upstream = serializers.CharField()
    section = serializers.ChoiceField(_SECTIONS)
    name = serializers.CharField(help_text="its name or URI there")
    digest = serializers.CharField(help_text="of what it is now; send it to accept exactly that")
    pinned = serializers.JSONField(allow_null=True, help_text="what it was, when that is kept")
    current = serializers.JSONField(help_text="what it is now")
    is_live = serializers.BooleanField(help_text="whether the channel live has the old definition")
    in_draft = serializers.BooleanField(help_text="whether the draft has the old definition")
    warnings = serializers.ListField(child=serializers.CharField())

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return change_row(instance)


class ChangeList(serializers.Serializer[Any]):
    data = ChangeRow(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class body


class Acceptance(Strict):
    upstream = serializers.CharField(max_length=32)
    section = serializers.ChoiceField(_SECTIONS)
    name = serializers.CharField(max_length=1_000, trim_whitespace=False)
    digest = serializers.CharField(max_length=64)


class Accepted(serializers.Serializer[Any]):
    version = serializers.CharField(
        allow_null=True, help_text="the version that was published with it; null when only the draft has it"
    )


class OverrideRow(serializers.Serializer[Any]):
    id = serializers.CharField()
    kind = serializers.ChoiceField(["disable", "mock", "fault"])
    tool = serializers.CharField(help_text="empty: every tool")
    settings = serializers.JSONField()
    reason = serializers.CharField()
    author = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return override_row(instance)


class OverrideList(serializers.Serializer[Any]):
    data = OverrideRow(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class body


class NewOverride(Strict):
    kind = serializers.ChoiceField(["disable", "mock", "fault"])
    tool = serializers.CharField(max_length=128, allow_blank=True, default="", help_text="empty: every tool")
    settings = serializers.DictField(
        default=dict, help_text="mock: {content, structured}; fault: {share, delay_ms, error}"
    )
    reason = serializers.CharField(max_length=500, allow_blank=True, default="")
    expires_at = serializers.DateTimeField(allow_null=True, default=None)
