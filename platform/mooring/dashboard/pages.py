"""Answering with a page, a part of one, or a slice of a long list."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db import models
from django.db.models import Q, QuerySet
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from mooring.dashboard.requests import PageRequest
from servers.models import CallRecord

_Row = TypeVar("_Row", bound=models.Model)
A_PAGE = 25


def show(
    request: HttpRequest,
    template: str,
    context: Mapping[str, Any] | None = None,
    *,
    part: str = "",
    status: int = 200,
) -> HttpResponse:
    """Render a page; when htmx asks, only the template's partial `part`."""
    name = f"{template}#{part}" if part and getattr(request, "htmx", False) else template
    return render(request, name, dict(context or {}), status=status)


def status_of(*forms: BaseForm) -> int:
    """422 when a form that was sent has errors, which htmx and programs can tell from success."""
    return 422 if any(form.is_bound and form.errors for form in forms) else 200


def page_of(request: PageRequest, rows: QuerySet[_Row], size: int = A_PAGE) -> Page[_Row]:
    """The page that `?page=` names; a number out of range shows the nearest one."""
    page: Page[_Row] = Paginator(rows, size).get_page(request.GET.get("page"))
    return page


@dataclass(frozen=True, slots=True)
class Slice:
    """Part of a list that grows at its top. `older` is the cursor of the next slice or ""."""

    rows: list[CallRecord]
    older: str
    newer: bool


def calls_before(records: QuerySet[CallRecord], cursor: str, size: int = 50) -> Slice:
    """Newest first, after `cursor`; one that is not ours starts from the top."""
    place = _place(cursor)
    if place is not None:
        time, row = place
        records = records.filter(Q(time__lt=time) | Q(time=time, id__lt=row))
    found = list(records.order_by("-time", "-id")[: size + 1])
    older = _cursor(found[size - 1]) if len(found) > size else ""
    return Slice(found[:size], older, place is not None)


def _cursor(record: CallRecord) -> str:
    return base64.urlsafe_b64encode(f"{record.time.isoformat()}|{record.id}".encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[datetime, UUID] | None:
    try:
        time, _, row = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition("|")
        moment = datetime.fromisoformat(time)
        return (moment, UUID(row)) if moment.tzinfo else None
    except (binascii.Error, ValueError):
        return None
