"""Manifests: what is refused and where, the one canonical form, what a change means to callers."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from mooring.errors import InvalidInput
from servers import manifests
from servers.importers import documents
from servers.services.gallery import TEMPLATES

Json = dict[str, Any]


def tool(name: str = "find", **changes: Any) -> Json:
    made: Json = {
        "name": name,
        "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
        "http": {
            "method": "GET",
            "url": "{base_url}/search",
            "parameters": [{"in": "query", "name": "q", "argument": "q"}],
        },
    }
    return made | changes


def manifest(**changes: Any) -> Json:
    return {
        "mooring": 1,
        "server": {"title": "Search"},
        "variables": {"base_url": {"default": "https://api.example.com"}},
        "secrets": {"token": {}},
        "tools": [tool()],
    } | changes


def http(**changes: Any) -> Json:
    return tool()["http"] | changes


def problems_of(document: object) -> dict[str, list[str]]:
    with pytest.raises(InvalidInput) as caught:
        manifests.check(document)
    fields = caught.value.data.get("fields", {})
    assert isinstance(fields, dict)
    return fields


# ---- what is refused -------------------------------------------------------------------------------------


def test_a_sound_manifest_passes_unchanged() -> None:
    assert manifests.check(manifest()) == manifest()


def test_the_schema_of_the_format_admits_every_template() -> None:
    for template in TEMPLATES.values():
        assert manifests.check(template.manifest)["server"]["title"] == template.title


@pytest.mark.parametrize(
    "document", [None, [], "mooring: 1", {}, {"mooring": 2, "server": {"title": "x"}}, {"openapi": "3.1.0"}]
)
def test_what_is_no_manifest_is_refused(document: object) -> None:
    with pytest.raises(InvalidInput, match="manifest"):
        manifests.check(document)


def test_every_problem_is_listed_with_its_place() -> None:
    broken = manifest(
        server={"title": ""},
        tools=[tool("has space"), tool(enabled="yes"), {"name": "no_schema", "static": {"kind": "echo"}}],
        surprise=1,
    )
    assert set(problems_of(broken)) == {
        "server.title",
        "tools[0].name",
        "tools[1].enabled",
        "tools[2].input_schema",
        "surprise",
    }


@pytest.mark.parametrize("bindings", [{}, {"static": {"kind": "echo"}, "http": http()}])
def test_a_tool_has_exactly_one_binding(bindings: Json) -> None:
    made = {key: value for key, value in tool().items() if key != "http"} | bindings
    assert problems_of(manifest(tools=[made])) == {
        "tools[0]": ["Give it exactly one of http, remote and static."]
    }


@pytest.mark.parametrize(
    ("request_", "place", "word"),
    [
        (http(url="{base_url}/{city}"), "http", "{city}"),
        (http(url="ftp://example.com"), "http.url", "https://"),
        (http(url="/search"), "http.url", "https://"),
        (http(url="https://user:pw@example.com/"), "http.url", "basic_auth"),
        (http(constants=[{"in": "header", "name": "X-Key", "value": "{secret:other}"}]), "http", "'other'"),
        (http(constants=[{"in": "header", "name": "Host", "value": "x"}]), "http", "Host"),
        (
            http(constants=[{"in": "header", "name": "authorization", "value": "Bearer abc"}]),
            "http.constants[0].value",
            "secret",
        ),
        (http(basic_auth={"username": "ann", "password": "pw"}), "http.basic_auth", "secret"),
        (http(parameters=[{"in": "query", "name": "q", "argument": "query"}]), "input_schema", "'query'"),
        (http(parameters=[{"in": "path", "name": "id", "argument": "q"}]), "http.url", "id"),
        (
            http(url="https://{id}.example.com/", parameters=[{"in": "path", "name": "id", "argument": "q"}]),
            "http.url",
            "host",
        ),
        (
            http(url="{base_url}{id}", parameters=[{"in": "path", "name": "id", "argument": "q"}]),
            "http.url",
            "host",
        ),
        (http(response={"pick": "items"}), "http", "pointer"),
        (http(body={"content_type": "application/json"}), "http", "fields"),
    ],
)
def test_a_request_that_could_never_be_sent_is_refused(request_: Json, place: str, word: str) -> None:
    found = problems_of(manifest(tools=[tool(http=request_)]))
    assert word in " ".join(found[f"tools[0].{place}"])


def test_a_path_parameter_fills_a_place_in_the_path() -> None:
    request = http(url="{base_url}/{id}/x", parameters=[{"in": "path", "name": "id", "argument": "q"}])
    assert manifests.check(manifest(tools=[tool(http=request)]))["tools"][0]["http"] == request


def test_a_variable_without_default_may_be_left_to_the_channel() -> None:
    manifests.check(manifest(variables={"base_url": {}}))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "object", "properties": {"q": {"$ref": "https://example.com/x"}}},
        {"type": "object", "properties": {"q": {"type": "string", "pattern": "(?=x)"}}},
        {"type": "object", "properties": {"q": {"type": "number", "x-mcp-header": "Q"}}},
        {"type": "object", "properties": {"q": {"type": "string", "x-mcp-header": "two words"}}},
        {
            "type": "object",
            "properties": {
                "q": {"type": "string", "x-mcp-header": "Q"},
                "r": {"type": "string", "x-mcp-header": "q"},
            },
        },
        {
            "type": "object",
            "properties": {"q": {"type": "array", "items": {"type": "string", "x-mcp-header": "Q"}}},
        },
    ],
)
def test_an_input_schema_clients_could_not_use_is_refused(schema: Json) -> None:
    found = problems_of(manifest(tools=[tool(input_schema=schema)]))
    assert any(place.startswith("tools[0].input_schema") for place in found)


def test_a_mirrored_argument_is_kept() -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string", "x-mcp-header": "Query"}}}
    assert manifests.check(manifest(tools=[tool(input_schema=schema)]))["tools"][0]["input_schema"] == schema


@pytest.mark.parametrize(
    ("section", "parts", "place"),
    [
        ("tools", [tool(), tool()], "tools[1].name"),
        (
            "resources",
            [{"name": "a", "uri": "x://a", "text": ""}, {"name": "b", "uri": "x://a", "text": ""}],
            "resources[1].uri",
        ),
        ("resources", [{"name": "a", "uri": "no uri", "text": ""}], "resources[0].uri"),
        ("resources", [{"name": "a", "uri": "x://a", "blob": "not base64!"}], "resources[0].blob"),
        ("resources", [{"name": "a", "uri": "x://a"}], "resources[0]"),
        (
            "resource_templates",
            [{"name": "a", "uri_template": "x://a", "text": ""}],
            "resource_templates[0].uri_template",
        ),
        (
            "resource_templates",
            [{"name": "a", "uri_template": "x://{a", "text": ""}],
            "resource_templates[0].uri_template",
        ),
        (
            "resource_templates",
            [{"name": "a", "uri_template": "x://{a}", "text": "", "completions": {"b": ["c"]}}],
            "resource_templates[0].completions.b",
        ),
        ("prompts", [{"name": "a", "messages": []}], "prompts[0].messages"),
        (
            "prompts",
            [
                {
                    "name": "a",
                    "arguments": [{"name": "x"}, {"name": "x"}],
                    "messages": [{"role": "user", "text": "x"}],
                }
            ],
            "prompts[0].arguments[1].name",
        ),
    ],
)
def test_parts_that_cannot_be_served_are_refused(section: str, parts: list[Json], place: str) -> None:
    assert place in problems_of(manifest(**{section: parts}))


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_text_no_database_keeps_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be kept"):
        manifests.check(manifest(server={"title": "x", "description": text}))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_json_has_not_are_refused(number: float) -> None:
    with pytest.raises(InvalidInput, match="not JSON"):
        manifests.check(manifest(tools=[tool(http=http(timeout_seconds=number))]))


def test_a_manifest_nested_too_deep_is_refused() -> None:
    deep: Json = {}
    for _ in range(300):
        deep = {"properties": deep}
    with pytest.raises(InvalidInput, match="nested deeper"):
        manifests.check(manifest(tools=[tool(input_schema=deep)]))


def test_thousands_of_tools_are_checked() -> None:
    big = manifest(tools=[tool(f"tool_{n}") for n in range(3_000)])
    assert len(manifests.check(big)["tools"]) == 3_000


# ---- the canonical form ----------------------------------------------------------------------------------


def test_defaults_are_left_out() -> None:
    verbose = manifest(
        server={"title": "Search", "description": "", "instructions": ""},
        tools=[
            tool(
                title="",
                annotations={},
                enabled=True,
                http=http(
                    parameters=[
                        {"in": "query", "name": "q", "argument": "q", "style": "form", "explode": True}
                    ],
                    constants=[],
                    response={"as": "auto"},
                    timeout_seconds=30.0,
                ),
            )
        ],
        resources=[],
    )
    assert manifests.check(verbose) == manifest()
    assert manifests.digest(verbose) == manifests.digest(manifest())


def test_what_differs_from_the_default_stays() -> None:
    made = tool(
        enabled=False,
        http=http(
            parameters=[{"in": "query", "name": "q", "argument": "q", "explode": False}],
            response={"as": "text"},
            timeout_seconds=5,
        ),
    )
    assert manifests.check(manifest(tools=[made]))["tools"] == [made]


def test_an_empty_output_schema_is_not_left_out() -> None:
    assert manifests.check(manifest(tools=[tool(output_schema={})]))["tools"][0]["output_schema"] == {}


def test_the_canonical_form_is_compact_sorted_utf8() -> None:
    text = manifests.canonical({"server": {"title": "Zürich"}, "mooring": 1})
    assert text == '{"mooring":1,"server":{"title":"Zürich"}}'.encode()


def test_the_digest_does_not_depend_on_the_order_of_keys_or_the_spelling_of_numbers() -> None:
    one = tool(input_schema={"type": "object", "properties": {"q": {"maximum": 5.0, "minimum": 1e30}}})
    other = tool(input_schema={"properties": {"q": {"minimum": 10**30, "maximum": 5}}, "type": "object"})
    digests = {manifests.digest(manifests.check(manifest(tools=[made]))) for made in (one, other)}
    assert len(digests) == 1


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_dump_reads_back_as_the_same_manifest(form: Any) -> None:
    for template in TEMPLATES.values():
        checked = manifests.check(template.manifest)
        assert documents.parse(manifests.dump(checked, form)) == checked


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "NO",
        "0o14",
        "1e3",
        "0x1F",
        "1_000",
        "12:30",
        "~",
        "null",
        "-",
        "2026-01-01",
        " lead",
        "a: b",
        "# x",
        "two\nlines\n",
        "trailing \nspace",
        "tab\there",
        "\nfirst",
        "ends\n\n\n",
        "emoji 🙂\nline",
        "\x85nel",
        "'",
        '"',
        "",
    ],
)
def test_text_survives_yaml(text: str) -> None:
    checked = manifests.check(
        manifest(
            resources=[{"name": "a", "uri": "x://a", "text": text}],
            server={"title": "x", "description": text},
        )
    )
    assert documents.parse(manifests.dump(checked)) == checked


def test_the_schema_of_the_format_is_json() -> None:
    assert json.loads(json.dumps(manifests.SCHEMA)) == manifests.SCHEMA


# ---- what a change means ---------------------------------------------------------------------------------


def changed(**changes: Any) -> Json:
    made = copy.deepcopy(manifest())
    made["tools"][0] |= changes
    return made


def with_properties(properties: Json, required: list[str]) -> Json:
    return changed(input_schema={"type": "object", "properties": properties, "required": required})


Q = {"type": "string"}


@pytest.mark.parametrize(
    ("new", "number"),
    [
        (manifest(tools=[]), "2.0.0"),
        (manifest(tools=[tool("renamed")]), "2.0.0"),
        (changed(enabled=False), "2.0.0"),
        (with_properties({"q": Q, "r": Q}, ["q", "r"]), "2.0.0"),
        (with_properties({"q": Q, "r": Q}, ["q"]), "1.3.0"),
        (with_properties({"r": Q}, []), "2.0.0"),
        (with_properties({"q": {"type": "integer"}}, ["q"]), "2.0.0"),
        (with_properties({"q": {"type": "string", "enum": ["a"]}}, ["q"]), "2.0.0"),
        (with_properties({"q": {"type": "string", "description": "words"}}, ["q"]), "1.2.4"),
        (with_properties({"q": Q}, []), "1.3.0"),
        (changed(description="better words"), "1.2.4"),
        (changed(http=http(url="{base_url}/v2/search")), "1.2.4"),
        (changed(output_schema={"type": "object"}), "1.3.0"),
        (manifest(tools=[tool(), tool("more")]), "1.3.0"),
        (manifest(resources=[{"name": "a", "uri": "x://a", "text": "t"}]), "1.3.0"),
        (manifest(server={"title": "Renamed"}), "1.2.4"),
    ],
)
def test_the_proposed_number_follows_from_the_change(new: Json, number: str) -> None:
    assert manifests.propose_number(manifest(), "1.2.3", new) == number
    assert manifests.differences(manifest(), new)


def test_the_first_number_is_one() -> None:
    assert manifests.propose_number(None, None, manifest()) == "1.0.0"


def test_a_release_follows_its_candidate() -> None:
    assert manifests.propose_number(manifest(), "2.0.0-rc.1", manifest(tools=[])) == "2.0.0"
    numbers = ["1.10.0", "1.9.0", "2.0.0", "2.0.0-rc.1"]
    assert sorted(numbers, key=manifests.precedence) == ["1.9.0", "1.10.0", "2.0.0-rc.1", "2.0.0"]


def test_an_argument_of_a_prompt_that_is_newly_required_breaks_callers() -> None:
    prompt: Json = {"name": "p", "messages": [{"role": "user", "text": "{a}"}]}
    new = prompt | {"arguments": [{"name": "a", "required": True}]}
    assert manifests.propose_number(manifest(prompts=[prompt]), "1.0.0", manifest(prompts=[new])) == "2.0.0"


def test_differences_are_sentences_with_the_gravest_first() -> None:
    new = manifest(tools=[tool(description="words"), tool("more")], variables={}, secrets={})
    new["tools"][0]["input_schema"] = {"type": "object", "properties": {"r": Q}, "required": ["r"]}
    found = manifests.differences(manifest(), new)
    assert found[:3] == [
        "The tool find no longer takes the argument q.",
        "The tool find now requires the argument r.",
        "The tool more was added.",
    ]
    assert "The tool find: its description changed." in found
    assert "The variable base_url was removed." in found


def test_nothing_changed_has_no_differences() -> None:
    assert manifests.differences(manifest(), copy.deepcopy(manifest())) == []


# ---- single parts ----------------------------------------------------------------------------------------


def test_a_part_is_checked_with_places_relative_to_it() -> None:
    with pytest.raises(InvalidInput) as caught:
        manifests.check_part("tools", tool(http=http(url="/x")), within={})
    assert caught.value.data["fields"] == {"http.url": ["The URL must start with https:// and name a host."]}


def test_secrets_are_found_wherever_a_request_may_name_them() -> None:
    request = http(
        url="{base_url}/{secret:in_path}",
        constants=[{"in": "query", "name": "key", "value": "x{secret:key}"}],
        basic_auth={"username": "{secret:user}", "password": "{secret:password}"},
    )
    assert manifests.secrets_named(tool(http=request)) == ["in_path", "key", "password", "user"]


# ---- the documentation -----------------------------------------------------------------------------------

DOCUMENTED = re.findall(
    r"```yaml\n(.*?)```", (Path(__file__).parents[2] / "docs" / "manifest.md").read_text(), re.DOTALL
)


@pytest.mark.parametrize("example", DOCUMENTED)
def test_every_example_in_the_documentation_is_a_manifest(example: str) -> None:
    manifests.check(documents.parse(example))


def test_the_documentation_has_examples() -> None:
    assert len(DOCUMENTED) == 6
