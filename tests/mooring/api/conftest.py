"""A client of the REST API for each key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.test import Client

from tenants.permissions import KEY_SCOPES

ECHO: dict[str, Any] = {
    "name": "echo",
    "description": "Says it again.",
    "input_schema": {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
    },
    "static": {"kind": "echo"},
}
MANIFEST: dict[str, Any] = {"mooring": 1, "server": {"title": "Echo"}, "tools": [ECHO]}


class Api:
    """`api.get("servers")` is `GET /api/v1/servers` with the key; bodies are JSON."""

    def __init__(self, secret: str) -> None:
        self._client = Client(headers={"Authorization": f"Bearer {secret}"} if secret else {})

    def get(self, path: str) -> Any:
        return self._client.get(f"/api/v1/{path}")

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("POST", path, body, **headers)

    def put(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("PUT", path, body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.send("DELETE", path, **headers)

    def send(self, method: str, path: str, body: Any = None, once: str = "") -> Any:
        headers = {"Idempotency-Key": once} if once else {}
        return self._client.generic(
            method,
            f"/api/v1/{path}",
            b"" if body is None else _json(body),
            content_type="application/json",
            headers=headers,
        )

    def raw(self, method: str, path: str, body: bytes, content_type: str = "application/json") -> Any:
        return self._client.generic(method, f"/api/v1/{path}", body, content_type=content_type)


def _json(body: Any) -> bytes:
    import json

    return json.dumps(body).encode()


@pytest.fixture
def api(key_of: Callable[..., str]) -> Callable[..., Api]:
    """`api(tenant)` speaks with a key of its owner that carries everything; scopes and user may be given."""

    def make(tenant: Any, scopes: Sequence[str] = tuple(sorted(KEY_SCOPES)), **who: Any) -> Api:
        return Api(key_of(tenant, scopes, **who))

    return make


@pytest.fixture
def anonymous() -> Api:
    return Api("")


@pytest.fixture
def with_secret() -> Callable[[str], Api]:
    return Api


@pytest.fixture
def manifest() -> dict[str, Any]:
    return MANIFEST


@pytest.fixture
def echo() -> dict[str, Any]:
    return dict(ECHO)


@pytest.fixture
def owner(api: Callable[..., Api], world: Any) -> Api:
    """Alice's key in acme, with everything a key may carry."""
    return api(world.acme)


@pytest.fixture
def server(owner: Api) -> str:
    """A published echo server in acme."""
    assert owner.post("servers", {"slug": "echo", "title": "Echo"}).status_code == 201
    assert owner.put("servers/echo/draft", MANIFEST).status_code == 200
    assert owner.post("servers/echo/versions", {}).status_code == 201
    return "echo"
