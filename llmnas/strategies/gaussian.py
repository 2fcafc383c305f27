"""A Gaussian process on groups of features, for a few hundred points (Rasmussen and Williams 2006, ch. 2 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtrs
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]

SCALES: Final = (0.5, 1.0, 2.0, 4.0)
"""Length scales tried, in units of the mean distance between points."""
NOISES: Final = (1e-3, 3e-2, 0.3)
"""Shares of noise in the variance tried."""


class GaussianProcess:
    """Regression with a squared-exponential kernel whose distance is a weighted mean over groups of features.

    Each group is scaled by its mean squared distance, so that one-hot ops, hashed graph features and sizes weigh alike
    whatever their number. Which groups count, the length scale and the noise maximise the marginal likelihood
    (eq. 5.8) over a small grid: no local optimum, and the same answer on every machine.

    Args:
        groups: Features by group; a row a point.
        y: Values, of mean about 0 and spread about 1.
        choices: Weights of the groups to try.
    """

    def __init__(self, groups: Sequence[Floats], y: Floats, choices: Sequence[Sequence[float]]) -> None:
        self._groups, self._y = list(groups), y
        distances = [squared_distances(group, group) for group in groups]
        self._units = [max(float(one.mean()), 1e-9) for one in distances]
        scaled = [one / unit for one, unit in zip(distances, self._units, strict=True)]
        best = -np.inf
        for weights in choices:
            mixed = sum(w * one for w, one in zip(weights, scaled, strict=True)) / sum(weights)
            for scale in SCALES:
                kernel = np.exp(-np.asarray(mixed) / (2 * scale**2))
                for noise in NOISES:
                    fit = _fit(kernel, y, noise)
                    if fit[0] > best:
                        best = fit[0]
                        self._weights, self._scale, (_, self._lower, self._alpha, self._variance) = weights, scale, fit

    def _kernel(self, groups: Sequence[Floats]) -> Floats:
        parts = [w * squared_distances(new, old) / unit for w, new, old, unit in
                 zip(self._weights, groups, self._groups, self._units, strict=True)]
        return np.asarray(np.exp(-np.sum(parts, axis=0) / sum(self._weights) / (2 * self._scale**2)))

    def predict(self, groups: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Returns mean and standard deviation of the value without noise (eqs. 2.25 and 2.26)."""
        kernel = self._kernel(groups)
        solved, _ = dtrtrs(self._lower, kernel.T, lower=True)
        spread = np.maximum(1 - (solved**2).sum(axis=0), 1e-9)
        return kernel @ self._alpha, np.sqrt(self._variance * spread)


def _fit(kernel: Floats, y: Floats, noise: float) -> tuple[float, Floats, Floats, float]:
    """Returns log likelihood, Cholesky factor, weights and the variance that maximises the likelihood."""
    n = len(y)
    lower, _ = dpotrf(kernel + noise * np.eye(n), lower=True)  # LAPACK itself: its wrappers cost more than the work
    alpha, _ = dpotrs(lower, y, lower=True)
    variance = max(float(y @ alpha) / n, 1e-12)
    return -0.5 * n * np.log(variance) - float(np.log(np.diag(lower)).sum()), lower, alpha, variance


def squared_distances(left: Floats, right: Floats) -> Floats:
    """Returns the squared Euclidean distance of every row of `left` to every row of `right`."""
    found = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2 * left @ right.T
    return np.asarray(np.maximum(found, 0.0))


def normal_scores(values: Floats) -> Floats:
    """Returns the normal quantiles of the ranks: outliers and skew are gone (Salinas et al., arXiv 1909.13595).

    Values that tie share their mean rank: accuracies on a small validation set often do.
    """
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(count) - (count - 1) / 2
    return np.asarray(ndtri((ranks[place] - 0.5) / len(values)))


def expected_improvement(mean: Floats, spread: Floats, best: float) -> Floats:
    """Returns E[max(f − best, 0)] (Jones et al. 1998, eq. 15)."""
    z = (mean - best) / spread
    density: Any = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.asarray(spread * (z * ndtr(z) + density))
