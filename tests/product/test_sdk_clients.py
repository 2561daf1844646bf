"""The official SDKs' clients list and call the tools of an imported API."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.node.modules import FOLDER, NODE, installed_modules

Pets = tuple[str, str, str]


@pytest.mark.parametrize(("mode", "revision"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
def test_the_python_client_of_either_era_lists_and_calls(pets: Pets, mode: Any, revision: str) -> None:
    url, key, _ = pets

    async def use() -> None:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=30) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            assert client.protocol_version == revision
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert {"listPets", "createPet", "photo"} <= set(tools)
            made = await client.call_tool("createPet", {"name": "Ada", "tags": ["cat"]})
            assert made.structured_content["name"] == "Ada"
            cats = await client.call_tool("listPets", {"tags": ["cat"], "limit": 5})
            assert "Ada" in cats.content[0].text
            photo = await client.call_tool("photo", {"petId": 1})
            assert (photo.content[0].type, photo.content[0].mime_type) == ("image", "image/png")
            wrong = await client.call_tool("createPet", {"name": 7})
            assert wrong.is_error

    asyncio.run(use())


@pytest.fixture(scope="session")
def node_modules() -> Path:
    return installed_modules()


@pytest.mark.parametrize(
    ("sdk", "revision"), [("v1", "2025-11-25"), ("v2", "2026-07-28"), ("v2-handshake", "2025-11-25")]
)
def test_the_typescript_clients_list_and_call(
    pets: Pets, node_modules: Path, sdk: str, revision: str
) -> None:
    url, key, _ = pets
    script = [sdk, url, key, "listPets", '{"limit": 2}']
    done = subprocess.run(
        [*NODE, str(FOLDER / "list_and_call.mjs"), *script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["revision"] == revision
    assert "listPets" in said["tools"]
    assert "Rex" in said["result"]["content"][0]["text"]
