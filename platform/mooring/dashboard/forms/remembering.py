"""What is remembered of a tool's answers, or of what was read of a resource."""

from __future__ import annotations

from typing import Any

from django import forms

Definition = dict[str, Any]


class CacheForm(forms.Form):
    """A manifest's `cache`: nothing without seconds."""

    seconds = forms.FloatField(
        required=False,
        min_value=0,
        max_value=24 * 3600,
        label="Remember answers",
        help_text="Seconds; empty: never. A tool must be one that only reads.",
    )
    stale_seconds = forms.FloatField(
        required=False,
        min_value=0,
        max_value=7 * 24 * 3600,
        label="Then, while nobody answers",
        help_text="Seconds for which an old answer stands in, marked as degraded.",
    )
    shared = forms.BooleanField(
        required=False,
        label="One answer for every caller",
        help_text="Only where the answer does not depend on who asks.",
    )

    def definition(self) -> Definition:
        data = self.cleaned_data
        if not data["seconds"]:
            return {}
        numbers = {name: data[name] for name in ("seconds", "stale_seconds") if data[name]}
        cache = {name: int(value) if value.is_integer() else value for name, value in numbers.items()}
        return {"cache": cache | ({"shared": True} if data["shared"] else {})}
