"""The MCP servers elsewhere that a manifest names, and the parts taken from them."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.errors import InvalidInput
from servers import manifests

Json = dict[str, Any]
DIGEST = "a" * 64


def upstream(**more: Any) -> Json:
    return {"url": "https://mcp.example.com/mcp"} | more


def manifest(*, upstreams: Json | None = None, **more: Any) -> Json:
    upstreams = {"weather": upstream()} if upstreams is None else upstreams
    return {"mooring": 1, "server": {"title": "Weather"}, "upstreams": upstreams} | more


def tool(**more: Any) -> Json:
    remote = {"upstream": "weather", "name": "get_forecast", "digest": DIGEST}
    return {"name": "forecast", "input_schema": {"type": "object"}, "remote": remote} | more


def problems_of(value: Json) -> Json:
    with pytest.raises(InvalidInput) as refused:
        manifests.check(value)
    fields: Json = refused.value.data["fields"]
    return fields


def test_every_kind_of_part_may_come_from_an_upstream() -> None:
    there = {"upstream": "weather", "digest": DIGEST}
    whole = manifest(
        tools=[tool()],
        resources=[{"name": "map", "uri": "weather://map", "remote": there | {"uri": "file:///map"}}],
        resource_templates=[{"name": "city", "uri_template": "weather://{city}", "remote": there}],
        prompts=[{"name": "brief", "remote": there | {"name": "briefing"}}],
    )
    assert manifests.check(whole) == whole


def test_what_an_upstream_has_by_default_is_left_out() -> None:
    spoken = manifest(upstreams={"weather": upstream(headers={}, transport="auto", on_change="refuse")})
    assert manifests.check(spoken) == manifest()
    timed = manifest(tools=[tool(remote=tool()["remote"] | {"timeout_seconds": 30})])
    assert manifests.check(timed) == manifest(tools=[tool()])


@pytest.mark.parametrize(
    ("given", "place", "sentence"),
    [
        (upstream(url="ftp://example.com"), "url", "The URL must start with https:// and name a host."),
        (upstream(url="https://{nowhere}/mcp"), "url", "It names {nowhere}, which is not a variable"),
        (upstream(url="https://a.example/{secret:k}"), "url", "A URL is written to logs"),
        (upstream(headers={"Host": "b.example"}), "headers.Host", "is written by Mooring itself"),
        (upstream(headers={"Mcp-Session-Id": "1"}), "headers.Mcp-Session-Id", "is written by Mooring itself"),
        (upstream(headers={"Mcp-Param-A": "1"}), "headers.Mcp-Param-A", "is written by Mooring itself"),
        (upstream(headers={"X-A": "1\r\nX-B: 2"}), "headers.X-A", "would hold a line break"),
        (upstream(headers={"Authorization": "Bearer abc"}), "headers.Authorization", "Keep the credential"),
        (upstream(headers={"X-A": "{secret:absent}"}), "headers.X-A", "It names the secret 'absent'."),
        (upstream(headers={"X-A": "{absent}"}), "headers.X-A", "It names {absent}"),
    ],
)
def test_an_upstream_that_cannot_be_asked_is_refused_with_the_reason(
    given: Json, place: str, sentence: str
) -> None:
    problems = problems_of(manifest(upstreams={"weather": given}))
    assert sentence in problems[f"upstreams.weather.{place}"][0]


def test_variables_and_secrets_may_stand_in_an_upstream() -> None:
    whole = manifest(
        variables={"host": {"default": "https://a.example"}},
        secrets={"token": {}},
        upstreams={"weather": upstream(url="{host}/mcp", headers={"Authorization": "Bearer {secret:token}"})},
    )
    assert manifests.check(whole) == whole
    assert manifests.secrets_named(whole["upstreams"]["weather"]) == ["token"]


def test_a_part_names_an_upstream_of_its_server() -> None:
    whole = manifest(upstreams={}, tools=[tool()])
    assert problems_of(whole) == {
        "tools[0].remote.upstream": [
            "The server has no upstream 'weather'. Declare it under upstreams. (in 'forecast')"
        ]
    }


def test_a_part_from_an_upstream_is_pinned_by_a_digest() -> None:
    unpinned = tool(remote={"upstream": "weather", "name": "get_forecast"})
    assert "digest" in str(problems_of(manifest(tools=[unpinned])))


@pytest.mark.parametrize(
    ("section", "part", "choices"),
    [
        ("resources", {"name": "a", "uri": "a://b"}, "text, blob and remote"),
        ("resource_templates", {"name": "a", "uri_template": "a://{b}"}, "text and remote"),
        ("prompts", {"name": "a"}, "messages and remote"),
    ],
)
def test_a_part_says_once_where_its_content_is(section: str, part: Json, choices: str) -> None:
    problems = problems_of(manifest(**{section: [part]}))
    assert problems == {f"{section}[0]": [f"Give it exactly one of {choices}."]}


def test_another_address_or_another_part_is_a_change_that_is_told() -> None:
    old = manifest(tools=[tool()])
    new = manifest(
        upstreams={"weather": upstream(url="https://other.example/mcp")},
        tools=[tool(remote=tool()["remote"] | {"digest": "b" * 64})],
    )
    assert manifests.differences(old, new) == [
        "The upstream weather changed.",
        "The tool forecast: its upstream changed.",
    ]


def test_a_manifest_with_upstreams_comes_back_from_yaml_as_it_was() -> None:
    from servers.importers.documents import parse

    whole = manifest(
        secrets={"token": {}},
        upstreams={
            "weather": upstream(headers={"Authorization": "Bearer {secret:token}"}, on_change="serve")
        },
        tools=[tool()],
    )
    assert manifests.check(parse(manifests.dump(whole))) == whole
