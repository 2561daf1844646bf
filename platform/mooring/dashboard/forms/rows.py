"""Rows of a form that grow without script: the button "Another row" sends the form and gets it back longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.http import HttpRequest

ADD = "add"


if TYPE_CHECKING:
    RowSet = forms.BaseFormSet[Any]
else:
    RowSet = forms.BaseFormSet  # generic in the stubs only


class Rows(RowSet):
    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        if "DELETE" in form.fields:
            form.fields["DELETE"].label = "Remove"


def wants_row(request: HttpRequest) -> bool:
    return request.method == "POST" and ADD in request.POST


def longer(formset: type[RowSet], request: HttpRequest, *, prefix: str, **more: Any) -> RowSet:
    """The rows as they were sent and, when it is this list's button that was pressed, one more.

    `more` is handed to the set of rows.
    """
    data = request.POST.copy()
    if data.get(ADD) == prefix:
        name = f"{prefix}-TOTAL_FORMS"
        count = data.get(name, "0")
        data[name] = str(int(count) + 1 if count.isdecimal() else 1)
    return formset(data, prefix=prefix, **more)


def filled(rows: RowSet) -> list[dict[str, Any]]:
    """The definitions of the rows that hold something and are not ticked for removal."""
    found = [form.definition() for form in rows.forms if not form.cleaned_data.get("DELETE")]
    return [definition for definition in found if definition is not None]
