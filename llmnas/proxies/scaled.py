"""The synflow pass: a forward in double precision where every value carries its own scale.

R = Σ f(1) reaches 1e61 on ordinary networks and has no bound in depth. Every value is therefore kept as ``v * exp(s)``
with ``max v = 1``. Scales are constants to autograd, so ∂R/∂W = exp(s_out) · ∂(Σ v_out)/∂W exactly, and neither pass
can overflow. The network itself is not touched: layers run with absolute double copies of their parameters.
"""

from __future__ import annotations

from math import exp, log
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from llmnas.build import Net
from llmnas.proxies.base import UnscorableError

HOMOGENEOUS: Final = frozenset({"relu", "max_pool", "avg_pool", "global_pool", "zero", "identity", "norm", "flatten",
                                "dropout"})  # f(c v) = c f(v) for c > 0; norms are left out
LINEAR_ABOVE: Final = frozenset({"silu", "gelu", "hswish"})  # f(v) = v for large v
REPRESENTABLE: Final = 600.0  # exp(600) is far below the largest double


class Scaled(NamedTuple):
    """A tensor ``value * exp(log_scale)``; the largest entry of `value` is 1, or all are 0."""

    value: Tensor
    log_scale: float


def synflow_pass(net: Net, weights: dict[str, Tensor]) -> tuple[tuple[Tensor, ...], float]:
    """Returns |W · ∂R/∂W| per weight in units of exp(scale), and that scale.

    Args:
        net: The network; read only.
        weights: Its convolution and linear weights by parameter name.

    Raises:
        UnscorableError: The logits do not depend on any weight, or attention sees values beyond double precision.
    """
    positive = {name: parameter.detach().double().abs().requires_grad_(name in weights)
                for name, parameter in net.named_parameters()}
    device = next(iter(positive.values())).device
    values = {-1: _normalised(torch.ones((1, *net.network.input_shape), dtype=torch.float64, device=device), 0.0)}
    for index, layer in enumerate(net.network.layers):
        inputs = [values[source] for source in layer.inputs]
        own = {name.removeprefix(f"layers.{index}."): tensor for name, tensor in positive.items()
               if name.startswith(f"layers.{index}.")}
        values[index] = _run(layer.kind, net.layers[index], own, inputs)
        for gone in _finished(net, index):
            del values[gone]
    out = values[len(net.layers) - 1]
    if not out.value.requires_grad:
        raise UnscorableError("the logits do not depend on any weight")
    leaves = [positive[name] for name in weights]
    grads = torch.autograd.grad(out.value.sum(), leaves, allow_unused=True)
    parts = tuple(torch.zeros_like(leaf) if grad is None else (leaf * grad).abs()
                  for leaf, grad in zip(leaves, grads, strict=True))
    return tuple(part.detach() for part in parts), out.log_scale


def _finished(net: Net, index: int) -> list[int]:
    final = len(net.layers) - 1
    return [source for source in set(net.network.layers[index].inputs)
            if source >= 0 and source != final and net.network.last_use[source] == index]


def _normalised(value: Tensor, log_scale: float) -> Scaled:
    top = float(value.detach().abs().max())
    return Scaled(value / top, log_scale + log(top)) if top > 0.0 else Scaled(value, 0.0)


def _run(kind: str, module: nn.Module, own: dict[str, Tensor], inputs: list[Scaled]) -> Scaled:
    """Returns what a layer makes of scaled inputs."""
    if kind == "norm":  # left out, as the paper's code does
        return inputs[0]
    if kind in {"add", "concat"}:
        return _join(module, inputs)
    if kind == "mul":
        return _normalised(inputs[0].value * inputs[1].value, inputs[0].log_scale + inputs[1].log_scale)
    value, log_scale = inputs[0]
    if kind in {"conv", "linear"}:
        return _normalised(_affine(module, own, value, log_scale), log_scale)
    if kind in HOMOGENEOUS:
        return _normalised(module(value), log_scale)
    return _bent(kind, module, own, inputs[0])


def _join(module: nn.Module, inputs: list[Scaled]) -> Scaled:
    """Returns a sum or concatenation after bringing all inputs to the largest scale."""
    alive = [log_scale for value, log_scale in inputs if bool(value.detach().any())]
    common = max(alive, default=0.0)
    brought = [value * exp(log_scale - common) if bool(value.detach().any()) else value
               for value, log_scale in inputs]
    return _normalised(cast("Tensor", module(*brought)), common)


def _affine(module: nn.Module, own: dict[str, Tensor], value: Tensor, log_scale: float) -> Tensor:
    """Returns W v + b / scale: the bias is not scaled with the input."""
    bias = own.get("bias")
    rest = own if bias is None else {**own, "bias": torch.zeros_like(bias)}
    out = cast("Tensor", functional_call(module, rest, (value,)))
    if bias is None or log_scale > REPRESENTABLE:
        return out
    return out + exp(-log_scale) * bias.reshape(1, -1, *([1] * (out.dim() - 2)))


def _bent(kind: str, module: nn.Module, own: dict[str, Tensor], inside: Scaled) -> Scaled:
    """Returns what a layer makes of true values where it is not homogeneous."""
    value, log_scale = inside
    if log_scale <= REPRESENTABLE:
        return _normalised(functional_call(module, own, (value * exp(log_scale),)), 0.0)
    if kind in LINEAR_ABOVE:
        return inside
    if kind == "sigmoid":  # saturated, so nothing flows back
        return Scaled(torch.where(value > 0, 1.0, .5), 0.0)
    raise UnscorableError(f"{kind} sees values beyond double precision")
