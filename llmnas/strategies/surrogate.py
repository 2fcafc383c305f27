"""What a Gaussian process expects of candidates: values, improvements, and which is best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from llmnas.strategies.points import Floats, Point, screened

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


def _most(known: Sequence[tuple[Point, float]]) -> Sequence[tuple[Point, float]]:
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


def expected(points: Sequence[Point], known: Sequence[tuple[Point, float]]) -> Floats:
    """Returns the values expected of screened points, on the scale of the known ones."""
    return _predicted(points, _most(known), (), screened, SCREENED)[0]


def best_of(candidates: Sequence[Point], known: Sequence[tuple[Point, float]], believed: Sequence[tuple[Point, float]],
          groups: Groups, choices: Sequence[Sequence[float]], chance: Floats) -> tuple[float, Point, float]:
    """Returns the greatest expected improvement, whose it is, and the value expected of it."""
    means, gain = _predicted(candidates, _most(known), believed, groups, choices)
    gain = gain * chance
    chosen = int(np.argmax(gain))
    return float(gain[chosen]), candidates[chosen], float(means[chosen])


def _predicted(candidates: Sequence[Point], told: Sequence[tuple[Point, float]],
               believed: Sequence[tuple[Point, float]], groups: Groups,
               choices: Sequence[Sequence[float]]) -> tuple[Floats, Floats]:
    """Returns expected values and expected improvements of candidates.

    The groups are made of all points at once: ranks of proxies are ranks among them.
    """
    from llmnas.strategies.gaussian import GaussianProcess, expected_improvement, normal_scores

    values = normal_scores(np.array([value for _, value in told]))
    ladder = np.sort([value for _, value in told])
    best = float(values.max())
    scores = np.append(values, np.interp([value for _, value in believed], ladder, np.sort(values)))
    made = groups([*(point for point, _ in (*told, *believed)), *candidates])
    n = len(scores)
    mean, spread = GaussianProcess([group[:n] for group in made], scores, choices).predict(
        [group[n:] for group in made])
    return np.interp(mean, np.sort(values), ladder), expected_improvement(mean, spread, best)
