"""What is wrong with a manifest, all of it at once, each problem with its place."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any, NoReturn

from mooring.errors import InvalidInput
from servers import schemas
from servers.manifests.bindings import http_problems
from servers.manifests.canonical import (
    SHORTEN,
    canonical,
    plain,
    shortened_upstream,
    without_defaults,
)
from servers.manifests.shape import FORMAT, PART, SCHEMA
from servers.manifests.upstreams import remote_problems, upstream_problems
from servers.protocol.headers import mirrored_parameters

Json = dict[str, Any]
Problem = tuple[str, str]  # place, sentence
MAX_BYTES = 16 * 1024 * 1024
_MAX_PROBLEMS = 100
_SECRET = re.compile(r"\{secret:([A-Za-z_][A-Za-z0-9_.-]*)\}")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
_EXPRESSION = re.compile(r"\{[+#./;?&]?([A-Za-z_][A-Za-z0-9_]*(?:,[A-Za-z_][A-Za-z0-9_]*)*)\}")
_CHOICES = {
    "tool": "http, remote and static",
    "resource": "text, blob and remote",
    "resource_template": "text and remote",
    "prompt": "messages and remote",
    "upstream": "url and code",
}
_KEY = {"tools": "name", "resources": "uri", "resource_templates": "uri_template", "prompts": "name"}


def check(manifest: object) -> Json:
    """The manifest with its defaults left out.

    Raises `InvalidInput`; `data["fields"]` maps each place, such as `tools[2].http.url`, to its sentences.
    """
    if not isinstance(manifest, dict):
        raise InvalidInput("A manifest is an object that starts with `mooring: 1`.")
    if manifest.get("mooring") != FORMAT:
        raise InvalidInput(
            f"This is not a manifest of format {FORMAT}: it has no `mooring: {FORMAT}`.",
            fields={"mooring": [f"Write {FORMAT}."]},
        )
    whole: Json = plain(manifest)
    _refuse(_shape_problems("", whole))
    _refuse(_whole_problems(whole))
    shortest = without_defaults(whole)
    if len(canonical(shortest)) > MAX_BYTES:
        raise InvalidInput(f"The manifest is larger than {MAX_BYTES // 1024**2} MiB. Split the server.")
    return shortest


def check_part(section: str, definition: object, *, within: Json) -> Json:
    """One entry of a section, its defaults left out; places are relative to it. Raises `InvalidInput`.

    `within` holds what the manifest around it declares: `variables`, `secrets` and `upstreams`.
    """
    part: Json = plain(definition)
    _refuse(_shape_problems(PART[section], part))
    _refuse(_part_problems(section, part, within))
    return SHORTEN[section](part)


def check_upstream(definition: object, *, within: Json) -> Json:
    """One entry of `upstreams`, as `check_part`."""
    upstream: Json = plain(definition)
    _refuse(_shape_problems("upstream", upstream))
    _refuse(upstream_problems(upstream, within.get("variables", {}), within.get("secrets", {})))
    return shortened_upstream(upstream)


def secrets_named(definition: object) -> list[str]:
    """Names in `{secret:NAME}` anywhere in a tool's request or in what an upstream is sent, in alphabetical order."""
    if not isinstance(definition, dict):
        return []
    http = definition.get("http")
    sent = [definition.get("headers"), definition.get("environment")]
    if any(isinstance(texts, dict) for texts in sent):
        return _secrets_in(text for texts in sent if isinstance(texts, dict) for text in texts.values())
    if not isinstance(http, dict):
        return []
    auth = http.get("basic_auth")
    constants = http.get("constants")
    texts = [*auth.values()] if isinstance(auth, dict) else []
    texts += (
        [one.get("value") for one in constants if isinstance(one, dict)]
        if isinstance(constants, list)
        else []
    )
    texts.append(http.get("url"))
    return _secrets_in(texts)


def _secrets_in(texts: Iterable[object]) -> list[str]:
    return sorted({name for text in texts if isinstance(text, str) for name in _SECRET.findall(text)})


def _refuse(problems: Iterable[Problem]) -> None:
    found = list(islice(problems, _MAX_PROBLEMS))
    if found:
        _raise(found)


def _raise(found: list[Problem]) -> NoReturn:
    fields: dict[str, list[str]] = {}
    for where, sentence in found:
        fields.setdefault(where, []).append(sentence)
    where, sentence = found[0]
    more = f" {len(found) - 1} more problems follow." if len(found) > 2 else ""
    more = " One more problem follows." if len(found) == 2 else more
    raise InvalidInput(f"{where}: {sentence}{more}" if where else f"{sentence}{more}", fields=fields)


# ---- shape -----------------------------------------------------------------------------------------------


@cache
def _validator(part: str) -> schemas.Validator:
    """Of a whole manifest (""), or of one part."""
    return schemas.compile_schema({"$ref": f"#/$defs/{part}", "$defs": SCHEMA["$defs"]} if part else SCHEMA)


