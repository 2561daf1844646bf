"""Origins for tools to call.

`pet_shop` is a small API to import: it checks every request against its own document and answers from memory.
`rude_origin` breaks the rules of HTTP in as many ways as it has paths.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import jsonschema_rs
from aiohttp import web

Do = Callable[[Coroutine[Any, Any, Any]], Any]
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


@contextmanager
def pet_shop() -> Iterator[tuple[PetShop, str]]:
    """The shop and its origin, `http://127.0.0.1:<port>`."""
    shop = PetShop()
    with own_loop() as do:
        runner = web.AppRunner(shop.application(), shutdown_timeout=0.1)
        do(runner.setup())
        try:
            do(web.TCPSite(runner, "127.0.0.1", 0).start())
            yield shop, f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            do(runner.cleanup())


@contextmanager
def own_loop() -> Iterator[Do]:
    """`do(coroutine)` runs it on a loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="origin")
    thread.start()

    def do(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=10)

    try:
        yield do
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


FORGED = b'{"forged": true}'
_JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
FINE = _JSON_HEAD + b"Content-Length: 14\r\n\r\n" + b'{"fine": true}'
_SECOND_ANSWER = _JSON_HEAD + b"Content-Length: %d\r\n\r\n" % len(FORGED) + FORGED
# What is said before the connection is closed.
_SAID = {
    "/too-short": _JSON_HEAD + b'Content-Length: 100\r\n\r\n{"fine"',
    "/no-http": b"SSH-2.0-OpenSSH_9.6\r\n",
    "/negative-length": _JSON_HEAD + b"Content-Length: -5\r\n\r\nabcde",
    "/two-lengths": _JSON_HEAD + b"Content-Length: 2\r\nContent-Length: 14\r\n\r\n" + b'{"fine": true}',
    "/bad-chunk": _JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "/no-gzip": _JSON_HEAD + b'Content-Encoding: gzip\r\nContent-Length: 14\r\n\r\n{"fine": true}',
    "/nothing": b"",
}


class RudeOrigin:
    """What it does to a connection is named by the path of the request. `open` counts connections by path."""

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
            writer.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller has gone
        finally:
            if not writer.is_closing():
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_usable = True
        while is_usable:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            self.requests[path] += 1
            self.open[path] += 1
            try:
                is_usable = await self._treat(path, reader, writer)
            finally:
                self.open[path] -= 1

    async def _treat(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection can be used again."""
        if path in _SAID:
            writer.write(_SAID[path])
            return False
        await getattr(self, path[1:].replace("-", "_"))(writer)
        if path in {"/fine", "/too-long"}:
            return True
        await reader.read()  # until the caller has closed
        return False

    async def fine(self, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE)

    async def too_long(self, writer: asyncio.StreamWriter) -> None:
        """Behind the length it gave itself it goes on with what looks like the next answer."""
        writer.write(FINE + _SECOND_ANSWER)

    async def hanging(self, writer: asyncio.StreamWriter) -> None:
        """Never answers."""

    async def endless(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async def endless_head(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: " + b"x" * 1_000 + b"\r\n")
            await writer.drain()

    async def slow(self, writer: asyncio.StreamWriter) -> None:
        writer.write(_JSON_HEAD + b"Content-Length: 100000\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def half_closed(self, writer: asyncio.StreamWriter) -> None:
        """Ends its own side without an answer, and keeps the other one open."""
        writer.write_eof()

    async def half_closed_within(self, writer: asyncio.StreamWriter) -> None:
        writer.write(_SAID["/too-short"])
        writer.write_eof()

    async def cut(self, writer: asyncio.StreamWriter) -> None:
        """The connection is reset."""
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()


@contextmanager
def rude_origin() -> Iterator[tuple[RudeOrigin, str]]:
    """It and its origin, `http://127.0.0.1:<port>`."""
    rude = RudeOrigin()
    with own_loop() as do:
        server = do(asyncio.start_server(rude.meet, "127.0.0.1", 0))
        try:
            yield rude, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            do(_closed(server))


async def _closed(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)  # in which their connections are closed
