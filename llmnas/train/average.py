"""`Average`: the moving average of a module's weights, which is what gets scored and saved."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """A copy of a module whose weights follow it slowly.

    The statistics of batch normalisation are averaged with the weights, over the same window, so that they belong to
    them; counters are copied.

    Args:
        module: The module being trained.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        theirs, ours = module.state_dict(keep_vars=True), self.module.state_dict(keep_vars=True)
        floating = [name for name, value in theirs.items() if value.is_floating_point()]
        self._theirs: list[Tensor] = [theirs[name] for name in floating]
        self._ours: list[Tensor] = [ours[name] for name in floating]

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Moves every value towards the trained one: ``ours = decay · ours + (1 - decay) · theirs``."""
        torch._foreach_lerp_(self._ours, self._theirs, 1.0 - decay)
