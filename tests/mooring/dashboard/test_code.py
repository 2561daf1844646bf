"""The pages about uploaded code: handed in, built, chosen from, changed, run."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from mooring.scope import tenant_scope
from servers import services
from servers.models import Build, Server, Tool
from servers.runner.engine import Capabilities, RunSpec
from servers.runner.errors import Unbuildable
from servers.services import running
from servers.services.builds import MAX_BYTES
from tests.coding import PROGRAM, coded, fake_runner, offering, tool
from tests.mooring.dashboard.conftest import EVIL, errors_of, fields_of
from tests.mooring.dashboard.test_pages import faults_of
from tests.mooring.dashboard.test_upstreams import text_of
from tests.runners import FakeRunner

if TYPE_CHECKING:
    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage

__all__ = ["coded", "fake_runner"]
HTMX = {"headers": {"HX-Request": "true"}}


def a_file(data: bytes = PROGRAM, name: str = "weather.py") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data)


@pytest.fixture
def weather(stage: Stage, alice: Client, coded: FakeRunner) -> str:
    """The page of the build of `weather`, a new server, that waits for a worker."""
    coded.engine.offer = offering(tool("forecast", f"Weather {EVIL}\u202e"), tool("alerts"))
    sent = {
        "name": "Weather",
        "file": a_file(),
        "environment": "# mine\nREGION=eu\n",
        "hosts": "api.example.com",
    }
    made = alice.post(f"{stage.base}servers/new/code/", sent)
    assert made.status_code == 302, errors_of(made)
    return str(made["Location"])


@pytest.fixture
def built(weather: str, run_jobs: Callable[[], None]) -> str:
    run_jobs()
    return weather


@pytest.fixture
def accepted(alice: Client, built: str) -> str:
    """The page Code of the server, once the build is accepted."""
    done = alice.post(built, ticked(alice, built, "forecast", "alerts"))
    assert done.status_code == 302
    return str(done["Location"])


def ticked(client: Client, page: str, *names: str) -> dict[str, Any]:
    """What the form would send with these parts ticked."""
    text = client.get(page).content.decode()
    rows = rows_of(text)
    return fields_of(text) | {"part": [rows[name].split('value="')[1].split('"')[0] for name in names]}


def rows_of(text: str) -> dict[str, str]:
    """The parts to choose from, by their names."""
    rows = [row.split("</label>")[0] for row in text.split('class="pickrow"')[1:]]
    return {row.split('<span class="mono">')[1].split("<")[0]: row for row in rows}


def upload(client: Client, code: str, data: bytes, **more: Any) -> Any:
    return client.post(code, {"file": a_file(data), "upstream": "main"} | more)


def server_of(stage: Stage) -> Server:
    found: Server = Server.objects.get(tenant=stage.world.acme, slug="weather")
    return found


def test_a_build_shows_its_log_and_progress_until_it_is_over(
    alice: Client, weather: str, run_jobs: Callable[[], None]
) -> None:
    assert "Waiting for a worker" in text_of(alice.get(weather))
    part = text_of(alice.get(weather, **HTMX))
    assert part.startswith("<section")
    assert "every 1s" in part
    run_jobs()
    over = alice.get(weather, **HTMX)
    assert (over.status_code, over["HX-Refresh"]) == (204, "true")
    text = text_of(alice.get(weather))
    assert "read weather.py" in text
    assert "RIGHT-TO-LEFT OVERRIDE" in text
    assert EVIL not in text
    assert faults_of(alice.get(weather)) == []


def test_all_of_a_first_build_is_proposed_and_what_is_ticked_is_taken(
    stage: Stage, alice: Client, built: str
) -> None:
    text = text_of(alice.get(built))
    assert text.count('name="part"') == text.count("checked") == 2
    assert fields_of(text)["environment"] == "REGION=eu"
    sent = ticked(alice, built, "forecast") | {"mode": "session", "hosts": "", "memory_mb": "128"}
    assert alice.post(built, sent).status_code == 302
    with tenant_scope(stage.world.acme.id):
        server = server_of(stage)
        assert [row.name for row in Tool.objects.filter(server=server)] == ["forecast"]
        code = Build.objects.get(server=server).artifact
        assert server.upstreams == {
            "main": {"code": code, "environment": {"REGION": "eu"}, "mode": "session", "memory_mb": 128}
        }


def test_what_the_code_is_run_with_is_checked_at_its_fields(alice: Client, built: str) -> None:
    for field, value in {"hosts": "https://x", "environment": "no equals", "memory_mb": "5"}.items():
        answer = alice.post(built, ticked(alice, built, "forecast") | {field: value})
        assert answer.status_code == 422, field
        assert errors_of(answer)
        # What was ticked stays ticked.
        assert answer.content.decode().count("checked") == 1


def test_a_new_build_shows_what_it_changes_and_leaves_out_what_was_left_out(
    stage: Stage, alice: Client, built: str, coded: FakeRunner, run_jobs: Callable[[], None]
) -> None:
    alice.post(built, ticked(alice, built, "forecast"))
    coded.engine.offer = offering(tool("forecast", "Another sentence."), tool("alerts"), tool("tides"))
    code = f"{stage.base}servers/weather/code/"
    again = upload(alice, code, PROGRAM + b"#2")["Location"]
    run_jobs()
    text = text_of(alice.get(again))
    assert "Compared with what the draft runs" in text
    rows = rows_of(text)
    assert [name for name, row in rows.items() if "checked" in row] == ["forecast", "tides"]
    assert ">changed<" in rows["forecast"]
    assert ">new<" in rows["tides"]
    assert "Another sentence." in text.split('class="diff"')[1]
    coded.engine.offer = offering(tool("alerts"))
    last = upload(alice, code, PROGRAM + b"#3")["Location"]
    run_jobs()
    assert "<code>forecast</code>" in text_of(alice.get(last))
    # What the upstream was run with is what the new build is run with.
    with tenant_scope(stage.world.acme.id):
        assert [build.settings["hosts"] for build in Build.objects.filter(server__slug="weather")] == [
            ["api.example.com"]
        ] * 3


def test_a_build_that_fails_shows_what_to_paste(
    stage: Stage, alice: Client, weather: str, coded: FakeRunner, run_jobs: Callable[[], None]
) -> None:
    block = '# /// script\n# dependencies = [\n#   "httpx",\n# ]\n# ///\n'
    coded.engine.offer = Unbuildable(
        f"weather.py, line 3 imports httpx {EVIL}. Add this at the top of weather.py:\n{block}", block=block
    )
    run_jobs()
    text = text_of(alice.get(weather))
    assert "line 3 imports httpx" in text
    assert text.count("# /// script") == 1
    assert EVIL not in text
    assert "Log of the build" in text
    assert "failed" in text_of(alice.get(f"{stage.base}servers/weather/code/"))
    coded.engine.offer = offering(tool("forecast"))
    again = alice.post(f"{weather}again/")
    run_jobs()
    assert "What it offers" in text_of(alice.get(again["Location"]))


def test_a_file_of_another_kind_is_refused_at_its_field(
    stage: Stage, alice: Client, coded: FakeRunner
) -> None:
    answer = alice.post(
        f"{stage.base}servers/new/code/", {"name": "Weather", "file": a_file(name="weather.js")}
    )
    assert answer.status_code == 422
    assert ".tar.gz" in str(errors_of(answer))
    with tenant_scope(stage.world.acme.id):
        assert not Server.objects.filter(slug="weather").exists()


def test_a_file_beyond_the_bound_is_refused_at_its_field(
    stage: Stage, alice: Client, coded: FakeRunner
) -> None:
    answer = upload(alice, f"{stage.base}servers/sky/code/", bytes(MAX_BYTES + 1))
    assert answer.status_code == 422
    assert "20 MB" in str(errors_of(answer))


def test_how_code_is_run_is_changed_without_a_build(stage: Stage, alice: Client, accepted: str) -> None:
    shown = fields_of(text_of(alice.get(accepted)))
    sent = {name: value for name, value in shown.items() if name.startswith("main-")}
    changed = alice.post(
        f"{accepted}upstreams/main/",
        sent | {"main-hosts": "one.example\ntwo.example", "main-environment": ""},
        follow=True,
    )
    assert "Saved in the draft." in text_of(changed)
    with tenant_scope(stage.world.acme.id):
        main = server_of(stage).upstreams["main"]
        assert (main["hosts"], "environment" in main) == (["one.example", "two.example"], False)
    refused = alice.post(f"{accepted}upstreams/main/", sent | {"main-hosts": "https://x"})
    assert refused.status_code in {302, 422}
    assert alice.post(f"{accepted}upstreams/nothing/", sent).status_code == 404


def test_the_pages_of_upstreams_leave_code_to_its_own_page(alice: Client, accepted: str) -> None:
    here = accepted.removesuffix("code/")
    tools = text_of(alice.get(f"{here}tools/"))
    (tool_page, *_) = re.findall(rf'"({here}tools/[0-9a-f-]{{36}}/)"', tools)
    assert "<dt>Code</dt>" in text_of(alice.get(tool_page))
    assert "No upstreams" in text_of(alice.get(f"{here}upstreams/"))
    assert alice.get(f"{here}upstream/main/")["Location"] == accepted
    assert faults_of(alice.get(accepted)) == []
    removed = alice.post(f"{here}upstream/main/delete/", follow=True)
    assert removed.redirect_chain == [(accepted, 302)]
    assert "No code yet" not in text_of(removed)
    assert "Artifact" not in text_of(removed)


def test_no_page_reads_what_was_uploaded(alice: Client, accepted: str, built: str) -> None:
    for page in (accepted, built):
        with CaptureQueriesContext(connection) as asked:
            text_of(alice.get(page))
        assert not [one["sql"] for one in asked if '"servers_upload"."data"' in one["sql"]]
        assert any("servers_upload" in one["sql"] for one in asked)


def test_processes_are_shown_with_their_logs_and_stopped(
    stage: Stage, alice: Client, accepted: str, coded: FakeRunner
) -> None:
    with tenant_scope(stage.world.acme.id):
        server = server_of(stage)
    started(coded, server)
    text = text_of(alice.get(accepted))
    assert ">ready<" in text
    assert "what it offers has changed" not in text
    coded.engine.servers[str(server.id)].list_changes = 1
    assert "what it offers has changed" in text_of(alice.get(accepted))
    logs = text_of(alice.get(f"{accepted}logs/"))
    assert f"{server.id} runs" in logs
    assert "every 2s" in text_of(alice.get(f"{accepted}logs/", **HTMX))
    instance = text.split("/instances/")[1].split("/")[0]
    stopped = alice.post(f"{accepted}instances/{instance}/stop/", follow=True)
    assert "The next call starts it anew." in text_of(stopped)
    assert ">ready<" not in text_of(alice.get(accepted))
    assert alice.post(f"{accepted}instances/{instance}/stop/").status_code == 404
    # What it has said is there still.
    assert f"{server.id} runs" in text_of(alice.get(f"{accepted}logs/"))


def started(coded: FakeRunner, server: Server) -> None:
    """As a call would."""
    from servers.services.running import _asked

    spec = RunSpec(
        tenant=str(server.tenant_id), server=str(server.id), digest=server.upstreams["main"]["code"]
    )
    _asked(lambda runner: runner.ensure(spec))


def test_another_organisations_processes_are_not_to_be_seen_or_stopped(
    stage: Stage, alice: Client, accepted: str, coded: FakeRunner, client_of: Callable[..., Client]
) -> None:
    with tenant_scope(stage.world.acme.id):
        server = server_of(stage)
    started(coded, server)
    instance = alice.get(accepted).content.decode().split("/instances/")[1].split("/")[0]
    with tenant_scope(stage.world.globex.id):
        services.create_server(stage.world.globex, slug="weather", title="W", actor=stage.world.actor)
    eve = client_of(stage.world.eve)
    theirs = f"/app/{stage.world.globex.slug}/servers/weather/code/"
    assert instance not in text_of(eve.get(theirs))
    assert instance[:8] not in text_of(eve.get(f"{theirs}logs/"))
    assert eve.post(f"{theirs}instances/{instance}/stop/").status_code == 404
    assert eve.get(accepted).status_code == 404


def test_without_a_runner_the_pages_say_why(
    stage: Stage, alice: Client, coded: FakeRunner, settings: Any
) -> None:
    settings.RUNNER_DIR = coded.folder / "nowhere"
    running.standing(anew=True)
    for page in ("servers/new/code/", "servers/sky/code/", "servers/sky/code/logs/"):
        text = text_of(alice.get(f"{stage.base}{page}"))
        assert "No runner is started here." in text
        assert 'type="file"' not in text
    assert alice.post(f"{stage.base}servers/new/code/", {"name": "W", "file": a_file()}).status_code == 503


def test_an_unsafe_runner_is_said_on_every_page(stage: Stage, alice: Client, coded: FakeRunner) -> None:
    coded.engine.capabilities = Capabilities(
        engine="fake", missing=("No control groups.",), allows_unsafe=True
    )
    running.standing(anew=True)
    for page in ("", "servers/", "servers/sky/", "servers/new/code/", "settings/"):
        text = text_of(alice.get(f"{stage.base}{page}"))
        assert "<strong>Unsafe.</strong>" in text
        assert "No control groups." in text
    coded.engine.capabilities = Capabilities(engine="fake", missing=("No control groups.",))
    running.standing(anew=True)
    assert "Unsafe" not in text_of(alice.get(f"{stage.base}servers/"))
    assert "cannot hold uploaded code: No control groups." in text_of(
        alice.get(f"{stage.base}servers/sky/code/")
    )
