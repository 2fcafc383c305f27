"""What a runtime launches for a network: one `Kernel` a call, with its work and its traffic. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final, Literal, NamedTuple

from llmnas.latency.datasheet import Runtime
from llmnas.network import FREE, Layer, Network

KernelClass = Literal["conv", "grouped", "linear", "norm", "light", "pool"]
BUILT: Final = frozenset({"compiled", "onnx"})  # runtimes that rewrite the network before they run it
ACTIVATIONS: Final = frozenset({"relu", "silu", "gelu", "hswish", "sigmoid"})
_CLASSES: Final[dict[str, KernelClass]] = {"linear": "linear", "norm": "norm", "max_pool": "pool", "avg_pool": "pool"}


class Kernel(NamedTuple):
    """One operator call.

    Attributes:
        kind: Its cost class.
        layer: Index of the layer it belongs to.
        flops: Floating-point operations for one example.
        values: Values read and written for one example.
        weights: Weights read, whatever the batch.
    """

    kind: KernelClass
    layer: int
    flops: float
    values: int
    weights: int


def kernels(network: Network, runtime: Runtime = "eager") -> tuple[Kernel, ...]:
    """Returns the calls a runtime makes for one pass, in order.

    Eager runs every layer, zeros included. A compiled runtime drops layers that carry nothing to the output, folds a
    norm into the convolution before it and runs activations inside the layer they follow.
    """
    if runtime not in BUILT:
        return tuple(kernel for index in range(len(network.layers)) for kernel in _calls(network, index, None))
    fed = _live(network)
    return tuple(kernel for index in sorted(fed) if not _fused(network, index)
                 for kernel in _calls(network, index, fed))


def _calls(network: Network, index: int, fed: frozenset[int] | None) -> Iterator[Kernel]:
    layer = network.layers[index]
    if layer.kind in FREE:
        return
    sources = [source for source in layer.inputs if fed is None or source < 0 or source in fed]
    size = prod(layer.shape)
    if layer.kind == "attention":
        yield from _attention(index, layer)
    elif layer.kind == "add":  # one call per addition
        for _ in range(len(sources) - 1):
            yield Kernel("light", index, size, 3 * size, 0)
    else:
        values = size + sum(prod(network.shape_of(source)) for source in sources)
        yield Kernel(_class_of(layer), index, 2 * layer.macs or size, values, layer.params)


def _attention(index: int, layer: Layer) -> Iterator[Kernel]:
    """Yields the calls of one attention layer: two projections, the product in between, four copies of layout."""
    channels, tokens = layer.shape[0], prod(layer.shape[1:])
    weights = channels * channels
    yield Kernel("linear", index, 6 * tokens * weights, 4 * channels * tokens, 3 * (weights + channels))
    yield Kernel("linear", index, 4 * tokens * tokens * channels, 4 * channels * tokens, 0)
    yield Kernel("linear", index, 2 * tokens * weights, 2 * channels * tokens, weights + channels)
    for _ in range(4):
        yield Kernel("light", index, 0, 2 * channels * tokens, 0)


def _class_of(layer: Layer) -> KernelClass:
    if layer.kind == "conv":
        return "conv" if layer.groups == 1 else "grouped"
    return _CLASSES.get(layer.kind, "light")


def _live(network: Network) -> frozenset[int]:
    """Returns the layers that carry something from the input to the output."""
    fed = {-1}
    for index, layer in enumerate(network.layers):
        arrives = [source in fed for source in layer.inputs]
        if layer.kind != "zero" and (all(arrives) if layer.kind == "mul" else any(arrives)):
            fed.add(index)
    wanted = {len(network.layers) - 1} & fed
    for index in range(len(network.layers) - 1, -1, -1):
        if index in wanted:
            wanted |= set(network.layers[index].inputs) & fed
    return frozenset(wanted - {-1})


def _fused(network: Network, index: int) -> bool:
    """Returns whether a compiler runs this layer inside the one it reads."""
    layer = network.layers[index]
    before = network.layers[layer.inputs[0]].kind if layer.inputs[0] >= 0 else ""
    if layer.kind == "norm":
        return before in {"conv", "linear"}
    return layer.kind in ACTIVATIONS and before in {"conv", "linear", "norm", "add"}
