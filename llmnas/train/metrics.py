"""Scores of predicted classes, all higher is better. Definitions are those of scikit-learn (tested against it)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.int64]


def score(metric: str, y: Classes, predicted: Classes, classes: int) -> float:
    """Returns the score of `predicted` against `y`, in [0, 1].

    Written out, because importing scikit-learn would cost every training a second.

    Args:
        metric: ``accuracy``, ``balanced_accuracy`` (mean recall of the classes that occur in `y`) or ``macro_f1``
            (mean F1 of the classes that occur in either).
        y: True classes, (N,).
        predicted: Predicted classes, (N,).
        classes: Number of classes.
    """
    if metric == "accuracy":
        return float((y == predicted).mean())
    hits = np.bincount(y[y == predicted], minlength=classes)
    true, guessed = np.bincount(y, minlength=classes), np.bincount(predicted, minlength=classes)
    if metric == "balanced_accuracy":
        occurs = true > 0
        return float((hits[occurs] / true[occurs]).mean())
    if metric == "macro_f1":
        occurs = true + guessed > 0
        return float((2 * hits[occurs] / (true + guessed)[occurs]).mean())  # F1 = 2 TP / (2 TP + FP + FN)
    raise ValueError(f"unknown metric {metric!r}")
