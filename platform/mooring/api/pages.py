"""Cursor pages: `{"data": [...], "next": cursor or null}`.

A cursor holds the last row's sort key, so that rows which come and go between two pages move no others.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Protocol

from django.core.exceptions import ValidationError
from django.db.models import Model, Q
from rest_framework import serializers
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.errors import InvalidInput

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


class Ordered(Protocol):
    """A view with pages says by which columns, all ascending or all descending; together they are unique."""

    order: Sequence[str]


class CursorPages(BasePagination):
    next: str | None = None

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        order: Sequence[str] = view.order
        limit = _limit(request)
        if cursor := request.query_params.get("cursor"):
            queryset = queryset.filter(_after(queryset.model, order, _decoded(cursor, len(order))))
        rows = list(queryset.order_by(*order)[: limit + 1])
        self.next = _encoded(rows[limit - 1], order) if len(rows) > limit else None
        return rows[:limit]

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"data": data, "next": self.next})


def page_of(row: type[serializers.Serializer[Any]]) -> type[serializers.Serializer[Any]]:
    """The serializer of a page of such rows, for the schema."""
    fields = {
        "data": row(many=True),
        "next": serializers.CharField(allow_null=True, help_text="Send it as cursor for the next page."),
    }
    return type(f"{row.__name__}Page", (serializers.Serializer,), fields)


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", "")
    if not given:
        return DEFAULT_LIMIT
    if given.isascii() and given.isdigit() and 1 <= int(given[:6]) <= MAX_LIMIT:
        return int(given)
    raise InvalidInput(
        f"`limit` is a number from 1 to {MAX_LIMIT}.", fields={"limit": [f"Write 1 to {MAX_LIMIT}."]}
    )


def _after(model: type[Model], order: Sequence[str], values: list[Any]) -> Q:
    """Rows behind `values`: a later first column, or the same one and a later second column, and so on."""
    condition, same = Q(), Q()
    for column, value in zip(order, values, strict=True):
        name = column.lstrip("-")
        clean = _cleaned(model, name, value)
        condition |= same & Q(**{f"{name}__{'lt' if column.startswith('-') else 'gt'}": clean})
        same &= Q(**{name: clean})
    return condition


def _cleaned(model: type[Model], name: str, value: Any) -> Any:
    try:
        str(value).encode()  # a lone surrogate is JSON, but no text a database takes
        return model._meta.get_field(name).to_python(value)  # type: ignore[union-attr]  # a plain column
    except (ValidationError, TypeError, ValueError, OverflowError):
        raise _bad_cursor() from None


def _encoded(row: Model, order: Sequence[str]) -> str:
    values = [getattr(row, column.lstrip("-")) for column in order]
    plain = [value if isinstance(value, (int, str)) else _text(value) for value in values]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _decoded(cursor: str, length: int) -> list[Any]:
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise _bad_cursor() from None
    well_formed = isinstance(values, list) and len(values) == length
    if not well_formed or not all(isinstance(value, (int, str)) for value in values):
        raise _bad_cursor()
    if any(isinstance(value, str) and "\x00" in value for value in values):
        raise _bad_cursor()
    return list(values)


def _bad_cursor() -> InvalidInput:
    return InvalidInput(
        "This `cursor` is not one of ours. Start again without it.", fields={"cursor": ["Leave it out."]}
    )
