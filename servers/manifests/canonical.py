"""One way to write each manifest: for the digest, and for people."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import yaml

from mooring.errors import InvalidInput

Json = dict[str, Any]
MAX_DEPTH = 64
_READ_BYTES = 256 * 1024
# From here on doubles are written with an exponent, as in JavaScript; one way for a number that has two.
_EXPONENT_FROM = 10**21
_NOT_STORED = re.compile("[\x00\ud800-\udfff]")


def canonical(manifest: Json) -> bytes:
    """JSON without defaults, with sorted keys and no spaces, in UTF-8."""
    return canonical_json(without_defaults(manifest))


def canonical_json(value: Any) -> bytes:
    """Any JSON with sorted keys and no spaces, in UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(manifest: Json) -> str:
    """SHA-256 of the canonical form, in hexadecimal."""
    return hashlib.sha256(canonical(manifest)).hexdigest()


def is_storable(text: str) -> bool:
    """False for text that PostgreSQL or UTF-8 cannot hold: with a NUL or half a surrogate pair."""
    return _NOT_STORED.search(text) is None


def storable(value: Any) -> Any:
    """JSON from elsewhere without the characters that cannot be kept."""
    if isinstance(value, dict):
        return {_NOT_STORED.sub("", str(name)): storable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [storable(part) for part in value]
    return _NOT_STORED.sub("", value) if isinstance(value, str) else value


def plain(value: object, depth: int = 0) -> Any:
    """A copy that any database and any JSON reader gives back alike. Raises `InvalidInput`.

    Whole numbers below 10^21 become integers, larger ones doubles where nothing is lost.
    """
    if depth > MAX_DEPTH:
        raise InvalidInput(f"The manifest is nested deeper than {MAX_DEPTH} levels. Make it flatter.")
    if isinstance(value, dict):
        return {_key(key): plain(part, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, depth + 1) for part in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _stored_text(value)
    if isinstance(value, int | float):
        return _number(value)
    raise InvalidInput(f"A manifest holds JSON values only, not {type(value).__name__}.")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidInput(f"The key {str(key)[:80]!r} is not text. Put it in quotes.")
    return _stored_text(key)


def _stored_text(text: str) -> str:
    if found := _NOT_STORED.search(text):
        start = text[max(0, found.start() - 20) : found.start()]
        raise InvalidInput(f"A text holds a character that cannot be kept, after {start!r}. Remove it.")
    return str(text)


def _number(value: float) -> float:
    try:
        double = float(value)
    except OverflowError:
        return value
    if double != double or double in (float("inf"), float("-inf")):
        raise InvalidInput("Infinity and NaN are not JSON. Write a number.")
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXPONENT_FROM else value
    # `repr` is how the double is written; a database may give that back with all its zeros.
    return double if abs(value) >= _EXPONENT_FROM and Decimal(repr(double)) == value else value


def without_defaults(manifest: Json) -> Json:
    """A copy with every part left out that says what holds anyway. Schemas are left as they are."""
    whole = {name: part for name, part in manifest.items() if part or name == "server"}
    whole["server"] = _without(whole["server"], description="", instructions="")
    for name in ("variables", "secrets"):
        if name in whole:
            whole[name] = {
                key: _without(about, default="", description="") for key, about in whole[name].items()
            }
    if "upstreams" in whole:
        whole["upstreams"] = {name: shortened_upstream(one) for name, one in whole["upstreams"].items()}
    if "members" in whole:
        whole["members"] = [_without(member, channel="live", prefix="") for member in whole["members"]]
    for section, shorten in SHORTEN.items():
        if section in whole:
            whole[section] = [shorten(part) for part in whole[section]]
    return whole


def _without(part: Json, **defaults: Any) -> Json:
    missing = object()
    return {
        name: value
        for name, value in part.items()
        if (default := defaults.get(name, missing)) is missing
        or value != default
        or isinstance(value, bool) is not isinstance(default, bool)
    }


def shortened_upstream(upstream: Json) -> Json:
    return _without(
        upstream,
        headers={},
        transport="auto",
        on_change="refuse",
        mode="shared",
        hosts=[],
        environment={},
        memory_mb=256,
    )


def source_of(upstream: Json) -> str:
    """A digest of where an upstream is and as whom it is spoken to; what is done about changes is no part of it.

    Of code it is the artifact alone: what that offers does not depend on what it is run with.
    """
    declared = {name: part for name, part in shortened_upstream(upstream).items() if name != "on_change"}
    if "code" in declared:
        declared = {"code": declared["code"]}
    return hashlib.sha256(canonical_json(declared)).hexdigest()


_DESCRIBED = {"title": "", "description": "", "annotations": {}, "enabled": True}


def _tool(tool: Json) -> Json:
    short = _without(tool, **_DESCRIBED)
    if "http" in short:
        short["http"] = _http(short["http"])
    return _remembered(_remote(short))


def _remembered(part: Json) -> Json:
    """The part with its `cache` shortened, if it has one."""
    return (
        part | {"cache": _without(part["cache"], stale_seconds=0, shared=False)} if "cache" in part else part
    )


def _remote(part: Json) -> Json:
    """The part with its `remote` shortened, if it has one."""
    return part | {"remote": _without(part["remote"], timeout_seconds=30)} if "remote" in part else part


def _http(http: Json) -> Json:
    short = dict(http)
    short["parameters"] = [_parameter(parameter) for parameter in http.get("parameters", [])]
    short["response"] = _without(http.get("response", {}), **{"as": "auto", "pick": ""})
    if "body" in http:
        body = {"content_type": "application/json"} | http["body"]
        short["body"] = _without(_without(body, required=False, binary=False), binary=[])
    if "basic_auth" in http:
        short["basic_auth"] = _without(http["basic_auth"], username="", password="")
    return _without(short, parameters=[], constants=[], response={}, timeout_seconds=30)


def _parameter(parameter: Json) -> Json:
    style = "form" if parameter["in"] in ("query", "cookie") else "simple"
    explode = parameter.get("style", style) == "form"
    return _without(parameter, style=style, explode=explode, content_type="")


def _resource(resource: Json) -> Json:
    return _remembered(_remote(_without(resource, **_DESCRIBED, mime_type="")))


def _resource_template(template: Json) -> Json:
    return _remembered(_remote(_without(template, **_DESCRIBED, mime_type="", completions={})))


def _prompt(prompt: Json) -> Json:
    arguments = [
        _without(argument, title="", description="", required=False, completions=[])
        for argument in prompt.get("arguments", [])
    ]
    return _remote(_without(prompt | {"arguments": arguments}, **_DESCRIBED, arguments=[]))


SHORTEN: dict[str, Callable[[Json], Json]] = {
    "tools": _tool,
    "resources": _resource,
    "resource_templates": _resource_template,
    "prompts": _prompt,
}

# ---- for people ------------------------------------------------------------------------------------------
_ORDER = (
    "mooring server variables secrets upstreams members tools resources resource_templates prompts "
    "name title description instructions uri uri_template mime_type arguments messages "
    "input_schema output_schema http remote static cache annotations enabled upstream channel prefix "
    "method url headers transport code mode hosts environment memory_mb on_change in argument style explode "
    "parameters constants basic_auth username password body response digest timeout_seconds"
).split()
_RANK = {name: rank for rank, name in enumerate(_ORDER)}
# What YAML 1.2 reads as something other than text although PyYAML, which knows 1.1, would not quote it.
_READ_AS_NUMBER = re.compile(r"[-+]?(0o[0-7]+|0x[0-9a-fA-F]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)")


class _Writer(yaml.CSafeDumper):
    """Text of several lines as a block, and quotes where YAML 1.1 and 1.2 would read different things."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(writer: _Writer, text: str) -> yaml.ScalarNode:
    style = None
    if "\n" in text and not re.search(r"[^\S\n]\n|[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\ufefe]", text):
        style = "|"
    elif _READ_AS_NUMBER.fullmatch(text):
        style = "'"
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Writer.add_representer(str, _write_text)


def dump(manifest: Json, form: Literal["yaml", "json"] = "yaml") -> str:
    """The manifest for people: defaults left out, parts in a natural order. Nobody reads a large one: it is compact."""
    shortest = _ordered(without_defaults(manifest))
    if form == "json":
        if not is_small(manifest):
            return json.dumps(shortest, separators=(",", ":"), ensure_ascii=False)
        return json.dumps(shortest, indent=2, ensure_ascii=False) + "\n"
    return yaml.dump(shortest, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=100)


def is_small(manifest: Json) -> bool:
    """Whether somebody may read it. Others are for programs: shown on no page, written compactly, never as YAML."""
    return len(canonical(manifest)) <= _READ_BYTES


def _ordered(value: Any) -> Any:
    if isinstance(value, list):
        return [_ordered(part) for part in value]
    if not isinstance(value, dict):
        return value
    names = sorted(value, key=lambda name: _RANK.get(name, len(_RANK)))
    kept = (
        "input_schema",
        "output_schema",
        "variables",
        "secrets",
        "upstreams",
        "headers",
        "environment",
        "fields",
        "completions",
    )
    return {name: value[name] if name in kept else _ordered(value[name]) for name in names}
