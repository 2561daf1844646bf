"""The shape of what is told of a server's upstreams."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from servers.services.health import health_row

STATES = ["unknown", "healthy", "degraded", "unhealthy"]
KINDS = ["remote", "http", "code"]


class UptimeRow(serializers.Serializer[Any]):
    """Shares of the looks that found it there, from 0 to 1; null where there was none."""

    def get_fields(self) -> dict[str, Any]:
        return {span: serializers.FloatField(allow_null=True) for span in ("24h", "7d", "30d")}


class HourRow(serializers.Serializer[Any]):
    hour = serializers.DateTimeField(help_text="when it begins")
    probes = serializers.IntegerField(help_text="how often it was looked at")
    alive = serializers.IntegerField(help_text="how often it was there")
    mean = serializers.FloatField(allow_null=True, help_text="milliseconds until it answered")


class UpstreamHealthRow(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="its name in the manifest, or the origin of http tools")
    kind = serializers.ChoiceField(KINDS)
    server = serializers.CharField(help_text="whose it is: this server's, or one's that it is made of")
    channels = serializers.ListField(child=serializers.CharField(), help_text="those that depend on it")
    state = serializers.ChoiceField(STATES)
    detail = serializers.CharField(help_text="why it is not healthy")
    log = serializers.CharField(
        help_text="last lines of code that does not run, for those who may read its log; else empty"
    )
    since = serializers.DateTimeField(allow_null=True, help_text="when it came into this state")
    probed_at = serializers.DateTimeField(allow_null=True)
    milliseconds = serializers.FloatField(allow_null=True, help_text="of the last look")
    uptime = UptimeRow()
    hours = HourRow(many=True, help_text="the last 24, oldest first")


class FailureRow(serializers.Serializer[Any]):
    """Looks at one upstream that found the same, one after the other."""

    upstream = serializers.CharField()
    kind = serializers.ChoiceField(KINDS)
    state = serializers.ChoiceField(STATES)
    code = serializers.CharField(help_text="as in a call's record, such as upstream_timeout")
    detail = serializers.CharField()
    first = serializers.DateTimeField()
    last = serializers.DateTimeField()
    times = serializers.IntegerField()


class HealthRow(serializers.Serializer[Any]):
    state = serializers.ChoiceField(STATES, help_text="that of the worst upstream")
    upstreams = UpstreamHealthRow(many=True)
    failures = FailureRow(many=True, help_text="the newest, of at most two days")

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return health_row(instance, with_logs=self.context["access"].may("servers:write"))
