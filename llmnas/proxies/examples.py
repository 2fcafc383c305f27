"""The examples pass: gradients of every weight for each example by itself.

Norms use the statistics of each example alone, as in a batch of one, so that an example's gradient is its own; the
whole batch still goes through one forward. The gradient of a weight is the product of what the layer read and of the
gradient at its output, so no graph is walked once per example.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmnas.build import Net
from llmnas.proxies.base import UnscorableError

_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d)


def examples_pass(net: Net, weighted: Mapping[str, Any], x: Tensor, y: Tensor) -> dict[str, Any]:
    """Returns ``sign_sums`` of the loss and the ``kernel`` of the summed logits.

    Args:
        net: The network, in train mode.
        weighted: Its convolutions and linear layers by name.
        x: Examples (B, *input_shape).
        y: Labels (B,).

    Raises:
        UnscorableError: No gradient reaches any weight.
    """
    reads: dict[str, Tensor] = {}
    outs: dict[str, Tensor] = {}
    with torch.enable_grad(), _per_example_norms(net), _kept(weighted, reads, outs):
        logits = net(x.detach().requires_grad_())
    names = list(outs)
    losses = functional.cross_entropy(logits, y, reduction="sum")
    of_loss = torch.autograd.grad(losses, [outs[name] for name in names], retain_graph=True, allow_unused=True,
                                  materialize_grads=True)
    of_logits = torch.autograd.grad(logits.sum(), [outs[name] for name in names], allow_unused=True,
                                    materialize_grads=True)
    signs, kernel = 0.0, torch.zeros((len(x), len(x)), dtype=torch.float64, device=x.device)
    for name, loss_grad, logits_grad in zip(names, of_loss, of_logits, strict=True):
        module, read = weighted[name], reads[name].detach()
        signs += float(_weight_grads(module, read, loss_grad).sign().sum(0).abs().sum())
        flat = _weight_grads(module, read, logits_grad).flatten(1)
        kernel += (flat @ flat.T).double()
    if signs == 0.0:
        raise UnscorableError("dead network: no gradient of the loss reaches a convolution or linear weight")
    return {"sign_sums": signs, "kernel": kernel}


@contextmanager
def _per_example_norms(net: Net) -> Iterator[None]:
    """Lets every batch normalisation use each example's own statistics; one position leaves nothing to normalise."""
    def hook(module: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        value = inputs[0]
        if value[0][0].numel() == 1:
            raise UnscorableError("a norm sees one value per example and channel")
        return functional.instance_norm(value, weight=module.weight, bias=module.bias, eps=module.eps)

    with ExitStack() as stack:
        for module in net.modules():
            if isinstance(module, _NORMS):
                stack.callback(module.register_forward_hook(hook).remove)
        yield


@contextmanager
def _kept(weighted: Mapping[str, Any], reads: dict[str, Tensor], outs: dict[str, Tensor]) -> Iterator[None]:
    """Keeps what each layer read and gave."""
    with ExitStack() as stack:
        for name, module in weighted.items():
            def hook(_module: Any, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
                reads[name], outs[name] = inputs[0], output

            stack.callback(module.register_forward_hook(hook).remove)
        yield


def _weight_grads(module: Any, read: Tensor, grad: Tensor) -> Tensor:
    """Returns the gradient of the weight for each example, (B, groups, out / groups, in / groups * kernel)."""
    if isinstance(module, nn.Linear):
        rows, grads = (value.unsqueeze(1) if value.dim() == 2 else value for value in (read, grad))
        return torch.einsum("bto,bti->boi", grads, rows).unsqueeze(1)
    if isinstance(module, nn.Conv1d):
        read, grad = read.unsqueeze(2), grad.unsqueeze(2)
    kernel, stride, padding = ((1,) * (2 - len(pair)) + tuple(pair) if kind != "padding" else
                               (0,) * (2 - len(pair)) + tuple(pair)
                               for kind, pair in (("kernel", module.kernel_size), ("stride", module.stride),
                                                  ("padding", module.padding)))
    columns = functional.unfold(read, kernel, padding=padding, stride=stride)  # (B, in * kernel, positions)
    groups = (len(read), module.groups, -1)
    return grad.flatten(2).reshape(*groups, columns.shape[2]) @ columns.reshape(*groups, columns.shape[2]).mT
