"""Uploads of code, and what becomes of them without waiting for a worker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from mooring import jobs
from mooring.scope import system_scope, tenant_scope
from servers import services
from servers.models import (
    Build,
    Server,
)
from tests.coding import PROGRAM
from tests.conftest import World


@pytest.fixture
def weather(world: World) -> Server:
    with tenant_scope(world.acme.id):
        return services.create_server(world.acme, slug="weather", title="Weather", actor=world.actor)


def handed_in(world: World, server: Server, data: bytes = PROGRAM, **more: Any) -> Build:
    with tenant_scope(world.acme.id):
        return services.start_build(server, actor=world.actor, name="weather.py", data=data, **more)


def fresh(build: Build) -> Build:
    with tenant_scope(build.tenant_id):
        return Build.objects.select_related("job", "server", "upload").get(id=build.id)


def built(world: World, server: Server, data: bytes = PROGRAM, **more: Any) -> Build:
    build = handed_in(world, server, data, **more)
    assert build.job is not None
    assert jobs.run(build.job.id)
    return fresh(build)


def accepted(world: World, server: Server, data: bytes = PROGRAM, **more: Any) -> Build:
    build = built(world, server, data)
    with tenant_scope(world.acme.id):
        assert services.accept_build(build, actor=world.actor, **more) == []
        server.refresh_from_db()
    return build


def aged(*rows: Any, days: float = 31) -> None:
    with system_scope():
        for row in rows:
            type(row).objects.filter(id=row.id).update(created_at=timezone.now() - timedelta(days=days))
