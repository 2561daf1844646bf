"""Forms about an organisation and its keys."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django import forms

from servers.models import Server
from tenants.permissions import DEFAULT_KEY_SCOPES, KEY_SCOPES, PERMISSIONS
from tenants.slugs import proposed_slug

SCOPES = [(scope, f"{PERMISSIONS[scope]} ({scope})") for scope in sorted(KEY_SCOPES)]
LIFETIMES = [("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("0", "never")]


class SlugForm(forms.Form):
    """A display name, and the name in URLs which follows it unless somebody writes another."""

    name = forms.CharField(
        max_length=120,
        widget=forms.TextInput({"autofocus": True, "data-proposes": "", "autocomplete": "organization"}),
    )
    slug = forms.CharField(
        max_length=63,
        required=False,
        label="Name in URLs",
        help_text="Lower-case letters, digits and hyphens. It never changes.",
        widget=forms.TextInput({"data-slug": "", "autocomplete": "off", "spellcheck": "false"}),
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        cleaned["slug"] = cleaned.get("slug") or proposed_slug(cleaned.get("name", ""))
        if cleaned.get("name") and not cleaned["slug"]:
            self.add_error("slug", "Write a name for URLs: no letter of the name can stand in one.")
        return cleaned


def offer(form: forms.Form, name: str, choices: list[tuple[str, str]]) -> None:
    """Give a field of the form its choices, which are known only now."""
    field = form.fields[name]
    assert isinstance(field, forms.ChoiceField)
    field.choices = choices


class RenameForm(forms.Form):
    name = forms.CharField(max_length=120)


class KeyForm(forms.Form):
    name = forms.CharField(
        max_length=120, help_text="Where the key will be used, so that you know what to revoke."
    )
    scopes = forms.MultipleChoiceField(
        choices=SCOPES,
        initial=list(DEFAULT_KEY_SCOPES),
        widget=forms.CheckboxSelectMultiple,
        label="The key may",
    )
    servers = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Only on these servers",
        help_text="Choose none for all servers, also future ones.",
    )
    lifetime = forms.ChoiceField(choices=LIFETIMES, initial="90", label="Expires after")

    def __init__(self, *args: Any, servers: Iterable[Server], allowed: frozenset[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = [(str(server.id), f"{server.title} ({server.slug})") for server in servers]
        offer(self, "servers", offered)
        offer(self, "scopes", [choice for choice in SCOPES if choice[0] in allowed])

    @property
    def chosen_lifetime(self) -> timedelta | None:
        days = int(self.cleaned_data["lifetime"])
        return timedelta(days=days) if days else None
