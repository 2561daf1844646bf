"""A browser for the dashboard, in which nothing may go wrong unseen.

With MOORING_TEST_PICTURES=<folder> tests leave pictures of what they saw there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, expect, sync_playwright

from tests.installation import Installation
from tests.product.processes import PATIENCE

# Chromium would otherwise look up hosts of its maker at every start.
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PASSWORD = "correct horse battery"
# How Chromium tells that a form was refused, which is the right answer to a form filled wrongly.
_REFUSED = re.compile(r"Failed to load resource: .* status of (400|422) ")
# The picture that markup of a test asks for; the policy would let it through.
PLANTED = "planted.png"
MARKUP = f'<script>alert(1)</script>"><img src={PLANTED} onerror=alert(2)>'


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
    expect.set_options(timeout=1_000 * PATIENCE)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=[("light", 1280), ("dark", 375)], ids=["light-wide", "dark-narrow"])
def page(request: pytest.FixtureRequest, browser: Browser, installation: Installation) -> Iterator[Page]:
    """Script errors, broken policies (which Chromium tells on the console), what planted markup asks for, and a page
    that scrolls sideways fail the test."""
    scheme, width = request.param
    context = browser.new_context(
        base_url=installation.origin, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    page = context.new_page()
    wrong: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error" and not _REFUSED.match(message.text):
            wrong.append(f"{page.url}: {message.text}")

    def asked(dialog: Dialog) -> None:
        wrong.append(f"{page.url} asks: {dialog.message}")
        dialog.dismiss()

    def loaded(sent: Request) -> None:
        if sent.resource_type == "image" and PLANTED in sent.url:
            wrong.append(f"{page.url} loads {sent.url}")

    page.on("console", heard)
    page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
    page.on("dialog", asked)
    page.on("request", loaded)
    page.set_default_timeout(1_000 * PATIENCE)
    yield page
    context.close()
    assert not wrong, "; ".join(wrong)


def sign_in(page: Page, tenant: str) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(f"{tenant}@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    submit(page, re.compile("^Sign in$"))


def submit(page: Page, button: str | re.Pattern[str]) -> None:
    """Send a form and wait for the page that answers it."""
    with page.expect_navigation(wait_until="load"):
        page.get_by_role("button", name=button).click()


def fits(page: Page) -> None:
    """No page scrolls sideways."""
    page.wait_for_load_state("load")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page.url


def keep_picture(page: Page, name: str) -> None:
    """Of a page that fits."""
    if folder := os.environ.get("MOORING_TEST_PICTURES"):
        scheme = "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
        page.screenshot(path=str(Path(folder) / f"{name}-{scheme}.png"), full_page=True)
    fits(page)
