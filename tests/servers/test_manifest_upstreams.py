"""The MCP servers elsewhere that a manifest names, and the parts taken from them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

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


# ---- uploaded code


def code(**more: Any) -> Json:
    return {"code": DIGEST} | more


def test_code_is_an_upstream_like_any_other_and_its_defaults_are_left_out() -> None:
    spoken = code(mode="shared", hosts=[], environment={}, memory_mb=256, on_change="refuse")
    whole = manifest(upstreams={"weather": spoken}, tools=[tool()])
    assert manifests.check(whole) == manifest(upstreams={"weather": code()}, tools=[tool()])
    said = code(mode="session", hosts=["*.example.com"], environment={"A": "b"}, memory_mb=64)
    assert manifests.check(manifest(upstreams={"weather": said}))["upstreams"] == {"weather": said}


@pytest.mark.parametrize(
    ("given", "place", "sentence"),
    [
        (code(url="https://a.example"), "", "Give it exactly one of url and code."),
        ({"on_change": "serve"}, "", "Give it exactly one of url and code."),
        ({"code": "abc"}, "code", "does not match"),
        (code(headers={"A": "b"}), "headers", "It belongs to an upstream with a url."),
        (code(transport="http"), "transport", "It belongs to an upstream with a url."),
        (upstream(hosts=["a.example"]), "hosts", "It belongs to an upstream with code."),
        (upstream(environment={"A": "b"}), "environment", "It belongs to an upstream with code."),
        (upstream(memory_mb=128), "memory_mb", "It belongs to an upstream with code."),
        (code(hosts=["a.example", "https://b.example"]), "hosts[1]", "Write the host alone"),
        (code(hosts=["a b"]), "hosts[0]", "is not a host name"),
        (code(hosts=["*.com"]), "hosts[0]", "would cover too much"),
        (code(hosts=["a.example"] * 51), "hosts", ""),
        (code(environment={"A-B": "c"}), "environment", ""),
        (code(environment={"A": "{nothing}"}), "environment.A", "which is not a variable"),
        (code(environment={"A": "{secret:nothing}"}), "environment.A", "Declare it under secrets."),
        (code(environment={"API_KEY": "written out"}), "environment.API_KEY", "write {secret:api_key}"),
        (code(environment={f"A{n}": "" for n in range(101)}), "environment", ""),
        (code(memory_mb=32), "memory_mb", ""),
        (code(memory_mb=2048), "memory_mb", ""),
        (code(mode="forked"), "mode", ""),
    ],
)
def test_code_that_cannot_be_run_like_that_is_refused(given: Json, place: str, sentence: str) -> None:
    problems = problems_of(manifest(upstreams={"weather": given}))
    at = f"upstreams.weather.{place}".rstrip(".")
    assert sentence in problems[at][0]
    with pytest.raises(InvalidInput) as alone:
        manifests.check_upstream(given, within={})
    assert sentence in alone.value.data["fields"][place][0]


def test_what_code_offers_depends_on_the_artifact_alone() -> None:
    one, other = code(), code(mode="session", hosts=["a.example"], environment={"A": "b"}, memory_mb=64)
    assert manifests.source_of(one) == manifests.source_of(other)
    assert manifests.source_of(one) != manifests.source_of({"code": "b" * 64})


def test_secrets_in_the_environment_are_named() -> None:
    environment = {"A": "x {secret:one}", "B": "{secret:two}{secret:one}", "C": "{three}"}
    assert manifests.secrets_named(code(environment=environment)) == ["one", "two"]


def test_other_code_is_told_apart_from_other_settings() -> None:
    old = manifest(upstreams={"weather": code()})
    for new, told in (
        ({"code": "b" * 64}, "The upstream weather runs other code."),
        (code(memory_mb=64), "The upstream weather changed."),
        (upstream(), "The upstream weather runs other code."),
    ):
        assert manifests.differences(old, manifest(upstreams={"weather": new})) == [told]


def test_code_is_written_and_read_again() -> None:
    said = code(environment={"Z": "1", "A": "2"}, hosts=["a.example"], mode="session", memory_mb=64)
    whole = manifest(upstreams={"weather": said})
    read = yaml.safe_load(manifests.dump(whole))
    assert manifests.check(read) == whole
    assert list(read["upstreams"]["weather"]["environment"]) == ["Z", "A"]
