"""The network behind a graph: a flat list of primitive layers with inferred shapes.

Everything that counts, times, builds, draws or exports a network reads this one list, so parameters, MACs, memory,
latency and the module that is trained cannot disagree. No torch here.

Shapes are without the batch: ``(C, H, W)`` for images, ``(C, L)`` for sequences, ``(F,)`` after the global pool.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Final, NamedTuple

from llmnas.graph import Issue, IssueCode
from llmnas.records import Counts

Shape = tuple[int, ...]
FREE: Final = frozenset({"identity"})  # kinds that launch nothing at inference
BYTES: Final = 4  # float32


class Layer(NamedTuple):
    """One primitive layer.

    Attributes:
        kind: conv, linear, norm, relu, silu, gelu, hswish, sigmoid, max_pool, avg_pool, global_pool, add, mul, concat,
            zero, identity, attention.
        inputs: Indices of the layers it reads; -1 is the network's input.
        shape: Output shape, without the batch.
        params: Trainable parameters.
        macs: Multiply-accumulates for one example (convolution, linear and attention only).
        kernel: Kernel size (conv, pools).
        stride: Stride (conv, pools).
        groups: Groups (conv) or heads (attention).
        bias: Whether there is a bias (conv, linear).
        node: Id of the graph node it comes from; empty for the skeleton.
    """

    kind: str
    inputs: tuple[int, ...]
    shape: Shape
    params: int = 0
    macs: int = 0
    kernel: int = 0
    stride: int = 1
    groups: int = 1
    bias: bool = False
    node: str = ""


@dataclass(frozen=True)
class Network:
    """A network as data.

    Attributes:
        input_shape: Shape of one example.
        layers: In execution order; the last one gives the logits.
        blocks: Layers at whose output a block ends (stem, cell, repeat of a stage): all of the network's information
            passes there. An index comes twice when a block passes its input on.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]
    blocks: tuple[int, ...] = ()

    @property
    def dims(self) -> int:
        """Spatial dimensions: 2 for images, 1 for sequences."""
        return len(self.input_shape) - 1

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.layers[-1].shape[0]

    def to_data(self) -> dict[str, Any]:
        """Returns the network as JSON values, for a process that builds it; `from_data` is the inverse."""
        return {"input_shape": list(self.input_shape), "layers": [list(layer) for layer in self.layers],
                "blocks": list(self.blocks)}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Network:
        """Returns the network that `to_data` described."""
        layers = tuple(Layer(kind, tuple(inputs), tuple(shape), *rest)
                       for kind, inputs, shape, *rest in data["layers"])
        return cls(tuple(data["input_shape"]), layers, tuple(data.get("blocks", ())))

    def shape_of(self, index: int) -> Shape:
        """Returns the output shape of layer `index`, or the input shape for -1."""
        return self.input_shape if index < 0 else self.layers[index].shape

    @cached_property
    def last_use(self) -> tuple[int, ...]:
        """For each layer, the index of the last layer that reads it (itself when nothing does)."""
        last = list(range(len(self.layers)))
        for index, layer in enumerate(self.layers):
            for source in layer.inputs:
                if source >= 0:
                    last[source] = index
        return tuple(last)

    @cached_property
    def counts(self) -> Counts:
        """Parameters, MACs, memory and launches for one example."""
        params = sum(layer.params for layer in self.layers)
        return Counts(params=params, macs=sum(layer.macs for layer in self.layers),
                      memory_mb=(params + self._peak_activations()) * BYTES / 2**20,
                      layers=sum(layer.kind not in FREE for layer in self.layers))

    def _peak_activations(self) -> int:
        """Returns the largest number of activation values alive at once when layers run in order."""
        expires: dict[int, int] = {}
        alive = peak = prod(self.input_shape)
        for index, layer in enumerate(self.layers):
            size = prod(layer.shape)
            alive += size
            peak = max(peak, alive)
            expires[self.last_use[index]] = expires.get(self.last_use[index], 0) + size
            alive -= expires.pop(index, 0)
        return peak

    def by_node(self) -> dict[str, tuple[Shape, int, int]]:
        """Returns per graph node its last output shape, parameters and MACs, all repeats of a cell included."""
        found: dict[str, tuple[Shape, int, int]] = {}
        for layer in self.layers:
            _, params, macs = found.get(layer.node, ((), 0, 0))
            found[layer.node] = (layer.shape, params + layer.params, macs + layer.macs)
        found.pop("", None)
        return found


class ShapeFault(Exception):
    """A layer cannot take the shape it is given; carries the `Issue`."""

    def __init__(self, code: IssueCode, node: str, says: str, fix: str) -> None:
        super().__init__(says)
        self.issue = Issue(code=code, at=node, says=says, fix=fix)


