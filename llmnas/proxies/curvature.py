"""The curvature pass: the Hessian of the loss applied to its own gradient, by differentiating twice.

    H g = ∂/∂W Σ stop(g) · g,  g = ∂L/∂W

A finite difference of gradients is four times as fast and wrong: where norms follow the convolutions, W · H g is the
small difference of large terms, and the gates that switch along a step, which the exact second derivative ignores,
outweigh it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd import grad
from torch.func import functional_call
from torch.nn import functional

from llmnas.build import Net


def curvature_pass(net: Net, weights: Mapping[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Any]:
    """Returns ``curvature``: H g per weight tensor, from one forward and two backwards of its own.

    Args:
        net: The network, in train mode.
        weights: Its convolution and linear weights by name.
        x: Examples.
        y: Labels.
    """
    # Contiguous: second derivatives have no kernels for channels-last images and take twice as long on them.
    leaves = {name: weight.detach().contiguous().requires_grad_() for name, weight in weights.items()}
    with torch.enable_grad():
        loss = functional.cross_entropy(functional_call(net, leaves, (x.contiguous(),)), y)
        first = grad(loss, list(leaves.values()), create_graph=True, allow_unused=True, materialize_grads=True)
        turned = torch.stack([(each.detach() * each).sum() for each in first]).sum()
    second: tuple[Any, ...] = grad(turned, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return {"curvature": second}
