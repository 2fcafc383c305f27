"""Niches: parts of a space along the axis that tracks cost on this target, each with as many designs as the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from llmnas.strategies.base import Rng
from llmnas.strategies.points import Floats, Point

NICHES: Final = 4
"""Parts of equal mass. Six by the count of 3×3 convolutions help no global figure (their masses differ 100 times)."""
LEAST: Final = 16
"""Screened graphs before the axis is chosen."""
AXES: Final = ("macs", "params")


@dataclass(frozen=True)
class Niche:
    """A part of the space, from `low` to `high` on the axis.

    Attributes:
        axis: ``macs``, ``params``.
        low: Its lower end.
        high: Its upper end.
    """

    axis: str
    low: float
    high: float

    def holds(self, point: Point) -> bool:
        """Returns whether a sized point lies in it."""
        return self.low <= _place(point, self.axis) <= self.high

    @property
    def text(self) -> str:
        """What a prompt says of it."""
        return f"{self.axis} from {self.low:,.0f} to {self.high:,.0f}"


def niches(points: Sequence[Point]) -> list[Niche]:
    """Returns niches of equal mass along the axis whose rank correlation with cost is the greatest.

    Args:
        points: Screened graphs, sized; those whose cost is known choose the axis.

    Returns:
        None of them before `LEAST` points are known, and where all points are alike.
    """
    if len(points) < LEAST:
        return []
    axis = max(AXES, key=lambda name: _correlation(points, name))
    places = np.array([_place(point, axis) for point in points])
    ends = np.unique(np.quantile(places, np.linspace(0, 1, NICHES + 1)))
    return [Niche(axis, float(low), float(high)) for low, high in pairwise(ends)]


def _correlation(points: Sequence[Point], axis: str) -> float:
    from scipy.stats import spearmanr

    known = [(cost, _place(point, axis)) for point in points if (cost := point.cost) is not None]
    if len({cost for cost, _ in known}) < 2 or len({place for _, place in known}) < 2:
        return 0.0
    return float(abs(spearmanr(*zip(*known, strict=True)).statistic))


def _place(point: Point, axis: str) -> float:
    if point.counts is None:
        raise ValueError("a niche needs the size of a graph")
    return float(point.counts.macs if axis == "macs" else point.counts.params)


def chosen(found: Sequence[Niche], points: Sequence[Point], gains: Floats, rng: Rng) -> Niche | None:
    """Returns a niche, drawn by the improvement that its candidates promise: where the front can still grow.

    Args:
        found: The niches.
        points: Candidates, sized.
        gains: Expected improvement of each.
        rng: Chance.
    """
    if not found:
        return None
    promise = np.array([max((gain for point, gain in zip(points, gains, strict=True) if niche.holds(point)),
                            default=0.0) for niche in found])
    total = float(promise.sum())
    return found[int(rng.choice(len(found), p=promise / total if total > 0 else None))]
