from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.protocol.headers import MalformedHeader, decoded, encoded, first_mismatch, mirrored_parameters
from tests.protocol.requirements import requirement


@requirement("2026-07-28/transport/encoded-values")
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_text_survives_the_way_through_a_header(value: str) -> None:
    header = encoded(value)
    assert header.isascii()
    assert "\n" not in header
    assert decoded(header) == value


@requirement("2026-07-28/transport/exact-markers")
@pytest.mark.parametrize("literal", ["=?base64?abc", "abc?=", "=?BASE64?QW5u?=", "plain text"])
def test_values_with_only_one_marker_are_literals(literal: str) -> None:
    assert decoded(literal) == literal


@requirement("2026-07-28/transport/encoded-values")
@pytest.mark.parametrize("bad", ["=?base64?!!?=", "=?base64?QW5?=", "=?base64?/w==?="])
def test_bad_base64_is_malformed(bad: str) -> None:
    with pytest.raises(MalformedHeader):
        decoded(bad)


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@requirement("2026-07-28/transport/annotations")
def test_nested_properties_may_be_mirrored() -> None:
    inner = schema(region={"type": "string", "x-mcp-header": "Region"})
    (parameter,) = mirrored_parameters(schema(where=inner))
    assert parameter.path == ("where", "region")
    assert parameter.header == "mcp-param-region"


@requirement("2026-07-28/transport/annotations")
@pytest.mark.parametrize(
    "broken",
    [
        schema(a={"type": "number", "x-mcp-header": "A"}),
        schema(a={"type": ["string", "null"], "x-mcp-header": "A"}),
        schema(a={"type": "string", "x-mcp-header": ""}),
        schema(a={"type": "string", "x-mcp-header": "has space"}),
        schema(a={"type": "string", "x-mcp-header": "A"}, b={"type": "string", "x-mcp-header": "a"}),
        schema(a={"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}),
        {"type": "object", "allOf": [schema(a={"type": "string", "x-mcp-header": "A"})]},
        {"type": "object", "$defs": {"x": {"type": "string", "x-mcp-header": "A"}}},
    ],
)
def test_annotations_that_clients_would_drop_are_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="x-mcp-header"):
        mirrored_parameters(broken)


@requirement("2026-07-28/transport/whole-numbers", "2026-07-28/transport/absent-parameters")
@pytest.mark.parametrize(
    ("kind", "value", "header", "fits"),
    [
        ("string", "a b", "a b", True),
        ("string", "a", "A", False),
        ("integer", 42, "42", True),
        ("integer", 42, "42.0", True),
        ("integer", 42, "+42", False),
        ("integer", 42, "4_2", False),
        ("integer", 2**60, str(2**60), False),
        ("boolean", True, "true", True),
        ("boolean", True, "True", False),
        ("string", None, None, True),
        ("string", None, "a", False),
        ("string", "a", None, False),
    ],
)
def test_headers_are_compared_by_their_type(kind: str, value: object, header: str | None, fits: bool) -> None:
    parameters = mirrored_parameters(schema(a={"type": kind, "x-mcp-header": "A"}))
    headers = {} if header is None else {"mcp-param-a": header}
    arguments = {} if value is None else {"a": value}
    assert (first_mismatch(parameters, arguments, headers) is None) is fits
