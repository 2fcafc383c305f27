"""The blocks pass: how the values at the ends of blocks spread, and how gradients pass from one to the one before."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from llmnas.proxies.base import UnscorableError


def spectrum_of(value: Tensor) -> Tensor:
    """Returns the eigenvalues of the channels' covariance over examples and positions, ascending, float64.

    Args:
        value: (B, C, *positions).
    """
    rows = _rows(value)
    centred = rows - rows.mean(dim=0, keepdim=True)
    return cast("Tensor", torch.linalg.eigvalsh((centred.T @ centred / len(rows)).double()))


def gains_of(values: Sequence[Tensor], seed: int) -> tuple[float | None, ...]:
    """Returns, per block after the first, the largest singular value of its mean Jacobian, estimated by signs.

    With signs g drawn for the block's end and h = Jᵀ g for its beginning, E[h gᵀ] = Jᵀ; the mean is over examples and
    positions. None where a block passes its input on unchanged.

    Args:
        values: The values at the ends of blocks, in order, in one graph.
        seed: Of the signs.

    Raises:
        UnscorableError: The network has fewer than two blocks.
    """
    if len(values) < 2:
        raise UnscorableError("the network has fewer than two blocks")
    return tuple(None if before is after else _gain(before, after, seed) for before, after in pairwise(values))


@lru_cache(maxsize=8)
def _signs(shape: tuple[int, ...], seed: int, channels_last: bool) -> Tensor:
    """Returns random signs. Blocks of one shape share them: drawing ten million takes longer than a backward."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8).float() * 2 - 1
    return signs.contiguous(memory_format=torch.channels_last) if channels_last else signs


def _gain(before: Tensor, after: Tensor, seed: int) -> float | None:
    last = after.dim() == 4 and after.is_contiguous(memory_format=torch.channels_last)
    signs = _signs(tuple(after.shape), seed, last).to(after.device, after.dtype)
    back = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
    back = _folded(back, after.shape[2:])
    if back.shape == signs.shape and torch.equal(back, signs):
        return None
    outer = _rows(back).T @ _rows(signs) / len(_rows(signs))
    return float(torch.linalg.matrix_norm(outer.double(), ord=2))


def _folded(back: Tensor, positions: Sequence[int]) -> Tensor:
    """Returns the gradient with as many positions as the block's end has; neighbours become channels."""
    size = list(back.shape[2:])
    strides = [-(-before // after) for before, after in zip(size, positions, strict=True)]
    padding = [amount for before, after, stride in zip(size, positions, strides, strict=True)
               for amount in (0, stride * after - before)]
    folded = functional.pad(back, padding[-2:] if len(size) == 1 else [*padding[2:], *padding[:2]])
    for axis, (after, stride) in enumerate(zip(positions, strides, strict=True), start=2):
        shape = (*folded.shape[:axis], after, stride, *folded.shape[axis + 1:])
        folded = folded.reshape(shape).movedim(axis + 1, 1).flatten(1, 2)
    return folded


def _rows(value: Tensor) -> Tensor:
    """Returns one row of channels per example and position."""
    return value.flatten(2).transpose(1, 2).reshape(-1, value.shape[1])
