"""The outermost and the innermost layer around the control plane's views."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.cache import patch_vary_headers

from mooring.errors import MooringError
from mooring.ids import uuid7
from mooring.logs import request_id

GetResponse = Callable[[HttpRequest], HttpResponseBase]


class RequestIdMiddleware:
    """Give every request a name that its log lines, audit events and answer carry."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        token = request_id.set(uuid7().hex)
        try:
            response = self.get_response(request)
            response.headers["X-Request-Id"] = request_id.get()
            return response
        finally:
            request_id.reset(token)


class ErrorPageMiddleware:
    """One of the three borders at which domain errors become answers: here, a page or a note on it."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        patch_vary_headers(response, ["HX-Request"])
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, MooringError):
            return None
        if getattr(request, "htmx", False):
            return _note(request, error)
        return render(request, "error.html", {"error": error}, status=error.status)


def _note(request: HttpRequest, error: MooringError) -> HttpResponse:
    """A fragment which htmx puts above the page's content, whatever it had asked for."""
    response = render(request, "components/error_note.html", {"error": error}, status=error.status)
    response.headers["HX-Retarget"] = "#messages"
    response.headers["HX-Reswap"] = "innerHTML"
    return response
