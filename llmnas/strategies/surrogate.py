"""What a Gaussian process expects of candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from llmnas.strategies.points import Floats, Point

if TYPE_CHECKING:
    from llmnas.strategies.gaussian import GaussianProcess

MOST: Final = 300
"""Trials a process is fitted to: the better half of them are the best, the others the latest."""
STRUCTURE: Final = ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
SIZED: Final = (*((*one, 0.0) for one in STRUCTURE), (1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 1.0))
SCREENED: Final = (*((*one, 0.0) for one in SIZED), (0.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 1.0),
                   (1.0, 1.0, 0.0, 1.0), (1.0, 1.0, 1.0, 1.0))
"""Weights of the groups of features (`llmnas.strategies.points`) among which the marginal likelihood decides."""
Groups = Callable[[Sequence[Point]], list[Floats]]


def most(known: Sequence[tuple[Point, float]]) -> Sequence[tuple[Point, float]]:
    """Returns the points and values that a process is fitted to: at most `MOST`."""
    if len(known) <= MOST:
        return known
    best = sorted(range(len(known)), key=lambda i: (-known[i][1], i))[:MOST // 2]
    latest = [i for i in range(len(known) - 1, -1, -1) if i not in set(best)][:MOST - len(best)]
    return [known[i] for i in sorted([*best, *latest])]


def fitted(points: Sequence[Point], values: Floats, groups: Groups,
           choices: Sequence[Sequence[float]]) -> GaussianProcess:
    """Returns the process fitted to values of mean about 0 and spread about 1 at these points."""
    from llmnas.strategies.gaussian import GaussianProcess

    return GaussianProcess(groups(points), values, choices)


@dataclass(frozen=True)
class Forecast:
    """What a process expects of candidates, in normal scores of the known values.

    Attributes:
        mean: Of the candidates, (n,).
        spread: Their standard deviations.
        known: Scores of what the process was fitted to, (m,).
        ladder: The known values, sorted: the scale to go back to.
    """

    mean: Floats
    spread: Floats
    known: Floats
    ladder: Floats

    def value(self, place: int) -> float:
        """Returns what is expected of one candidate on the scale of the values."""
        return float(np.interp(self.mean[place], np.sort(self.known[:len(self.ladder)]), self.ladder))


def forecast(candidates: Sequence[Point], told: Sequence[tuple[Point, float]],
             believed: Sequence[tuple[Point, float]], groups: Groups, choices: Sequence[Sequence[float]]) -> Forecast:
    """Returns what is expected of candidates.

    The groups are made of all points at once: ranks of proxies are ranks among them.

    Args:
        candidates: The candidates.
        told: Points and their values, at most `MOST` (`most`).
        believed: Points that are taken to have the value that was expected of them (Ginsbourger et al. 2010).
        groups: Makes the features.
        choices: Weights of the groups to try.
    """
    from llmnas.strategies.gaussian import GaussianProcess, normal_scores

    values = np.array([value for _, value in told])
    scores, ladder = normal_scores(values), np.sort(values)
    known = np.append(scores, np.interp([value for _, value in believed], ladder, np.sort(scores)))
    made = groups([*(point for point, _ in (*told, *believed)), *candidates])
    n = len(known)
    mean, spread = GaussianProcess([group[:n] for group in made], known, choices).predict(
        [group[n:] for group in made])
    return Forecast(mean, spread, known, ladder)
