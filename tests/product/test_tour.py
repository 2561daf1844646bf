"""The README's tour in a browser, as a new user takes it: by clicks alone, wide and narrow, light and dark."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import httpx2
import pytest
import yaml
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from playwright.sync_api import Locator, Page, expect

from tests.installation import Installation
from tests.origin import DOCUMENT, SECRET, PetShop
from tests.product.browsing import MARKUP, PASSWORD, PLANTED, browser, fits, keep_picture, page, submit
from tests.product.processes import ProcessDriver, promised, until, working

__all__ = ["browser", "page"]
CLIENTS = ("Claude Code", "Claude Desktop", "Cursor", "VS Code", "Codex", "Python", "TypeScript", "curl")


@pytest.fixture(scope="module", autouse=True)
def worker(installation: Installation) -> Iterator[None]:
    with working(installation):
        yield


class Visitor:
    """Somebody who reads the pages and clicks. One with a narrow screen puts markup into everything they write."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.is_narrow = page.evaluate("window.innerWidth") < 900

    def says(self, text: str) -> str:
        return f"{text} {MARKUP}" if self.is_narrow else text

    def sees(self, name: str) -> None:
        """A picture of the page, on which markup is text."""
        keep_picture(self.page, f"tour-{name}")
        assert self.page.locator(f'img[src="{PLANTED}"]').count() == 0

    def fills(self, label: str | re.Pattern[str], text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)

    def follows(self, link: str | re.Pattern[str], within: Page | Locator | None = None) -> None:
        with self.page.expect_navigation(wait_until="load"):
            (within or self.page).get_by_role("link", name=link, exact=True).first.click()

    def goes_to(self, section: str) -> None:
        """By the menu at the side, which a narrow screen has to open first."""
        if self.is_narrow:
            self.page.get_by_role("button", name="Open the menu").click()
        self.follows(section, self.page.get_by_role("navigation", name="Organisation"))

    def opens(self, tab: str) -> None:
        """Of the server."""
        self.follows(tab, self.page.get_by_role("navigation", name="Server"))

    def confirms(self, question: str, answer: str) -> None:
        self.page.get_by_role("button", name=question).first.click()
        submit(self.page, answer)


def test_a_new_user_takes_the_whole_tour_by_clicks(page: Page, shop: tuple[PetShop, str]) -> None:
    page.goto("/")
    visitor = Visitor(page)
    sign_up(visitor)
    name_the_organisation(visitor)
    import_the_pets(visitor)
    point_it_at(visitor, shop[1])
    describe_a_tool(visitor, shop[1])
    try_it(visitor)
    publish(visitor, "1.0.0")
    key = make_a_key(visitor)
    url = connect(visitor)
    assert tools_of(url, key) == ["listPets", "get_pets_by_petId"]
    assert "Rex" in called(url, key, "listPets", {"limit": 5})
    find_the_call(visitor)
    switch_a_tool_off(visitor)
    publish(visitor, "2.0.0")
    assert tools_of(url, key) == ["listPets"]
    roll_back(visitor)
    assert tools_of(url, key) == ["listPets", "get_pets_by_petId"]
    revoke_the_key(visitor, url, key)
    make_it_public(visitor)
    assert tools_of(url, "") == ["listPets", "get_pets_by_petId"]
    read_the_audit_log(visitor)


def sign_up(visitor: Visitor) -> None:
    page, mark = visitor.page, secrets.token_hex(4)
    visitor.sees("landing")
    visitor.follows("Make an account")
    visitor.sees("sign-up")
    visitor.fills("Email", f"{mark}@example.com")
    visitor.fills("Password", PASSWORD)
    submit(page, "Sign up")
    visitor.sees("code")
    visitor.follows("Read the mail in the development inbox")
    letter = page.get_by_role("article").filter(has_text=f"{mark}@example.com").first
    code = letter.locator(".bigcode").inner_text()
    visitor.sees("inbox")
    visitor.follows("Back to where you were")
    visitor.fills("Code", code)
    submit(page, re.compile("Confirm|Continue|Verify"))


def name_the_organisation(visitor: Visitor) -> None:
    visitor.sees("organisation")
    visitor.fills("Name", visitor.says("Pet lovers"))
    visitor.fills(re.compile("^Name in URLs"), f"org-{secrets.token_hex(4)}")
    submit(visitor.page, "Create the organisation")
    expect(visitor.page.get_by_role("heading", name="What to do next")).to_be_visible()
    visitor.sees("first-steps")


