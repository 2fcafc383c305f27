"""`Recipe`: how every network is trained. It depends on the data alone, never on the network or on who proposed it."""

from __future__ import annotations

from typing import Final

from llmnas.data import DataRef
from llmnas.graph import Frozen

BATCHES: Final = ((128, 10_000), (64, 640), (32, 320), (16, 160), (8, 0))
"""Batch sizes and the training examples each is used from: few examples need small batches to get enough steps."""


class Recipe(Frozen):
    """A complete training recipe. The choices and their measurements are in ``docs/recipe.md``.

    SGD with Nesterov momentum; learning rate linear up to its peak, then linear down to zero; cross-entropy with
    smoothed labels; scores are taken with a moving average of the weights.

    Attributes:
        batch: Examples per step.
        peak_lr: Learning rate at the end of the warm-up.
        warmup: Share of the training in which the learning rate rises.
        momentum: Nesterov momentum.
        weight_decay: L2 penalty of weights; biases and normalisation parameters have none.
        smoothing: Label smoothing.
        clip: Largest norm of a gradient; larger ones are scaled down, so that networks without normalisation live.
        ema: Largest decay of the moving average of the weights; early on it spans a tenth of the steps done.
        shift: Most positions an example is moved by, per axis.
        border: What moves in: ``reflect`` (mirrored content), ``fill`` (the usual border value), ``edge``.
        flip: Whether half of the examples are mirrored left to right.
        noise: Standard deviation of noise added to normalised values.
    """

    batch: int
    peak_lr: float
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    clip: float = 5.0
    ema: float = 0.999
    shift: int
    border: str
    flip: bool
    noise: float = 0.0

    def lr(self, progress: float) -> float:
        """Returns the learning rate at `progress`, 0 at the start of the training and 1 at its end."""
        if progress < self.warmup:
            return self.peak_lr * (0.1 + 0.9 * progress / self.warmup)
        return self.peak_lr * max(0.0, (1.0 - progress) / (1.0 - self.warmup))

    def decay(self, step: int) -> float:
        """Returns the decay of the moving average at `step`, from 0."""
        return min(self.ema, (1 + step) / (10 + step))


def recipe_for(data: DataRef, examples: int) -> Recipe:
    """Returns the recipe for a data set.

    Args:
        data: Decides the augmentation: natural images are cropped and mirrored, other images moved slightly,
            sequences moved and made a little noisy.
        examples: Training examples used; decides the batch size.
    """
    batch = next(size for size, least in BATCHES if examples >= least)
    peak = 0.2 * (batch / 128) ** 0.5
    if len(data.shape) == 2:
        return Recipe(batch=batch, peak_lr=peak, shift=max(1, data.shape[1] // 20), border="edge", flip=False,
                      noise=0.05)
    side = min(data.shape[1:])
    if data.natural:
        return Recipe(batch=batch, peak_lr=peak, shift=max(1, side // 8), border="reflect", flip=True)
    return Recipe(batch=batch, peak_lr=peak, shift=max(1, side // 10), border="fill", flip=False)
