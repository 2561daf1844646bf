"""A small API to import: it checks every request against its own document and answers from memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jsonschema_rs
from aiohttp import web

PET: dict[str, Any] = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string", "minLength": 1},
        "tags": {"type": "array", "items": {"type": "string"}},
        "parent": {"$ref": "#/components/schemas/Pet"},
    },
}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Pets", "version": "1.0", "description": "A shop of pets."},
    "servers": [{"url": "https://pets.example/{stage}", "variables": {"stage": {"default": "v1"}}}],
    "security": [{"token": []}],
    "paths": {
        "/pets": {
            "get": {
                "operationId": "listPets",
                "summary": "List pets",
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 100}},
                    {"name": "tags", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                ],
                "responses": {"200": {"content": {"application/json": {"schema": {"type": "array"}}}}},
            },
            "post": {
                "operationId": "createPet",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewPet"}}},
                },
                "responses": {
                    "201": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}}
                },
            },
        },
        "/pets/{petId}": {
            "parameters": [{"name": "petId", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "get": {
                "summary": "One pet",
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}}
                },
            },
        },
        "/pets/{petId}/photo": {
            "get": {
                "operationId": "photo",
                "parameters": [
                    {"name": "petId", "in": "path", "required": True, "schema": {"type": "integer"}}
                ],
                "responses": {"200": {"content": {"image/png": {}}}},
            },
        },
    },
    "components": {
        "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}},
        "schemas": {
            "Pet": PET,
            "NewPet": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string", "minLength": 1}, "tags": PET["properties"]["tags"]},
                "additionalProperties": False,
            },
        },
    },
}
PNG = b"\x89PNG\r\n\x1a\n"
SECRET = "shop-secret-1234567890"


class PetShop:
    """Answers 422 to whatever the document does not allow, so that a wrongly placed argument cannot pass."""

    def __init__(self) -> None:
        self.pets: dict[int, dict[str, Any]] = {1: {"id": 1, "name": "Rex", "tags": ["dog"]}}
        self.cookies_seen: list[str] = []
        self._new_pet = jsonschema_rs.validator_for(DOCUMENT["components"]["schemas"]["NewPet"])

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/v1/pets", self._list)
        app.router.add_post("/v1/pets", self._create)
        app.router.add_get("/v1/pets/{id}", self._one)
        app.router.add_get("/v1/pets/{id}/photo", self._photo)
        app.router.add_get("/slow", self._slow)
        app.router.add_get("/endless", self._endless)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.cookies_seen.append(request.headers.get("Cookie", ""))
        if request.path.startswith("/v1") and request.headers.get("X-Api-Key") != SECRET:
            return web.json_response({"error": "no such key"}, status=401)
        response: web.StreamResponse = await handler(request)
        return response

    async def _list(self, request: web.Request) -> web.Response:
        unknown = set(request.query) - {"limit", "tags"}
        limit = request.query.get("limit", "100")
        if unknown or not limit.isdigit() or int(limit) > 100:
            return web.json_response({"error": sorted(unknown) or limit}, status=422)
        tags = set(request.query.getall("tags", []))
        found = [pet for pet in self.pets.values() if tags <= set(pet.get("tags", []))]
        response = web.json_response(found[: int(limit)])
        response.set_cookie("session", "of-the-first-caller")
        return response

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if request.content_type != "application/json" or not self._new_pet.is_valid(body):
            return web.json_response({"error": body}, status=422)
        pet = {"id": len(self.pets) + 1} | body
        self.pets[pet["id"]] = pet
        return web.json_response(pet, status=201)

    async def _one(self, request: web.Request) -> web.Response:
        pet = self.pets.get(int(request.match_info["id"]))
        return web.json_response(pet) if pet else web.json_response({"error": "no such pet"}, status=404)

    async def _photo(self, _request: web.Request) -> web.Response:
        return web.Response(body=PNG, content_type="image/png")

    async def _slow(self, _request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise web.HTTPGone

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)


@contextmanager
def pet_shop() -> Iterator[tuple[PetShop, str]]:
    """The shop and its origin, `http://127.0.0.1:<port>`."""
    shop, loop = PetShop(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="pet-shop")
    thread.start()

    def do(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=10)

    runner = web.AppRunner(shop.application(), shutdown_timeout=0.1)
    do(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    do(site.start())
    try:
        yield shop, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        do(runner.cleanup())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
