"""Uploaded code over the REST API: handed in, built, followed, accepted, built anew."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from mooring import jobs
from mooring.jobs.models import Job
from mooring.scope import tenant_scope
from servers import tasks
from servers.models import Build, Upload
from servers.runner.engine import Capabilities
from servers.runner.errors import Unbuildable
from servers.services.builds import MAX_BYTES
from tests.coding import PROGRAM, coded, fake_runner, offering, tool
from tests.conftest import World
from tests.mooring.api.conftest import Api
from tests.runners import FakeRunner

__all__ = ["coded", "fake_runner"]
assert tasks.build_code  # imported, so that workers' jobs are known


@pytest.fixture
def work(world: World) -> Callable[[], None]:
    """Does what workers would do."""

    def do() -> None:
        with tenant_scope(world.acme.id):
            waiting = list(Job.objects.filter(state="waiting").values_list("id", flat=True))
        for job in waiting:
            jobs.run(job)

    return do


def hand_in(
    owner: Api, data: bytes = PROGRAM, name: str = "weather.py", once: str = "", **fields: Any
) -> Any:
    """`fields` are the other parts of the form."""
    from django.core.files.uploadedfile import SimpleUploadedFile
    from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

    body = encode_multipart(BOUNDARY, {"file": SimpleUploadedFile(name, data), **fields})
    client: Client = owner._client
    headers = {"Idempotency-Key": once} if once else {}
    return client.generic(
        "POST", "/api/v1/servers/echo/builds", body, content_type=MULTIPART_CONTENT, headers=headers
    )


def test_code_is_handed_in_built_accepted_and_served_from_the_draft(
    owner: Api, server: str, coded: FakeRunner, work: Callable[[], None]
) -> None:
    coded.engine.offer = offering(tool("forecast", "Weather to come."), tool("echo"))
    made = hand_in(
        owner,
        environment='{"TOKEN": "{secret:token}", "REGION": "eu"}',
        hosts=["api.example.com"],
        memory_mb=512,
    )
    assert (made.status_code, made.json()["state"]) == (202, "waiting"), made.content
    owner.put("servers/echo/secrets/token", {"value": "hush-hush"})
    work()
    ((spec, upload),) = coded.engine.builds
    assert (upload, spec.name, spec.variables, spec.secrets) == (
        PROGRAM,
        "weather.py",
        {"REGION": "eu"},
        {"TOKEN": "hush-hush"},
    )
    assert (spec.hosts, spec.limits.memory) == (("api.example.com",), 512 * 2**20)
    at = f"servers/echo/builds/{made.json()['id']}"
    built = owner.get(at).json()
    assert (built["state"], built["percent"], built["packages"]) == ("done", 100, ["mcp==1.30.0"])
    assert [(part["name"], part["change"]) for part in built["parts"]] == [("forecast", None), ("echo", None)]
    assert built["about"]["name"] == "fake"
    assert "read weather.py\n" in built["log"]
    assert "hush-hush" not in json.dumps(built)
    taken = owner.post(f"{at}/accept").json()
    assert taken["refused"] == []
    assert taken["upstream"]["definition"] == {
        "code": built["artifact"],
        "environment": {"REGION": "eu", "TOKEN": "{secret:token}"},
        "hosts": ["api.example.com"],
        "memory_mb": 512,
    }
    assert (taken["upstream"]["taken"], taken["upstream"]["listed"]) == (2, 2)
    # The server had a tool named echo already.
    names = [row["name"] for row in owner.get("servers/echo/tools").json()["data"]]
    assert sorted(names) == ["echo", "echo_2", "forecast"]
    assert owner.get(at).json()["state"] == "accepted"
    assert owner.post("servers/echo/versions", {}).status_code == 201


def test_a_log_is_sent_from_where_the_reader_is(
    owner: Api, server: str, coded: FakeRunner, work: Callable[[], None]
) -> None:
    made = hand_in(owner).json()
    work()
    whole = owner.get(f"servers/echo/builds/{made['id']}").json()
    rest = owner.get(f"servers/echo/builds/{made['id']}?log_from=5").json()
    assert (rest["log"], rest["log_from"], rest["log_next"]) == (whole["log"][5:], 5, whole["log_next"])
    beyond = owner.get(f"servers/echo/builds/{made['id']}?log_from={whole['log_next']}").json()
    assert (beyond["log"], beyond["log_next"]) == ("", whole["log_next"])


def test_what_a_new_build_changes_is_told_before_it_is_taken(
    owner: Api, server: str, coded: FakeRunner, work: Callable[[], None]
) -> None:
    coded.engine.offer = offering(tool("one"), tool("two"), tool("three"))
    first = hand_in(owner).json()
    work()
    chosen = {"parts": [{"section": "tools", "name": name} for name in ("one", "two")]}
    assert owner.post(f"servers/echo/builds/{first['id']}/accept", chosen).status_code == 200
    coded.engine.offer = offering(tool("two", "Other."), tool("three"), tool("four"))
    second = hand_in(owner, PROGRAM + b"#").json()
    work()
    detail = owner.get(f"servers/echo/builds/{second['id']}").json()
    assert {part["name"]: part["change"] for part in detail["parts"]} == {
        "two": "changed",
        "three": "same",
        "four": "new",
    }
    assert detail["gone"] == [{"section": "tools", "name": "one"}]
    # Nothing has changed before somebody accepts it.
    assert owner.get("servers/echo/upstreams/main").json()["taken"] == 2
    done = owner.post(f"servers/echo/builds/{second['id']}/accept").json()
    assert (done["upstream"]["taken"], done["upstream"]["changed"]) == (3, 0)
    assert done["upstream"]["definition"]["code"] == detail["artifact"]


def test_an_upload_that_cannot_be_built_says_what_to_paste_where(
    owner: Api, server: str, coded: FakeRunner, work: Callable[[], None]
) -> None:
    block = '# /// script\n# dependencies = [\n#   "httpx",\n# ]\n# ///\n'
    coded.engine.offer = Unbuildable(f"Add this at the top:\n{block}", file="weather.py", line=3, block=block)
    made = hand_in(owner).json()
    work()
    failed = owner.get(f"servers/echo/builds/{made['id']}").json()
    assert (failed["state"], failed["failure"]["line"], failed["failure"]["block"]) == ("failed", 3, block)
    assert failed["error"].startswith("Add this at the top")
    assert "read weather.py" in failed["log"]
    refused = owner.post(f"servers/echo/builds/{made['id']}/accept")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "build_unfinished")


def test_a_secret_without_a_value_is_named_and_the_same_upload_built_once_more(
    owner: Api, server: str, coded: FakeRunner, work: Callable[[], None]
) -> None:
    made = hand_in(owner, environment='{"TOKEN": "{secret:token}"}').json()
    assert owner.get("servers/echo/secrets").json()["missing"] == ["token"]
    work()
    failed = owner.get(f"servers/echo/builds/{made['id']}").json()
    assert (failed["state"], failed["failure"]["code"]) == ("failed", "secret_missing")
    owner.put("servers/echo/secrets/token", {"value": "hush-hush"})
    again = owner.post(f"servers/echo/builds/{made['id']}/again")
    assert again.status_code == 202
    work()
    assert owner.get(f"servers/echo/builds/{again.json()['id']}").json()["state"] == "done"


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"name": "weather.js"}, "file"),
        ({"data": b""}, "file"),
        ({"upstream": "Main"}, "name"),
        ({"environment": '{"A B": "x"}'}, "environment"),
        ({"environment": '{"TOKEN": "written out"}'}, "environment.TOKEN"),
        ({"environment": '{"A": "{nowhere}"}'}, "environment.A"),
        ({"environment": "no JSON"}, "environment"),
        ({"hosts": ["https://x"]}, "hosts[0]"),
        ({"memory_mb": 5}, "memory_mb"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(
    owner: Api, server: str, coded: FakeRunner, fields: dict[str, Any], at: str
) -> None:
    refused = hand_in(owner, **fields)
    assert refused.status_code == 422, refused.content
    assert at in refused.json()["error"]["data"]["fields"]


def test_an_upload_beyond_the_bound_is_too_large(owner: Api, server: str, coded: FakeRunner) -> None:
    assert hand_in(owner, bytes(MAX_BYTES + 1)).status_code == 413
    assert hand_in(owner, bytes(MAX_BYTES + 2**20)).status_code == 413


def test_twenty_mebibytes_are_taken(
    owner: Api, server: str, coded: FakeRunner, work: Callable[[], None]
) -> None:
    data = PROGRAM + bytes(MAX_BYTES - len(PROGRAM))
    made = hand_in(owner, data, "big.zip").json()
    assert (made["size"], made["sha256"]) == (MAX_BYTES, hashlib.sha256(data).hexdigest())
    work()
    assert coded.engine.builds[0][1] == data


def test_an_upload_that_is_repeated_is_taken_once(
    owner: Api, server: str, coded: FakeRunner, world: World
) -> None:
    first, second = (hand_in(owner, once="a-key") for _ in range(2))
    assert first.json() == second.json()
    assert second["Idempotency-Replayed"] == "true"
    with tenant_scope(world.acme.id):
        assert Build.objects.count() == 1
    other = hand_in(owner, PROGRAM + b"#", once="a-key")
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_where_nothing_can_be_run_the_reason_is_said(owner: Api, server: str, coded: FakeRunner) -> None:
    coded.engine.capabilities = Capabilities(engine="fake", missing=("No control groups.",))
    refused = hand_in(owner)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "code_unavailable")
    assert "No control groups." in refused.json()["error"]["message"]


def test_another_organisations_builds_and_code_are_missing(
    owner: Api,
    server: str,
    coded: FakeRunner,
    work: Callable[[], None],
    world: World,
    api: Callable[..., Api],
) -> None:
    made = hand_in(owner).json()
    work()
    built = owner.get(f"servers/echo/builds/{made['id']}").json()
    foreign = api(world.globex)
    foreign.post("servers", {"slug": "echo", "title": "Echo"})
    assert foreign.get(f"servers/echo/builds/{made['id']}").status_code == 404
    assert foreign.post(f"servers/echo/builds/{made['id']}/accept").status_code == 404
    named = {"code": built["artifact"]}
    for refused in (
        foreign.put("servers/echo/upstreams/main", named),
        foreign.put(
            "servers/echo/draft", {"mooring": 1, "server": {"title": "E"}, "upstreams": {"main": named}}
        ),
    ):
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "strange_code")
    # In its own organisation it may be named anywhere.
    owner.post("servers", {"slug": "other", "title": "Other"})
    assert owner.put("servers/other/upstreams/main", named).status_code == 200


def test_a_build_of_another_server_is_missing(owner: Api, server: str, coded: FakeRunner) -> None:
    made = hand_in(owner).json()
    owner.post("servers", {"slug": "other", "title": "Other"})
    assert owner.get(f"servers/other/builds/{made['id']}").status_code == 404
    assert owner.get(f"servers/echo/builds/{uuid.uuid4()}").status_code == 404
    assert owner.get("servers/echo/builds/x").status_code == 404


def test_the_same_file_is_kept_once(owner: Api, server: str, coded: FakeRunner, world: World) -> None:
    hand_in(owner)
    hand_in(owner)
    with tenant_scope(world.acme.id):
        assert (Upload.objects.count(), Build.objects.count()) == (1, 2)
    rows = owner.get("servers/echo/builds").json()["data"]
    assert len(rows) == 2
    assert "log" not in rows[0]
