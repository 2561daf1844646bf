"""Fields for what builders write: JSON and other code."""

from __future__ import annotations

import json
from typing import Any

from django import forms


class Code(forms.Textarea):
    """Text in a fixed-width face without a browser's spelling help."""

    def __init__(self, rows: int = 8, **attrs: Any) -> None:
        plain = {"spellcheck": "false", "autocomplete": "off", "autocapitalize": "off"}
        super().__init__({"class": "code", "rows": rows, **plain, **attrs})


class JsonField(forms.CharField):
    """JSON as text. An empty field is None; text that is not JSON says where it goes wrong."""

    def __init__(self, *, kind: type | None = None, rows: int = 8, **kwargs: Any) -> None:
        self.kind = kind
        super().__init__(widget=Code(rows), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        return json.dumps(value, indent=2, ensure_ascii=False)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}.") from None
        if self.kind is not None and not isinstance(found, self.kind):
            raise forms.ValidationError(
                "Write a JSON object in braces." if self.kind is dict else "Write a JSON list."
            )
        return found

    def validate(self, value: Any) -> None:
        if self.required and value is None:
            raise forms.ValidationError(self.error_messages["required"], code="required")

    def run_validators(self, value: Any) -> None:
        """The validators of CharField are about text, and the value is none any more."""
