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
    for n, label in enumerate(np.unique(y)):
        rows = rng.permutation(np.flatnonzero(y == label))
        middle = (len(rows) + n % 2) // 2  # odd classes give their extra row in turn
        parts[0].append(rows[:middle])
        parts[1].append(rows[middle:])
    first, second = (np.sort(np.concatenate(part)).astype(np.int64) for part in parts)
    return first, second
