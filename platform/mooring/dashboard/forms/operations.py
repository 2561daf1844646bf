"""The form of an operational switch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms

from mooring.dashboard.forms.organisation import offer
from mooring.dashboard.forms.widgets import JsonField

_KINDS = [
    ("disable", "switch it off: calls are refused"),
    ("mock", "answer with what is written below"),
    ("fault", "inject faults into a share of the calls"),
]
_ENDS = [("", "when somebody takes it back"), ("1", "in an hour"), ("24", "in a day"), ("168", "in a week")]


class SwitchForm(forms.Form):
    """`cleaned_data["settings"]` is what `set_override` takes. `hours` is how long it holds, "" without end."""

    tool = forms.ChoiceField(required=False)
    kind = forms.ChoiceField(choices=_KINDS, label="Do this")
    hours = forms.ChoiceField(choices=_ENDS, required=False, label="It ends")
    reason = forms.CharField(required=False, max_length=500, help_text="For the others, who will wonder.")
    answer = JsonField(
        kind=dict,
        required=False,
        rows=5,
        label="Mocked answer",
        help_text='{"content": [{"type": "text", "text": "…"}]}, {"structured": …} or both.',
    )
    share = forms.FloatField(
        required=False, min_value=0, max_value=100, label="Share of calls", help_text="Percent."
    )
    delay_ms = forms.FloatField(required=False, min_value=0, label="Delay", help_text="Milliseconds.")
    error = forms.CharField(
        required=False,
        max_length=500,
        label="Error",
        help_text="What the caller is told; empty: the call goes on.",
    )

    def __init__(self, *args: Any, tools: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "tool", [("", "every tool"), *((name, name) for name in tools)])
        # Which of these is needed depends on the kind, and calling each of them optional would mislead.
        for name in ("tool", "hours", "answer", "share", "delay_ms"):
            self.fields[name].is_needed = True  # type: ignore[attr-defined]  # read by the field's template

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        cleaned["settings"] = self._settings(cleaned)
        return cleaned

    def _settings(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        if cleaned.get("kind") == "mock":
            if cleaned.get("answer") is None and "answer" not in self.errors:
                self.add_error("answer", "Write the answer.")
            return cleaned.get("answer") or {}
        if cleaned.get("kind") != "fault":
            return {}
        share = cleaned.get("share")
        found = {
            "share": share and share / 100,
            "delay_ms": cleaned.get("delay_ms"),
            "error": cleaned.get("error"),
        }
        return {name: value for name, value in found.items() if value}