def document(visitor: Visitor) -> str:
    """The pet shop's, as YAML. It names no address at which there is a shop."""
    told: dict[str, Any] = deepcopy(DOCUMENT)
    told["info"] |= {"title": visitor.says("Pets"), "description": visitor.says("A shop of pets.")}
    listing = told["paths"]["/pets"]["get"]
    listing |= {"summary": visitor.says("List pets"), "description": visitor.says("All that are for sale.")}
    listing["parameters"][0]["description"] = visitor.says("How many")
    told["components"]["securitySchemes"]["token"]["description"] = visitor.says("Ask the keeper")
    return yaml.safe_dump(told, sort_keys=False)


def import_the_pets(visitor: Visitor) -> None:
    page = visitor.page
    visitor.follows("New server")
    visitor.sees("new-server")
    visitor.follows("Import a document")
    visitor.fills(re.compile("^Or paste it"), document(visitor))
    visitor.sees("paste")
    submit(page, "Read the document")
    visitor.sees("progress")
    expect(page.get_by_role("heading", name="Operations")).to_be_visible()
    for words in ("listpets", "get by petid"):
        page.get_by_label("Find operations").fill(words)
        expect(page.get_by_text("1 shown")).to_be_visible()
        page.locator(".pickrow:visible").get_by_role("checkbox").check()
    page.get_by_label("Find operations").fill("")
    expect(page.get_by_text("2 of 4 chosen")).to_be_visible()
    visitor.sees("operations")
    visitor.fills("Name", visitor.says("Pets"))
    visitor.fills(re.compile("^Name in URLs"), "pets")
    submit(page, "Make the tools")
    expect(page.get_by_text("The tools are in the draft.")).to_be_visible()
    visitor.sees("draft")


def point_it_at(visitor: Visitor, origin: str) -> None:
    page = visitor.page
    visitor.opens("Secrets")
    visitor.sees("secrets-missing")
    visitor.follows(re.compile("^Set "))
    expect(page.get_by_label("Name", exact=True).first).to_have_value("token")
    page.get_by_label("Value").fill(SECRET)
    submit(page, "Set the secret")
    variables = page.get_by_role("region", name="Variables of the draft")
    variables.get_by_label("Name").fill("base_url")
    variables.get_by_label("Default").fill(f"{origin}/v1")
    variables.get_by_label("Description").fill(visitor.says("Where the shop is"))
    submit(page, "Save the variable")
    expect(variables.get_by_text(f"{origin}/v1")).to_be_visible()
    visitor.sees("secrets")


def describe_a_tool(visitor: Visitor, origin: str) -> None:
    page = visitor.page
    visitor.opens("Tools")
    visitor.sees("tools")
    visitor.follows("listPets")
    visitor.fills(re.compile("^Title"), visitor.says("Pets for sale"))
    visitor.fills(re.compile("^Description"), visitor.says("Lists the pets that are for sale."))
    page.get_by_role("button", name="Show the request").click()
    expect(page.locator("#preview")).to_contain_text(f"GET {origin}/v1/pets")
    visitor.sees("tool")
    submit(page, "Save the tool")
    visitor.sees("tool-saved")


def try_it(visitor: Visitor) -> None:
    page = visitor.page
    visitor.opens("Playground")
    page.get_by_label("limit").fill("5")
    page.get_by_role("button", name="Call the tool").click()
    expect(page.locator("#answer")).to_contain_text("Rex")
    expect(page.locator("#answer")).to_contain_text("HTTP 200")
    expect(page.locator("#answer").get_by_text(re.compile(r"\d ms$"))).to_be_visible()
    visitor.sees("playground")


def publish(visitor: Visitor, proposed: str) -> None:
    page = visitor.page
    visitor.opens("Versions")
    expect(page.get_by_label("Version", exact=True)).to_have_value(proposed)
    visitor.fills(re.compile("^Notes"), visitor.says(f"What is in {proposed}"))
    visitor.sees(f"publish-{proposed}")
    submit(page, "Publish and make live")
    expect(page.get_by_text(f"Version {proposed} is live.")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text=proposed)).to_contain_text("live")
    visitor.sees(f"published-{proposed}")


def make_a_key(visitor: Visitor) -> str:
    visitor.goes_to("API keys")
    visitor.follows("New key")
    visitor.fills("Name", visitor.says("laptop"))
    visitor.sees("new-key")
    submit(visitor.page, "Create the key")
    visitor.sees("key")
    return visitor.page.locator("#new-key").inner_text().strip()


def connect(visitor: Visitor) -> str:
    """The endpoint's URL."""
    visitor.follows("Connect a client")
    for client in CLIENTS:
        expect(visitor.page.get_by_role("heading", name=client, exact=True)).to_be_attached()
    visitor.sees("connect")
    return visitor.page.locator("#endpoint").inner_text().strip()


def used(url: str, key: str, use: Callable[[Client], Any]) -> Any:
    """What `use` gets from the official client. The browser has this thread's loop, so it has a thread of its own."""

    async def connected() -> Any:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return await use(client)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, connected()).result()


