"""`Net`: the torch module of a `Network`, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmnas.network import Layer, Network

_CONV: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d}
_NORM: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_MAX: dict[int, type[nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d}
_AVERAGE: dict[int, type[nn.Module]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d}


class Add(nn.Module):
    """The sum of its inputs."""

    def forward(self, *values: Tensor) -> Tensor:
        """Returns the sum; all inputs have one shape."""
        total = values[0] + values[1]
        for value in values[2:]:
            total = total + value
        return total


class Mul(nn.Module):
    """The product of two inputs; a map of size one is broadcast over positions."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Returns the product."""
        return left * right


class Concat(nn.Module):
    """The concatenation of its inputs over channels."""

    def forward(self, *values: Tensor) -> Tensor:
        """Returns the concatenation."""
        return torch.cat(values, dim=1)


class Zero(nn.Module):
    """Zeros of the input's shape, written as a multiplication, so that gradients are defined."""

    def forward(self, value: Tensor) -> Tensor:
        """Returns zeros."""
        return value.mul(0.0)


class GlobalPool(nn.Module):
    """The mean over all positions.

    Args:
        keep: Whether the result stays a map of size one.
    """

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, value: Tensor) -> Tensor:
        """Returns the mean over every axis after the channels."""
        return value.mean(dim=tuple(range(2, value.dim())), keepdim=self.keep)


class Attention(nn.Module):
    """Multi-head self-attention over positions (arXiv 1706.03762, section 3.2.2), channels first.

    Args:
        channels: Width of the values.
        heads: Number of heads; divides channels.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, value: Tensor) -> Tensor:
        """Returns attended values of the input's shape (B, C, …)."""
        batch, channels, *space = value.shape
        tokens = value.flatten(2).transpose(1, 2)  # (B, T, C)
        query, key, content = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, content)  # (B, heads, T, C / heads)
        tokens = self.out(mixed.transpose(1, 2).flatten(2))
        return cast(Tensor, tokens.transpose(1, 2).reshape(batch, channels, *space))


def _module(layer: Layer, network: Network) -> nn.Module:
    dims, before = network.dims, network.shape_of(layer.inputs[0])
    channels = before[0]
    makers: dict[str, Callable[[], nn.Module]] = {
        "conv": lambda: _CONV[dims](channels, layer.shape[0], layer.kernel, stride=layer.stride,
                                    padding=layer.kernel // 2, groups=layer.groups, bias=layer.bias),
        "linear": lambda: nn.Linear(channels, layer.shape[0]),
        "norm": lambda: _NORM[dims](channels),
        "relu": nn.ReLU,
        "silu": nn.SiLU,
        "gelu": nn.GELU,
        "hswish": nn.Hardswish,
        "sigmoid": nn.Sigmoid,
        "max_pool": lambda: _MAX[dims](layer.kernel, stride=layer.stride, padding=_pad(layer.kernel)),
        "avg_pool": lambda: _AVERAGE[dims](layer.kernel, stride=layer.stride, padding=_pad(layer.kernel),
                                           count_include_pad=False),
        "global_pool": lambda: GlobalPool(keep=len(layer.shape) > 1),
        "add": Add,
        "mul": Mul,
        "concat": Concat,
        "zero": Zero,
        "identity": nn.Identity,
        "attention": lambda: Attention(channels, layer.groups),
    }
    return makers[layer.kind]()


def _pad(kernel: int) -> int:
    return kernel // 2 if kernel % 2 else 0


class Net(nn.Module):
    """The module of a network.

    Layers run in the network's order; a value is dropped after its last reader, so peak memory is the network's
    own figure. Layer ``i`` of the network is ``self.layers[i]``.

    Args:
        network: What to build.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.layers = nn.ModuleList(_module(layer, network) for layer in network.layers)
        self._reads = [layer.inputs for layer in network.layers]
        self._drops = _drops(network)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (B, classes) of examples (B, *input_shape)."""
        return self.run(x, len(self.layers))

    def run(self, x: Tensor, stop: int) -> Tensor:
        """Returns the output of layer ``stop - 1`` (B, *its shape)."""
        values: dict[int, Tensor] = {-1: x}
        for index, module in enumerate(self.layers):
            if index == stop:
                break
            values[index] = module(*[values[source] for source in self._reads[index]])
            for gone in self._drops[index]:
                del values[gone]
        return values[stop - 1]


def _drops(network: Network) -> list[Sequence[int]]:
    """Returns, per layer, which earlier values no later layer reads."""
    drops: list[list[int]] = [[] for _ in network.layers]
    final = len(network.layers) - 1
    for index, last in enumerate(network.last_use):
        if index not in (final, last):
            drops[last].append(index)
    readers = [index for index, layer in enumerate(network.layers) if -1 in layer.inputs]
    if readers and readers[-1] != final:
        drops[readers[-1]].append(-1)
    return list(drops)


def build(network: Network, seed: int | None = None) -> Net:
    """Returns the module of `network` with torch's default initialisation.

    Args:
        network: What to build.
        seed: Seed of the initialisation; the caller's generator state is left untouched. None uses that generator.
    """
    if seed is None:
        return Net(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(network)
