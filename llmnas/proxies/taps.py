"""Taps: what is read off a network while a forward runs, by hooks that are gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from llmnas.build import Net

GATES: Final = (nn.ReLU, nn.SiLU, nn.GELU, nn.Hardswish)
GROUP: Final = 16
"""Examples per group of `Patterns`: a pattern of a unit is then a number below 2^16."""


class Agreement:
    """Counts, for every pair of examples, the units that are both on or both off.

    Attributes:
        counted: (B, B) float64; None before the first gate.
    """

    def __init__(self) -> None:
        self.counted: Tensor | None = None

    def see(self, on: Tensor) -> None:
        """Adds the gate with these activations A, (B, units) of 0 and 1: A Aᵀ + (1-A)(1-A)ᵀ, (B, B)."""
        both = on @ on.T
        single = both.diagonal()  # units on, per example
        off = on.shape[1] - single[:, None] - single[None, :] + both  # (1-A)(1-A)ᵀ without a second product
        self.counted = (both + off).double() + (0.0 if self.counted is None else self.counted)


class Patterns:
    """Collects the on-off patterns of units over groups of examples.

    Attributes:
        seen: Per group, which of the patterns occurred, (2^examples,) bool.
    """

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def see(self, on: Tensor) -> None:
        """Adds the units of a gate, (B, units) of 0 and 1."""
        for index, group in enumerate(torch.split(on, GROUP)):
            if index == len(self.seen):
                self.seen.append(torch.zeros(1 << len(group), dtype=torch.bool, device=on.device))
            powers = 2.0 ** torch.arange(len(group), device=on.device)
            self.seen[index][(powers @ group).long()] = True  # a pattern's number is exact in float32

    @property
    def counts(self) -> tuple[int, ...]:
        """Distinct patterns per group."""
        return tuple(int(group.sum()) for group in self.seen)


class Products:
    """Sums a · ∂L/∂a over positions for outputs a of layers, while gradients pass them and are still in the cache.

    Args:
        outs: Outputs by name of layer, in a graph.
        linear: Whether a layer is linear, whose channels come last; its order is the order of the result.

    Attributes:
        share: Weight of the loss that is being differentiated.
    """

    def __init__(self, outs: Mapping[str, Tensor], linear: Mapping[str, bool]) -> None:
        self.share = 1.0
        self._linear = linear
        self._sums: dict[str, Tensor] = {}
        for name, out in outs.items():
            self._listen(name, out)

    def _listen(self, name: str, out: Tensor) -> None:
        value = out.detach()  # not `out`: a hook that holds its own tensor keeps the whole graph from being freed
        out.register_hook(lambda grad: self._see(name, value, grad))  # type: ignore[no-untyped-call]

    def _see(self, name: str, value: Tensor, grad: Tensor) -> None:
        product = value * grad
        if product.dim() > 2:
            product = product.flatten(1, -2).sum(1) if self._linear[name] else product.flatten(2).sum(2)
        self._sums[name] = self.share * product + self._sums.get(name, 0.0)

    def found(self) -> tuple[Tensor, ...]:
        """Returns (B, channels) per layer; zeros where no gradient passed."""
        return tuple(self._sums.get(name, torch.zeros(1, 1)) for name in self._linear)


class Watcher(Protocol):
    """Looks at gates."""

    def see(self, on: Tensor) -> None:
        """Is shown the activations of a gate, (B, units) of 0 and 1."""


@contextmanager
def gates_seen(net: nn.Module, watchers: Sequence[Watcher]) -> Iterator[None]:
    """Shows every watcher the activations (input > 0), (B, units), of every gate of the network."""
    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        on = (inputs[0].detach() > 0).flatten(1).float()
        for watcher in watchers:
            watcher.see(on)

    with ExitStack() as stack:
        for module in net.modules():
            if watchers and isinstance(module, GATES):
                stack.callback(module.register_forward_pre_hook(hook).remove)
        yield


@contextmanager
def outputs_kept(modules: Mapping[Any, nn.Module], kept: dict[Any, Tensor]) -> Iterator[None]:
    """Fills `kept` with the output of each module by its name."""
    with ExitStack() as stack:
        for name, module in modules.items():
            def hook(_module: nn.Module, _inputs: Any, output: Tensor, name: Any = name) -> None:
                kept[name] = output

            stack.callback(module.register_forward_hook(hook).remove)
        yield


def pool_input(net: Net) -> int:
    """Returns the index of the layer whose values the last pooling over all positions reads; -1 without one."""
    pools = [index for index, layer in enumerate(net.network.layers)
             if layer.kind == "global_pool" and len(layer.shape) == 1]
    return net.network.layers[pools[-1]].inputs[0] if pools else -1
