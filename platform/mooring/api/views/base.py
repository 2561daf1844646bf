"""What every view of a tenant's things has in common: the key, the scope, idempotency, the error border."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mooring.api import idempotency
from mooring.api.authentication import ApiKeyAuthentication
from mooring.api.bodies import JsonBody
from mooring.api.pages import CursorPages
from mooring.api.schema import NamedByPath
from mooring.errors import TooLarge
from mooring.scope import tenant_scope
from tenants.access import Access

Handler = Callable[..., Response]


class TenantView(APIView):
    """Runs the handler inside the scope of the key's tenant.

    On PostgreSQL that is one transaction, so errors leave the scope before they become answers: a refused
    request changes nothing.
    """

    access: Access
    authentication_classes = (ApiKeyAuthentication,)
    parser_classes: Sequence[type[BaseParser]] = (JsonBody,)
    schema = NamedByPath()
    order: ClassVar[Sequence[str]] = ("id",)
    # How large a body may be; Django's own limit, which is for small ones, when None.
    most_bytes: ClassVar[int | None] = None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.args, self.kwargs, self.headers = args, kwargs, self.default_response_headers
        self.request = self.initialize_request(request, *args, **kwargs)
        try:
            response = self._answered(self.request, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  # the border: every error becomes an answer here
            response = self.handle_exception(error)
        self.response = self.finalize_response(self.request, response, *args, **kwargs)
        self.response["Cache-Control"] = "no-store"
        return self.response

    def _answered(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        self.initial(request, *args, **kwargs)
        _read(request._request, self.most_bytes)
        handler = self._handler(request)
        key = idempotency.key_of(request)
        if key is not None:
            return self._answered_once(key, handler, request)
        with tenant_scope(self.access.tenant.id):
            return handler(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        authenticator = request.successful_authenticator
        assert isinstance(authenticator, ApiKeyAuthentication)  # IsAuthenticated let the request pass
        self.access = authenticator.access

    def _handler(self, request: Request) -> Handler:
        known = str(request.method).lower() in self.http_method_names
        handler = getattr(self, str(request.method).lower(), None) if known else None
        return handler or self.http_method_not_allowed

    def _answered_once(self, key: str, handler: Handler, request: Request) -> Response:
        tenant = self.access.tenant.id
        with tenant_scope(tenant):
            claimed = idempotency.claim(self.access, key, request)
        if isinstance(claimed, Response):
            return claimed
        with _released_on_failure(claimed), tenant_scope(tenant), transaction.atomic():
            response = handler(request, *self.args, **self.kwargs)
            idempotency.keep(claimed, response)
        return response

    def page(
        self, rows: QuerySet[Any], serializer: type[serializers.Serializer[Any]], **context: Any
    ) -> Response:
        pages = CursorPages()
        chosen = pages.paginate_queryset(rows, self.request, self)
        shown = serializer(chosen, many=True, context={"access": self.access} | context)
        return pages.get_paginated_response(shown.data)

    def shown(self, serializer: type[serializers.Serializer[Any]], row: Any, **context: Any) -> Any:
        return serializer(row, context={"access": self.access} | context).data

    def taken(self, serializer: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """The body's checked fields; raises DRF's ValidationError, which the border answers with 422."""
        given = serializer(data=self.request.data)
        given.is_valid(raise_exception=True)
        return dict(given.validated_data)


def _read(request: HttpRequest, most: int | None) -> None:
    """Once, under its limit, before a parser consumes the stream: idempotency looks at the body too."""
    if most is None:
        _ = request.body
        return
    body = request.read(most + 1)
    if len(body) > most:
        raise TooLarge(f"A body may have {most // 1024**2} MiB here.")
    request._body = body  # where Django keeps what was read


@contextmanager
def _released_on_failure(claimed: idempotency.Claim) -> Any:
    try:
        yield
    except BaseException:
        with tenant_scope(claimed.tenant):
            idempotency.release(claimed)
        raise
