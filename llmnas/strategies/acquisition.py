"""What a candidate is worth: expected improvement of the best score, or of a front of score and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from llmnas.graph import ArchGraph
from llmnas.records import Trial
from llmnas.strategies.base import Setup
from llmnas.strategies.points import Floats, Point
from llmnas.strategies.proxy_warm import by_proxies
from llmnas.strategies.surrogate import Forecast

WARM: Final = 5
"""Designs before the first fit where proxies choose them."""
WARM_FRONT: Final = 8
"""The same for a front, over the range of cost."""
PARENTS: Final = 5
"""Best designs whose neighbours are candidates."""
PARENTS_FRONT: Final = 12
"""Members of a front whose neighbours are."""
Known = Sequence[tuple[Point, float]]


class Aim(Protocol):
    """What a strategy with a surrogate wants.

    Attributes:
        warm: Designs before the first fit where proxies choose them.
    """

    warm: int

    def value(self, trial: Trial) -> float | None:
        """Returns what the surrogate predicts, of a trial; higher is better."""

    def first(self, points: Sequence[Point]) -> list[int]:
        """Returns the places of screened points in the order in which they should be trained before any fit."""

    def parents(self, known: Known) -> list[ArchGraph]:
        """Returns the designs whose neighbours are worth a look, best first."""

    def gain(self, candidates: Sequence[Point], found: Forecast, known: Sequence[Point]) -> Floats:
        """Returns the expected improvement that each candidate brings.

        Args:
            candidates: The candidates.
            found: What is expected of them, and the scores of `known`.
            known: What has a value, or is believed to.
        """


class Best:
    """The best merit: expected improvement (Jones et al. 1998, eq. 15).

    Args:
        setup: Says what merit is.
    """

    warm = WARM

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def value(self, trial: Trial) -> float | None:
        """Returns the merit."""
        return self.setup.merit(trial)

    def first(self, points: Sequence[Point]) -> list[int]:
        """Returns the most promising by proxies first."""
        return by_proxies(self.setup.space.name, [point.raw for point in points])

    def parents(self, known: Known) -> list[ArchGraph]:
        """Returns the best."""
        return [point.graph for point, _ in sorted(known, key=lambda one: -one[1])[:PARENTS]]

    def gain(self, candidates: Sequence[Point], found: Forecast, known: Sequence[Point]) -> Floats:
        """Returns the expected improvement on the best score."""
        from llmnas.strategies.gaussian import expected_improvement

        return expected_improvement(found.mean, found.spread, float(found.known.max()))


class Front:
    """The front of score and cost: expected hypervolume improvement (Emmerich, Deutz and Klinkenberg, CEC 2011).

    The cost of a candidate is known: predicted milliseconds on the first target, else multiply-accumulates. With one
    uncertain objective the improvement is a sum over the steps of the front. Scores are normal quantiles of their ranks
    and costs are logarithms, so that the accurate end of a front, where scores lie close, weighs like the rest; the
    reference point is the worst score and the greatest cost that are known.

    Args:
        setup: The space.
    """

    warm = WARM_FRONT

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def value(self, trial: Trial) -> float | None:
        """Returns the score."""
        return trial.score

    def first(self, points: Sequence[Point]) -> list[int]:
        """Returns the most promising by proxies in each of `WARM_FRONT` parts of the range of cost, then the rest."""
        rank = {place: i for i, place in enumerate(by_proxies(self.setup.space.name, [point.raw for point in points]))}
        parts = np.array_split(np.argsort(_costs(points), kind="stable"), min(len(points), self.warm))
        best = [min((int(place) for place in part), key=lambda place: rank[place]) for part in parts]
        return [*best, *sorted(set(rank) - set(best), key=lambda place: rank[place])]

    def parents(self, known: Known) -> list[ArchGraph]:
        """Returns members of the front, at most `PARENTS_FRONT` of them, evenly over it."""
        steps = _steps(np.array([value for _, value in known]), _costs([point for point, _ in known]))
        places = np.linspace(0, len(steps) - 1, min(len(steps), PARENTS_FRONT)).round().astype(int)
        return [known[steps[place]][0].graph for place in places]

    def gain(self, candidates: Sequence[Point], found: Forecast, known: Sequence[Point]) -> Floats:
        """Returns the expected hypervolume improvement."""
        costs = _costs([*known, *candidates])
        own, others = costs[len(known):], costs[:len(known)]
        return hypervolume_improvement(found.mean, found.spread, own, found.known, others, float(costs.max()))


def hypervolume_improvement(mean: Floats, spread: Floats, costs: Floats, scores: Floats, paid: Floats,
                            most: float) -> Floats:
    """Returns the expected growth of the area that a front dominates, for candidates whose cost is known.

    Between two neighbouring scores of the front a candidate adds what it is cheaper than the cheapest design that is at
    least as good, so E = Σ max(0, b − c) · (E[(F − low)⁺] − E[(F − high)⁺]) over the steps.

    Args:
        mean: Expected scores of the candidates, (n,).
        spread: Their standard deviations.
        costs: Their costs.
        scores: Known scores, (m,), higher is better.
        paid: Their costs, lower is better.
        most: Cost of the reference point; its score is the least known one.
    """
    from llmnas.strategies.gaussian import expected_improvement

    steps = _steps(scores, paid)
    levels = [float(scores.min()), *scores[steps]]
    over = [expected_improvement(mean, spread, level) for level in levels] + [np.zeros(len(mean))]
    bounds = [*paid[steps], most]
    return np.asarray(sum(np.maximum(bound - costs, 0.0) * (low - high)
                          for bound, low, high in zip(bounds, over[:-1], over[1:], strict=True)))


def _steps(scores: Floats, costs: Floats) -> list[int]:
    """Returns the places of the members of the front, by rising score."""
    steps: list[int] = []
    for place in np.lexsort((-scores, costs)):
        if not steps or scores[place] > scores[steps[-1]]:
            steps.append(int(place))
    return steps


def _costs(points: Sequence[Point]) -> Floats:
    """Returns log milliseconds, or log multiply-accumulates where those of some point are not known."""
    found = [point.cost for point in points]
    if None not in found:
        return np.array(found, dtype=float)
    return np.array([point.sizes[1] for point in points])
