"""A form drawn from a tool's input schema, and its answers as JSON arguments."""

from __future__ import annotations

import json
from typing import Any

from django import forms

from mooring.dashboard.forms.widgets import JsonField

Schema = dict[str, Any]
PREFIX = "arg."
# A form with more fields than this is no help; such a tool gets its arguments as JSON.
MAX_FIELDS = 60


class ArgumentsForm(forms.Form):
    """`arguments()` gives what was filled in; empty fields are left out, as a client would leave them out.

    Only the shape is checked here: whether the values fit the schema is for the server to say, as for any client.
    """

    raw = JsonField(kind=dict, required=False, rows=8, label="All arguments as JSON, instead of the fields")

    def __init__(self, schema: Schema, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        properties = schema.get("properties")
        shown = list(properties.items())[:MAX_FIELDS] if isinstance(properties, dict) else []
        required = schema.get("required") if isinstance(schema.get("required"), list) else []
        for name, part in shown:
            field = _field(name, part if isinstance(part, dict) else {})
            field.is_needed = name in (required or [])  # type: ignore[attr-defined]  # read by the field's template
            self.fields[PREFIX + name] = field

    @property
    def drawn(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name.startswith(PREFIX)]

    def arguments(self) -> dict[str, Any]:
        raw = self.cleaned_data.get("raw")
        if raw is not None:
            return dict(raw)
        values = {name: self.cleaned_data.get(name) for name in self.fields if name.startswith(PREFIX)}
        return {name.removeprefix(PREFIX): value for name, value in values.items() if value not in (None, "")}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("raw") is not None:
            for name in [name for name in self.errors if name.startswith(PREFIX)]:
                del self.errors[name]
        return cleaned


def _field(name: str, part: Schema) -> forms.Field:
    kind = _kind(part)
    common: dict[str, Any] = {
        "label": name,
        "help_text": str(part.get("description", ""))[:400],
        "required": False,
        "initial": part.get("default"),
    }
    if isinstance(part.get("enum"), list) and part["enum"]:
        return _EnumField(part["enum"], **common)
    if kind == "boolean":
        return _EnumField([True, False], **common)
    if kind == "integer":
        return _NumberField(whole=True, **common)
    if kind == "number":
        return _NumberField(whole=False, **common)
    if kind == "string":
        return forms.CharField(strip=False, widget=_text_widget(part), **common)
    common["help_text"] = f"{common['help_text']} As JSON.".strip()
    return JsonField(rows=3, **common)


def _kind(part: Schema) -> str:
    """The one type a schema names, leaving aside null."""
    kinds = part.get("type")
    if isinstance(kinds, list):
        named = [kind for kind in kinds if kind != "null"]
        kinds = named[0] if len(named) == 1 else ""
    return kinds if isinstance(kinds, str) else ""


def _text_widget(part: Schema) -> forms.Widget:
    types = {"date": "date", "email": "email", "uri": "url", "time": "time"}
    example = part.get("examples")
    hint = {"placeholder": str(example[0])[:80]} if isinstance(example, list) and example else {}
    limit = part.get("maxLength")
    if isinstance(limit, int) and limit > 300:
        return forms.Textarea({"rows": 3, **hint})
    return forms.TextInput(
        {"type": types.get(str(part.get("format")), "text"), "autocomplete": "off", **hint}
    )


class _EnumField(forms.TypedChoiceField):
    """One of some JSON values."""

    def __init__(self, values: list[Any], **kwargs: Any) -> None:
        choices = [
            ("", "not given"),
            *(
                (json.dumps(value), value if isinstance(value, str) else json.dumps(value))
                for value in values
            ),
        ]
        initial = kwargs.pop("initial", None)
        super().__init__(
            choices=choices,
            coerce=json.loads,
            empty_value=None,
            initial=json.dumps(initial) if initial is not None else "",
            **kwargs,
        )


class _NumberField(forms.CharField):
    """A number of any size, whole or not, without a detour over a float for whole ones."""

    def __init__(self, *, whole: bool, **kwargs: Any) -> None:
        self.whole = whole
        mode = "numeric" if whole else "decimal"
        super().__init__(widget=forms.TextInput({"inputmode": mode, "autocomplete": "off"}), **kwargs)

    def clean(self, value: Any) -> Any:
        text = str(value or "").strip()
        if not text:
            return None
        try:
            return int(text[:40]) if self.whole else _number(text[:40])
        except ValueError:
            raise forms.ValidationError(
                "Write a whole number." if self.whole else "Write a number."
            ) from None


def _number(text: str) -> int | float:
    value = json.loads(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(text)
    return value
