"""Uploaded code in a browser: the log while it is built, the choice, what a new build changes, why one failed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from servers.runner.engine import Capabilities
from servers.runner.errors import Unbuildable
from tests.coding import PROGRAM, fake_runner, offering, tool
from tests.installation import Installation
from tests.product.browsing import browser, fits, keep_picture, page, sign_in, submit
from tests.product.processes import working
from tests.product.test_upstream_pages import asked
from tests.runners import FakeRunner

__all__ = ["browser", "fake_runner", "page"]
INSTRUCTIONS = "Ask for a city. Say where the weather comes from."


@pytest.fixture
def found_runner(installation: Installation, fake_runner: FakeRunner) -> Iterator[FakeRunner]:
    """Where the installation looks for its runner."""
    usual = Path(installation.environment["MOORING_DATA_DIR"]) / "runner"
    usual.symlink_to(fake_runner.folder)
    yield fake_runner
    usual.unlink()


@pytest.fixture
def runner(installation: Installation, found_runner: FakeRunner) -> Iterator[FakeRunner]:
    """A worker asks it."""
    with working(installation):
        yield found_runner


def choose(page: Page, program: bytes) -> None:
    sent: Any = {"name": "weather.py", "mimeType": "text/x-python", "buffer": program}
    page.get_by_label("Python file or archive").set_input_files(sent)


def test_code_is_uploaded_watched_while_it_is_built_and_taken(
    page: Page, installation: Installation, runner: FakeRunner
) -> None:
    tenant = installation.tenant()
    runner.do(lambda engine: engine.build_gate.clear())
    runner.engine.offer = offering(
        tool("forecast", "What the weather will be."),
        tool("alerts", "Warnings that hold now."),
        tool("history"),
        prompts=({"name": "brief", "description": "A briefing for the day."},),
        instructions=INSTRUCTIONS,
    )
    sign_in(page, tenant)
    page.goto(f"/app/{tenant}/servers/new/")
    keep_picture(page, "code-ways")
    page.get_by_role("link", name="Upload code").click()
    page.get_by_label("Name", exact=True).fill("Weather")
    choose(page, PROGRAM)
    page.get_by_text("What it is run with").click()
    page.get_by_label("Environment").fill("REGION=eu")
    page.get_by_label("Hosts it may reach").fill("api.example.com")
    keep_picture(page, "code-new")
    submit(page, "Upload and build")
    # The page stays where it is, and its log grows.
    page.evaluate("window.isTheSamePage = true")
    expect(page.locator("#log")).to_contain_text("try weather.py")
    expect(page.get_by_text("Starting it once to see what it offers…")).to_be_visible()
    assert page.evaluate("window.isTheSamePage")
    keep_picture(page, "code-building")
    runner.do(lambda engine: engine.build_gate.set())
    expect(page.get_by_role("heading", name="What it offers")).to_be_visible()
    expect(page.get_by_text("4 of 4 chosen")).to_be_visible()
    keep_picture(page, "code-built")
    page.get_by_role("checkbox", name="history").uncheck()
    submit(page, "Take it into the draft")
    expect(page.get_by_text("The draft runs this code now.")).to_be_visible()
    keep_picture(page, "code")
    page.goto(f"/app/{tenant}/servers/weather/versions/")
    submit(page, "Publish and make live")
    key = installation.key(tenant)
    assert (
        installation.ok("call", f"{tenant}/weather", "forecast", '{"city": "Bern"}', key=key)
        == '{"city":"Bern"}\n'
    )
    page.goto(f"/app/{tenant}/servers/weather/code/")
    expect(page.get_by_text("ready", exact=True)).to_be_visible()
    keep_picture(page, "code-processes")
    page.get_by_role("link", name="Logs").click()
    expect(page.locator(".log")).to_contain_text(" runs")
    keep_picture(page, "code-logs")
    page.go_back()
    submit(page, re.compile("^Restart"))
    expect(page.get_by_text("The next call starts it anew.")).to_be_visible()
    runner.engine.offer = offering(
        tool("forecast", "What the weather will be, day by day."),
        tool("history"),
        tool("tides", "High and low."),
    )
    choose(page, PROGRAM + b"#")
    submit(page, "Upload and build")
    expect(page.get_by_text("Compared with what the draft runs of main.")).to_be_visible()
    expect(page.get_by_text("2 parts the draft takes are not in it any more")).to_be_visible()
    expect(page.get_by_role("checkbox", name="history")).not_to_be_checked()
    page.get_by_text("forecast changed", exact=True).click()
    expect(page.locator(".diff .new")).to_contain_text("day by day")
    keep_picture(page, "code-compared")


def test_a_process_that_sleeps_is_shown_asleep_and_woken_by_a_call(
    page: Page, installation: Installation, found_runner: FakeRunner, tmp_path: Path
) -> None:
    tenant, program = installation.tenant(), tmp_path / "weather.py"
    program.write_bytes(PROGRAM)
    found_runner.engine.offer = offering(tool("forecast"))
    installation.ok("deploy", str(program), "--tenant", tenant, "--server", "weather", "--public")
    endpoint = f"{installation.origin}/t/{tenant}/weather/mcp"
    asked(endpoint, "tools/call", name="forecast", arguments={})
    found_runner.pass_(601)
    sign_in(page, tenant)
    page.goto(f"/app/{tenant}/servers/weather/code/")
    expect(page.get_by_text("asleep", exact=True)).to_be_visible()
    expect(page.get_by_text("it was idle")).to_be_visible()
    keep_picture(page, "code-asleep")
    page.get_by_role("link", name="Logs").click()
    expect(page.get_by_text("asleep", exact=True)).to_be_visible()
    page.evaluate("window.isTheSamePage = true")
    answer = asked(endpoint, "tools/call", name="forecast", arguments={"city": "Bern"})
    assert answer["content"][0]["text"] == '{"city":"Bern"}'
    # The page finds out by itself.
    expect(page.get_by_text("ready", exact=True)).to_be_visible()
    assert page.evaluate("window.isTheSamePage")
    assert found_runner.engine.starts == 2
    keep_picture(page, "code-awake")


def test_a_build_that_fails_and_a_machine_that_is_not_safe_are_told(
    page: Page, installation: Installation, runner: FakeRunner
) -> None:
    tenant = installation.tenant()
    block = '# /// script\n# requires-python = ">=3.11"\n# dependencies = [\n#   "mcp",\n#   "httpx",\n# ]\n# ///\n'
    runner.engine.offer = Unbuildable(
        "weather.py, line 3 imports httpx, which is not among the dependencies. Add this at the top of weather.py "
        f"(missing: httpx; a package may have another name than its module):\n{block}",
        block=block,
    )
    sign_in(page, tenant)
    page.goto(f"/app/{tenant}/servers/new/code/")
    page.get_by_label("Name", exact=True).fill("Weather")
    choose(page, PROGRAM)
    submit(page, "Upload and build")
    expect(page.get_by_role("alert")).to_contain_text("line 3 imports httpx")
    expect(page.locator("#paste")).to_contain_text("# requires-python")
    keep_picture(page, "code-failed")
    missing = ("Control groups are not writable. Start the runner as root.",)
    runner.engine.capabilities = Capabilities(engine="fake", missing=missing, allows_unsafe=True)
    unsafe = page.get_by_text("Uploaded code runs here although this machine cannot hold it")
    _reloaded_until(page, unsafe)
    keep_picture(page, "code-unsafe")
    runner.engine.capabilities = Capabilities(engine="fake", missing=missing)
    page.goto(f"/app/{tenant}/servers/weather/code/")
    _reloaded_until(page, page.get_by_text("Uploaded code cannot be run on this installation."))
    expect(page.get_by_label("Python file or archive")).to_have_count(0)
    keep_picture(page, "code-unavailable")
    fits(page)


def _reloaded_until(page: Page, sign: Any) -> None:
    """What is known of a runner is remembered for some seconds."""
    for _ in range(60):
        if sign.count():
            return
        page.wait_for_timeout(500)
        page.reload()
    raise AssertionError(sign)
