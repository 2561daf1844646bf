"""Problems that services find, shown at the fields they concern."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from django import forms

from mooring.errors import ClientError

_T = TypeVar("_T")


def attempt(form: forms.BaseForm, write: Callable[[], _T]) -> _T | None:
    """The result of `write`, or None with its refusal in the form's errors."""
    try:
        return write()
    except ClientError as error:
        add_problems(form, error)
        return None


def add_problems(form: forms.BaseForm, error: ClientError) -> None:
    fields = error.data.get("fields")
    placed = [
        _place(form, name, sentences)
        for name, sentences in (fields if isinstance(fields, Mapping) else {}).items()
    ]
    # Where no field tells it all, the sentence for people stands above the form.
    if not any(placed):
        form.add_error(None, error.message)


def _place(form: forms.BaseForm, path: str, sentences: object) -> bool:
    """Put one problem at the form's field of that name, or above the form with its path."""
    lines = [str(line) for line in sentences] if isinstance(sentences, (list, tuple)) else [str(sentences)]
    name = path.strip("/").replace("/", ".").split(".")[-1] if path else ""
    at = next((candidate for candidate in (path, name) if candidate in form.fields), None)
    form.add_error(at, lines if at or not path else [f"{path}: {line}" for line in lines])
    return True
