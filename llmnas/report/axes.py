"""The frame of a plot: two axes with round ticks, titles with units, and the map from values to pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmnas.report import svg
from llmnas.report.format import Words

WIDTH, HEIGHT = 680.0, 380.0
LEFT, RIGHT, TOP, BOTTOM = 74.0, 22.0, 40.0, 54.0


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        low: Value at its start.
        high: Value at its end; above `low`.
        log: Whether it is logarithmic.
        ticks: Where the grid lines are.
        title: What it shows, with its unit.
        words: How a tick is written.
    """

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]
    title: str
    words: Words

    def at(self, value: float) -> float:
        """Returns the place of a value, 0 at the start and 1 at the end, clipped to the frame."""
        if self.log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, part))


def axis(values: Sequence[float], title: str, words: Words, log: bool | None = None,
         bounds: tuple[float | None, float | None] = (None, None)) -> Axis:
    """Returns an axis that holds all values.

    Args:
        values: Finite numbers; none give an axis from 0 to 1.
        title: With the unit.
        words: How a tick is written.
        log: None decides: logarithmic when all are positive and span a factor of 20.
        bounds: Values that the axis never goes beyond, such as a score of 1.
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    log = low > 0 and high / low >= 20 if log is None else log and low > 0
    if log:
        return Axis(low / 1.15, high * 1.15, True, _log_ticks(low / 1.15, high * 1.15), title, words)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):  # one value, but for rounding
        high = low
    margin = (high - low) * 0.06 or abs(high) * 0.05
    margin = margin if margin > 1e-12 else 0.5
    low, high = low - margin, high + margin
    low = low if bounds[0] is None else max(low, bounds[0])
    high = high if bounds[1] is None else min(high, bounds[1])
    high = high if high > low else low + 1.0
    return Axis(low, high, False, _ticks(low, high), title, words)


def _ticks(low: float, high: float, wanted: int = 5) -> tuple[float, ...]:
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999), power * 10)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(index * step for index in range(first, min(last, first + 20) + 1))


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    return tuple(found for power in powers for factor in factors if low <= (found := factor * 10.0**power) <= high)


@dataclass(frozen=True)
class Frame:
    """The drawing area between two axes."""

    x: Axis
    y: Axis

    def px(self, value: float) -> float:
        """Returns the horizontal pixel of a value."""
        return LEFT + self.x.at(value) * (WIDTH - LEFT - RIGHT)

    def py(self, value: float) -> float:
        """Returns the vertical pixel of a value."""
        return HEIGHT - BOTTOM - self.y.at(value) * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> str:
        """Returns grid lines, tick labels and axis titles."""
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        parts = []
        for tick in self.x.ticks:
            x = self.px(tick)
            parts.append(svg.element("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="grid"))
            parts.append(svg.text(x, bottom + 18, self.x.words(tick), "soft", "middle"))
        for tick in self.y.ticks:
            y = self.py(tick)
            parts.append(svg.element("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid"))
            parts.append(svg.text(LEFT - 8, y + 4, self.y.words(tick), "soft", "end"))
        parts.append(svg.element("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
        parts.append(svg.text((LEFT + right) / 2, HEIGHT - 10, self.x.title, "bold", "middle"))
        middle = (TOP + bottom) / 2
        parts.append(svg.text(16, middle, self.y.title, "bold", "middle", transform=f"rotate(-90 16 {middle:.0f})"))
        return "".join(parts)


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Returns a row above the frame: marks drawn around (0, 0) and their words."""
    parts, x = [], LEFT + 8
    for mark, words in entries:
        parts.append(svg.element("g", mark, transform=f"translate({x:.0f} 18)"))
        parts.append(svg.text(x + 12, 22, words, "small soft"))
        x += 36 + 7.0 * len(words)
    return "".join(parts)
