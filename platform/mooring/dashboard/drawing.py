"""Lines over time as SVG, computed here so that they need no script and print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def points(values: Sequence[float], width: float, height: float, top: float | None = None) -> str:
    """`x,y` pairs of a polyline over the whole width; y grows downwards. No values make a flat line."""
    shown = [float(value) for value in values] or [0.0, 0.0]
    if len(shown) == 1:
        shown *= 2
    highest = top or max(shown) or 1.0
    step = width / (len(shown) - 1)
    pad = 1.0
    return " ".join(
        f"{index * step:.1f},{height - pad - value / highest * (height - 2 * pad):.1f}"
        for index, value in enumerate(shown)
    )


@dataclass(frozen=True, slots=True)
class Chart:
    """Calls and errors over time, ready to be drawn."""

    line: str
    area: str
    errors: str
    grid: list[float]
    ticks: list[str]
    labels: list[str]
    width: int
    height: int


_CHART_WIDTH, _CHART_HEIGHT = 960, 150


def chart(calls: Sequence[int], errors: Sequence[int], labels: Sequence[str]) -> Chart:
    top = _round_up(max([*calls, 4]))
    line = points(calls, _CHART_WIDTH, _CHART_HEIGHT, top)
    return Chart(
        line=line,
        area=f"0,{_CHART_HEIGHT} {line} {_CHART_WIDTH},{_CHART_HEIGHT}",
        errors=points(errors, _CHART_WIDTH, _CHART_HEIGHT, top) if any(errors) else "",
        grid=[_CHART_HEIGHT * part / 4 for part in range(5)],
        ticks=[_short(top * part / 4) for part in (4, 3, 2, 1, 0)],
        labels=list(labels),
        width=_CHART_WIDTH,
        height=_CHART_HEIGHT,
    )


def _round_up(value: int) -> int:
    """The next of 4, 8, 20, 40, 80, 200 …, all of which a quarter divides well."""
    size = 1
    while True:
        for step in (4, 8, 20):
            if value <= step * size:
                return step * size
        size *= 10


def _short(value: float) -> str:
    return f"{value / 1_000:g}k" if value >= 1_000 else f"{value:g}"
