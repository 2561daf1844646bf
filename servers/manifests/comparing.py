"""What changed between two manifests, in sentences, and the version number that follows from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from servers.manifests.canonical import without_defaults

Json = dict[str, Any]
FIRST = "1.0.0"
_NUMBER = re.compile(r"(\d+)\.(\d+)\.(\d+)(-.+)?")
_TEXTS = ("title", "description")


class Weight(IntEnum):
    """Of a change, for those who call the server."""

    PATCH = 1
    MINOR = 2
    MAJOR = 3


class _Difference(NamedTuple):
    weight: Weight
    sentence: str


def differences(old: Json, new: Json) -> list[str]:
    """What changed, the changes first that may break a caller. Empty when nothing did."""
    return [found.sentence for found in sorted(_compare(old, new), key=lambda found: -found.weight)]


def propose_number(old: Json | None, old_number: str | None, new: Json) -> str:
    """The semantic version that follows: major when a caller may break, minor when something was added."""
    parsed = _NUMBER.fullmatch(old_number or "")
    if old is None or parsed is None:
        return FIRST
    major, minor, patch = (int(part) for part in parsed.groups()[:3])
    if parsed[4]:
        return f"{major}.{minor}.{patch}"  # a release follows its own candidates
    weight = max((found.weight for found in _compare(old, new)), default=Weight.PATCH)
    if weight is Weight.MAJOR:
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if weight is Weight.MINOR else f"{major}.{minor}.{patch + 1}"


def precedence(number: str) -> tuple[int, int, int, bool, str]:
    """Sorts version numbers; a candidate such as 1.0.0-rc.1 comes before its release."""
    parsed = _NUMBER.fullmatch(number)
    if parsed is None:
        return (0, 0, 0, False, number)
    return (int(parsed[1]), int(parsed[2]), int(parsed[3]), parsed[4] is None, parsed[4] or "")


def _compare(old: Json, new: Json) -> Iterator[_Difference]:
    old, new = without_defaults(old), without_defaults(new)
    yield from _settings(old, new)
    yield from _members_of(old, new)
    for section, (noun, key, compare) in _SECTIONS.items():
        yield from _rows(noun, _served(old, section, key), _served(new, section, key), compare)
        yield from _hidden(noun, section, key, old, new)


def _settings(old: Json, new: Json) -> Iterator[_Difference]:
    for name in ("title", "description", "instructions"):
        if old["server"].get(name) != new["server"].get(name):
            yield _Difference(Weight.PATCH, f"The server's {name} changed.")
    for section, noun in (("variables", "variable"), ("secrets", "secret"), ("upstreams", "upstream")):
        before, after = old.get(section, {}), new.get(section, {})
        yield from (_Difference(Weight.PATCH, f"The {noun} {n} was added.") for n in after if n not in before)
        yield from (
            _Difference(Weight.PATCH, f"The {noun} {n} was removed.") for n in before if n not in after
        )
        for name in before.keys() & after.keys():
            if before[name] != after[name]:
                yield _Difference(Weight.PATCH, f"The {noun} {name} {_how(before[name], after[name])}.")


def _how(old: Json, new: Json) -> str:
    """What a person has to know of another upstream than of any other setting: that other code runs."""
    names = [name for name in old | new if old.get(name) != new.get(name)]
    return "runs other code" if "code" in names and "code" in old else "changed"


def _members_of(old: Json, new: Json) -> Iterator[_Difference]:
    before, after = ({one["server"]: one for one in side.get("members", [])} for side in (old, new))
    yield from (_Difference(Weight.MAJOR, f"The member {n} was removed.") for n in before if n not in after)
    yield from (_Difference(Weight.MINOR, f"The member {n} was added.") for n in after if n not in before)
    for name in before.keys() & after.keys():
        if before[name] != after[name]:
            yield _Difference(Weight.MAJOR, f"The member {name} is taken in another way.")


def _served(manifest: Json, section: str, key: str) -> dict[str, Json]:
    return {part[key]: part for part in manifest.get(section, []) if part.get("enabled", True)}


def _hidden(noun: str, section: str, key: str, old: Json, new: Json) -> Iterator[_Difference]:
    """Parts that are switched off before and after: nobody is served them."""
    off = [
        {part[key]: part for part in manifest.get(section, []) if part.get("enabled") is False}
        for manifest in (old, new)
    ]
    for name in off[0] | off[1]:
        one, other = off[0].get(name), off[1].get(name)
        switched = name in _served(old, section, key) or name in _served(new, section, key)
        if not switched and one != other:
            yield _Difference(Weight.PATCH, f"The {noun} {name}, which is switched off, changed.")


Compare = Callable[[str, Json, Json], Iterator[_Difference]]


def _rows(
    noun: str, old: Mapping[str, Json], new: Mapping[str, Json], compare: Compare
) -> Iterator[_Difference]:
    for name in old:
        if name not in new:
            yield _Difference(Weight.MAJOR, f"The {noun} {name} was removed.")
    for name, part in new.items():
        if name not in old:
            yield _Difference(Weight.MINOR, f"The {noun} {name} was added.")
        elif old[name] != part:
            yield from compare(f"The {noun} {name}", old[name], part)
    kept = [[name for name in side if name in old and name in new] for side in (old, new)]
    if kept[0] != kept[1]:
        yield _Difference(Weight.PATCH, f"The order of {noun}s changed.")


def _tool(what: str, old: Json, new: Json) -> Iterator[_Difference]:
    yield from _input(what, old["input_schema"], new["input_schema"])
    yield from _output(what, old.get("output_schema"), new.get("output_schema"))
    yield from _members(what, old, new, _TEXTS, ("input_schema", "output_schema"))


def _members(
    what: str, old: Json, new: Json, texts: tuple[str, ...], apart: tuple[str, ...] = ()
) -> Iterator[_Difference]:
    for name in sorted(old.keys() | new.keys()):
        if name not in apart and old.get(name) != new.get(name):
            words = {"http": "request", "static": "answer", "remote": "upstream"}.get(
                name, name.replace("_", " ")
            )
            yield _Difference(Weight.PATCH, f"{what}: its {words} changed.")


def _input(what: str, old: Json, new: Json) -> Iterator[_Difference]:
    before, after = _properties(old), _properties(new)
    needed = set(_required(new)) - set(_required(old))
    for name in before:
        if name not in after:
            yield _Difference(Weight.MAJOR, f"{what} no longer takes the argument {name}.")
    for name in after:
        if name not in before and name not in needed:
            yield _Difference(Weight.MINOR, f"{what} takes the new argument {name}.")
    for name in sorted(needed):
        yield _Difference(Weight.MAJOR, f"{what} now requires the argument {name}.")
    for name in before.keys() & after.keys():
        yield from _property(f"{what}: its argument {name}", before[name], after[name])
    rest_of_old, rest_of_new = _rest(old), _rest(new)
    freed = (set(_required(old)) - set(_required(new))) & after.keys()
    if freed or rest_of_old != rest_of_new:
        yield _Difference(Weight.MINOR, f"{what} takes its arguments by other rules.")


def _property(what: str, old: Any, new: Any) -> Iterator[_Difference]:
    if _without_texts(old) == _without_texts(new):
        if old != new:
            yield _Difference(Weight.PATCH, f"{what} is described differently.")
        return
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = _properties(old), _properties(new)
        gone = [name for name in before if name not in after]
        needed = set(_required(new)) - set(_required(old))
        narrowed = old.get("type") != new.get("type") or _lost_choices(old, new) or gone or needed
        weight = Weight.MAJOR if narrowed else Weight.MINOR
        yield _Difference(weight, f"{what} takes other values{' than before' if narrowed else ''}.")
        return
    yield _Difference(Weight.MAJOR, f"{what} takes other values than before.")


def _lost_choices(old: Json, new: Json) -> bool:
    before, after = old.get("enum"), new.get("enum")
    if not isinstance(after, list):
        return False
    return not isinstance(before, list) or any(choice not in after for choice in before)


def _output(what: str, old: Json | None, new: Json | None) -> Iterator[_Difference]:
    if old == new:
        return
    if old is None:
        yield _Difference(Weight.MINOR, f"{what} now says what its answer looks like.")
    elif new is None:
        yield _Difference(Weight.MAJOR, f"{what} no longer says what its answer looks like.")
    elif gone := [name for name in _properties(old) if name not in _properties(new)]:
        yield _Difference(Weight.MAJOR, f"{what} no longer answers with {', '.join(gone)}.")
    elif _without_texts(old) == _without_texts(new):
        yield _Difference(Weight.PATCH, f"{what} describes its answer differently.")
    else:
        yield _Difference(Weight.MINOR, f"{what} answers in another form.")


def _content(what: str, old: Json, new: Json) -> Iterator[_Difference]:
    yield from _members(what, old, new, _TEXTS)


def _prompt(what: str, old: Json, new: Json) -> Iterator[_Difference]:
    before, after = ({a["name"]: a for a in side.get("arguments", [])} for side in (old, new))
    for name in before:
        if name not in after:
            yield _Difference(Weight.MAJOR, f"{what} no longer takes the argument {name}.")
    for name, argument in after.items():
        was_required = before.get(name, {}).get("required", False)
        if argument.get("required", False) and not was_required:
            yield _Difference(Weight.MAJOR, f"{what} now requires the argument {name}.")
        elif name not in before:
            yield _Difference(Weight.MINOR, f"{what} takes the new argument {name}.")
        elif before[name] != argument:
            yield _Difference(Weight.PATCH, f"{what}: its argument {name} changed.")
    yield from _members(what, old, new, _TEXTS, ("arguments",))


def _properties(schema: Any) -> dict[str, Any]:
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def _required(schema: Any) -> list[str]:
    found = schema.get("required") if isinstance(schema, dict) else None
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _rest(schema: Json) -> Any:
    return _without_texts({k: v for k, v in schema.items() if k not in ("properties", "required")})


def _without_texts(schema: Any) -> Any:
    """A schema without what only people read. A property that is called `title` stays."""
    if isinstance(schema, list):
        return [_without_texts(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: part for name, part in schema.items() if name not in _ONLY_READ or isinstance(part, dict)}
    return {name: _without_texts(part) for name, part in kept.items()}


_ONLY_READ = frozenset({"title", "description", "examples", "example", "$comment", "deprecated"})
_SECTIONS: dict[str, tuple[str, str, Compare]] = {
    "tools": ("tool", "name", _tool),
    "resources": ("resource", "uri", _content),
    "resource_templates": ("resource template", "uri_template", _content),
    "prompts": ("prompt", "name", _prompt),
}
