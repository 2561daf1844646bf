"""The API's own description: an OpenAPI document, and a page for people rendered from it. Open to anybody."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from mooring.api import reference
from mooring.api import schema as openapi


@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    return JsonResponse(openapi.document(), json_dumps_params={"indent": 1})


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    groups = reference.groups_of(openapi.document())
    return render(request, "api/docs.html", {"groups": groups, "origin": settings.ORIGIN})
