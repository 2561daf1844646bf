"""Tenants' JSON Schemas: compiled without leaving the process, checked in bounded time, put into words."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mooring.errors import InvalidInput
from servers.schemas import compile_schema, problems
from tests.protocol.requirements import requirement

# Far more than any of these takes, far less than what they would take unbounded.
SOON = 5.0


def refusal(schema: object) -> str:
    with pytest.raises(InvalidInput) as caught:
        compile_schema(schema)
    return caught.value.message


def multiplied(levels: int) -> dict[str, Any]:
    twice = {
        f"level{n}": {"anyOf": [{"$ref": f"#/$defs/level{n + 1}"}, {"$ref": f"#/$defs/level{n + 1}"}]}
        for n in range(levels)
    }
    return {"$defs": twice | {f"level{levels}": {"type": "string"}}, "$ref": "#/$defs/level0"}


def test_problems_name_their_place_and_do_not_repeat_the_value() -> None:
    validator = compile_schema(
        {
            "type": "object",
            "properties": {
                "days": {"type": "integer", "maximum": 16},
                "stops": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"at": {"type": "string"}}},
                },
                "mode": {"enum": ["car", "train"]},
            },
            "required": ["city"],
            "additionalProperties": False,
        }
    )
    value = {"days": 20, "stops": [{"at": "x"}, {"at": 1}], "mode": "hunter2", "speed": 1}
    assert sorted(problems(validator, value)) == [
        "`city` is missing",
        "`days` is greater than the maximum of 16",
        '`mode` is not one of "car" or "train"',
        "`speed` is not known here",
        '`stops[1].at` is not of type "string"',
    ]


def test_a_valid_value_has_no_problems() -> None:
    validator = compile_schema({"type": "object", "required": ["a"]})
    assert validator.is_valid({"a": 1})
    assert problems(validator, {"a": 1}) == []


def test_at_most_five_problems_are_told() -> None:
    validator = compile_schema({"type": "array", "items": {"type": "string"}})
    assert len(problems(validator, list(range(1000)))) == 5


@requirement("2026-07-28/schemas/no-network")
@pytest.mark.parametrize(
    "reference",
    ["http://127.0.0.1:1/schema", "https://example.com/s.json", "file:///etc/passwd", "urn:x", "b.json"],
)
def test_a_reference_out_of_the_schema_is_refused_and_never_fetched(reference: str) -> None:
    assert "leads nowhere" in refusal({"type": "object", "properties": {"a": {"$ref": reference}}})


def test_references_within_the_schema_work_by_pointer_anchor_and_id() -> None:
    validator = compile_schema(
        {
            "$id": "https://example.com/root",
            "$defs": {
                "name": {"type": "string"},
                "age": {"$anchor": "age", "type": "integer"},
                "part": {"$id": "part", "type": "boolean"},
            },
            "properties": {
                "name": {"$ref": "#/$defs/name"},
                "age": {"$ref": "#age"},
                "part": {"$ref": "part"},
            },
        }
    )
    assert validator.is_valid({"name": "Ann", "age": 3, "part": True})
    assert len(problems(validator, {"name": 1, "age": "x", "part": 2})) == 3


@requirement("2026-07-28/schemas/bounded")
@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", "a{1000}{1000}{1000}", "("])
def test_a_pattern_that_cannot_run_in_linear_time_is_refused(pattern: str) -> None:
    assert "linear time" in refusal({"properties": {"a": {"pattern": pattern}}})


def test_a_pattern_that_would_backtrack_answers_at_once() -> None:
    validator = compile_schema({"pattern": "^(x+x+)+y$"})
    began = time.perf_counter()
    assert not validator.is_valid("x" * 100_000)
    assert time.perf_counter() - began < SOON


@requirement("2026-07-28/schemas/dialects")
@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (3, "JSON object"),
        ({"type": "text"}, "type"),
        ({"properties": []}, "properties"),
        ({"$schema": "https://example.com/dialect"}, "not supported"),
        ({"$ref": "#/$defs/missing"}, "leads nowhere"),
        ({"enum": [[0] * 60_000]}, "too large"),
        ({"description": "x" * 2_000_000}, "too large"),
        (multiplied(40), "multiply"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_reason(schema: object, why: str) -> None:
    assert why in refusal(schema)


@requirement("2026-07-28/schemas/bounded")
def test_a_schema_nested_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"items": schema}
    assert "nested deeper" in refusal(schema)


def test_a_chain_of_references_longer_than_the_stack_is_no_trouble() -> None:
    chain: dict[str, Any] = {f"n{n}": {"$ref": f"#/$defs/n{n + 1}"} for n in range(150)}
    assert compile_schema({"$defs": chain | {"n150": {"type": "string"}}, "$ref": "#/$defs/n0"}).is_valid("x")


@requirement("2026-07-28/schemas/bounded")
def test_references_that_multiply_through_properties_are_counted() -> None:
    levels = {
        f"n{n}": {"allOf": [{"properties": {"x": {"$ref": f"#/$defs/n{n + 1}"}}}] * 4} for n in range(12)
    }
    assert "multiply" in refusal({"$defs": levels | {"n12": {}}, "$ref": "#/$defs/n0"})


def test_a_wide_schema_of_ordinary_shape_is_not_taken_for_one_that_multiplies() -> None:
    leaf = {"type": "object", "properties": {f"f{n}": {"type": "string"} for n in range(30)}}
    schema = {
        "$defs": {"leaf": leaf},
        "type": "object",
        "properties": {f"g{n}": {"type": "array", "items": {"$ref": "#/$defs/leaf"}} for n in range(200)},
        "additionalProperties": False,
    }
    assert compile_schema(schema).is_valid({"g7": [{"f1": "x"}]})


def test_a_dear_schema_weighs_the_value_first() -> None:
    validator = compile_schema({"items": multiplied(9), "type": "array"} | {"$defs": multiplied(9)["$defs"]})
    assert validator.is_valid(["x"] * 100)
    began = time.perf_counter()
    assert not validator.is_valid([1] * 1_000_000)
    assert problems(validator, [1] * 1_000_000) == [
        "a nested part does not fit, or there is too much or too deep a value to be checked"
    ]
    assert time.perf_counter() - began < SOON


def test_a_recursive_schema_checks_and_explains_a_deep_value_at_once() -> None:
    branch = {"properties": {"next": {"$ref": "#"}, "kind": {"const": "a"}}}
    other = {"properties": {"next": {"$ref": "#"}, "kind": {"const": "b"}}}
    validator = compile_schema({"anyOf": [branch, other]})
    value: dict[str, Any] = {"kind": "c"}
    for _ in range(50):
        value = {"next": value, "kind": "c"}
    began = time.perf_counter()
    assert not validator.is_valid(value)
    assert problems(validator, value) == ["the value fits none of the alternatives"]
    assert time.perf_counter() - began < SOON


def test_a_recursive_schema_still_says_what_is_wrong_near_the_top() -> None:
    tree = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "parts": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name"],
    }
    assert problems(compile_schema(tree), {"name": 1, "parts": []}) == ['`name` is not of type "string"']


def test_what_is_not_json_is_not_valid_and_raises_nothing() -> None:
    validator = compile_schema({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
    deep: list[Any] = []
    for _ in range(3_000):
        deep = [deep]
    assert not validator.is_valid(deep)
    assert not compile_schema({"enum": ["x"]}).is_valid("\ud800")
    assert problems(validator, deep)


@requirement("2026-07-28/schemas/kept")
def test_older_dialects_are_understood() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"size": {"enum": ["s", "m"]}},
        "properties": {"size": {"$ref": "#/definitions/size"}},
    }
    assert problems(compile_schema(schema), {"size": "xl"}) == ['`size` is not one of "s" or "m"']
