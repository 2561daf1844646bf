from __future__ import annotations

import pytest


def test_a_server_is_made_shown_changed_and_deleted(owner, world):
    made = owner.post("servers", {"slug": "echo", "title": "Echo", "description": "Says it again."})
    assert made.status_code == 201
    assert made.json()["endpoint"] == f"http://testserver/t/{world.acme.slug}/echo/mcp"
    assert made.json()["live"] is None
    changed = owner.patch("servers/echo", {"title": "Louder", "is_public": True})
    assert (changed.json()["title"], changed.json()["is_public"]) == ("Louder", True)
    assert owner.get("servers/echo").json()["title"] == "Louder"
    gone = owner.delete("servers/echo")
    assert (gone.status_code, gone.content) == (204, b"")
    assert owner.get("servers/echo").status_code == 404


def test_a_taken_name_is_a_conflict(owner):
    owner.post("servers", {"slug": "echo", "title": "Echo"})
    again = owner.post("servers", {"slug": "echo", "title": "Echo"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "slug_taken")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": "No slug"}, "slug"),
        ({"slug": "Not A Slug", "title": "X"}, "slug"),
        ({"slug": "x", "title": "X", "titel": "typo"}, "titel"),
        ({"slug": "x", "title": "X", "is_public": "maybe"}, "is_public"),
    ],
)
def test_bad_input_is_refused_by_field(owner, body, field):
    refused = owner.post("servers", body)
    assert refused.status_code == 422
    assert refused.json()["error"]["class"] == "client"
    assert field in refused.json()["error"]["data"]["fields"]


def test_lists_come_in_pages(owner):
    for number in range(5):
        owner.post("servers", {"slug": f"s{number}", "title": "S"})
    seen, cursor = [], ""
    while cursor is not None:
        page = owner.get(f"servers?limit=2&cursor={cursor}").json()
        seen += [row["slug"] for row in page["data"]]
        assert len(page["data"]) <= 2
        cursor = page["next"]
    assert seen == [f"s{number}" for number in range(5)]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "cursor=x", "cursor=WzFd", "cursor=bnVsbA"]
)
def test_a_bad_page_is_refused(owner, query):
    assert owner.get(f"calls?{query}").status_code == 422


def test_the_draft_is_replaced_and_shown_as_a_manifest(owner, manifest):
    owner.post("servers", {"slug": "echo", "title": "Old"})
    put = owner.put("servers/echo/draft", manifest)
    assert put.status_code == 200
    assert put.json() == owner.get("servers/echo/draft").json() == manifest


def test_a_bad_manifest_is_refused_with_every_problem(owner, manifest):
    owner.post("servers", {"slug": "echo", "title": "Old"})
    refused = owner.put(
        "servers/echo/draft", manifest | {"tools": [{"name": "x"}, {"name": "y"}], "extra": 1}
    )
    assert refused.status_code == 422
    assert len(refused.json()["error"]["data"]["fields"]) >= 2
    assert owner.get("servers/echo/draft").json()["server"]["title"] == "Old"


def test_tools_are_added_shown_replaced_and_removed(owner, server, echo):
    added = owner.post("servers/echo/tools", echo | {"name": "shout"})
    assert added.status_code == 201
    assert [row["name"] for row in owner.get("servers/echo/tools").json()["data"]] == ["echo", "shout"]
    replaced = owner.put("servers/echo/tools/shout", echo | {"name": "shout", "enabled": False})
    assert replaced.json()["enabled"] is False
    assert owner.get("servers/echo/tools/shout").json() == echo | {"name": "shout", "enabled": False}
    assert owner.delete("servers/echo/tools/shout").status_code == 204
    assert owner.get("servers/echo/tools/shout").status_code == 404


def test_a_tool_that_is_no_object_is_refused(owner, server):
    assert owner.post("servers/echo/tools", ["echo"]).status_code == 422


def test_publishing_twice_without_a_change_is_a_conflict(owner, server):
    refused = owner.post("servers/echo/versions", {})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "nothing_changed")


