"""The gradient of the architecture: first order, and second order through one step of the weights.

DARTS, arXiv 1806.09055, section 2.3. Everything is a function of weights and α, differentiated by `torch.func`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor
from torch.func import grad

Weights = dict[str, Tensor]
Loss = Callable[[Weights, Tensor], Tensor]
"""The loss of weights and α on one batch."""


def first_order(validation: Loss, weights: Weights, alpha: Tensor) -> Tensor:
    """Returns ∇_α L_val(w, α): the weights are taken as they are (ξ = 0)."""
    return cast(Tensor, grad(lambda a: validation(weights, a))(alpha))


def second_order(train: Loss, validation: Loss, weights: Weights, alpha: Tensor, velocity: Mapping[str, Tensor],
                 rate: float, momentum: float, decay: float) -> Tensor:
    """Returns ∇_α L_val(w', α) - ξ ∇²_α,w L_train(w, α) · ∇_w' L_val(w', α), equation 7.

    w' = w - ξ (momentum · velocity + ∇_w L_train(w, α) + decay · w) is the step that the optimiser would take. The
    paper takes the second term by finite differences of radius .01 / ‖∇_w' L_val‖; here it is exact: the gradient in α
    of the product of ∇_w L_train and the constant vector ∇_w' L_val.

    Args:
        train: Loss on a batch of the weights' half.
        validation: Loss on a batch of the architecture's half.
        weights: w, those that are trained.
        alpha: α.
        velocity: Momentum buffers; none before the first step.
        rate: ξ, the learning rate of the weights.
        momentum: Of the optimiser of the weights.
        decay: Its weight decay.
    """
    slope: Weights = grad(train)(weights, alpha)
    ahead = {name: (w - rate * (momentum * velocity.get(name, 0.0) + slope[name] + decay * w)).detach()
             for name, w in weights.items()}
    vector, direct = grad(validation, argnums=(0, 1))(ahead, alpha)

    def product(a: Tensor) -> Tensor:
        slopes: Weights = grad(train)(weights, a)
        return torch.stack([(slopes[name] * vector[name]).sum() for name in weights]).sum()

    return cast(Tensor, direct - rate * grad(product)(alpha))


def curvature(validation: Loss, weights: Weights, alpha: Tensor, direction: Tensor) -> Tensor:
    """Returns the product of the Hessian of the validation loss in α with a direction of α's shape."""
    def along(a: Tensor) -> Tensor:
        return (first_order(validation, weights, a) * direction).sum()

    return cast(Tensor, grad(along)(alpha))
