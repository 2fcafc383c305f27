"""Bayesian optimisation of a front: ParEGO (Knowles, IEEE Trans. Evol. Comp. 10(1), 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from llmnas.records import Trial
from llmnas.strategies.base import Rng
from llmnas.strategies.bayesian import Bayesian, Pool
from llmnas.strategies.points import Floats, Point

RHO: Final = 0.05
"""Weight of the linear part of ParEGO's scalar (Knowles 2006, section III)."""


class BayesianFront(Bayesian):
    """The same for a front of score and cost: every proposal aims at a random weighting of the two (ParEGO).

    The augmented Chebyshev scalar reaches every point of a front, concave parts included. It needs one process, no
    reference point, and one draw of weights a proposal, so a batch spreads over the front by itself; the expected
    hypervolume would need a box and an integral for every candidate. Cost is milliseconds on the first target, else
    multiply-accumulates.
    """

    name = "bayesian_front"

    def _merit(self, trial: Trial) -> float | None:
        return trial.score

    def _promising(self, pool: Pool, rng: Rng) -> list[int]:
        places = super()._promising(pool, rng)
        promise = np.empty(len(places))
        promise[places] = np.linspace(1.0, 0.0, len(places))
        values = _scalars(promise, _costs(pool.points, pool.ms), float(rng.random()))
        return [int(i) for i in np.argsort(-values, kind="stable")]

    def _aims(self, n: int, rng: Rng) -> list[Floats]:
        merits = np.array([one.merit for one in self.scored])
        cost = _costs([one.point for one in self.scored], [one.ms for one in self.scored])
        return [_scalars(merits, cost, float(rng.random())) for _ in range(n)]


def _costs(points: Sequence[Point], ms: Sequence[float | None]) -> Floats:
    """Returns logs of milliseconds where any is known, else of multiply-accumulates."""
    if any(one is not None for one in ms):
        return np.asarray(np.log1p(np.array([np.nan if one is None else one for one in ms])))
    return np.array([point.sizes[1] for point in points])


def _scalars(merits: Floats, costs: Floats, weight: float) -> Floats:
    """Returns what to maximise for a weight of merit against cost."""
    return -scalar(np.stack([_unit(-merits), _unit(costs)]), weight)


def scalar(objectives: Floats, weight: float) -> Floats:
    """Returns ParEGO's scalar of two normalised objectives, less is better (Knowles 2006, eq. 2)."""
    weighted = objectives * np.array([[weight], [1 - weight]])
    return np.asarray(weighted.max(axis=0) + RHO * weighted.sum(axis=0))


def _unit(values: Floats) -> Floats:
    """Returns values scaled to 0 … 1; unknown ones become 1, the worst."""
    low, high = np.nanmin(values), np.nanmax(values)
    return np.nan_to_num((values - low) / max(high - low, 1e-12), nan=1.0)
