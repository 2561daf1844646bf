"""Forms about servers as a whole: made, imported, described, published."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile

from mooring.dashboard.forms.organisation import SlugForm, offer
from mooring.dashboard.forms.widgets import Code
from mooring.errors import InvalidInput
from servers.importers.documents import check_size
from servers.models import Server


class AboutForm(forms.Form):
    """What every server says of itself."""

    description = forms.CharField(
        required=False,
        max_length=2_000,
        widget=forms.Textarea({"rows": 3}),
        help_text="What callers can do with it.",
    )
    is_public = forms.BooleanField(
        required=False,
        label="Public",
        help_text="Anybody may call it without a key, and its connect page is public.",
    )


class ServerForm(AboutForm, SlugForm):
    field_order = ("name", "slug", "description", "is_public")


class DescribeForm(AboutForm):
    field_order = ("title", "description", "instructions", "is_public")

    title = forms.CharField(max_length=120)
    instructions = forms.CharField(
        required=False,
        max_length=20_000,
        widget=forms.Textarea({"rows": 6}),
        help_text="Sent to every client: when and how to use the server's tools.",
    )


class ManifestForm(forms.Form):
    """A text from one of several places; here a manifest, as a file or pasted."""

    nothing_given = "Choose a file or paste the manifest."

    file = forms.FileField(
        required=False, help_text="A manifest as exported here: JSON, at most 16 MB, or YAML, at most 5 MB."
    )
    document = forms.CharField(required=False, label="Or paste it", strip=False, widget=Code(12))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _one_is_needed(self)

    def clean_file(self) -> str:
        return text_of(self.cleaned_data.get("file"))

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        given = [name for name in self.fields if cleaned.get(name)]
        if not given and not self.errors:
            raise forms.ValidationError(self.nothing_given)
        if len(given) > 1:
            raise forms.ValidationError("Give the document in one way, not in several.")
        return cleaned

    def clean_document(self) -> str:
        return _of_fair_size(str(self.cleaned_data["document"]))

    @property
    def text(self) -> str:
        return str(self.cleaned_data["file"] or self.cleaned_data["document"])

    @property
    def source_name(self) -> str:
        """What the import is called until its document has been read."""
        file = self.files.get("file")
        return str((file and file.name) or self.cleaned_data.get("url") or "pasted document")[:200]


class DocumentForm(ManifestForm):
    """An OpenAPI document, or a manifest for a new server, which may also be fetched."""

    field_order = ("url", "file", "document")
    nothing_given = "Give an address, choose a file or paste the document."

    url = forms.URLField(
        required=False,
        label="Address of the document",
        max_length=2_000,
        assume_scheme="https",
        widget=forms.URLInput({"placeholder": "https://api.example.com/openapi.json"}),
    )
    file = forms.FileField(
        required=False,
        label="Or a file",
        help_text="JSON or YAML, at most 5 MB; a manifest in JSON, at most 16.",
    )
    document = forms.CharField(
        required=False,
        label="Or paste it",
        strip=False,
        widget=Code(10),
        help_text="OpenAPI 3.0 or 3.1, or a manifest.",
    )


def _one_is_needed(form: forms.Form) -> None:
    """Which of the fields is required depends on the others, and calling each of them optional would mislead."""
    for field in form.fields.values():
        field.is_needed = True  # type: ignore[attr-defined]  # read by the field's template


def text_of(file: UploadedFile[Any] | None) -> str:
    """The text of an uploaded file. Raises `ValidationError` for a huge one and for one that is not UTF-8."""
    if file is None:
        return ""
    try:
        return _of_fair_size(file.read().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise forms.ValidationError("This file is not text in UTF-8.") from None


def _of_fair_size(text: str) -> str:
    try:
        check_size(text)
    except InvalidInput as refusal:
        raise forms.ValidationError(refusal.message) from None
    return text


class ApplyForm(forms.Form):
    """What of an imported document becomes tools, and where."""

    into = forms.ChoiceField(
        label="Put the tools into",
        help_text="The tools of an existing server are replaced; its texts, resources and prompts stay.",
    )
    name = forms.CharField(required=False, max_length=120, widget=forms.TextInput({"data-proposes": ""}))
    slug = forms.CharField(
        required=False,
        max_length=63,
        label="Name in URLs",
        widget=forms.TextInput({"data-slug": "", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, servers: Iterable[Server], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["into"].required = False
        _one_is_needed(self)
        known = [(server.slug, f"{server.title} ({server.slug})") for server in servers]
        offer(self, "into", [("", "a new server"), *known])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not cleaned.get("into"):
            for name in ("name", "slug"):
                if not cleaned.get(name) and name not in self.errors:
                    self.add_error(name, "A new server needs this.")
        return cleaned


class PublishForm(forms.Form):
    number = forms.CharField(
        max_length=40, label="Version", widget=forms.TextInput({"autocomplete": "off", "spellcheck": "false"})
    )
    notes = forms.CharField(
        required=False,
        max_length=5_000,
        widget=forms.Textarea({"rows": 3, "placeholder": "What changed, for the people who use it"}),
    )


class SecretForm(forms.Form):
    name = forms.CharField(
        max_length=64, widget=forms.TextInput({"autocomplete": "off", "spellcheck": "false"})
    )
    value = forms.CharField(
        max_length=10_000,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
        help_text="Sealed at once; nobody can read it here again.",
    )


class VariableForm(forms.Form):
    name = forms.CharField(max_length=64, widget=forms.TextInput({"spellcheck": "false"}))
    default = forms.CharField(
        required=False, max_length=2_000, widget=forms.TextInput({"spellcheck": "false"})
    )
    description = forms.CharField(required=False, max_length=2_000)
