"""What a runtime launches for a network: one `Kernel` a call, with its work and its traffic. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Final, Literal, NamedTuple

from llmnas.latency.datasheet import Runtime
from llmnas.network import FREE, Layer, Network

KernelClass = Literal["conv", "grouped", "linear", "norm", "light", "pool"]
Pruning = Literal["none", "unused", "dead"]
"""What a runtime leaves out: nothing; layers no path leads on from to the output; also those that only zeros reach."""

class Execution(NamedTuple):
    """Which graph runs.

    Attributes:
        pruning: What is left out.
        fused: Whether norms and activations run inside the layer before them.
    """

    pruning: Pruning
    fused: bool


EAGER: Final = Execution("none", False)
EXPORTED: Final = Execution("unused", True)
COMPILED: Final = Execution("dead", True)
EXECUTIONS: Final = (EAGER, EXPORTED, COMPILED)
EXECUTION_NAMES: Final = ("eager", "exported", "compiled")
RUNS: Final[dict[Runtime, Execution]] = {"eager": EAGER, "cudagraph": EAGER, "exported": EXPORTED,
                                         "compiled": COMPILED, "onnx": COMPILED}
"""What each runtime is believed to execute."""
BUILT: Final = frozenset(runtime for runtime, execution in RUNS.items() if execution.fused)
"""Runtimes that rewrite the network before they run it."""
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
        op: What runs, finer than its class: ``conv3``, ``depthwise5``, ``norm``, ``add``.
    """

    kind: KernelClass
    layer: int
    flops: float
    values: int
    weights: int
    op: str = ""


def kernels(network: Network, runtime: Runtime = "eager") -> tuple[Kernel, ...]:
    """Returns the calls a runtime makes for one pass, in order.

    Eager runs every layer, zeros included. An exported graph lacks what the output does not read. A compiled one also
    lacks what only zeros reach. Both fold a norm into the convolution before it and run activations inside the layer
    they follow.
    """
    return executed(network, RUNS[runtime])


def executed(network: Network, execution: Execution) -> tuple[Kernel, ...]:
    """Returns the calls of one pass when the graph that runs is `execution`, in order."""
    kept = _KEPT[execution.pruning](network)
    return tuple(kernel for index in sorted(kept) if not (execution.fused and _fused(network, index))
                 for kernel in _calls(network, index, kept))


def _calls(network: Network, index: int, kept: frozenset[int]) -> Iterator[Kernel]:
    layer = network.layers[index]
    if layer.kind in FREE:
        return
    sources = [source for source in layer.inputs if source < 0 or source in kept]
    size = prod(layer.shape)
    if layer.kind == "attention":
        yield from _attention(index, layer)
    elif layer.kind == "add":  # one call per addition
        for _ in range(len(sources) - 1):
            yield Kernel("light", index, size, 3 * size, 0, "add")
    else:
        values = size + sum(prod(network.shape_of(source)) for source in sources)
        yield Kernel(_class_of(layer), index, 2 * layer.macs or size, values, layer.params, _op(layer))


def _attention(index: int, layer: Layer) -> Iterator[Kernel]:
    """Yields the calls of one attention layer: two projections, the product in between, four copies of layout."""
    channels, tokens = layer.shape[0], prod(layer.shape[1:])
    weights = channels * channels
    yield Kernel("linear", index, 6 * tokens * weights, 4 * channels * tokens, 3 * (weights + channels), "linear")
    scores = 2 * layer.groups * tokens * tokens  # written and read once
    yield Kernel("linear", index, 4 * tokens * tokens * channels, 4 * channels * tokens + scores, 0, "attend")
    yield Kernel("linear", index, 2 * tokens * weights, 2 * channels * tokens, weights + channels, "linear")
    for _ in range(4):
        yield Kernel("light", index, 0, 2 * channels * tokens, 0, "copy")


def _class_of(layer: Layer) -> KernelClass:
    if layer.kind == "conv":
        return "conv" if layer.groups == 1 else "grouped"
    return _CLASSES.get(layer.kind, "light")


def _op(layer: Layer) -> str:
    if layer.kind != "conv":
        return layer.kind
    family = "conv" if layer.groups == 1 else "depthwise" if layer.groups == layer.shape[0] else "grouped"
    return f"{family}{layer.kernel}"


def _all(network: Network) -> frozenset[int]:
    return frozenset(range(len(network.layers)))


def _used(network: Network) -> frozenset[int]:
    """Returns the layers whose result the output reads; a zero is a constant that reads nothing and is left out."""
    wanted = {len(network.layers) - 1}
    for index in range(len(network.layers) - 1, -1, -1):
        if index in wanted and network.layers[index].kind != "zero":
            wanted |= set(network.layers[index].inputs)
    return frozenset(index for index in wanted if index >= 0 and network.layers[index].kind != "zero")


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


_KEPT: Final[dict[Pruning, Callable[[Network], frozenset[int]]]] = {"none": _all, "unused": _used, "dead": _live}
