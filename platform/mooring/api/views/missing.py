from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from mooring.api.errors import body_of
from mooring.errors import NotFound


@csrf_exempt
def missing(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Unknown addresses under /api/v1/ are refused in the API's shape, not by a web page."""
    return JsonResponse(
        body_of(NotFound("The API has no such address. /api/v1/docs lists them all.")), status=404
    )
