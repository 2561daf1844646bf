"""The shapes of what is told of processes of uploaded code, and of what they say."""

from __future__ import annotations

from typing import Any, get_args

from rest_framework import serializers

from servers.runner.engine import Era, State
from servers.services.running import process_row


class ProcessRow(serializers.Serializer[Any]):
    instance = serializers.CharField()
    digest = serializers.CharField(help_text="of the artifact it runs")
    state = serializers.ChoiceField(get_args(State), help_text="stopped: asleep, the next call starts it")
    reason = serializers.CharField(help_text="why it is not ready")
    session = serializers.CharField(
        help_text="which client session has it for itself; empty when it is shared"
    )
    era = serializers.ChoiceField(get_args(Era), allow_null=True)
    in_flight = serializers.IntegerField(help_text="calls that run now")
    starts = serializers.IntegerField()
    crashes = serializers.IntegerField(help_text="of the last ten minutes")
    silent_for = serializers.FloatField(help_text="seconds since it was last called")

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return process_row(instance)


class ProcessList(serializers.Serializer[Any]):
    data = ProcessRow(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class body


class LogLineRow(serializers.Serializer[Any]):
    number = serializers.IntegerField(help_text="grows from line to line, with gaps")
    at = serializers.DateTimeField()
    instance = serializers.CharField(help_text="the process that wrote it")
    source = serializers.ChoiceField(["stderr", "stdout", "runner"])  # type: ignore[assignment]  # as above
    text = serializers.CharField()


class LogPage(serializers.Serializer[Any]):
    data = LogLineRow(many=True)  # type: ignore[assignment]  # as above
    next = serializers.IntegerField(help_text="read on with `after`")
