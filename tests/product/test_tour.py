"""The README's tour in a browser: from signing up to a recorded call, wide and narrow, light and dark."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.installation import Installation

# Chromium would otherwise look up hosts of its maker at every start.
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def chromium() -> str:
    """A browser on this machine; where we may, it is installed first."""
    found = _found()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *step], check=False, capture_output=True, timeout=600)
        found = _found()
    if found is None:
        pytest.skip("No Chromium: install it, or name one in MOORING_TEST_CHROMIUM.")
    return found


def _found() -> str | None:
    named = os.environ.get("MOORING_TEST_CHROMIUM")
    return (
        named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=[("light", 1280), ("dark", 375)], ids=["light-wide", "dark-narrow"])
def page(request: pytest.FixtureRequest, browser: Browser, installation: Installation) -> Iterator[Page]:
    """A page on which nothing may go wrong unseen: script errors and broken policies fail the test."""
    scheme, width = request.param
    context = browser.new_context(
        base_url=installation.origin, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    page = context.new_page()
    wrong: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.set_default_timeout(40_000)
    yield page
    context.close()
    assert wrong == []


def sign_up(page: Page) -> str:
    """A new account, its address confirmed with the code from the inbox; returns the organisation's slug."""
    slug = f"org-{secrets.token_hex(4)}"  # never six digits, which the inbox is searched for
    page.goto("/")
    page.get_by_role("link", name="Make an account").click()
    page.get_by_label("Email").fill(f"{slug}@example.com")
    page.get_by_label("Password").fill("correct horse battery")
    submit(page, "Sign up")
    code_page = page.url
    page.goto("/inbox/")
    letter = page.get_by_text(re.compile(r"\b\d{6}\b")).first.inner_text()
    found = re.search(r"\b(\d{6})\b", letter)
    assert found
    page.goto(code_page)
    page.get_by_label("Code").fill(found[1])
    submit(page, re.compile("Confirm|Continue|Verify"))
    page.get_by_label("Name", exact=True).fill(f"Org {slug}")
    page.get_by_label(re.compile("URL")).fill(slug)
    submit(page, "Create the organisation")
    expect(page.get_by_role("heading", name="What to do next")).to_be_visible()
    return slug


def submit(page: Page, button: str | re.Pattern[str]) -> None:
    """Send a form and wait for the page that answers it."""
    with page.expect_navigation(wait_until="load"):
        page.get_by_role("button", name=button).click()


def fits(page: Page) -> None:
    """No page scrolls sideways."""
    page.wait_for_load_state("load")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page.url


def keep_picture(page: Page, name: str) -> None:
    """With MOORING_TEST_PICTURES=<folder> the tour leaves its pictures there."""
    if folder := os.environ.get("MOORING_TEST_PICTURES"):
        scheme = "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
        page.screenshot(path=str(Path(folder) / f"{name}-{scheme}.png"), full_page=True)
    fits(page)


def test_the_tour_from_signing_up_to_a_recorded_call(page: Page) -> None:
    tenant = sign_up(page)
    keep_picture(page, "overview-empty")
    page.goto(f"/app/{tenant}/servers/new/template/echo/")
    keep_picture(page, "template")
    submit(page, "Create the server")
    server = page.url.rstrip("/").split("/servers/")[1].split("/")[0]
    keep_picture(page, "server")
    page.goto(f"/app/{tenant}/servers/{server}/playground/?tool=echo")
    page.locator("form.form input[type=text], form.form textarea").first.fill("Ahoy")
    page.get_by_role("button", name="Call the tool").click()
    expect(page.locator("#answer")).to_contain_text("Ahoy")
    expect(page.locator("#answer")).to_contain_text("HTTP 200")
    keep_picture(page, "playground")
    page.goto(f"/app/{tenant}/servers/{server}/versions/")
    submit(page, "Publish and make live")
    expect(page.get_by_text("1.0.0").first).to_be_visible()
    keep_picture(page, "versions")
    page.goto(f"/app/{tenant}/keys/new/")
    page.get_by_label("Name", exact=True).fill("laptop")
    submit(page, "Create the key")
    key = re.search(r"moor_\w{38}", page.content())
    assert key
    page.goto(f"/app/{tenant}/servers/{server}/connect/")
    for client in (
        "Claude Code",
        "Claude Desktop",
        "Cursor",
        "VS Code",
        "Codex",
        "Python",
        "TypeScript",
        "curl",
    ):
        expect(page.get_by_text(client).first).to_be_attached()
    keep_picture(page, "connect")
    page.goto(f"/app/{tenant}/calls/")
    expect(page.get_by_text("tools/call").first).to_be_attached()
    keep_picture(page, "calls")
    page.goto(f"/app/{tenant}/audit/")
    expect(page.get_by_text("version.published").first).to_be_attached()
    keep_picture(page, "audit")
    for part in (
        "",
        "servers/",
        f"servers/{server}/tools/",
        f"servers/{server}/content/",
        "keys/",
        "settings/",
    ):
        page.goto(f"/app/{tenant}/{part}")
        keep_picture(page, part.strip("/").replace("/", "-").replace(server, "server") or "overview")


HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


def test_markup_in_every_field_stays_text(page: Page) -> None:
    tenant = sign_up(page)
    page.goto(f"/app/{tenant}/servers/new/content/")
    page.get_by_label("Name", exact=True).fill(HOSTILE)
    page.get_by_label(re.compile("URL")).fill("hostile")
    submit(page, re.compile("Create"))
    page.goto(f"/app/{tenant}/servers/hostile/")
    expect(page.get_by_text("<script>alert(1)</script>").first).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
    page.goto(f"/app/{tenant}/audit/")
    assert page.locator("img[src=x]").count() == 0
