"""What two tenants, or two tools of one, never share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from mooring.egress.guard import Guard
from mooring.egress.session import session
from servers.runtimes.base import ToolCall
from servers.runtimes.http.tool import compile_tool
from servers.runtimes.upstreams import Upstreams

if TYPE_CHECKING:
    from tests.servers.runtimes.conftest import Caller, Origin


async def test_a_cookie_baked_for_one_tenant_is_not_sent_for_another(call: Caller, origin: Origin) -> None:
    origin.replies("baked", Set_Cookie="session=of-acme; Path=/", Content_Type="text/plain")
    await call({})
    await call({})
    call.tenant = "globex"
    await call({})
    assert [request.headers.get("Cookie") for request in origin.received] == [None, None, None]


async def test_two_tenants_never_share_a_connection(call: Caller, origin: Origin) -> None:
    ports: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        return web.json_response(True)

    origin.answer = answer
    await call({})
    await call({})
    call.tenant = "globex"
    await call({})
    assert ports[0] == ports[1]
    assert ports[2] != ports[0]


async def test_a_tool_with_a_missing_secret_leaves_the_others_alone(call: Caller) -> None:
    constant = {"in": "header", "name": "X-Key", "value": "{secret:absent}"}
    assert (await call({"constants": [constant]})).failure == "secret_missing"
    assert not (await call({})).is_error


async def test_a_tool_can_be_compiled_on_any_thread(origin: Origin) -> None:
    known = Upstreams(lambda: session(Guard(allow=["127.0.0.0/8"])))
    tool = await asyncio.to_thread(
        compile_tool,
        {"method": "GET", "url": origin.url},
        variables={},
        secrets={},
        upstreams=known,
        tenant="acme",
    )
    assert not tool.is_immediate
    deadline = asyncio.get_running_loop().time() + 5
    assert not (await tool.call(ToolCall({}, deadline, 1_000))).is_error
    await known.close()
