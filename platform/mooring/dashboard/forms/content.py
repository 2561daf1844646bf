"""Forms about resources, resource templates and prompts; each gives its manifest entry by `definition`."""

from __future__ import annotations

from typing import Any

from django import forms

from mooring.dashboard.forms.widgets import Code, JsonField
from servers.models import Prompt, Resource, ResourceTemplate

Definition = dict[str, Any]


class RowForm(forms.Form):
    name = forms.CharField(max_length=128, widget=forms.TextInput({"spellcheck": "false"}))
    title = forms.CharField(required=False, max_length=200)
    description = forms.CharField(required=False, max_length=20_000, widget=forms.Textarea({"rows": 2}))
    is_enabled = forms.BooleanField(
        required=False, initial=True, label="Enabled", help_text="Clients can see it."
    )

    def base(self) -> Definition:
        data = self.cleaned_data
        found: Definition = {"name": data["name"]}
        found |= {name: data[name] for name in ("title", "description") if data[name]}
        return found if data["is_enabled"] else found | {"enabled": False}


class ResourceForm(RowForm):
    field_order = (
        "name",
        "uri",
        "title",
        "description",
        "mime_type",
        "text",
        "blob",
        "annotations",
        "is_enabled",
    )

    uri = forms.CharField(
        max_length=1_000,
        label="URI",
        help_text="For example handbook://holidays",
        widget=forms.TextInput({"spellcheck": "false"}),
    )
    mime_type = forms.CharField(
        required=False, max_length=120, label="MIME type", help_text="text/markdown, say."
    )
    text = forms.CharField(required=False, strip=False, widget=Code(12))
    blob = forms.CharField(
        required=False,
        label="Bytes instead of text",
        widget=Code(3),
        help_text="Base64; for pictures and the like.",
    )
    annotations = JsonField(kind=dict, required=False, rows=3)

    @staticmethod
    def initial_of(row: Resource) -> Definition:
        return _initial(row, "uri", "mime_type", "text", "blob") | {"annotations": row.annotations or None}

    def definition(self) -> Definition:
        data = self.cleaned_data
        content = {"blob": data["blob"]} if data["blob"] else {"text": _lines(data["text"])}
        optional = {"mime_type": data["mime_type"], "annotations": data["annotations"]}
        return (
            self.base()
            | {"uri": data["uri"]}
            | content
            | {name: value for name, value in optional.items() if value}
        )


class TemplateForm(RowForm):
    field_order = (
        "name",
        "uri_template",
        "title",
        "description",
        "mime_type",
        "text",
        "completions",
        "is_enabled",
    )

    uri_template = forms.CharField(
        max_length=1_000,
        label="URI template",
        help_text="For example handbook://people/{name}",
        widget=forms.TextInput({"spellcheck": "false"}),
    )
    mime_type = forms.CharField(required=False, max_length=120, label="MIME type")
    text = forms.CharField(
        required=False,
        strip=False,
        widget=Code(10),
        help_text="{name} stands for the URI's variable of that name.",
    )
    completions = JsonField(
        kind=dict, required=False, rows=4, help_text='Proposed values: {"name": ["alice", "bob"]}'
    )
    annotations = JsonField(kind=dict, required=False, rows=3)

    @staticmethod
    def initial_of(row: ResourceTemplate) -> Definition:
        parts = {"completions": row.completions or None, "annotations": row.annotations or None}
        return _initial(row, "uri_template", "mime_type", "text") | parts

    def definition(self) -> Definition:
        data = self.cleaned_data
        found = self.base() | {"uri_template": data["uri_template"], "text": _lines(data["text"])}
        return found | {
            name: data[name] for name in ("mime_type", "completions", "annotations") if data[name]
        }


class PromptForm(RowForm):
    """A prompt's arguments and messages are rows of their own, see `ArgumentForm` and `MessageForm`."""

    @staticmethod
    def initial_of(row: Prompt) -> Definition:
        return _initial(row)


class RemoteForm(RowForm):
    """A row that comes from elsewhere: what it holds is decided there, what it is called and says, here."""

    ours: tuple[str, ...] = ()
    # Whether what is read may be remembered; `forms.remembering` asks for how long.
    is_remembered = False

    @classmethod
    def initial_of(cls, row: Any) -> Definition:
        found = _initial(row, *cls.ours)
        return found | {name: found[name] or None for name in cls.ours if isinstance(found[name], dict)}

    def over(self, definition: Definition) -> Definition:
        """The definition with what this form decides in the place of what it was."""
        decided = {"name", "title", "description", "enabled", "cache", *self.ours}
        kept = {name: value for name, value in definition.items() if name not in decided}
        return kept | self.base() | {name: value for name in self.ours if (value := self.cleaned_data[name])}


class RemoteResourceForm(RemoteForm):
    field_order = ("name", "uri", "title", "description", "mime_type", "annotations", "is_enabled")
    ours = ("uri", "mime_type", "annotations")
    is_remembered = True

    uri = forms.CharField(
        max_length=1_000,
        label="URI",
        help_text="As clients see it here.",
        widget=forms.TextInput({"spellcheck": "false"}),
    )
    mime_type = forms.CharField(required=False, max_length=120, label="MIME type")
    annotations = JsonField(kind=dict, required=False, rows=3)


class RemoteTemplateForm(RemoteForm):
    ours = ("mime_type", "completions", "annotations")
    field_order = ("name", "title", "description", *ours, "is_enabled")
    is_remembered = True

    mime_type = forms.CharField(required=False, max_length=120, label="MIME type")
    completions = JsonField(
        kind=dict, required=False, rows=4, help_text="Proposed values; without any the upstream is asked."
    )
    annotations = JsonField(kind=dict, required=False, rows=3)


class RemotePromptForm(RemoteForm):
    """Its arguments are the upstream's."""


class ArgumentForm(forms.Form):
    name = forms.CharField(required=False, max_length=128)
    title = forms.CharField(required=False, max_length=200)
    description = forms.CharField(required=False, max_length=2_000)
    completions = forms.CharField(
        required=False, label="Proposed values", widget=forms.Textarea({"rows": 2}), help_text="One a line."
    )
    required = forms.BooleanField(required=False)

    @staticmethod
    def initial_of(argument: Definition) -> Definition:
        return argument | {"completions": "\n".join(argument.get("completions", []))}

    def definition(self) -> Definition | None:
        data = self.cleaned_data
        if not data.get("name"):
            return None
        values = [value.strip() for value in data["completions"].splitlines() if value.strip()]
        parts = {name: data[name] for name in ("title", "description", "required")} | {"completions": values}
        return {"name": data["name"]} | {name: value for name, value in parts.items() if value}


class MessageForm(forms.Form):
    role = forms.ChoiceField(choices=[("user", "user"), ("assistant", "assistant")])
    text = forms.CharField(
        required=False, strip=False, widget=Code(5), help_text="{topic} stands for the argument of that name."
    )

    def definition(self) -> Definition | None:
        text = _lines(self.cleaned_data.get("text", ""))
        return {"role": self.cleaned_data["role"], "text": text} if text.strip() else None


ArgumentRows = forms.formset_factory(ArgumentForm, extra=1, max_num=100, absolute_max=100)
MessageRows = forms.formset_factory(MessageForm, extra=1, max_num=100, absolute_max=100)


def _initial(row: Resource | ResourceTemplate | Prompt, *names: str) -> Definition:
    return {name: getattr(row, name) for name in ("name", "title", "description", "is_enabled", *names)}


def _lines(text: str) -> str:
    """Browsers send every line end as CR LF; what was exported must come back the same."""
    return text.replace("\r\n", "\n")
