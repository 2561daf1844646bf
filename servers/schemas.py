"""The one place where tenants' JSON Schemas are compiled, and what fails them is put into words.

Nothing is fetched: a reference must point into its own schema. Patterns run on a linear-time engine. What one
check may cost is bounded too: `servers.schema_costs` counts its steps before the schema is ever used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, TypeGuard

import jsonschema_rs
from jsonschema_rs import ValidationErrorKind as Kind

from mooring.errors import InvalidInput
from servers.schema_costs import MULTIPLYING, REFERENCES, costs_of

MAX_DEPTH = 60
MAX_VALUES = 50_000
MAX_CHARACTERS = 1024 * 1024
MAX_PATTERNS = 200
MAX_PROBLEMS = 5
# Steps one place of a value may take. Above the first, every check weighs the value; above the second, the
# schema is refused.
CHEAP_STEPS, MAX_STEPS = 64, 10_000
# Values times steps: about a second of checking.
MAX_WORK = 20_000_000
_SHOWN = 120
_DRAFTS = [f"http://json-schema.org/draft-0{number}/schema" for number in (4, 6, 7)]
DIALECTS = frozenset(
    _DRAFTS + [f"https://json-schema.org/draft/{year}/schema" for year in ("2019-09", "2020-12")]
)
# The size limit lets `\p{L}{1,40}` through and keeps one pattern from taking tens of megabytes.
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=4 * 1024 * 1024, dfa_size_limit=1024 * 1024)
_MASK = "the value"
_BEYOND_WORDS = "a nested part does not fit, or there is too much or too deep a value to be checked"


class Validator(Protocol):
    """A compiled schema. `is_valid` takes well under a microsecond for the usual tool."""

    def is_valid(self, instance: Any) -> bool: ...

    def iter_errors(self, instance: Any) -> Iterator[jsonschema_rs.ValidationError]:
        """What can be said within bounds; may be nothing although the value is not valid."""


def compile_schema(schema: object) -> Validator:
    """Raises `InvalidInput` with one sentence that says what is wrong with the schema, and where."""
    if not _is_schema(schema):
        raise InvalidInput("A schema is a JSON object, true or false.")
    most_steps = _check_size(schema)
    if isinstance(schema, bool):
        return _checked(schema)
    _check_dialect(schema)
    if most_steps is not None and most_steps <= CHEAP_STEPS:
        return _checked(schema)
    steps, loops = costs_of(schema)
    if steps > MAX_STEPS:
        raise InvalidInput(
            f"The schema's references multiply to more than {MAX_STEPS:,} steps. Repeat its parts less often."
        )
    return _checked(schema, loops, MAX_WORK // steps if steps > CHEAP_STEPS else None)


def _checked(
    schema: dict[str, Any] | bool, loops: frozenset[int] = frozenset(), most_values: int | None = None
) -> Validator:
    validator = _compiled(schema)
    return _Checked(validator, _explainer(schema, loops) if loops else validator, most_values)


def problems(validator: Validator, value: object) -> list[str]:
    """At most five phrases without a full stop, such as "`days` is greater than the maximum of 16".

    Empty when the value is valid. Values themselves are not repeated.
    """
    if validator.is_valid(value):
        return []
    found = [_phrase(error) for error in islice(validator.iter_errors(value), MAX_PROBLEMS)]
    return found or [_BEYOND_WORDS]


def placed_problems(validator: Validator, value: object, most: int = 100) -> list[tuple[str, str]]:
    """Places such as `tools[2].http`, each with what is wrong there as in `problems`, without the place."""
    return [_placed(error) for error in islice(validator.iter_errors(value), most)]


def place(path: Sequence[str | int]) -> str:
    """A path as people write it: `tools[2].http.url`."""
    written = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return written.removeprefix(".")


class _Checked:
    """A compiled schema whose every check is bounded and never raises.

    `most_values` is None for a schema that is cheap whatever it is given. `explainer` is None for one whose
    failures cannot be put into words in bounded time.
    """

    def __init__(
        self,
        validator: jsonschema_rs.Validator,
        explainer: jsonschema_rs.Validator | None,
        most_values: int | None,
    ) -> None:
        self._validator = validator
        self._explainer = explainer
        self._most_values = most_values

    def is_valid(self, instance: Any) -> bool:
        if self._most_values is not None and not self._is_light(instance):
            return False
        try:
            return self._validator.is_valid(instance)
        except ValueError:  # not JSON: nested beyond 255 levels, half a surrogate pair
            return False

    def iter_errors(self, instance: Any) -> Iterator[jsonschema_rs.ValidationError]:
        if self._explainer is None or not self._is_light(instance):
            return
        try:
            yield from self._explainer.iter_errors(instance)
        except ValueError:
            return

    def _is_light(self, instance: Any) -> bool:
        if self._most_values is None:
            return True
        return sum(1 for _ in islice(_values(instance), self._most_values + 1)) <= self._most_values


def _compiled(schema: dict[str, Any] | bool) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for(schema, retriever=_refuse, pattern_options=_PATTERNS, mask=_MASK)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise InvalidInput(f"The schema cannot be used: {_fault(error)}.") from None
    except ValueError as error:
        raise InvalidInput(f"The schema cannot be used: {str(error)[:_SHOWN]}.") from None


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} would have to be fetched")


def _fault(error: jsonschema_rs.ValidationError | jsonschema_rs.ReferencingError) -> str:
    if isinstance(error, jsonschema_rs.ReferencingError):
        return error.message[:_SHOWN]
    where = place(list(error.instance_path))
    if isinstance(error.kind, Kind.Format) and error.kind.format == "regex":
        return (
            f"{where} does not run in linear time; leave out look-arounds, "
            "back-references and huge repetitions"
        )
    return f"{where or 'at its top'}: {error.message[:_SHOWN]}"


def _explainer(schema: dict[str, Any] | bool, loops: frozenset[int]) -> jsonschema_rs.Validator | None:
    """The schema without its loops; explaining a failure through them would take exponential time."""
    if _mentions_unevaluated(schema):
        return None  # without the loops more would seem unevaluated than is
    return _compiled(_cut(schema, loops))


def _cut(schema: Any, loops: frozenset[int]) -> Any:
    if isinstance(schema, list):
        return [_cut(part, loops) for part in schema]
    if not isinstance(schema, dict):
        return schema
    is_loop = id(schema) in loops
    return {name: _cut(part, loops) for name, part in schema.items() if not (is_loop and name in REFERENCES)}


def _mentions_unevaluated(schema: Any) -> bool:
    names = ("unevaluatedProperties", "unevaluatedItems")
    return any(isinstance(value, dict) and any(name in value for name in names) for value in _values(schema))


def _is_schema(schema: object) -> TypeGuard[dict[str, Any] | bool]:
    return isinstance(schema, dict | bool)


def _check_size(schema: dict[str, Any] | bool) -> int | None:
    """Bounded before anything that is recursive looks at it.

    Returns the most steps a place may take, or None when there are references, which have to be followed.
    """
    values = characters = patterns = alternatives = 0
    refers = False
    level: list[Any] = [schema]
    for _ in range(MAX_DEPTH):
        values += len(level)
        dicts = [value for value in level if isinstance(value, dict)]
        characters += sum(len(value) for value in level if isinstance(value, str))
        characters += sum(len(name) for value in dicts for name in value)
        patterns += sum(_patterns_in(value) for value in dicts)
        if values > MAX_VALUES or characters > MAX_CHARACTERS or patterns > MAX_PATTERNS:
            raise InvalidInput(
                f"The schema is too large: more than {MAX_VALUES:,} values, {MAX_CHARACTERS:,} characters or "
                f"{MAX_PATTERNS} patterns. Split it."
            )
        refers = refers or any(not value.keys().isdisjoint(REFERENCES) for value in dicts)
        alternatives += sum(_alternatives_in(value) for value in dicts)
        level = [child for value in level for child in _children(value)]
        if not level:
            return None if refers else 1 + alternatives
    raise InvalidInput(f"The schema is nested deeper than {MAX_DEPTH} levels. Make it flatter, or use $defs.")


def _alternatives_in(value: dict[str, Any]) -> int:
    """How many more schemas look at a place because of this one, at most."""
    if value.keys().isdisjoint(MULTIPLYING):
        return 0
    held = [value[name] for name in MULTIPLYING if name in value]
    return sum(len(part) if isinstance(part, list | dict) else 1 for part in held)


def _patterns_in(value: dict[str, Any]) -> int:
    more = value.get("patternProperties")
    return isinstance(value.get("pattern"), str) + (len(more) if isinstance(more, dict) else 0)


def _check_dialect(schema: dict[str, Any]) -> None:
    dialect = schema.get("$schema")
    if dialect is None:
        return
    if not isinstance(dialect, str) or dialect.removesuffix("#") not in DIALECTS:
        raise InvalidInput(
            f"The dialect {str(dialect)[:_SHOWN]!r} is not supported. Use "
            "https://json-schema.org/draft/2020-12/schema or leave $schema out."
        )


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _values(value: Any) -> Iterator[Any]:
    """The value and everything in it."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        yield value
        waiting.extend(_children(value))


def _phrase(error: jsonschema_rs.ValidationError) -> str:
    where, what = _placed(error)
    return f"`{where[:_SHOWN]}` {what}" if where else f"the value {what}"


def _placed(error: jsonschema_rs.ValidationError) -> tuple[str, str]:
    """Where, and what: a predicate that follows the name of the place."""
    path = list(error.instance_path)
    kind = error.kind
    if isinstance(kind, Kind.Required):
        return place([*path, kind.property]), "is missing"
    if isinstance(kind, Kind.AdditionalProperties | Kind.UnevaluatedProperties):
        return place([*path, kind.unexpected[0]]), "is not known here"
    for known, what in _WORDS.items():
        if isinstance(kind, known):
            return place(path), what
    if isinstance(kind, Kind.Constant):
        return place(path), f"must be {json.dumps(kind.expected_value)[:_SHOWN]}"
    return place(path), error.message.removeprefix(f"{_MASK} ")[:_SHOWN]


_WORDS: dict[type, str] = {
    Kind.OneOfNotValid: "fits none of the alternatives",
    Kind.AnyOf: "fits none of the alternatives",
    Kind.OneOfMultipleValid: "fits several alternatives that exclude each other",
    Kind.FalseSchema: "may not be given",
}
