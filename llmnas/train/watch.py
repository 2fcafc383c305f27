"""`LossWatch`: notices a loss that is no number any more."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llmnas.train.failure import TrainingError


class LossWatch:
    """Looks at the loss every few steps, and stops a training whose loss is not finite.

    Args:
        every: Steps between looks; a look waits for the device.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._seen: list[Tensor] = []
        self._mean = float("nan")

    def saw(self, loss: Tensor, step: int) -> float:
        """Takes the loss of `step` and returns the latest mean loss known."""
        self._seen.append(loss)
        if len(self._seen) >= self._every:
            self.look(step + 1)
        return self._mean

    def look(self, step: int) -> None:
        """Checks the losses up to before `step`.

        Raises:
            TrainingError: One is not finite.
        """
        if not self._seen:
            return
        losses = torch.stack(self._seen).tolist()
        self._seen.clear()
        for index, loss in enumerate(losses):
            if not np.isfinite(loss):
                raise TrainingError("diverged", f"diverged at step {step - len(losses) + index}: the loss is {loss}")
        self._mean = float(np.mean(losses))
