"""The form of one tool, and how its fields and a manifest's entry are written into each other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from django import forms

from mooring.dashboard.forms.content import RowForm
from mooring.dashboard.forms.rows import Rows, RowSet, filled
from mooring.dashboard.forms.widgets import Code, JsonField

Definition = dict[str, Any]

HINTS = {
    "readOnlyHint": ("Only reads", "It changes nothing."),
    "destructiveHint": ("Destructive", "It may delete or overwrite something."),
    "idempotentHint": ("Idempotent", "Calling it twice does no more than once."),
    "openWorldHint": ("Open world", "It reaches things outside this system."),
}
_SAID = [("", "not stated"), ("yes", "yes"), ("no", "no")]
_METHODS = [(name, name) for name in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")]
_STYLES = "form simple label matrix spaceDelimited pipeDelimited deepObject".split()
_BODIES = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "text/plain",
    "application/octet-stream",
]
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}")


class ToolForm(RowForm):
    """What clients see of a tool. How it runs is an `HttpForm` or a `StaticForm` beside it."""

    input_schema = JsonField(
        kind=dict,
        required=False,
        rows=12,
        help_text="JSON Schema of the arguments. Left empty, it is drawn from the parameters of the request.",
    )
    output_schema = JsonField(
        kind=dict,
        required=False,
        rows=6,
        help_text="JSON Schema of the structured answer, when it has a fixed shape.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for hint, (label, text) in HINTS.items():
            self.fields[hint] = forms.ChoiceField(choices=_SAID, required=False, label=label, help_text=text)
        # Annotations that have no field of their own pass through unchanged.
        self.fields["other_annotations"] = JsonField(
            kind=dict, required=False, rows=2, label="Other annotations"
        )
        self.fields["description"].widget = forms.Textarea({"rows": 3})
        self.fields["description"].help_text = "What a model reads to decide when to call it."

    @staticmethod
    def initial_of(definition: Definition) -> Definition:
        annotations = dict(definition.get("annotations", {}))
        said = {hint: {True: "yes", False: "no"}.get(annotations.pop(hint, None), "") for hint in HINTS}
        plain = {
            name: definition.get(name)
            for name in ("name", "title", "description", "input_schema", "output_schema")
        }
        return (
            plain
            | said
            | {"other_annotations": annotations or None, "is_enabled": definition.get("enabled", True)}
        )

    @property
    def hints(self) -> list[forms.BoundField]:
        return [self[hint] for hint in HINTS]

    def definition(self) -> Definition:
        data = self.cleaned_data
        found = self.base() | {"input_schema": data["input_schema"] or {"type": "object"}}
        if data["output_schema"] is not None:
            found["output_schema"] = data["output_schema"]
        return found | self.annotations()

    def annotations(self) -> Definition:
        data = self.cleaned_data
        said = {hint: data[hint] == "yes" for hint in HINTS if data.get(hint)}
        annotations = (data["other_annotations"] or {}) | said
        return {"annotations": annotations} if annotations else {}


class RemoteToolForm(ToolForm):
    """A tool from elsewhere: what it takes and gives is decided there."""

    input_schema = None  # type: ignore[assignment]  # Django's way to leave out an inherited field
    output_schema = None  # type: ignore[assignment]
    timeout_seconds = forms.FloatField(
        required=False, min_value=0.1, max_value=300, label="Give up after", help_text="Seconds."
    )

    @staticmethod
    def initial_of(definition: Definition) -> Definition:
        return ToolForm.initial_of(definition) | {
            "timeout_seconds": definition["remote"].get("timeout_seconds")
        }

    def over(self, definition: Definition) -> Definition:
        """The definition with what this form decides in the place of what it was."""
        decided = {"name", "title", "description", "enabled", "annotations", "cache"}
        kept = {name: value for name, value in definition.items() if name not in decided}
        remote = {name: value for name, value in definition["remote"].items() if name != "timeout_seconds"}
        if seconds := self.cleaned_data["timeout_seconds"]:
            remote["timeout_seconds"] = int(seconds) if seconds.is_integer() else seconds
        return kept | {"remote": remote} | self.base() | self.annotations()


class StaticForm(forms.Form):
    kind = forms.ChoiceField(
        choices=[("text", "a text"), ("echo", "the arguments it was given"), ("clock", "the time")],
        label="It answers with",
    )
    text = forms.CharField(
        required=False, strip=False, widget=Code(6), help_text="{name} stands for the argument of that name."
    )

    @staticmethod
    def initial_of(binding: Definition) -> Definition:
        return binding

    def binding(self) -> Definition:
        kind, text = self.cleaned_data["kind"], self.cleaned_data["text"].replace("\r\n", "\n")
        return {"kind": kind, "text": text} if kind == "text" else {"kind": kind}


class HttpForm(forms.Form):
    method = forms.ChoiceField(choices=_METHODS, initial="GET")
    url = forms.CharField(
        required=False,
        max_length=4_000,
        label="URL",
        widget=forms.TextInput(
            {"class": "code", "spellcheck": "false", "placeholder": "https://api.example.com/v1/{city}"}
        ),
        help_text="{name} is a variable of the server, or a parameter that stands in the path.",
    )
    username = forms.CharField(
        required=False, label="User name", widget=forms.TextInput({"autocomplete": "off"})
    )
    password = forms.CharField(
        required=False,
        label="Password",
        widget=forms.TextInput({"autocomplete": "off"}),
        help_text="{secret:name}",
    )
    body_type = forms.CharField(
        required=False,
        label="Content type",
        widget=forms.TextInput({"list": "body-types", "placeholder": "none"}),
    )
    body_argument = forms.CharField(required=False, label="The argument that is the whole body")
    body_fields = forms.CharField(
        required=False,
        label="Or its fields",
        widget=Code(4),
        help_text="One a line: name in the body = argument",
    )
    body_binary = forms.CharField(
        required=False,
        label="Sent as bytes",
        widget=Code(2),
        help_text="Fields that hold base64 and are sent decoded, one a line; * for a body that is one argument.",
    )
    body_required = forms.BooleanField(required=False, label="The body is required")
    response_as = forms.ChoiceField(
        required=False,
        choices=[("", "as its content type says"), ("json", "JSON"), ("text", "text"), ("binary", "bytes")],
        label="Read the answer",
    )
    pick = forms.CharField(
        required=False,
        label="Keep only",
        widget=forms.TextInput({"class": "code", "placeholder": "/data/items"}),
        help_text="JSON pointer into the answer.",
    )
    timeout_seconds = forms.FloatField(
        required=False,
        min_value=0.1,
        max_value=300,
        label="Give up after",
        help_text="Seconds; 30 unless you say.",
    )
    use_json = forms.BooleanField(required=False, label="Use this JSON instead of the fields above")
    json = JsonField(kind=dict, required=False, rows=14, label="The whole request template as JSON")

    body_types = _BODIES

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Needed unless the JSON below is used, so only `clean` can tell.
        self.fields["url"].is_needed = True  # type: ignore[attr-defined]  # read by the field's template

    @staticmethod
    def initial_of(http: Definition) -> Definition:
        body, answer, basic = http.get("body", {}), http.get("response", {}), http.get("basic_auth", {})
        return {
            "method": http.get("method", "GET"),
            "url": http.get("url", ""),
            "username": basic.get("username", ""),
            "password": basic.get("password", ""),
            "body_type": body.get("content_type", ""),
            "body_argument": body.get("argument", ""),
            "body_fields": "\n".join(
                f"{wire} = {argument}" for wire, argument in body.get("fields", {}).items()
            ),
            "body_binary": "*" if body.get("binary") is True else "\n".join(body.get("binary") or []),
            "body_required": body.get("required", False),
            "response_as": answer.get("as", ""),
            "pick": answer.get("pick", ""),
            "timeout_seconds": http.get("timeout_seconds"),
            "json": http or None,
        }

    def clean_body_fields(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in self.cleaned_data["body_fields"].splitlines():
            wire, sign, argument = (part.strip() for part in line.partition("="))
            if not wire:
                continue
            found[wire] = argument if sign else wire
        return found

    def clean(self) -> Definition:
        cleaned: Definition = super().clean() or {}
        if cleaned.get("use_json"):
            if cleaned.get("json") is None and "json" not in self.errors:
                self.add_error("json", "Write the request template, or clear the box above.")
        elif not cleaned.get("url") and "url" not in self.errors:
            self.add_error("url", "Write the address the tool calls.")
        return cleaned

    def binding(self) -> Definition:
        """The fields as an `http` object, without parameters and constants."""
        data = self.cleaned_data
        parts: Definition = {"method": data["method"], "url": data["url"]}
        if data["username"] or data["password"]:
            parts["basic_auth"] = {"username": data["username"], "password": data["password"]}
        parts["body"] = self._body()
        answer = {"as": data["response_as"], "pick": data["pick"]}
        parts["response"] = {name: value for name, value in answer.items() if value}
        seconds = data["timeout_seconds"]
        parts["timeout_seconds"] = int(seconds) if seconds and seconds.is_integer() else seconds
        return {name: value for name, value in parts.items() if value}

    def _body(self) -> Definition:
        data = self.cleaned_data
        if not (data["body_type"] or data["body_argument"] or data["body_fields"]):
            return {}
        body: Definition = {"content_type": data["body_type"] or "application/json"}
        if data["body_argument"]:
            body["argument"] = data["body_argument"]
        if data["body_fields"]:
            body["fields"] = data["body_fields"]
        bytes_of = data["body_binary"].split()
        if bytes_of:
            body["binary"] = True if bytes_of == ["*"] else bytes_of
        return body | {"required": True} if data["body_required"] else body


class ParameterForm(forms.Form):
    argument = forms.CharField(
        required=False, max_length=128, widget=forms.TextInput({"spellcheck": "false"})
    )
    where = forms.ChoiceField(
        choices=[(place, place) for place in ("query", "path", "header", "cookie")], label="Goes into"
    )
    name = forms.CharField(required=False, max_length=300, label="Name there")
    style = forms.ChoiceField(required=False, choices=[("", "usual"), *((style, style) for style in _STYLES)])
    explode = forms.ChoiceField(required=False, choices=[("", "usual"), ("yes", "yes"), ("no", "no")])
    content_type = forms.ChoiceField(
        required=False, choices=[("", "plain"), ("application/json", "JSON")], label="Written as"
    )

    @staticmethod
    def initial_of(parameter: Definition) -> Definition:
        said = parameter.get("explode")
        explode = "" if said is None else "yes" if said else "no"
        return parameter | {"where": parameter.get("in", "query"), "explode": explode}

    def definition(self) -> Definition | None:
        data = self.cleaned_data
        argument = data.get("argument") or data.get("name")
        if not argument:
            return None
        found: Definition = {"in": data["where"], "name": data["name"] or argument, "argument": argument}
        found |= {name: data[name] for name in ("style", "content_type") if data[name]}
        return found | {"explode": data["explode"] == "yes"} if data["explode"] else found


class ConstantForm(forms.Form):
    where = forms.ChoiceField(
        choices=[(place, place) for place in ("header", "query", "cookie")], label="Goes into"
    )
    name = forms.CharField(
        required=False, max_length=300, widget=forms.TextInput({"placeholder": "Authorization"})
    )
    value = forms.CharField(
        required=False, max_length=8_000, widget=forms.TextInput({"placeholder": "Bearer {secret:token}"})
    )

    @staticmethod
    def initial_of(constant: Definition) -> Definition:
        return constant | {"where": constant.get("in", "header")}

    def definition(self) -> Definition | None:
        data = self.cleaned_data
        if not data.get("name"):
            return None
        return {"in": data["where"], "name": data["name"], "value": data["value"]}


ParameterRows = forms.formset_factory(
    ParameterForm, Rows, extra=1, can_delete=True, max_num=1_000, absolute_max=1_000
)
ConstantRows = forms.formset_factory(
    ConstantForm, Rows, extra=1, can_delete=True, max_num=100, absolute_max=100
)


def http_binding(
    form: HttpForm,
    parameters: RowSet,
    constants: RowSet,
    variables: Iterable[str],
) -> Definition:
    """The whole `http` object. Names in the URL which nothing explains become path parameters."""
    if form.cleaned_data["use_json"]:
        whole: Definition = form.cleaned_data["json"]
        return whole
    found = form.binding()
    rows = filled(parameters)
    explained = {row["name"] for row in rows if row["in"] == "path"} | set(variables)
    rows += [
        {"in": "path", "name": name, "argument": name}
        for name in dict.fromkeys(_PLACEHOLDER.findall(found["url"]))
        if name not in explained
    ]
    fixed = filled(constants)
    return found | ({"parameters": rows} if rows else {}) | ({"constants": fixed} if fixed else {})


def drawn_schema(http: Definition) -> Definition:
    """A first input schema: each argument of the request as text, those in the path required."""
    arguments = {row.get("argument", row["name"]): row["in"] == "path" for row in http.get("parameters", [])}
    body = http.get("body", {})
    arguments |= dict.fromkeys(body.get("fields", {}).values(), bool(body.get("required")))
    properties: Definition = {name: {"type": "string"} for name in arguments}
    if body.get("argument"):
        properties[body["argument"]] = {}
        arguments[body["argument"]] = bool(body.get("required"))
    required = [name for name, needed in arguments.items() if needed]
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})
