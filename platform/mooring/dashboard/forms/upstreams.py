"""Forms about MCP servers elsewhere: where they are, and a new server that stands for one."""

from __future__ import annotations

from typing import Any

from django import forms

from mooring.dashboard.forms.organisation import SlugForm
from mooring.dashboard.forms.widgets import Code

Definition = dict[str, Any]

_TRANSPORTS = [("auto", "find out"), ("http", "Streamable HTTP"), ("sse", "HTTP with SSE (2024-11-05)")]
_POLICIES = [("refuse", "hold the part back until somebody accepts it"), ("serve", "keep serving it")]
_URL = {"class": "code", "spellcheck": "false", "placeholder": "https://mcp.example.com/mcp"}


class UpstreamForm(forms.Form):
    """One entry of a manifest's `upstreams`."""

    url = forms.CharField(
        max_length=4_000,
        label="URL",
        widget=forms.TextInput(_URL),
        help_text="{name} is a variable of the server.",
    )
    transport = forms.ChoiceField(choices=_TRANSPORTS, label="It speaks")
    on_change = forms.ChoiceField(choices=_POLICIES, label="When it changes a definition")
    headers = forms.CharField(
        required=False,
        widget=Code(3, placeholder="Authorization: Bearer {secret:token}"),
        help_text="One a line, Name: value. Write {secret:name} where a credential stands, and set it under Secrets.",
    )

    @staticmethod
    def initial_of(definition: Definition) -> Definition:
        headers = definition.get("headers", {})
        return {
            "url": definition["url"],
            "transport": definition.get("transport", "auto"),
            "on_change": definition.get("on_change", "refuse"),
            "headers": "\n".join(f"{name}: {value}" for name, value in headers.items()),
        }

    def clean_headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for number, line in enumerate(self.cleaned_data["headers"].splitlines(), start=1):
            name, colon, value = (part.strip() for part in line.partition(":"))
            if not name and not colon:
                continue
            if not name or not value:
                # Without the line itself: it may be a credential.
                raise forms.ValidationError(f"Line {number} is not written as Name: value.")
            found[name] = value
        return found

    def definition(self) -> Definition:
        data = self.cleaned_data
        usual = {"transport": "auto", "on_change": "refuse", "headers": {}}
        said = {name: data[name] for name, value in usual.items() if data[name] != value}
        return {"url": data["url"]} | said


class NewUpstreamForm(UpstreamForm):
    field_order = ("name", "url", "transport", "on_change", "headers")

    name = forms.CharField(
        max_length=32,
        label="Name",
        help_text="a to z, 0 to 9 and -",
        widget=forms.TextInput({"spellcheck": "false", "autocomplete": "off"}),
    )


class RemoteServerForm(SlugForm):
    """A new server whose parts all come from one elsewhere."""

    field_order = ("name", "slug", "url", "transport", "header", "credential")

    url = forms.CharField(max_length=4_000, label="URL of the MCP server", widget=forms.TextInput(_URL))
    transport = forms.ChoiceField(choices=_TRANSPORTS, label="It speaks")
    header = forms.CharField(
        required=False,
        max_length=100,
        label="Header for the credential",
        initial="Authorization",
        widget=forms.TextInput({"spellcheck": "false", "autocomplete": "off"}),
    )
    credential = forms.CharField(
        required=False,
        max_length=8_000,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
        help_text="Sealed as a secret of the server. In Authorization it is sent as a Bearer token.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if cleaned.get("credential") and not cleaned.get("header"):
            self.add_error("header", "Say in which header the credential is sent.")
        return cleaned
