"""The permission table: every route of every face, and who may use it. A new route without a row fails."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse
from django.utils import timezone

from mooring.accounts.models import User
from mooring.api import urls as api_urls
from mooring.dashboard import urls as dashboard_urls
from mooring.jobs.models import Job
from mooring.scope import tenant_scope
from servers import services
from servers.manifests import source_of
from servers.models import Build, CallRecord, Import, Prompt, Tool, Upload, UpstreamDefinition
from tenants.permissions import KEY_SCOPES, ROLES
from tenants.services import add_member, create_key
from tests.conftest import World, make_world, verified_user
from tests.servers.gateway.desk import MANIFEST

# What a member's role must hold; "" for any member, None for anybody at all, "user" for anybody signed in.
DASHBOARD: list[tuple[str, str, str | None]] = [
    ("GET", "home", None),
    ("GET", "public", None),
    ("GET", "choose", "user"),
    ("GET", "new_organisation", "user"),
    ("GET", "overview", "servers:read"),
    ("GET", "servers", "servers:read"),
    ("GET", "new_server", "servers:write"),
    ("GET", "new_from_openapi", "servers:write"),
    ("GET", "new_remote", "servers:write"),
    ("GET", "new_code", "servers:write"),
    ("GET", "new_with_tools", "servers:write"),
    ("GET", "new_with_content", "servers:write"),
    ("GET", "new_from_template", "servers:write"),
    ("GET", "imports", "servers:write"),
    ("GET", "import", "servers:write"),
    ("GET", "keys", "keys:read"),
    ("GET", "new_key", "keys:write"),
    ("GET", "calls", "calls:read"),
    ("GET", "call", "calls:read"),
    ("GET", "audit", "audit:read"),
    ("GET", "settings", ""),
    ("POST", "settings", "tenant:write"),
    ("GET", "server", "servers:read"),
    ("GET", "server_settings", "servers:read"),
    ("POST", "server_settings", "servers:write"),
    ("GET", "tools", "servers:read"),
    ("GET", "new_tool", "servers:write"),
    ("POST", "preview_tool", "servers:write"),
    ("GET", "tool", "servers:read"),
    ("POST", "tool", "servers:write"),
    ("POST", "toggle_tool", "servers:write"),
    ("GET", "content", "servers:read"),
    ("GET", "content_list", "servers:read"),
    ("GET", "new_content_row", "servers:write"),
    ("GET", "content_row", "servers:read"),
    ("POST", "content_row", "servers:write"),
    ("GET", "secrets", "servers:read"),
    ("POST", "secrets", "secrets:write"),
    ("POST", "variables", "servers:write"),
    ("POST", "live_variables", "servers:publish"),
    ("GET", "members", "servers:read"),
    ("POST", "members", "servers:write"),
    ("GET", "upstreams", "servers:read"),
    ("POST", "upstreams", "servers:write"),
    ("GET", "upstream", "servers:read"),
    ("POST", "upstream", "servers:write"),
    ("GET", "upstream_progress", "servers:read"),
    ("POST", "look_at_upstream", "servers:write"),
    ("POST", "take_parts", "servers:write"),
    ("POST", "accept_drift", "servers:publish"),
    ("GET", "code", "servers:read"),
    ("POST", "code", "servers:write"),
    ("GET", "build", "servers:read"),
    ("POST", "build", "servers:write"),
    ("POST", "build_again", "servers:write"),
    ("POST", "change_code", "servers:write"),
    ("GET", "logs", "servers:write"),
    ("POST", "stop_instance", "servers:operate"),
    ("GET", "operations", "servers:read"),
    ("POST", "operations", "servers:operate"),
    ("GET", "health", "servers:read"),
    ("GET", "playground", "servers:test"),
    ("GET", "versions", "servers:read"),
    ("POST", "versions", "servers:publish"),
    ("GET", "import_manifest", "servers:write"),
    ("GET", "draft_file", "servers:read"),
    ("GET", "version", "servers:read"),
    ("GET", "version_file", "servers:read"),
    ("POST", "make_live", "servers:publish"),
    ("GET", "connect", "servers:read"),
    ("POST", "run_playground", "servers:test"),
    # These take something away, so they come last.
    ("POST", "clear_override", "servers:operate"),
    ("POST", "delete_upstream", "servers:write"),
    ("POST", "delete_secret", "secrets:write"),
    ("POST", "delete_content_row", "servers:write"),
    ("POST", "delete_tool", "servers:write"),
    ("POST", "revoke_key", "keys:write"),
    ("POST", "delete_server", "servers:delete"),
]
DIGEST = "0" * 64
# What those who may are answered, where it is not 200. Forms that need more than `POSTED` say so by 422.
ANSWERED = {
    ("POST", name): status
    for status, names in {
        302: "settings variables live_variables make_live toggle_tool delete_secret delete_content_row "
        "delete_tool revoke_key delete_server look_at_upstream take_parts accept_drift clear_override "
        "delete_upstream change_code",
        422: "server_settings tool content_row secrets versions upstreams upstream operations members build",
        503: "run_playground code build_again stop_instance",  # no gateway and no runner are here
    }.items()
    for name in names.split()
} | {("GET", "upstream_progress"): 204}  # nothing is under way
# The inbox answers by where a request comes from, not by who sends it; it has tests of its own.
APART = {"inbox"}

API: list[tuple[str, str, str | None]] = [
    ("GET", "schema", None),
    ("GET", "docs", None),
    ("GET", "tenant", ""),
    ("GET", "servers", "servers:read"),
    ("POST", "servers", "servers:write"),
    ("GET", "server", "servers:read"),
    ("PATCH", "server", "servers:write"),
    ("GET", "draft", "servers:read"),
    ("PUT", "draft", "servers:write"),
    ("POST", "draft-import", "servers:write"),
    ("GET", "draft-import-result", "servers:write"),
    ("GET", "imports", "servers:write"),
    ("GET", "tools", "servers:read"),
    ("POST", "tools", "servers:write"),
    ("GET", "tool", "servers:read"),
    ("PUT", "tool", "servers:write"),
    ("GET", "versions", "servers:read"),
    ("POST", "versions", "servers:publish"),
    ("GET", "version", "servers:read"),
    ("POST", "rollback", "servers:publish"),
    ("GET", "channels", "servers:read"),
    ("PUT", "channel-variables", "servers:publish"),
    ("GET", "secrets", "servers:read"),
    ("PUT", "secret", "secrets:write"),
    ("GET", "upstreams", "servers:read"),
    ("GET", "upstream", "servers:read"),
    ("PUT", "upstream", "servers:write"),
    ("POST", "upstream-look", "servers:write"),
    ("GET", "upstream-listing", "servers:read"),
    ("POST", "upstream-take", "servers:write"),
    ("GET", "builds", "servers:read"),
    ("POST", "builds", "servers:write"),
    ("GET", "build", "servers:read"),
    ("POST", "build-again", "servers:write"),
    ("POST", "build-accept", "servers:write"),
    ("GET", "processes", "servers:read"),
    ("DELETE", "process", "servers:operate"),
    ("GET", "logs", "servers:write"),
    ("GET", "drifts", "servers:read"),
    ("POST", "drift-accept", "servers:publish"),
    ("GET", "health", "servers:read"),
    ("GET", "overrides", "servers:read"),
    ("PUT", "overrides", "servers:operate"),
    ("GET", "keys", "keys:read"),
    ("POST", "keys", "keys:write"),
    ("GET", "calls", "calls:read"),
    ("GET", "audit", "audit:read"),
    ("DELETE", "override", "servers:operate"),
    ("DELETE", "upstream", "servers:write"),
    ("DELETE", "secret", "secrets:write"),
    ("DELETE", "tool", "servers:write"),
    ("DELETE", "key", "keys:write"),
    ("DELETE", "server", "servers:delete"),
]


@dataclass(frozen=True, slots=True)
class Stage:
    world: World
    names: dict[str, Any]
    people: dict[str, User]
    keys: dict[str, str]


@pytest.fixture(scope="module")
def stage(database: None) -> Stage:
    return make_stage()


@pytest.fixture(scope="module")
def api_stage(database: None) -> Stage:
    """Apart, since the last rows of each table delete the server."""
    return make_stage()


def make_stage() -> Stage:
    """One server with everything on it, a member of every role, and a key of each."""
    world = make_world()
    acme = world.acme
    people = {role: verified_user(f"{role}@{acme.slug}.example") for role in ROLES if role != "owner"}
    with tenant_scope(acme.id):
        for role, user in people.items():
            add_member(acme, user=user, role=role, actor=world.actor)
        server = services.create_server(acme, slug="desk", title="Desk", actor=world.actor, is_public=True)
        services.replace_draft(server, MANIFEST, actor=world.actor)
        services.save_upstream(
            server, actor=world.actor, name="peer", definition={"url": "https://far.example"}
        )
        UpstreamDefinition.objects.create(
            tenant=acme,
            server=server,
            source=source_of(server.upstreams["peer"]),
            section="tools",
            name="far",
            digest=DIGEST,
            definition={"name": "far", "inputSchema": {"type": "object"}},
        )
        upload = Upload.objects.create(
            tenant=acme, server=server, name="x.py", digest=DIGEST, size=1, data=b"x"
        )
        built = Build.objects.create(
            tenant=acme,
            server=server,
            upload=upload,
            upstream="program",
            artifact=DIGEST,
            when=timezone.now(),
            finished_at=timezone.now(),
        )
        services.accept_build(built, actor=world.actor)
        services.publish(server, actor=world.actor)
        services.set_secret(server, name="token", value="hush", actor=world.actor)
        override = services.set_override(server, actor=world.actor, kind="disable", tool="echo")
        job = Job.objects.create(tenant=acme, kind="openapi.import")
        row = Import.objects.create(tenant=acme, name="x", job=job)
        called = CallRecord.objects.create(
            tenant=acme,
            server_id=server.id,
            server_slug="desk",
            time=timezone.now(),
            request_id="r",
            principal_kind="user",
            method="tools/call",
            duration_us=1,
            request_bytes=1,
            answer_bytes=1,
        )
        people["owner"] = world.alice
        keys = {role: _key(world, user) for role, user in people.items()}
        names = {
            "tenant": acme.slug,
            "server": "desk",
            "slug": "desk",
            "template": "echo",
            "tool": Tool.objects.filter(server=server)[0].id,
            "row": row.id,
            "import_id": row.id,
            "kind": "prompts",
            "number": "1.0.0",
            "name": "echo",
            "channel": "live",
            "key": create_key(acme, name="k", user=world.alice, actor=world.actor).row.id,
            "override": override.id,
            "build": built.id,
            "call": called.id,
            "instance": "0" * 32,
            "prompt": Prompt.objects.filter(server=server)[0].id,
        }
    keys["outsider"] = _foreign_key(world)
    return Stage(world, names, people | {"outsider": world.eve}, keys)


def _key(world: World, user: User) -> str:
    scopes = sorted(KEY_SCOPES)
    return create_key(world.acme, name="all", user=user, actor=world.actor, scopes=scopes).secret


def _foreign_key(world: World) -> str:
    with tenant_scope(world.globex.id):
        scopes = sorted(KEY_SCOPES)
        return create_key(world.globex, name="all", user=world.eve, actor=world.actor, scopes=scopes).secret


def routes(patterns: list[URLPattern | URLResolver]) -> dict[str, list[str]]:
    """Name → names of its parameters."""
    found: dict[str, list[str]] = {}
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            outer = list(pattern.pattern.converters)
            for name, inner in routes(pattern.url_patterns).items():
                found[name] = [*outer, *inner]
        elif pattern.name:
            found[pattern.name] = list(pattern.pattern.converters)
    return found


DASHBOARD_ROUTES = routes(dashboard_urls.urlpatterns)
API_ROUTES = routes(api_urls.urlpatterns)


def test_every_route_has_a_row() -> None:
    assert {name for _, name, _ in DASHBOARD} | APART == set(DASHBOARD_ROUTES)
    assert {name for _, name, _ in API} | {"missing"} == set(API_ROUTES)


def values(stage: Stage, name: str, parameters: list[str]) -> dict[str, Any]:
    chosen = {parameter: stage.names[PARAMETER.get(parameter, parameter)] for parameter in parameters}
    if "row" in chosen and "content_row" in name:
        chosen["row"] = stage.names["prompt"]
    if "build" in name and "row" in chosen:
        chosen["row"] = stage.names["build"]
    if name == "change_code":
        chosen["name"] = "program"
    if name == "call":
        chosen["row"] = stage.names["call"]
    if name == "clear_override":
        chosen["row"] = stage.names["override"]
    if "name" in chosen and ("upstream" in name or name in UPSTREAM_ROUTES):
        chosen["name"] = "peer"
    if name.endswith("_file"):
        chosen["kind"] = "yaml"
    return chosen


PARAMETER = {"key_id": "key", "override_id": "override", "build_id": "build"}
UPSTREAM_ROUTES = {"take_parts", "accept_drift"}
# Names a row where a form needs one to find anything.
POSTED = f"name=token&tool=echo&section=tools&part=far&digest={DIGEST}"


@pytest.mark.parametrize(("verb", "name", "needed"), DASHBOARD)
def test_pages_open_for_those_who_may(stage: Stage, verb: str, name: str, needed: str | None) -> None:
    url = reverse(f"dashboard:{name}", kwargs=values(stage, name, DASHBOARD_ROUTES[name]))
    anonymous = Client().generic(verb, url)
    if needed is None:
        assert anonymous.status_code == 200
        return
    assert anonymous.status_code == 302
    assert anonymous["Location"].startswith("/accounts/login/")
    for role in ("outsider", *sorted(ROLES, key=lambda role: len(ROLES[role]))):
        client = Client()
        client.force_login(stage.people[role])
        status = client.generic(
            verb, url, POSTED, content_type="application/x-www-form-urlencoded"
        ).status_code
        if needed == "user":
            assert status in {200, 302}, role
        elif role == "outsider":
            assert status == 404
        elif needed and needed not in ROLES[role]:
            assert status == 403, role
        else:
            assert status == ANSWERED.get((verb, name), 200), role
            if verb == "POST" and name.startswith(("delete", "revoke", "clear")):
                return  # it is gone now


@pytest.mark.parametrize(("verb", "name", "needed"), API)
def test_the_api_answers_those_who_may(api_stage: Stage, verb: str, name: str, needed: str | None) -> None:
    stage = api_stage
    url = reverse(f"api:{name}", kwargs=values(stage, name, API_ROUTES[name]))
    if name == "secret":
        url = url.replace("/echo", "/token")
    if needed is None:
        assert Client().generic(verb, url).status_code == 200
        return
    assert asked(verb, url, "").status_code == 401
    assert asked(verb, url, "moor_" + "a" * 38).status_code == 401
    is_listing = not API_ROUTES[name] or name == "tenant"
    outside = asked(verb, url, stage.keys["outsider"])
    assert stage.world.acme.slug not in outside.content.decode().replace(f'"{url}"', "")
    assert is_listing or outside.status_code == 404
    for role in sorted(ROLES, key=lambda role: len(ROLES[role])):
        status = asked(verb, url, stage.keys[role]).status_code
        if needed and needed not in ROLES[role] & KEY_SCOPES:
            assert status == 403, role
        else:
            assert status not in {401, 403, 404, 405, 500}, f"{role}: {status}"
            if verb == "DELETE":
                return


def asked(verb: str, url: str, key: str) -> Any:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return Client().generic(verb, url, json.dumps({}), content_type="application/json", headers=headers)
