"""The shapes of requests and answers about uploaded code."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from mooring.api.serializers import Strict
from mooring.api.upstream_serializers import PartName
from servers.services.built import build_row

_SECTIONS = ["tools", "resources", "resource_templates", "prompts"]


class NewBuild(Strict):
    file = serializers.FileField(help_text="one Python file, or a .zip or .tar.gz, of at most 20 MiB")
    upstream = serializers.CharField(max_length=32, default="main", help_text="its name in the manifest")
    hosts = serializers.ListField(
        child=serializers.CharField(max_length=260), required=False, help_text="hosts it may reach; repeat"
    )
    environment = serializers.JSONField(
        required=False, help_text="name → value as a JSON object, with {variable} and {secret:name}"
    )
    memory_mb = serializers.IntegerField(required=False)

    def settings(self) -> dict[str, Any]:
        given = self.validated_data
        return {name: given[name] for name in ("environment", "memory_mb") if name in given} | (
            {"hosts": given["hosts"]} if given.get("hosts") else {}
        )


class BuildRow(serializers.Serializer[Any]):
    id = serializers.CharField()
    upstream = serializers.CharField()
    state = serializers.CharField(help_text="waiting, running, done (it may be accepted), accepted or failed")
    stage = serializers.CharField(help_text="read, declare, resolve, install, pack, try, done, or empty")
    percent = serializers.IntegerField()
    file = serializers.CharField()
    size = serializers.IntegerField(help_text="bytes of the upload")
    sha256 = serializers.CharField(help_text="of the upload")
    settings = serializers.JSONField(help_text="hosts, environment and memory_mb")
    artifact = serializers.CharField(allow_null=True, help_text="digest, to be named as `code` in a manifest")
    artifact_size = serializers.IntegerField(help_text="bytes")
    python = serializers.CharField()
    packages = serializers.ListField(child=serializers.CharField())
    error = serializers.CharField(help_text="why it failed; empty when it did not")
    failure = serializers.JSONField(
        help_text="code, stage, file, line, and block: what to paste into the file"
    )
    author = serializers.CharField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    accepted_at = serializers.DateTimeField(allow_null=True)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return build_row(instance)


class BuiltPartRow(serializers.Serializer[Any]):
    section = serializers.ChoiceField(_SECTIONS)
    name = serializers.CharField(help_text="its name or URI there")
    digest = serializers.CharField()
    definition = serializers.JSONField(help_text="as the code lists it")
    change = serializers.ChoiceField(
        ["new", "changed", "same"],
        allow_null=True,
        help_text="against what the draft runs; null when nothing",
    )
    taken_as = serializers.CharField(allow_null=True, help_text="its name in the draft, or null")
    warnings = serializers.ListField(child=serializers.CharField())


class BuildDetail(BuildRow):
    log = serializers.CharField(help_text="from `log_from` on")
    log_from = serializers.IntegerField(help_text="the character it begins with")
    log_next = serializers.IntegerField(help_text="where to ask on")
    about = serializers.JSONField(
        allow_null=True, help_text="mode, era, target, name, title, version, instructions, problems"
    )
    parts = BuiltPartRow(many=True)
    gone = PartName(many=True, help_text="parts the draft takes that the new code does not offer")

    def to_representation(self, instance: Any) -> dict[str, Any]:
        detail: dict[str, Any] = instance
        return detail


class BuildAcceptance(Strict):
    parts = PartName(
        many=True, required=False, help_text="exactly these are taken; all that it offers when left out"
    )
    hosts = serializers.ListField(child=serializers.CharField(max_length=260), required=False)
    environment = serializers.DictField(required=False)
    memory_mb = serializers.IntegerField(required=False)
    mode = serializers.ChoiceField(["shared", "session"], required=False)
