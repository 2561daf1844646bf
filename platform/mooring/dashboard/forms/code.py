"""Forms about uploaded code: the file, and what the code is run with."""

from __future__ import annotations

import re
from typing import Any

from django import forms

from mooring.dashboard.forms.organisation import SlugForm
from mooring.dashboard.forms.widgets import Code
from servers.services.builds import MAX_BYTES, SUFFIXES

Settings = dict[str, Any]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_MODES = [
    ("shared", "one process for all callers"),
    ("session", "a process for each client session"),
]


class RunForm(forms.Form):
    """What of an entry of a manifest's `upstreams` says how code is run."""

    environment = forms.CharField(
        required=False,
        strip=False,
        widget=Code(4, placeholder="TOKEN={secret:token}"),
        help_text="One a line, NAME=VALUE. {name} is a variable of the server; write {secret:name} where a credential "
        "stands, and set it under Secrets.",
    )
    hosts = forms.CharField(
        required=False,
        label="Hosts it may reach",
        widget=Code(3, placeholder="api.example.com"),
        help_text="One a line. Code reaches nothing else; *.example.com covers the names below it.",
    )
    memory_mb = forms.IntegerField(
        required=False,
        min_value=64,
        max_value=1024,
        label="Memory in MB",
        help_text="64 to 1,024; 256 unless given.",
    )

    @staticmethod
    def initial_of(settings: Settings) -> Settings:
        environment = settings.get("environment", {})
        return {
            "environment": "\n".join(f"{name}={value}" for name, value in environment.items()),
            "hosts": "\n".join(settings.get("hosts", [])),
            "memory_mb": settings.get("memory_mb", 256),
            "mode": settings.get("mode", "shared"),
        }

    def clean_environment(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for number, line in enumerate(self.cleaned_data["environment"].splitlines(), start=1):
            name, equals, value = line.partition("=")
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not equals or not _NAME.fullmatch(name.strip()):
                # Without the line itself: it may be a credential.
                raise forms.ValidationError(f"Line {number} is not written as NAME=VALUE.")
            found[name.strip()] = value.strip()
        return found

    def clean_hosts(self) -> list[str]:
        return list(dict.fromkeys(self.cleaned_data["hosts"].split()))

    def settings(self) -> Settings:
        data = self.cleaned_data
        return {name: data[name] for name in ("environment", "hosts", "memory_mb", "mode") if data.get(name)}


class AcceptForm(RunForm):
    """All of it said anew: what is left empty is none."""

    mode = forms.ChoiceField(choices=_MODES, label="It runs as")

    def settings(self) -> Settings:
        data = self.cleaned_data
        return {name: data[name] for name in ("environment", "hosts", "mode")} | {
            "memory_mb": data["memory_mb"] or 256
        }


class UploadForm(RunForm):
    """A new upload for a server. What it is run with is as it was unless something is said of it."""

    field_order: tuple[str, ...] = ("file", "upstream", "environment", "hosts", "memory_mb")

    file = forms.FileField(
        label="Python file or archive",
        widget=forms.ClearableFileInput({"accept": ",".join((*SUFFIXES, ".gz"))}),
        help_text="One .py file, or a .zip or .tar.gz with pyproject.toml or requirements.txt, of at most 20 MB.",
    )
    upstream = forms.CharField(
        max_length=32,
        initial="main",
        label="Name",
        help_text="a to z, 0 to 9 and -; the same name replaces what runs by it",
        widget=forms.TextInput({"spellcheck": "false", "autocomplete": "off"}),
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if (file.size or 0) > MAX_BYTES:
            raise forms.ValidationError(
                "An upload may have 20 MB. Leave out what the server does not need to run."
            )
        return file


class CodeServerForm(SlugForm, UploadForm):
    """A new server that is uploaded code."""

    field_order = ("name", "slug", "file", "environment", "hosts", "memory_mb")
    upstream = None  # type: ignore[assignment]  # how Django takes a field out
