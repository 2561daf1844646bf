"""The page for a bug of ours: it must need nothing that can be broken too."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.template import loader

from mooring.logs import request_id


def server_error(request: HttpRequest) -> HttpResponse:
    body = loader.render_to_string("500.html", {"request_id": request_id.get()})
    return HttpResponse(body, status=500)
