"""Small things templates draw: icons, sparklines, figures with units."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django import template
from django.conf import settings
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from mooring.dashboard.drawing import points
from mooring.dashboard.icons import ICONS
from servers.runtimes.remote.hidden import MOST, hidden_characters
from servers.services.uptime import Hour

register = template.Library()

NOTHING = "\N{EN DASH}"
_WIDTH, _HEIGHT = 96, 24
_SHORT = ("h", "min")
_UNITS = ((86_400 * 365, "year"), (86_400 * 30, "month"), (86_400, "day"), (3_600, "h"), (60, "min"))


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """An inline drawing that takes the colour of the text around it; hidden from screen readers."""
    return format_html(
        '<svg class="{}" viewBox="0 0 24 24" width="20" height="20" fill="none" stroke="currentColor"'
        ' stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{}</svg>',
        css,
        mark_safe(ICONS[name]),  # our own drawings, never input
    )


@register.simple_tag
def sparkline(values: Sequence[float], label: str) -> SafeString:
    """A line without axes. `label` says in words what it shows."""
    css = "" if any(values) else "flat"
    return format_html(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<polyline class="{}" points="{}"/></svg>',
        _WIDTH,
        _HEIGHT,
        label,
        css,
        points(values, _WIDTH, _HEIGHT),
    )


_COLOURS = {"healthy": "good", "degraded": "warn", "unhealthy": "bad"}
_STRIP_HEIGHT, _STRIP_STEP = 28, 6


@register.simple_tag
def health_colour(state: str) -> str:
    return _COLOURS.get(state, "")


@register.simple_tag
def health_strip(hours: Sequence[Hour], name: str) -> SafeString:
    """A bar an hour: its colour is how the hour was, its height how long answers took, beside the slowest hour."""
    slowest = max((hour.mean or 0.0 for hour in hours), default=0.0) or 1.0
    bars = format_html_join(
        "",
        '<rect class="{}" x="{}" y="{}" width="4" height="{}" rx="1"><title>{}</title></rect>',
        (
            (
                _COLOURS.get(hour.state, "none"),
                index * _STRIP_STEP,
                _STRIP_HEIGHT - height,
                height,
                _in_words(hour),
            )
            for index, hour in enumerate(hours)
            for height in [_bar_height(hour, slowest)]
        ),
    )
    width = len(hours) * _STRIP_STEP - 2
    bad = sum(hour.state == "unhealthy" for hour in hours)
    label = f"{name}, hour by hour: {bad} of the last {len(hours)} hours with failures"
    return format_html(
        '<svg class="strip" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>',
        width,
        _STRIP_HEIGHT,
        label,
        bars,
    )


def _bar_height(hour: Hour, slowest: float) -> int:
    """Failures stand out; an hour without a look is a dot; the rest is between a quarter and all of the strip."""
    if not hour.probes:
        return 4
    if hour.state == "unhealthy":
        return _STRIP_HEIGHT
    return round(_STRIP_HEIGHT * (0.25 + 0.75 * (hour.mean or 0.0) / slowest))


def _in_words(hour: Hour) -> str:
    if not hour.probes:
        return f"{hour.hour:%H}:00 UTC: not looked at"
    took = f", {as_ms(hour.mean)}" if hour.mean is not None else ""
    return f"{hour.hour:%H}:00 UTC: {hour.alive} of {hour.probes} answered{took}"


@register.filter
def as_ms(milliseconds: float | None) -> str:
    return NOTHING if milliseconds is None else ms(milliseconds * 1_000)


@register.filter(name="bytes")
def as_bytes(value: int) -> str:
    if value < 1_000:
        return f"{value} B"
    if value < 1_000_000:
        return f"{value / 1_000:.1f} kB"
    return f"{value / 1_000_000:.1f} MB"


@register.filter
def ms(microseconds: float | None) -> str:
    """A duration in microseconds with three digits that matter."""
    if microseconds is None:
        return NOTHING
    value = microseconds / 1_000
    if value < 10:
        return f"{value:.2f} ms"
    if value < 1_000:
        return f"{value:.0f} ms"
    return f"{value / 1_000:.1f} s"


@register.filter
def count(value: int | None) -> str:
    """1234 → 1,234; 48210 → 48.2k: short enough for a table."""
    if value is None:
        return NOTHING
    if value < 10_000:
        return f"{value:,}"
    return f"{value / 1_000:.1f}k" if value < 1_000_000 else f"{value / 1_000_000:.1f}M"


@register.filter
def percent(share: float | None) -> str:
    if share is None:
        return NOTHING
    return f"{share * 100:.2f}%" if 0 < share < 0.01 else f"{share * 100:.1f}%" if share else "0%"


@register.filter
def ago(moment: datetime | None) -> str:
    """How long ago, in one unit; the exact time belongs into the element's title."""
    if moment is None:
        return "never"
    seconds = (timezone.now() - moment).total_seconds()
    if seconds < 0:
        return _future(-seconds)
    if seconds < 45:
        return "just now"
    return f"{_span(seconds)} ago"


def _future(seconds: float) -> str:
    return f"in {_span(seconds)}"


def _span(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size * 0.99:
            number = round(seconds / size)
            return f"{number} {unit}{'s' if number > 1 and unit not in _SHORT else ''}"
    return "1 min"


@register.filter
def stamp(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


@register.filter
def clock(seconds: float) -> str:
    """Unix time as the time of a day, in UTC, for lines of a log."""
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"


@register.filter
def pretty(value: Any) -> str:
    """A JSON value over several lines."""
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.filter
def visibly(text: str) -> SafeString:
    """The text with each character that a reader would not see drawn as a mark that names it."""
    found = hidden_characters(text)
    parts: list[str] = []
    end = 0
    for hidden in found:
        parts += [text[end : hidden.position], format_html('<mark class="sign">{}</mark>', hidden.name)]
        end = hidden.position + hidden.length
    # A text that is full of them is not worth reading to its end.
    parts.append(text[end:] if len(found) < MOST else " …")
    return format_html_join("", "{}", ((part,) for part in parts))


@register.filter
def may(permissions: frozenset[str], permission: str) -> bool:
    return permission in permissions


@register.filter
def item(mapping: dict[str, Any], key: str) -> Any:
    return mapping.get(key)


@register.simple_tag
def endpoint(tenant: str, server: str) -> str:
    """The URL that clients connect to."""
    return f"{settings.ORIGIN}/t/{tenant}/{server}/mcp"


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: Any) -> str:
    """The page's query string with some fields changed; empty ones are left out."""
    fields = context["request"].GET.copy()
    for name, value in changes.items():
        if value in (None, ""):
            fields.pop(name, None)
        else:
            fields[name] = str(value)
    return f"?{fields.urlencode()}" if fields else "?"


@register.simple_tag(takes_context=True)
def here(context: template.Context, section: str) -> SafeString:
    """`aria-current` for the menu entry of the section the page belongs to."""
    return mark_safe('aria-current="page"') if context.get("section") == section else mark_safe("")
