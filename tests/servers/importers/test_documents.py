"""Reading what people hand in: JSON and YAML 1.2, bounded."""

from __future__ import annotations

import json
import time

import pytest

from mooring.errors import InvalidInput
from servers.importers.documents import parse
from servers.importers.yaml_core import scalar


def refusal(raw: bytes | str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        parse(raw)
    return caught.value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("NO", "NO"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"),
        ("2026-01-01", "2026-01-01"), ("12:30:45", "12:30:45"), ("1_000", "1_000"), ("=", "="),
        ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("0o17", 15), ("0x1F", 31), ("017", 17), ("-5", -5), ("+3", 3), ("0b1", "0b1"),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("1.", 1.0), ("1.2.3", "1.2.3"), ("--", "--"),
        (".inf", ".inf"), (".nan", ".nan"), ("1e999", "1e999"), ("9" * 5000, "9" * 5000),
        ("18446744073709551615", 2**64 - 1), ("18446744073709551616", float(2**64)),
    ],
)  # fmt: skip
def test_unquoted_scalars_mean_what_the_core_schema_of_yaml_1_2_says(written: str, value: object) -> None:
    read = parse(f"key: {written}")["key"]
    assert read == value
    assert type(read) is type(value)
    assert written == "" or scalar(written) == value


def test_keys_are_text_whatever_they_look_like() -> None:
    assert parse("200: a\nnull: b\ntrue: c\n1.0: d\nNO: e") == {
        "200": "a", "null": "b", "true": "c", "1.0": "d", "NO": "e",
    }  # fmt: skip


def test_quoted_and_tagged_scalars() -> None:
    assert parse("a: '1'\nb: !!str 2\nc: !!int '3'\nd: !!timestamp 2026-01-01\ne: ! 4\nf: |\n  x\n") == {
        "a": "1", "b": "2", "c": 3, "d": "2026-01-01", "e": "4", "f": "x\n",
    }  # fmt: skip


def test_merge_keys_give_way_to_own_keys_and_to_earlier_sources() -> None:
    document = parse("a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: own}\nd: {'<<': text}")
    assert document["c"] == {"x": "own", "y": 1, "z": 2}
    assert document["d"] == {"<<": "text"}


def test_aliases_repeat_values_and_may_be_keys() -> None:
    assert parse("a: &k name\nb: [*k, *k]\n*k : 1") == {"a": "name", "b": ["name", "name"], "name": 1}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", ['{"openapi": "3.1.0", "title": "Häfen"}', "openapi: 3.1.0\ntitle: Häfen\n"])
def test_all_unicode_encodings_are_read(encoding: str, text: str) -> None:
    assert parse(text.encode(encoding)) == {"openapi": "3.1.0", "title": "Häfen"}


