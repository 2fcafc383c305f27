"""How good a predictor is on networks that it was not fitted on, and how much so few of them can tell."""

from __future__ import annotations

from collections.abc import Sequence
from math import atanh, sqrt, tanh
from typing import Final

import numpy as np
from scipy.stats import beta, rankdata

from llmnas.graph import Frozen
from llmnas.latency.counting import Floats
from llmnas.latency.predictor import Expected

LEAST: Final = 4  # networks below which a rank correlation has no interval
_Z95: Final = 1.96
_CLAIMED: Final = .9


class Checked(Frozen):
    """Predictions against measurements.

    Attributes:
        n: Networks.
        spearman: Rank correlation of predicted with measured ms; None when one of them does not vary.
        spearman_low: Lower end of its 95 % interval, by Fisher's z; None below four networks.
        spearman_high: Upper end.
        mape: Mean absolute relative error, a share of the measured ms.
        within_10: Share of predictions within 10 % of the measured ms.
        covered: Measured ms that lie in their 90 % interval.
        covered_low: Lower end of the exact 95 % interval of that share (Clopper and Pearson, 1934).
        covered_high: Upper end.
    """

    n: int
    spearman: float | None
    spearman_low: float | None
    spearman_high: float | None
    mape: float
    within_10: float
    covered: int
    covered_low: float
    covered_high: float

    @property
    def order(self) -> str:
        """Whether the order is right, wrong or not decided."""
        low, high = self.spearman_low, self.spearman_high
        if low is None or high is None or low <= 0 <= high:
            return "not decided"
        return "right" if low > 0 else "wrong"

    @property
    def intervals(self) -> str:
        """Whether nine of ten measurements lie in their interval, as far as so many tell."""
        if self.covered_high < _CLAIMED:
            return "too narrow"
        return "wider than needed" if self.covered_low > _CLAIMED else "hold"


def check(predicted: Expected, ms: Sequence[float] | Floats) -> Checked:
    """Returns what predictions were worth.

    Args:
        predicted: With 90 % intervals.
        ms: Measured, at least one, in the same order.
    """
    measured = np.asarray(ms, dtype=float)
    n, errors = len(measured), np.abs(predicted.ms / measured - 1)
    rho = _spearman(predicted.ms, measured)
    low, high = (None, None) if rho is None or n < LEAST else _fisher(rho, n)
    covered = int(np.sum((predicted.low <= measured) & (measured <= predicted.high)))
    return Checked(n=n, spearman=rho, spearman_low=low, spearman_high=high, mape=float(errors.mean()),
                   within_10=float(np.mean(errors <= .1)), covered=covered,
                   covered_low=float(beta.ppf(.025, covered, n - covered + 1)) if covered else 0.0,
                   covered_high=float(beta.ppf(.975, covered + 1, n - covered)) if covered < n else 1.0)


def _spearman(left: Floats, right: Floats) -> float | None:
    ranks = rankdata(left), rankdata(right)
    if min(rank.std() for rank in ranks) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _fisher(rho: float, n: int) -> tuple[float, float]:
    """Returns the 95 % interval of a rank correlation (Fieller, Hartley and Pearson, 1957: variance 1.06 / (n - 3))."""
    z, half = atanh(min(max(rho, -.999999), .999999)), _Z95 * sqrt(1.06 / (n - 3))
    return tanh(z - half), tanh(z + half)