@dataclass
class Draft:
    """A network being written: one method per primitive, each returns the index of the layer it adds.

    Attributes:
        input_shape: Shape of one example.
        node: Id of the graph node whose layers are being added.
        layers: Layers so far.
        blocks: Where blocks end, so far.
    """

    input_shape: Shape
    node: str = ""
    layers: list[Layer] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)

    def finish(self) -> Network:
        """Returns the finished network."""
        return Network(self.input_shape, tuple(self.layers), tuple(self.blocks))

    def end_block(self, source: int) -> int:
        """Notes that a block ends with layer `source`, and returns it."""
        if source >= 0:
            self.blocks.append(source)
        return source

    def shape(self, source: int) -> Shape:
        """Returns the shape of layer `source`, -1 for the input."""
        return self.input_shape if source < 0 else self.layers[source].shape

    def _add(self, layer: Layer) -> int:
        self.layers.append(layer)
        return len(self.layers) - 1

    def _fault(self, says: str, fix: str) -> ShapeFault:
        return ShapeFault("shape", self.node, says, fix)

    def conv(self, source: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1,
             bias: bool = False) -> int:
        """Adds a convolution with 'same' padding ``kernel // 2``: out = ceil(in / stride) per spatial axis."""
        c_in, *space = self._spatial(source)
        if c_in % groups or channels % groups:
            raise self._fault(f"{groups} groups do not divide {c_in} input and {channels} output channels",
                              "Choose groups that divide both, or 1.")
        out = (channels, *(-(-size // stride) for size in space))
        weights = channels * (c_in // groups) * kernel ** len(space)
        return self._add(Layer("conv", (source,), out, weights + bias * channels, weights * prod(out[1:]),
                               kernel, stride, groups, bias, self.node))

    def pool(self, source: int, kind: str, kernel: int, stride: int = 1) -> int:
        """Adds ``max_pool`` or ``avg_pool`` (padding not counted in the average); odd kernels keep the size."""
        channels, *space = self._spatial(source)
        padding = kernel // 2 if kernel % 2 else 0
        out = tuple((size + 2 * padding - kernel) // stride + 1 for size in space)
        if min(out) < 1:
            raise self._fault(f"a {kernel}-wide pool does not fit on {tuple(space)}", "Remove the pool or shrink it.")
        return self._add(Layer(kind, (source,), (channels, *out), kernel=kernel, stride=stride, node=self.node))

    def norm(self, source: int) -> int:
        """Adds batch normalisation over the channels."""
        shape = self._spatial(source)
        return self._add(Layer("norm", (source,), shape, params=2 * shape[0], node=self.node))

    def pointwise(self, source: int, kind: str) -> int:
        """Adds a layer that keeps the shape: an activation, ``zero`` or ``identity``."""
        return self._add(Layer(kind, (source,), self.shape(source), node=self.node))

    def add(self, sources: list[int]) -> int:
        """Adds the sum of values of equal shape; one source is passed on as it is."""
        if len(sources) == 1:
            return sources[0]
        return self._add(Layer("add", tuple(sources), self._equal(sources, "add"), node=self.node))

    def mul(self, sources: list[int]) -> int:
        """Adds the product of two values of equal shape, or of one and a value with one position per channel."""
        shapes = {self.shape(source) for source in sources}
        channels = {shape[0] for shape in shapes}
        spaces = {shape[1:] for shape in shapes} - {(1,) * (len(self.input_shape) - 1)}
        if len(channels) > 1 or len(spaces) > 1:
            raise self._fault("mul needs equal shapes, got " + " and ".join(map(_text, sorted(shapes))),
                              "Bring the inputs to one shape with conv or pool first.")
        widest = max(shapes, key=prod)
        return self._add(Layer("mul", tuple(sources), widest, node=self.node))

    def concat(self, sources: list[int]) -> int:
        """Adds the concatenation over channels of values with equal spatial sizes."""
        shapes = [self._spatial(source) for source in sources]
        if len({shape[1:] for shape in shapes}) > 1:
            raise self._fault("concat needs equal spatial sizes, got " + " and ".join(map(_text, shapes)),
                              "Bring the inputs to one spatial size with pool or a stride first.")
        return self._add(Layer("concat", tuple(sources), (sum(s[0] for s in shapes), *shapes[0][1:]), node=self.node))

    def attention(self, source: int, heads: int) -> int:
        """Adds multi-head self-attention over all positions, projections included (no position encoding)."""
        channels, *space = self._spatial(source)
        if channels % heads:
            raise self._fault(f"{heads} heads do not divide {channels} channels", "Choose heads that divide channels.")
        tokens = prod(space)
        params = 4 * channels * channels + 4 * channels
        macs = 4 * tokens * channels * channels + 2 * tokens * tokens * channels
        return self._add(Layer("attention", (source,), (channels, *space), params, macs, groups=heads, bias=True,
                               node=self.node))

    def global_pool(self, source: int) -> int:
        """Adds the mean over all positions; the result has one value per channel."""
        return self._add(Layer("global_pool", (source,), (self._spatial(source)[0],), node=self.node))

    def squeeze(self, source: int) -> int:
        """Adds the mean over all positions, kept as a map of size one."""
        channels, *space = self._spatial(source)
        return self._add(Layer("global_pool", (source,), (channels, *(1 for _ in space)), node=self.node))

    def linear(self, source: int, features: int) -> int:
        """Adds a linear layer with bias; its bias additions count as MACs, as NAS-Bench-201 counts them."""
        (width,) = self.shape(source)
        return self._add(Layer("linear", (source,), (features,), features * (width + 1), features * (width + 1),
                               bias=True, node=self.node))

    def _spatial(self, source: int) -> Shape:
        shape = self.shape(source)
        if len(shape) != len(self.input_shape):
            raise self._fault(f"needs channels and positions, got {_text(shape)}", "Use it before the global pool.")
        return shape

    def _equal(self, sources: list[int], name: str) -> Shape:
        shapes = [self.shape(source) for source in sources]
        if len(set(shapes)) > 1:
            raise self._fault(f"{name} needs equal shapes, got " + " and ".join(map(_text, shapes)),
                              "Bring the inputs to one shape with conv (channels) or pool (positions) first.")
        return shapes[0]


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