@pytest.mark.parametrize(
    ("raw", "code", "hint"),
    [
        (b"", "document_empty", "empty"),
        (" \n\t", "document_empty", "empty"),
        ("\ufeff", "document_empty", "empty"),
        (b"<!DOCTYPE html><html><body>Docs</body></html>", "web_page", "JSON or YAML file itself"),
        (b"\n<HTML>", "web_page", "web page"),
        (b"<?xml version='1.0'?><definitions/>", "not_a_document", "XML"),
        (b"just words", "not_a_document", "openapi: 3.1.0"),
        (b"[1, 2]", "not_a_document", "named fields"),
        (b"42", "not_a_document", "named fields"),
        (b"\xff\xfe\xfd", "not_text", "UTF-8"),
        (b"caf\xe9: 1", "not_text", "UTF-8"),
        ("\ud800: 1", "not_text", "UTF-8"),
        (b'{"a": 1,}', "duplicate_or_ok", ""),
        (b'{"a": 1', "json_syntax", "line 1"),
        (b'{"a": 1} trailing', "json_syntax", "Extra data"),
        (b'{"a": NaN}', "bad_number", "NaN"),
        (b'{"a": 1e999}', "bad_number", "1e999"),
        (b'{"a": {"b": 1, "b": 2}}', "duplicate_key", "b"),
        (b'{"a": "\\ud800"}', "bad_text", "surrogate"),
        (b'{"a\\u0000": 1}', "bad_text", "NUL"),
        (b'a: "\\0"', "bad_text", "NUL"),
        (b"a: 1\nb: 2\na: 3", "duplicate_key", "line 3"),
        (b"a: [1", "yaml_syntax", "line"),
        (b"a: b: c", "yaml_syntax", "line 1"),
        (b"a: \x01", "yaml_syntax", "YAML"),
        (b"a: 1\n---\nb: 2", "several_documents", "one document"),
        (b"a: !include other.yaml", "unknown_tag", "!include"),
        (b"a: !!python/object/apply:os.system [ls]", "unknown_tag", "python"),
        (b"a: *nobody", "unknown_alias", "nobody"),
        (b"a: &a [*a]", "unknown_alias", "*a"),
        (b"? [1]\n: 2", "bad_key", "text"),
        (b"a: {<<: 5}", "bad_merge", "merge"),
    ],
)
def test_what_is_no_document_is_refused_with_a_sentence_that_helps(
    raw: bytes | str, code: str, hint: str
) -> None:
    if code == "duplicate_or_ok":  # a trailing comma is YAML
        assert parse(raw) == {"a": 1}
        return
    error = refusal(raw)
    assert error.reason == code
    assert hint in error.message
    assert error.message.endswith(".")


def laughs(levels: int, times: int = 9) -> str:
    lines = ["a0: &a0 [lol, lol]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * times)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("bomb", "code"),
    [
        (laughs(12), "document_too_large"),
        ("a: &a {b: 1}\n" + "\n".join(f"k{i}: *a" for i in range(1_001)), "too_many_aliases"),
        (f"a: &a {{{', '.join(f'k{i}: 1' for i in range(1_000))}}}\nb:\n" + "  - <<: *a\n" * 900, "document_too_large"),
        ("[" * 1_000_000, "document_too_deep"),
        ("{" * 1_000_000, "bad_key"),
        ('{"a":' * 200_000, "document_too_deep"),
        ('{"a":' * 500 + "1" + "}" * 500, "document_too_deep"),
        ("a: " + "[" * 101 + "]" * 101, "document_too_deep"),
        ("a: &a " + "[" * 60 + "]" * 60 + "\nb: " + "[" * 60 + "*a" + "]" * 60, "document_too_deep"),
        ("- " * 200_000, "document_too_deep"),
        ("a: [" + "1," * 600_000 + "]", "document_too_large"),
        ('{"a": [' + "1," * 600_000 + "1]}", "document_too_large"),
        ("a: " + "x" * 5 * 2**20, "document_too_large"),
        ("ä" * (3 * 2**20), "document_too_large"),
        ("? " * 100_000, "bad_key"),
        ("&a " * 100_000, "yaml_syntax"),
        ("a: !" + "b" * 1_000_000 + " 1", "unknown_tag"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)  # fmt: skip
def test_bombs_are_refused_soon(bomb: str, code: str) -> None:
    before = time.process_time()
    assert refusal(bomb).reason == code
    # A second on an idle machine; this only catches what grows faster than its input.
    assert time.process_time() - before < 5


def test_a_document_as_deep_and_as_repeated_as_allowed_is_read() -> None:
    document = parse(
        "a: " + "[" * 99 + "]" * 99 + "\nb: &b {c: 1}\n" + "\n".join(f"k{i}: *b" for i in range(1_000))
    )
    assert document["k999"] == {"c": 1}


def test_values_of_json_stay_as_they_are() -> None:
    value = {"a": [1, -1, 1.5, True, None, "ü", "1_000", {"": {}}], "big": 2**64 - 1}
    assert parse(json.dumps(value)) == value
    assert parse('{"huge": 1' + "0" * 30 + "}") == {"huge": 1e30}
