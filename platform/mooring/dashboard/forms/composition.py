"""The members of a server that is made of others."""

from __future__ import annotations

from typing import Any

from django import forms

from mooring.dashboard.forms.organisation import offer
from mooring.dashboard.forms.rows import Rows
from servers.services.members import LIVE, Part


class MemberForm(forms.Form):
    server = forms.ChoiceField(required=False)
    channel = forms.CharField(
        required=False, max_length=63, initial=LIVE, widget=forms.TextInput({"spellcheck": "false"})
    )
    begins = forms.CharField(
        required=False,
        max_length=32,
        label="Names begin with",
        widget=forms.TextInput({"spellcheck": "false", "placeholder": "weather_"}),
    )

    def __init__(self, *args: Any, servers: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A member that is gone stays to be chosen, so that saving the others does not refuse it.
        chosen = str(self.initial.get("server", ""))
        known = [slug for slug, _ in servers]
        gone = [(chosen, f"{chosen} (missing)")] if chosen and chosen not in known else []
        offer(self, "server", [("", "choose a server"), *servers, *gone])

    @staticmethod
    def initial_of(part: Part) -> dict[str, str]:
        return {"server": part.slug, "channel": part.channel, "begins": part.prefix}

    def definition(self) -> dict[str, str] | None:
        """The manifest's entry; None for a row nobody filled."""
        data = self.cleaned_data
        if not data.get("server"):
            return None
        said = {"channel": data["channel"] if data["channel"] != LIVE else "", "prefix": data["begins"]}
        return {"server": data["server"]} | {name: value for name, value in said.items() if value}


MemberRows = forms.formset_factory(MemberForm, Rows, extra=1, can_delete=True, max_num=20, absolute_max=21)
