"""The `http` object of a tool in the manifest, as types."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Place = Literal["path", "query", "header", "cookie"]
Style = Literal["form", "simple", "label", "matrix", "spaceDelimited", "pipeDelimited", "deepObject"]

TIMEOUT_SECONDS = 30.0
LONGEST_TIMEOUT = 600.0

_STYLES: dict[Place, tuple[Style, ...]] = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}


class Parameter(msgspec.Struct, frozen=True):
    place: Place = msgspec.field(name="in")
    name: str
    argument: str
    style: Style | None = None
    explode: bool | None = None
    content_type: str = ""

    @property
    def style_used(self) -> Style:
        """The first of a place is OpenAPI's default for it."""
        return self.style or _STYLES[self.place][0]

    @property
    def explodes(self) -> bool:
        return self.style_used == "form" if self.explode is None else self.explode


class Constant(msgspec.Struct, frozen=True):
    place: Literal["query", "header", "cookie"] = msgspec.field(name="in")
    name: str
    value: str


class BasicAuth(msgspec.Struct, frozen=True):
    username: str = ""
    password: str = ""


class Body(msgspec.Struct, frozen=True):
    """`argument` is the whole body, `fields` maps wire names to arguments.

    `binary` tells what holds base64 and is sent decoded: wire names of `fields`, or True for all of `argument`.
    """

    content_type: str = "application/json"
    argument: str | None = None
    fields: dict[str, str] | None = None
    required: bool = False
    binary: bool | list[str] = False


class ResponseMapping(msgspec.Struct, frozen=True):
    kind: Literal["auto", "json", "text", "binary"] = msgspec.field(name="as", default="auto")
    pick: str = ""


class HttpDefinition(msgspec.Struct, frozen=True):
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
    url: str
    parameters: list[Parameter] = []
    constants: list[Constant] = []
    basic_auth: BasicAuth | None = None
    body: Body | None = None
    response: ResponseMapping = ResponseMapping()
    timeout_seconds: float = TIMEOUT_SECONDS


def parse(definition: dict[str, Any]) -> HttpDefinition:
    """Raise ValueError with a sentence for a definition that can never work, whatever the settings."""
    try:
        parsed = msgspec.convert(definition, HttpDefinition)
    except msgspec.ValidationError as error:
        raise ValueError(f"The http binding is malformed: {error}.") from None
    for parameter in parsed.parameters:
        _check_style(parameter)
    _check_body(parsed.body)
    if parsed.response.pick and not parsed.response.pick.startswith("/"):
        raise ValueError("`pick` is a JSON pointer and starts with a slash, such as /data/items.")
    if parsed.response.pick and parsed.response.kind in {"text", "binary"}:
        raise ValueError("`pick` works on JSON answers only; remove it or set `as` to json.")
    if not 0 < parsed.timeout_seconds <= LONGEST_TIMEOUT:
        raise ValueError(f"`timeout_seconds` must be above 0 and at most {LONGEST_TIMEOUT:g}.")
    return parsed


def _check_style(parameter: Parameter) -> None:
    allowed = _STYLES[parameter.place]
    if parameter.style_used not in allowed:
        raise ValueError(
            f"The {parameter.place} parameter {parameter.name} cannot have the style {parameter.style}; "
            f"choose from {', '.join(allowed)}."
        )


def _check_body(body: Body | None) -> None:
    if body is None:
        return
    if (body.argument is None) == (body.fields is None):
        raise ValueError("A body has either `argument` or `fields`.")
    if isinstance(body.binary, list) and set(body.binary) - set(body.fields or {}):
        raise ValueError("`binary` names something that is not among the body's `fields`.")