def tools_of(url: str, key: str) -> list[str]:
    return [tool.name for tool in used(url, key, lambda client: client.list_tools()).tools]


def called(url: str, key: str, tool: str, arguments: dict[str, Any]) -> str:
    result = used(url, key, lambda client: client.call_tool(tool, arguments))
    assert not result.is_error
    return json.dumps([block.model_dump() for block in result.content])


def find_the_call(visitor: Visitor) -> None:
    page = visitor.page
    visitor.goes_to("Calls")
    mine = page.get_by_role("row").filter(has_text="tools/call").filter(has_text="pets 1.0.0")

    def is_there() -> bool:
        page.reload()
        return mine.count() > 0

    until(is_there, "the call in the log")
    expect(mine).to_contain_text("listPets")
    page.get_by_label("Tool, prompt or URI").fill("listPets")
    expect(page.get_by_role("row").filter(has_text="tools/list")).to_have_count(0)
    expect(mine).to_have_count(1)
    visitor.sees("calls")


def switch_a_tool_off(visitor: Visitor) -> None:
    visitor.goes_to("Servers")
    visitor.sees("servers")
    visitor.follows(visitor.says("Pets"))
    visitor.sees("server")
    visitor.opens("Tools")
    visitor.page.get_by_role("button", name="Disable get_pets_by_petId").click()
    expect(visitor.page.get_by_role("button", name="Enable get_pets_by_petId")).to_be_visible()
    visitor.sees("tool-off")


def roll_back(visitor: Visitor) -> None:
    visitor.confirms("Make live…", "Make it live")
    expect(visitor.page.get_by_role("row").filter(has_text="1.0.0")).to_contain_text("live")
    visitor.sees("rolled-back")


def revoke_the_key(visitor: Visitor, url: str, key: str) -> None:
    visitor.goes_to("API keys")
    visitor.sees("keys")
    visitor.confirms("Revoke…", "Revoke the key")
    path = url.partition("/t/")[2].removesuffix("/mcp")
    driver = ProcessDriver(int(url.split(":")[2].split("/")[0]))
    until(
        lambda: driver.modern(path, "tools/list", key=key).status == 401,
        "the revoked key refused",
        promised(2.0),
    )
    visitor.sees("key-revoked")


def make_it_public(visitor: Visitor) -> None:
    page = visitor.page
    visitor.goes_to("Servers")
    visitor.follows(visitor.says("Pets"))
    visitor.opens("Settings")
    visitor.fills(re.compile("^Description"), visitor.says("Pets, and what they cost."))
    visitor.fills(re.compile("^Instructions"), visitor.says("Ask for pets."))
    page.get_by_label("Public").check()
    submit(page, "Save")
    visitor.sees("server-settings")
    visitor.opens("Connect")
    visitor.follows("See this page as everybody sees it")
    expect(page.get_by_text("It is public: no key is needed.")).to_be_visible()
    expect(page.get_by_text("listPets")).to_be_visible()
    visitor.sees("public")


def read_the_audit_log(visitor: Visitor) -> None:
    page = visitor.page
    visitor.follows("Mooring")
    visitor.goes_to("Audit log")
    for action in ("version.published", "key.created", "key.revoked"):
        expect(page.get_by_text(action, exact=True).first).to_be_visible()
    page.get_by_text("Before and after").first.click()
    visitor.sees("audit")
    visitor.goes_to("Overview")
    expect(page.get_by_text("What to do next")).to_have_count(0)
    visitor.sees("overview")


# ---- markup where it is refused --------------------------------------------------------------------------

# Fill every text field of a form, whatever the browser thinks of it, and send the form.
SEND = """(form, text) => {
  form.noValidate = true;
  for (const field of form.querySelectorAll("textarea, input:not([type=hidden], [type=checkbox], [type=file])")) {
    if (field.tagName === "INPUT") field.type = "text";
    field.value = text;
  }
  form.requestSubmit();
}"""


@pytest.mark.parametrize("page", [("dark", 375)], ids=["dark-narrow"], indirect=True)
def test_markup_in_every_text_field_of_the_forms_of_the_tour_stays_text(page: Page) -> None:
    for path in ("/accounts/signup/", "/accounts/login/"):
        send_markup(page, path)
    page.goto("/")
    visitor = Visitor(page)
    tenant = a_server(visitor)
    page.get_by_role("navigation", name="Server").get_by_role("link", name="Tools", exact=True).click()
    tool = page.get_by_role("link", name="echo", exact=True).get_attribute("href") or ""
    server = f"/app/{tenant}/servers/hostile/"
    for path in (
        *("/app/new/", f"/app/{tenant}/servers/", f"/app/{tenant}/servers/new/openapi/"),
        *(
            f"/app/{tenant}/keys/new/",
            f"/app/{tenant}/calls/",
            f"/app/{tenant}/audit/",
            f"/app/{tenant}/settings/",
        ),
        *(
            tool,
            f"{server}tools/",
            f"{server}secrets/",
            f"{server}versions/",
            f"{server}playground/?tool=echo",
        ),
        *(f"{server}settings/", f"/app/{tenant}/imports/", f"/app/{tenant}/", server),
    ):
        send_markup(page, path)


