"""A server of Acme that is uploaded code, built and run by the runner that the gateway of the tests asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mooring.jobs.execution import run
from mooring.scope import tenant_scope
from servers import services, tasks
from servers.models import Build, Server
from servers.runner.instance import RULES, Rules
from servers.services import running
from tests.coding import PROGRAM
from tests.conftest import World
from tests.runners import FakeRunner, running_fake
from tests.servers.conftest import MODERN, GatewayDriver, Reply

Json = dict[str, Any]
assert tasks.build_code  # imported, so that workers' jobs are known


def runner_folder() -> Path:
    from django.conf import settings

    folder = Path(settings.RUNNER_DIR)
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def fake_runner_of_the_gateway(rules: Rules = RULES) -> Iterator[FakeRunner]:
    with running_fake(runner_folder(), rules) as runner:
        running.standing(anew=True)
        yield runner


class Coded:
    """`at` is `<tenant>/<server>`."""

    def __init__(self, world: World, gateway: GatewayDriver, slug: str = "coded") -> None:
        self.world, self.gateway = world, gateway
        self.at = f"{world.acme.slug}/{slug}"
        with tenant_scope(world.acme.id):
            made = services.create_server(world.acme, slug=slug, title=slug.title(), actor=world.actor)
        self.id = str(made.id)

    @property
    def server(self) -> Server:
        found: Server = Server.objects.get(id=self.id)
        return found

    def secret(self, name: str, value: str) -> None:
        with tenant_scope(self.world.acme.id):
            services.set_secret(self.server, actor=self.world.actor, name=name, value=value)

    def build(self, upload: bytes = PROGRAM, name: str = "weather.py", **settings: Any) -> Build:
        """Done by a worker and accepted with all it offers; `settings` are those of the upstream."""
        mode = {"mode": settings.pop("mode")} if "mode" in settings else {}
        with tenant_scope(self.world.acme.id):
            build = services.start_build(
                self.server, actor=self.world.actor, name=name, data=upload, settings=settings
            )
        assert build.job is not None
        run(build.job.id)
        with tenant_scope(self.world.acme.id):
            build = Build.objects.select_related("job", "server").get(id=build.id)
            assert build.artifact, (build.problem, build.log)
            assert services.accept_build(build, actor=self.world.actor, settings=mode) == []
        return build

    def change(self, change: Any) -> None:
        """`change` gets the draft's manifest and may alter it."""
        with tenant_scope(self.world.acme.id):
            manifest = services.draft_manifest(self.server)
            change(manifest)
            services.replace_draft(self.server, manifest, actor=self.world.actor)

    def publish(self) -> None:
        with tenant_scope(self.world.acme.id):
            services.publish(self.server, actor=self.world.actor)
        self.gateway.settle()


def text_of(result: Json) -> str:
    """Of a tool's answer that is well."""
    assert not result.get("isError"), result
    text: str = result["content"][0]["text"]
    return text


async def called(gateway: GatewayDriver, at: str, tool: str, arguments: Json, key: str) -> Reply:
    """One modern call, for tests that make many at once on the gateway's own loop."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": tool,
        "authorization": f"Bearer {key}",
    }
    return await gateway.send_async(f"/t/{at}/mcp", json.dumps(body).encode(), headers=headers)


async def until(is_true: Any, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not is_true():
            await asyncio.sleep(0.01)