def test_a_version_keeps_its_manifest_and_live_rolls_back(owner, server, manifest):
    louder = manifest | {"server": {"title": "Louder"}}
    owner.put("servers/echo/draft", louder)
    published = owner.post("servers/echo/versions", {"notes": "Louder now."})
    assert published.status_code == 201
    assert published.json()["channels"] == ["live"]
    first, second = "1.0.0", published.json()["number"]
    assert owner.get(f"servers/echo/versions/{first}").json()["manifest"] == manifest
    assert owner.get(f"servers/echo/versions/{second}").json()["manifest"] == louder
    assert owner.post("servers/echo/rollback", {"version": first}).json()["channels"] == ["live"]
    rows = owner.get("servers/echo/versions").json()["data"]
    assert [(row["number"], row["channels"]) for row in rows] == [(second, []), (first, ["live"])]
    assert owner.get("servers/echo").json()["live"] == first


def test_an_unknown_version_is_not_found(owner, server):
    assert owner.post("servers/echo/rollback", {"version": "9.9.9"}).status_code == 404
    assert owner.get("servers/echo/versions/9.9.9").status_code == 404


def test_variables_are_set_with_a_version_and_alone(owner, manifest):
    owner.post("servers", {"slug": "echo", "title": "Echo"})
    owner.put("servers/echo/draft", manifest | {"variables": {"base_url": {}}})
    owner.post("servers/echo/versions", {"variables": {"base_url": "https://one.example"}})
    (live,) = owner.get("servers/echo/channels").json()["data"]
    assert live == {"name": "live", "version": "1.0.0", "variables": {"base_url": "https://one.example"}}
    other = owner.put(
        "servers/echo/channels/live/variables", {"variables": {"base_url": "https://two.example"}}
    )
    assert other.json() == {"variables": {"base_url": "https://two.example"}}
    assert owner.put("servers/echo/channels/none/variables", {"variables": {}}).status_code == 404


def test_secrets_are_listed_by_name_and_never_shown(owner, manifest):
    owner.post("servers", {"slug": "echo", "title": "Echo"})
    owner.put("servers/echo/draft", manifest | {"secrets": {"token": {}}})
    assert owner.get("servers/echo/secrets").json()["missing"] == ["token"]
    put = owner.put("servers/echo/secrets/token", {"value": "hunter2-hunter2-hunter2"})
    assert put.status_code == 200
    listed = owner.get("servers/echo/secrets")
    assert listed.json()["missing"] == []
    assert listed.json()["data"][0]["is_set"] is True
    assert b"hunter2-hunter2" not in put.content + listed.content + owner.get("audit").content
    assert owner.delete("servers/echo/secrets/token").status_code == 204
    assert owner.delete("servers/echo/secrets/token").status_code == 404


def test_a_viewer_reads_and_does_not_write(server, world, api):
    bob = api(world.acme, user=world.bob)
    assert bob.get("servers/echo").status_code == 200
    refused = bob.patch("servers/echo", {"title": "Bob's"})
    assert (refused.status_code, refused.json()["error"]["data"]) == (403, {"permission": "servers:write"})
    assert bob.delete("servers/echo").status_code == 403
    assert bob.post("servers/echo/versions", {}).status_code == 403
    assert bob.put("servers/echo/secrets/a", {"value": "b"}).status_code == 403
    assert bob.get("audit").status_code == 403


def test_who_may_not_publish_cannot_decide_who_may_call(owner, server, api, world):
    writer = api(world.acme, ["servers:read", "servers:write"])
    for answer in (
        writer.post("servers", {"slug": "open", "title": "Open", "is_public": True}),
        writer.patch("servers/echo", {"is_public": True}),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert owner.get("servers/open").status_code == 404
    assert writer.post("servers", {"slug": "closed", "title": "Closed"}).status_code == 201
    assert writer.patch("servers/echo", {"title": "Louder", "is_public": False}).status_code == 200
    owner.patch("servers/echo", {"is_public": True})
    assert writer.patch("servers/echo", {"is_public": False}).status_code == 403
