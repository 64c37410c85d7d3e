"""Curves as geometry: pure functions from values to places in a small picture.

The pictures are inline SVG that the page's own style sheet colours, so that they follow dark mode,
scale with the page, and hold text that can be read aloud. That is what pictures of a plotting
library cannot do: they carry their colours, their fonts' outlines and ten times the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 360, 225
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 38
# Colours of the style sheet; further runs have them again, dashed in other ways.
NUM_COLOURS = 8
# More points than these are a line without dots.
_DOTS = 40


@dataclass(frozen=True)
class Point:
    """A value, with the ends of its interval if it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: What it is of.
        points: In the order of x.
        place: The run's place among the runs: its colour, and its dashes after all colours.
        dashed: The second of two curves of a run.
        line: Whether the points are joined.
    """

    name: str
    points: Sequence[Point]
    place: int = 0
    dashed: bool = False
    line: bool = True

    @property
    def style(self) -> str:
        """Classes of the style sheet."""
        dashes = "dashed" if self.dashed else f"again{min(3, self.place // NUM_COLOURS)}"
        return f"c{self.place % NUM_COLOURS} {dashes}"


@dataclass(frozen=True)
class Tick:
    """A mark of an axis, and where it stands."""

    place: float
    text: str


@dataclass(frozen=True)
class DrawnSeries:
    """A curve in the picture's coordinates.

    Attributes:
        style: Of the series.
        line: Of an SVG path; empty for points alone.
        band: Of an SVG path around the intervals; empty without.
        bars: Intervals of single points: x, y of both ends.
        dots: x, y and what it says, each.
    """

    style: str
    line: str
    band: str
    bars: list[tuple[float, float, float]]
    dots: list[tuple[float, float, str]]


@dataclass(frozen=True)
class Chart:
    """A picture to be drawn.

    Attributes:
        title: What is shown.
        x_name: Of the horizontal axis.
        series: The curves; those without points are left out.
        note: How to read it, a sentence or two.
        y_range: Of the vertical axis; None: that of the values.
        from_zero: Whether the vertical axis begins at 0 if ``y_range`` is None.
        x_range: Of the horizontal axis; None: from 0 to the last value.
        level: A value to compare with: a line across.
        diagonal: Whether to draw where x is y.
    """

    title: str
    x_name: str
    series: Sequence[Series]
    note: str = ""
    y_range: tuple[float, float] | None = None
    from_zero: bool = False
    x_range: tuple[float, float] | None = None
    level: float | None = None
    diagonal: bool = False
    width: int = field(default=WIDTH, init=False)
    height: int = field(default=HEIGHT, init=False)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to see."""
        return not any(series.points for series in self.series)

    @property
    def description(self) -> str:
        """The picture in words."""
        parts = []
        for series in self.series:
            if series.points:
                first, last = series.points[0], series.points[-1]
                name = f"{series.name}: " if series.name else ""
                parts.append(
                    f"{name}{number_text(first.y)} at {number_text(first.x)}, "
                    f"{number_text(last.y)} at {number_text(last.x)} {self.x_name}"
                )
        return "; ".join(parts) + "."

    def _x_range(self) -> tuple[float, float]:
        if self.x_range is not None:
            return self.x_range
        last = max(point.x for series in self.series for point in series.points)
        return 0.0, last if last > 0 else 1.0

    def _y_range(self) -> tuple[float, float]:
        if self.y_range is not None:
            return self.y_range
        points = [point for series in self.series for point in series.points]
        values = [
            value for p in points for value in (p.y, p.low, p.high, self.level) if value is not None
        ]
        low, high = min(values), max(values)
        if self.from_zero:
            low = min(0.0, low)
        room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        return (low if self.from_zero and low == 0.0 else low - room), high + room

    def x_at(self, x: float) -> float:
        """Where a value of the horizontal axis stands."""
        low, high = self._x_range()
        return round(LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y_at(self, y: float) -> float:
        """Where a value of the vertical axis stands; outside of the axis at its end."""
        low, high = self._y_range()
        share = min(1.0, max(0.0, (y - low) / (high - low)))
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def x_ticks(self) -> list[Tick]:
        """Marks of the horizontal axis; rounds and queries are whole numbers."""
        least = 1.0 if self.x_range is None else 0.0
        return [Tick(self.x_at(x), text) for x, text in ticks(*self._x_range(), 6, least)]

    def y_ticks(self) -> list[Tick]:
        """Marks of the vertical axis."""
        return [Tick(self.y_at(y), text) for y, text in ticks(*self._y_range(), 5)]

    def diagonal_path(self) -> str:
        """The line of all places whose x is y, inside of both axes."""
        (left, right), (bottom, top) = self._x_range(), self._y_range()
        ends = max(left, bottom), min(right, top)
        return _path([(self.x_at(value), self.y_at(value)) for value in ends])

    def drawn(self) -> list[DrawnSeries]:
        """The curves in the picture's coordinates."""
        return [self._drawn(series) for series in self.series if series.points]

    def _drawn(self, series: Series) -> DrawnSeries:
        points = series.points
        # (low, high) of each; a band needs two at least, a single interval is a bar.
        with_interval = [p for p in points if p.low is not None and p.high is not None]
        is_band = series.line and len(with_interval) > 1
        upper = [(self.x_at(p.x), self.y_at(p.high or 0.0)) for p in with_interval]
        lower = [(self.x_at(p.x), self.y_at(p.low or 0.0)) for p in with_interval]
        return DrawnSeries(
            style=series.style,
            line=_path([(self.x_at(p.x), self.y_at(p.y)) for p in points]) if series.line else "",
            band=f"{_path([*upper, *reversed(lower)])}Z" if is_band else "",
            bars=[]
            if is_band
            else [(x, low, high) for (x, high), (_, low) in zip(upper, lower, strict=True)],
            dots=[]
            if series.line and len(points) > _DOTS
            else [(self.x_at(p.x), self.y_at(p.y), self._says(series, p)) for p in points],
        )

    def _says(self, series: Series, point: Point) -> str:
        interval = ""
        if point.low is not None and point.high is not None:
            interval = f" [{number_text(point.low)}, {number_text(point.high)}]"
        name = f"{series.name}: " if series.name else ""
        return f"{name}{number_text(point.y)}{interval} at {number_text(point.x)} {self.x_name}"


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in places)


def ticks(low: float, high: float, at_most: int, least: float = 0.0) -> list[tuple[float, str]]:
    """Round values of an axis, with their texts: multiples of 1, 2 or 5 times a power of ten.

    Args:
        low: Where the axis begins.
        high: Where it ends, above ``low``.
        at_most: How many gaps between them there may be.
        least: The least gap.
    """
    rough = max(least, (high - low) / at_most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(n * step, f"{n * step:,.{digits}f}") for n in range(first, last + 1)]


def number_text(value: float) -> str:
    """Whole numbers whole, others with three digits after the point."""
    return f"{value:,.0f}" if value == round(value) and abs(value) >= 1 else f"{value:,.3f}"


def trailing_means(points: Sequence[Point], size: int) -> list[Point]:
    """Each value's mean with those before it.

    Args:
        points: In the order of x.
        size: Of how many values at most.
    """
    return [
        Point(point.x, sum(p.y for p in points[max(0, i + 1 - size) : i + 1]) / min(size, i + 1))
        for i, point in enumerate(points)
    ]
