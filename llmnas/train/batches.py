"""`Batches`: a part of the data in memory on the device, served as normalised and augmented batches."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from llmnas.data import DataRef
from llmnas.data.dataset import Array, Labels
from llmnas.train.recipe import Recipe


class Batches:
    """Examples of one part.

    Examples are kept as stored (uint8 where possible), channels last; a batch is gathered, moved, mirrored and
    normalised in a few tensor operations, without worker processes.

    Args:
        x: Examples, (N, C, H, W) or (N, C, L).
        y: Classes, (N,).
        data: Gives mean and standard deviation.
        device: Where they are kept.
    """

    def __init__(self, x: Array, y: Labels, data: DataRef, device: torch.device) -> None:
        self.x = torch.from_numpy(np.array(np.moveaxis(x, 1, -1), order="C")).to(device)  # (N, H, W, C), (N, L, C)
        self.y = torch.from_numpy(np.array(y)).to(device)
        self.mean = torch.tensor(data.mean, device=device)
        self.std = torch.tensor(data.std, device=device)
        self.fill = self._border_value()

    def __len__(self) -> int:
        return len(self.y)

    def plain(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields everything in order, unaugmented: examples (B, C, …) and classes (B,)."""
        for start in range(0, len(self), size):
            yield self._finished(self.x[start:start + size].float()), self.y[start:start + size]

    def some(self, count: int, seed: int) -> Batches:
        """Returns `count` random examples, or all if there are fewer."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count].to(self.y.device)
        part = copy.copy(self)
        part.x, part.y = self.x[order], self.y[order]
        return part

    def augmented(self, ids: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns examples `ids`, each moved and mirrored by itself: (B, C, …) and classes (B,)."""
        moved = [self._positions(axis, len(ids), recipe, generator) for axis in range(1, self.x.dim() - 1)]
        if recipe.flip:
            last = moved[-1]
            mirrored = torch.rand(len(ids), 1, generator=generator, device=self.x.device) < 0.5
            moved[-1] = torch.where(mirrored, last.flip(1), last)
        inside = [(index >= 0) & (index < self.x.shape[axis]) for axis, index in enumerate(moved, 1)]
        safe = [index.clamp(0, self.x.shape[axis] - 1) for axis, index in enumerate(moved, 1)]
        if len(moved) == 1:
            values = self.x[ids[:, None], safe[0]].float()
        else:
            values = self.x[ids[:, None, None], safe[0][:, :, None], safe[1][:, None, :]].float()
        if recipe.border == "fill":
            mask = inside[0] if len(moved) == 1 else inside[0][:, :, None] & inside[1][:, None, :]
            values = torch.where(mask[..., None], values, self.fill)
        batch = self._finished(values)
        if recipe.noise:
            batch += recipe.noise * torch.randn(batch.shape, generator=generator, device=batch.device)
        return batch, self.y[ids]

    def _positions(self, axis: int, count: int, recipe: Recipe, generator: torch.Generator) -> Tensor:
        """Returns (B, size) source positions along an axis, moved by up to ``shift``; may lie outside."""
        size = self.x.shape[axis]
        offset = torch.randint(-recipe.shift, recipe.shift + 1, (count, 1), generator=generator,
                               device=self.x.device)
        index = torch.arange(size, device=self.x.device) + offset
        if recipe.border == "reflect":
            index = index.abs()
            index = (size - 1) - (size - 1 - index).abs()
        return index

    def _finished(self, values: Tensor) -> Tensor:
        """Returns (B, C, …) normalised, in the memory order convolutions are fast with."""
        normal = values.sub(self.mean).div_(self.std)  # `values` may be the stored examples themselves
        return normal.permute(0, 3, 1, 2) if normal.dim() == 4 else normal.permute(0, 2, 1).contiguous()

    def _border_value(self) -> Tensor:
        """Returns the median of the outermost values of each channel: the background, be it black or white."""
        sample = self.x[:512]
        edges = [sample.select(axis, end) for axis in range(1, sample.dim() - 1) for end in (0, -1)]
        return torch.cat([edge.reshape(-1, edge.shape[-1]) for edge in edges]).float().median(dim=0).values


def chosen(y: Labels, fraction: float) -> Labels:
    """Returns the rows used for a fraction of the training part: the first of each class, at least one.

    The rows are the same for every network and seed, and those of a smaller fraction are among those of a larger.
    """
    if fraction >= 1:
        return np.arange(len(y), dtype=np.int64)
    rows = [np.flatnonzero(y == label) for label in np.unique(y)]
    return np.sort(np.concatenate([row[:max(1, round(fraction * len(row)))] for row in rows])).astype(np.int64)
