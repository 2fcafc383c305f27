"""The guard against collapse: skips in the derived cell, and the largest eigenvalue of the Hessian in α.

Understanding and Robustifying Differentiable Architecture Search (RobustDARTS), arXiv 1909.09656: the largest
eigenvalue rises before the cell fills with skips, and a search that is stopped at the rise gives a sound cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Final

import torch
from torch import Tensor

WINDOW: Final = 5
"""Epochs over which eigenvalues are averaged."""
BACK: Final = 4
"""Epochs between the averages that are compared."""
RISE: Final = 1.3
"""Ratio of the averages from which on the search counts as collapsing (section 5.1 of the paper)."""
MOST_SKIPS: Final = 0.5
"""Share of a derived cell's slots that are skips from above which it counts as collapsed."""
STEPS: Final = 12
TOLERANCE: Final = 0.01


def largest_eigenvalue(product: Callable[[Tensor], Tensor], start: Tensor, steps: int = STEPS,
                       tolerance: float = TOLERANCE) -> float:
    """Returns the largest (not the largest absolute) eigenvalue of a symmetric matrix, by power iteration.

    Power iteration finds the eigenvalue of largest modulus. Where that is negative, the matrix is shifted by it and the
    iteration repeated: then the largest one is farthest from zero.

    Args:
        product: Returns the matrix times a vector of the shape of `start`.
        start: A vector that is not zero.
        steps: Products at most, for each of the two iterations.
        tolerance: Relative change of the estimate at which an iteration ends.
    """
    found = _dominant(product, start, steps, tolerance)
    if found >= 0:
        return found
    return found + _dominant(lambda v: product(v) - found * v, start, steps, tolerance)


def _dominant(product: Callable[[Tensor], Tensor], start: Tensor, steps: int, tolerance: float) -> float:
    vector, estimate = start / start.norm(), 0.0
    for _ in range(steps):
        image = product(vector)
        before, estimate = estimate, float((vector * image).sum())
        size = image.norm()
        if not torch.isfinite(size) or float(size) == 0.0:
            return estimate if bool(torch.isfinite(size)) else float("nan")
        vector = image / size
        if abs(estimate - before) <= tolerance * abs(estimate):
            break
    return estimate


def rise(eigenvalues: Sequence[float]) -> float | None:
    """Returns the mean of the last `WINDOW` eigenvalues over that of `BACK` epochs before; None before there are both.

    None too where the earlier mean is not positive: a ratio says nothing then.
    """
    if len(eigenvalues) < WINDOW + BACK:
        return None
    now, before = fmean(eigenvalues[-WINDOW:]), fmean(eigenvalues[-WINDOW - BACK:-BACK])
    return now / before if before > 0 else None


def is_rising(eigenvalues: Sequence[float]) -> bool:
    """Returns whether the largest eigenvalue rises as it does before a collapse."""
    found = rise(eigenvalues)
    return found is not None and found > RISE


def is_filled(skips: int, slots: int) -> bool:
    """Returns whether more of a cell's slots than `MOST_SKIPS` are skips."""
    return skips > MOST_SKIPS * slots
