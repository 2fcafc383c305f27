"""The training part in two halves: one for the weights, one for the architecture (DARTS, section 2.3)."""

from __future__ import annotations

import numpy as np
import torch

from llmnas.data import DataRef, read
from llmnas.data.dataset import Labels
from llmnas.train.batches import Batches


def halves(data: DataRef, seed: int, device: torch.device) -> tuple[Batches, Batches]:
    """Returns the examples for the weights and those for the architecture.

    Both are from the training part; the validation part stays unseen, so that the trainings that follow are judged by
    examples nobody has learnt from.

    Args:
        data: The run's data.
        seed: Seed of the draw.
        device: Where the examples are kept.
    """
    x, y = read(data, "train")
    first, second = divided(y, seed)
    return Batches(x[first], y[first], data, device), Batches(x[second], y[second], data, device)


def divided(y: Labels, seed: int) -> tuple[Labels, Labels]:
    """Returns the rows of two halves in which every class has its share, at least one row in both where it has two."""
    rng = np.random.default_rng([seed, 0xDA275])
    parts: tuple[list[Labels], list[Labels]] = ([], [])
    odd = 0
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        middle = (len(rows) + odd % 2) // 2  # classes of odd size give their extra row to either half in turn
        odd += len(rows) % 2
        parts[0].append(rows[:middle])
        parts[1].append(rows[middle:])
    first, second = (np.sort(np.concatenate(part)).astype(np.int64) for part in parts)
    return first, second
