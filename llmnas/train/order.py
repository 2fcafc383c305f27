"""`Order`: which examples the next step sees."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Order:
    """The order of examples: a new permutation every epoch, the incomplete last batch left out.

    Args:
        count: Number of examples.
        batch: Examples per step.
        seed: Seed of the training.
        device: Where ids are wanted.

    Attributes:
        generator: Random numbers for the augmentation, on the device.
    """

    def __init__(self, count: int, batch: int, seed: int, device: torch.device) -> None:
        self._count, self._batch, self._seed, self._device = count, min(batch, count), seed, device
        self._epoch, self._at = 0, count
        self._ids = torch.empty(0, dtype=torch.int64)
        self.generator = torch.Generator(device)
        self.generator.manual_seed(_mixed(seed, 0))

    def next(self) -> Tensor:
        """Returns the ids of the next batch."""
        if self._at + self._batch > self._count:
            self._epoch, self._at = self._epoch + 1, 0
            shuffler = torch.Generator().manual_seed(_mixed(self._seed, self._epoch))  # the same on every device
            self._ids = torch.randperm(self._count, generator=shuffler).to(self._device)
        self._at += self._batch
        return self._ids[self._at - self._batch:self._at]


def _mixed(seed: int, stream: int) -> int:
    """Returns a seed for torch that differs for every pair."""
    return int(np.random.default_rng([seed, stream]).integers(2**62))