def a_server(visitor: Visitor) -> str:
    """From a template, in an organisation of its own, whose slug is returned."""
    sign_up(visitor)
    slug = f"org-{secrets.token_hex(4)}"
    visitor.fills("Name", visitor.says("Pet lovers"))
    visitor.fills(re.compile("^Name in URLs"), slug)
    submit(visitor.page, "Create the organisation")
    visitor.page.goto(f"/app/{slug}/servers/new/template/echo/")
    visitor.fills(re.compile("^Name in URLs"), "hostile")
    submit(visitor.page, "Create the server")
    return slug


def send_markup(page: Page, path: str) -> None:
    """By each form of the page."""
    page.goto(path)
    forms = page.locator("main form:has(textarea, input:not([type=hidden], [type=checkbox], [type=file]))")
    for number in range(forms.count()):
        page.goto(path)
        form = forms.nth(number)
        if form.get_attribute("hx-get") or form.get_attribute("hx-post"):
            with page.expect_response(lambda answer: answer.request.resource_type == "fetch"):
                form.evaluate(SEND, MARKUP)
        else:
            with page.expect_navigation(wait_until="load"):
                form.evaluate(SEND, MARKUP)
        fits(page)
        assert page.locator(f'img[src="{PLANTED}"]').count() == 0


# ---- by keyboard -----------------------------------------------------------------------------------------

# What has the focus, as people see it. `place` is of its upper left corner.
FOCUSED = """() => {
  const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at);
  return {
    name: (at.labels?.[0] ?? at).textContent.replace(/\\s+/g, " ").trim() || at.getAttribute("aria-label") || "",
    place: [box.top + scrollY, box.left],
    isSeen: box.width > 0 && box.top >= 0 && box.bottom <= innerHeight && box.left >= 0,
    isMarked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    region: at.closest("nav, main, .foot")?.className,
    isOutside: at === document.body, // in the browser's own bars
  };
}"""


class Typist:
    """Somebody without a mouse, who always sees where they are."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def reaches(self, name: str) -> None:
        """By Tab alone, through stops that follow each other as one reads."""
        before = None
        for _ in range(60):
            self.page.keyboard.press("Tab")
            stop = self.page.evaluate(FOCUSED)
            if stop["isOutside"]:
                continue
            assert stop["isSeen"], stop
            assert stop["isMarked"], stop
            if before and before["region"] == stop["region"]:
                down, right = (stop["place"][axis] - before["place"][axis] for axis in (0, 1))
                assert down > -8 or right > 0, (before, stop)
            if stop["name"].startswith(name):
                return
            before = stop
        raise AssertionError(f"Tab does not lead to {name!r}.")

    def enters(self) -> None:
        with self.page.expect_navigation(wait_until="load"):
            self.page.keyboard.press("Enter")

    def skips_to_the_content(self) -> None:
        self.reaches("Skip to the content")
        self.page.keyboard.press("Enter")

    def chooses(self, name: str) -> None:
        self.skips_to_the_content()
        self.reaches(name)
        self.enters()


@pytest.mark.parametrize("page", [("light", 1280)], ids=["light-wide"], indirect=True)
def test_signing_in_making_a_server_publishing_and_a_key_need_no_mouse(
    page: Page, installation: Installation
) -> None:
    tenant, typist = installation.tenant(), Typist(page)
    page.goto("/accounts/login/")
    if page.evaluate(FOCUSED)["name"] != "Email":
        typist.reaches("Email")
    page.keyboard.type(f"{tenant}@example.com")
    typist.reaches("Password")
    page.keyboard.type(PASSWORD)
    typist.reaches("Sign in")
    typist.enters()
    typist.chooses("New server")
    typist.chooses("Use this template: Echo and clock")
    typist.skips_to_the_content()
    typist.reaches("Create the server")
    typist.enters()
    typist.chooses("Publish…")
    typist.skips_to_the_content()
    typist.reaches("Version")
    typist.reaches("Publish and make live")
    typist.enters()
    expect(page.get_by_text("Version 1.0.0 is live.")).to_be_visible()
    typist.reaches("API keys")
    typist.enters()
    typist.chooses("New key")
    typist.skips_to_the_content()
    typist.reaches("Name")
    page.keyboard.type("laptop")
    typist.reaches("Create the key")
    typist.enters()
    expect(page.locator("#new-key")).to_contain_text("moor_")
    typist.skips_to_the_content()
    typist.reaches("Copy")