def _shape_problems(part: str, value: Json) -> Iterator[Problem]:
    for where, phrase in schemas.placed_problems(_validator(part), value):
        yield where, _shape_sentence(part, where, phrase)


def _shape_sentence(part: str, where: str, phrase: str) -> str:
    if "alternatives" in phrase and (choice := _choice(part, where)):
        return f"Give it exactly one of {choice}."
    return f"It {phrase}." if not phrase.startswith("`") else f"{phrase}."


def _choice(part: str, where: str) -> str | None:
    """What the thing in that place is made by, when it is a part or an upstream itself."""
    if part:
        return None if where else _CHOICES[part]
    placed = re.fullmatch(r"(tools|resources|resource_templates|prompts)\[\d+\]|upstreams\.[^.\[]+", where)
    return _CHOICES[PART.get(placed[1], "upstream")] if placed else None


# ---- what a schema cannot say ----------------------------------------------------------------------------


def _whole_problems(manifest: Json) -> Iterator[Problem]:
    for name, upstream in manifest.get("upstreams", {}).items():
        for where, sentence in upstream_problems(
            upstream, manifest.get("variables", {}), manifest.get("secrets", {})
        ):
            yield f"upstreams.{name}.{where}", sentence
    members = [member["server"] for member in manifest.get("members", [])]
    for index, slug in enumerate(members):
        if slug in members[:index]:
            yield f"members[{index}].server", f"The server {slug!r} is a member already."
    for index, member in enumerate(manifest.get("members", [])):
        if member.get("channel") == "draft":
            yield (
                f"members[{index}].channel",
                "A draft is for its own members alone; name a channel or version.",
            )
    for section in PART:
        parts = manifest.get(section, [])
        yield from _twins(section, parts)
        for index, part in enumerate(parts):
            for where, sentence in _part_problems(section, part, manifest):
                yield f"{section}[{index}].{where}", f"{sentence} (in {part['name']!r})"


def _twins(section: str, parts: list[Json]) -> Iterator[Problem]:
    key, seen = _KEY[section], set()
    for index, part in enumerate(parts):
        if part[key] in seen:
            yield f"{section}[{index}].{key}", f"Another one has {part[key]!r} already."
        seen.add(part[key])


def _part_problems(section: str, part: Json, within: Json) -> Iterator[Problem]:
    yield from remote_problems(part, within.get("upstreams", {}))
    if section == "tools":
        yield from _tool_problems(part, within.get("variables", {}), within.get("secrets", {}))
    elif section == "resources":
        yield from _resource_problems(part)
        yield from _cache_problems(part)
    elif section == "resource_templates":
        yield from _cache_problems(part)
        yield from _template_problems(part)
    else:
        yield from _prompt_problems(part)


def _tool_problems(tool: Json, variables: Mapping[str, Any], secrets: Mapping[str, Any]) -> Iterator[Problem]:
    for name in ("input_schema", "output_schema"):
        if name in tool:
            yield from _schema_problems(name, tool[name])
    try:
        mirrored_parameters(tool["input_schema"])
    except ValueError as error:
        yield "input_schema", str(error)
    if "cache" in tool and not tool.get("annotations", {}).get("readOnlyHint"):
        yield "cache", "Only answers of a tool that changes nothing are remembered; set its readOnlyHint."
    if "http" in tool:
        yield from http_problems(tool, variables, secrets)
    elif "static" in tool and tool["static"]["kind"] == "text" and "text" not in tool["static"]:
        yield "static.text", "Give the text it answers with."


def _schema_problems(where: str, schema: Json) -> Iterator[Problem]:
    try:
        schemas.compile_schema(schema)
    except InvalidInput as error:
        yield where, error.message


def _cache_problems(part: Json) -> Iterator[Problem]:
    if "cache" in part and "remote" not in part:
        yield "cache", "Only what is read from an upstream is remembered; this is written here."


def _resource_problems(resource: Json) -> Iterator[Problem]:
    if not _URI.fullmatch(resource["uri"]):
        yield "uri", "Write a whole URI such as handbook://welcome, without spaces or braces."
    if "blob" in resource:
        try:
            base64.b64decode(resource["blob"], validate=True)
        except (binascii.Error, ValueError):
            yield "blob", "Write the bytes in base64."


def _template_problems(template: Json) -> Iterator[Problem]:
    uri = template["uri_template"]
    names = [name for group in _EXPRESSION.findall(uri) for name in group.split(",")]
    rest = _EXPRESSION.sub("x", uri)
    if not names or not _URI.fullmatch(rest):
        yield (
            "uri_template",
            "Write a URI with variables in braces, such as handbook://teams/{team}, without spaces.",
        )
    if len(set(names)) != len(names):
        yield "uri_template", "It names a variable twice."
    for name in template.get("completions", {}):
        if name not in names:
            yield f"completions.{name}", f"The URI has no variable {name!r}."


def _prompt_problems(prompt: Json) -> Iterator[Problem]:
    names = [argument["name"] for argument in prompt.get("arguments", [])]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield f"arguments[{index}].name", f"Another argument is called {name!r} already."
