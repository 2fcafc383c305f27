"""Anytime curves: the best validation score so far, by evaluation and by charged second, and when a target is reached.

A search that ended early keeps its last incumbent: its curve goes on level, and how many seeds had ended is said. A
mean is only given where every seed has an incumbent, because a mean over those that happen to have one would flatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

import numpy as np

from llmnas.compare.paired import CONFIDENCE, Values
from llmnas.compare.trajectory import Trajectory

RESAMPLES: Final = 2000
POINTS: Final = 200
"""Points of a curve by second."""


def incumbents(trajectory: Trajectory, length: int) -> Values:
    """Returns the best score after each of `length` evaluations; nan before the first score, level after the last."""
    best = np.full(length + 1, math.nan)
    for place, one in zip(trajectory.places, trajectory.paid, strict=True):
        if place <= length and one.score is not None:
            best[place] = np.fmax(best[place], one.score)
    return np.asarray(np.fmax.accumulate(best)[1:])


def incumbents_at(trajectory: Trajectory, seconds: Values) -> Values:
    """Returns the best score at each of these charged seconds; nan before the first score.

    Raises:
        ValueError: The charged seconds of an evaluation are not known.
    """
    times = [one.at_s for one in trajectory.paid]
    known = [when for when in times if when is not None]
    if len(known) != len(times):
        raise ValueError(f"the seconds of {trajectory.arm}, seed {trajectory.seed}, are not known")
    scores = [math.nan if one.score is None else one.score for one in trajectory.paid]
    best = np.fmax.accumulate(np.array([math.nan, *scores]))
    return np.asarray(best[np.searchsorted(np.array(known), seconds, side="right")])


def band(curves: Values) -> dict[str, list[float | None]]:
    """Returns mean with its pointwise 95 % percentile bootstrap band, median and quartiles, None where a seed has none.

    Args:
        curves: (seeds, points). One set of resampled seeds serves all points, so that the band is smooth.
    """
    n = len(curves)
    draws = np.random.default_rng(0).multinomial(n, [1 / n] * n, size=RESAMPLES) / n
    whole = ~np.isnan(curves).any(axis=0)
    kept = curves[:, whole]
    ends = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws @ kept, [ends, 1 - ends], axis=0) if n > 1 else (kept[0], kept[0])
    quartiles = np.quantile(kept, [0.25, 0.5, 0.75], axis=0)
    named = {"mean": kept.mean(axis=0), "low": low, "high": high, "median": quartiles[1], "q25": quartiles[0],
             "q75": quartiles[2]}
    return {name: _spread_out(row, whole) for name, row in named.items()}


def _spread_out(row: Values, whole: Any) -> list[float | None]:
    values = iter(row.tolist())
    return [next(values) if there else None for there in whole]


def by_evaluation(arms: dict[str, list[Trajectory]], length: int) -> dict[str, Any]:
    """Returns the curves of all arms over 1 to `length` evaluations, with the share of seeds that had ended by then."""
    found = {}
    for arm, own in arms.items():
        curves = np.array([incumbents(one, length) for one in own])
        ends = np.array([one.length for one in own])
        ended = [float((ends < place).mean()) for place in range(1, length + 1)]
        found[arm] = {**band(curves), "ended": ended}
    return {"x": list(range(1, length + 1)), "arms": found}


def by_second(arms: dict[str, list[Trajectory]]) -> dict[str, Any]:
    """Returns the curves over charged seconds of the arms whose seconds are known, and why others have none."""
    timed = {arm: own for arm, own in arms.items() if all(one.at_s is not None for run in own for one in run.paid)}
    unknown = [arm for arm in arms if arm not in timed]
    end = max((_end(one) for own in timed.values() for one in own), default=0.0)
    if not timed or end <= 0:
        return {"x": [], "arms": {}, "unknown": unknown or list(arms)}
    x = np.linspace(0.0, end, POINTS)
    found = {}
    for arm, own in timed.items():
        ends = np.array([_end(one) for one in own])
        found[arm] = {**band(np.array([incumbents_at(one, x) for one in own])),
                      "ended": [float((ends < when).mean()) for when in x]}
    return {"x": x.tolist(), "arms": found, "unknown": unknown}


def _end(trajectory: Trajectory) -> float:
    last = max((one.at_s or 0.0 for one in trajectory.paid), default=0.0)
    return max(last, trajectory.end_s or 0.0)


def reached(trajectory: Trajectory, target: float) -> tuple[int, float | None] | None:
    """Returns the evaluation with which a search reached a score, and its charged second; None when it never did."""
    for place, one in zip(trajectory.places, trajectory.paid, strict=True):
        if one.score is not None and one.score >= target:
            return place, one.at_s
    return None


def until(trajectories: Sequence[Trajectory], target: float) -> dict[str, Any]:
    """Returns in how many seeds a target was reached, and after how much in the median seed.

    A seed that never reached it counts as one that needs more than all others: the median is right as long as the
    median seed reached it, and None otherwise. A mean would need to know how long the others would have taken.
    """
    found = [reached(one, target) for one in trajectories]
    seconds = [math.inf if one is None else one[1] for one in found]
    return {"reached": sum(one is not None for one in found), "of": len(found),
            "evaluations": _censored([math.inf if one is None else float(one[0]) for one in found]),
            "seconds": None if None in seconds else _censored([one for one in seconds if one is not None])}


def _censored(values: Sequence[float]) -> float | None:
    middle = median(values) if values else math.inf
    return middle if math.isfinite(middle) else None
