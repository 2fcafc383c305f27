"""The op table: what each op of a graph needs, says and is made of. No torch.

An op is lowered to primitive layers (`llmnas.network`); its shape rule, parameters and MACs are those of the layers,
and so is the module that is trained. Adding an op is adding one entry to `OPS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from llmnas.graph import Node
from llmnas.network import Draft

Lower = Callable[[Draft, list[int], Node], int]


@dataclass(frozen=True)
class Op:
    """One op.

    Attributes:
        gloss: One line for people and models.
        lower: Adds its layers to a draft and returns the index of the last.
        attributes: The attributes it needs, all of them.
        inputs: Least and most number of inputs; the most is None when there is no limit. Several inputs of an op
            that is not in `llmnas.graph.COMBINING` are added up before it sees them.
    """

    gloss: str
    lower: Lower
    attributes: tuple[str, ...] = ()
    inputs: tuple[int, int | None] = (1, 1)


def _unary(layer: Callable[[Draft, int, Node], int]) -> Lower:
    """Returns a lowering that adds its inputs up and hands `layer` the sum."""
    return lambda draft, sources, node: layer(draft, draft.add(sources), node)


def _given(value: int | None) -> int:
    """Returns an attribute that validation has made sure is there."""
    if value is None:
        raise ValueError("an attribute is missing; validate the graph against its space first")
    return value


def _conv_norm(draft: Draft, x: int, channels: int, kernel: int, stride: int = 1, groups: int = 1,
               act: str | None = "relu") -> int:
    x = draft.norm(draft.conv(x, channels, kernel, stride, groups))
    return draft.pointwise(x, act) if act else x


def squeeze_excite(draft: Draft, x: int, reduction: int = 4) -> int:
    """Squeeze-and-excitation (arXiv 1709.01507, eq. 2-4): channels weighted by a two-layer gate of their means."""
    channels = draft.shape(x)[0]
    gate = draft.pointwise(draft.conv(draft.squeeze(x), max(4, channels // reduction), bias=True), "relu")
    gate = draft.pointwise(draft.conv(gate, channels, bias=True), "sigmoid")
    return draft.mul([x, gate])


def _shortcut(draft: Draft, x: int, channels: int, stride: int) -> int:
    """The residual path of a ResNet block: identity, or a strided 1x1 convolution when the shape changes."""
    if stride == 1 and draft.shape(x)[0] == channels:
        return x
    return _conv_norm(draft, x, channels, 1, stride, act=None)


def _basic(draft: Draft, x: int, node: Node, stride: int) -> int:
    channels, kernel = _given(node.channels), _given(node.kernel)
    y = _conv_norm(draft, x, channels, kernel, stride)
    y = _conv_norm(draft, y, channels, kernel, act=None)
    y = squeeze_excite(draft, y) if node.se else y
    return draft.pointwise(draft.add([y, _shortcut(draft, x, channels, stride)]), "relu")


def _bottleneck(draft: Draft, x: int, node: Node, stride: int) -> int:
    channels = _given(node.channels)
    hidden = max(4, channels // _given(node.expand))
    y = _conv_norm(draft, x, hidden, 1)
    y = _conv_norm(draft, y, hidden, _given(node.kernel), stride)
    y = _conv_norm(draft, y, channels, 1, act=None)
    y = squeeze_excite(draft, y) if node.se else y
    return draft.pointwise(draft.add([y, _shortcut(draft, x, channels, stride)]), "relu")


def _inverted(draft: Draft, x: int, node: Node, stride: int) -> int:
    c_in, channels = draft.shape(x)[0], _given(node.channels)
    hidden = c_in * _given(node.expand)
    y = x if hidden == c_in else _conv_norm(draft, x, hidden, 1)
    y = _conv_norm(draft, y, hidden, _given(node.kernel), stride, groups=hidden)
    y = squeeze_excite(draft, y) if node.se else y
    y = _conv_norm(draft, y, channels, 1, act=None)
    return draft.add([x, y]) if stride == 1 and c_in == channels else y


def _mobile(expand: int, kernel: int) -> Lower:
    """Returns the lowering of one inverted block whose expansion and kernel are fixed together."""
    fixed = {"expand": expand, "kernel": kernel, "se": False}
    return _unary(lambda draft, x, node: _inverted(draft, x, node.model_copy(update=fixed), _given(node.stride)))


def _projection(draft: Draft, x: int, node: Node) -> int:
    return _conv_norm(draft, x, _given(node.channels), 1, _given(node.stride), act=None)


def _fused(draft: Draft, x: int, node: Node, stride: int) -> int:
    c_in, channels = draft.shape(x)[0], _given(node.channels)
    expand = _given(node.expand)
    y = _conv_norm(draft, x, c_in * expand if expand > 1 else channels, _given(node.kernel), stride)
    y = squeeze_excite(draft, y) if node.se else y
    y = _conv_norm(draft, y, channels, 1, act=None) if expand > 1 else y
    return draft.add([x, y]) if stride == 1 and c_in == channels else y


def _stage(block: Callable[[Draft, int, Node, int], int]) -> Lower:
    """Returns a lowering that repeats `block` ``depth`` times; only the first repeat has the stride."""

    def lower(draft: Draft, sources: list[int], node: Node) -> int:
        x = draft.add(sources)
        for repeat in range(_given(node.depth)):
            x = block(draft, x, node, _given(node.stride) if repeat == 0 else 1)
            draft.end_block(x)
        return x

    return lower


def _relu_conv_norm(kernel: int) -> Lower:
    """The NAS-Bench-201 convolution: ReLU, convolution without bias, batch normalisation; channels unchanged."""
    return _unary(lambda draft, x, _: draft.norm(
        draft.conv(draft.pointwise(x, "relu"), draft.shape(x)[0], kernel)))


def _plain_conv(draft: Draft, x: int, node: Node) -> int:
    return draft.conv(x, _given(node.channels), _given(node.kernel), _given(node.stride), node.groups or 1)


def _conv_block(draft: Draft, x: int, node: Node) -> int:
    return _conv_norm(draft, x, _given(node.channels), _given(node.kernel), _given(node.stride), node.groups or 1)


def _depthwise(draft: Draft, x: int, node: Node) -> int:
    channels = draft.shape(x)[0]
    return draft.conv(x, channels, _given(node.kernel), _given(node.stride), groups=channels)


def _pool(kind: str) -> Lower:
    return _unary(lambda draft, x, node: draft.pool(x, kind, _given(node.kernel), _given(node.stride)))


def _pointwise(kind: str) -> Lower:
    return _unary(lambda draft, x, _: draft.pointwise(x, kind))


_MANY: Final = (1, None)
_STAGE: Final = ("channels", "kernel", "stride", "depth", "se")

OPS: Final[dict[str, Op]] = {
    # the NAS-Bench-201 edge ops (arXiv 2001.00326): inputs are added up, channels and positions stay
    "none": Op("no connection: outputs zeros", _pointwise("zero"), inputs=_MANY),
    "skip_connect": Op("identity: passes its input on unchanged, free of cost",
                       _unary(lambda draft, x, _: x), inputs=_MANY),
    "nor_conv_1x1": Op("ReLU, 1x1 convolution, batch norm: mixes channels only", _relu_conv_norm(1), inputs=_MANY),
    "nor_conv_3x3": Op("ReLU, 3x3 convolution, batch norm: 9 times the parameters of 1x1", _relu_conv_norm(3),
                       inputs=_MANY),
    "avg_pool_3x3": Op("3x3 average pooling, stride 1: no parameters",
                       _unary(lambda draft, x, _: draft.pool(x, "avg_pool", 3)), inputs=_MANY),
    # the same with one axis, for sequences
    "nor_conv_1": Op("ReLU, convolution with kernel 1, batch norm: mixes channels only", _relu_conv_norm(1),
                     inputs=_MANY),
    "nor_conv_7": Op("ReLU, convolution with kernel 7, batch norm: 7 times the parameters of kernel 1",
                     _relu_conv_norm(7), inputs=_MANY),
    "avg_pool_3": Op("average pooling of 3 positions, stride 1: no parameters",
                     _unary(lambda draft, x, _: draft.pool(x, "avg_pool", 3)), inputs=_MANY),
    # joining values
    "add": Op("sum of inputs of equal shape", lambda draft, sources, _: draft.add(sources), inputs=_MANY),
    "concat": Op("concatenation over channels of inputs with equal positions",
                 lambda draft, sources, _: draft.concat(sources), inputs=(2, 8)),
    "mul": Op("product of two inputs of equal shape: a gate", lambda draft, sources, _: draft.mul(sources),
              inputs=(2, 2)),
    # stages of blocks
    "stem": Op("convolution, batch norm, ReLU on the raw input",
               _unary(lambda draft, x, node: _conv_norm(draft, x, _given(node.channels), _given(node.kernel),
                                                        _given(node.stride))), ("channels", "kernel", "stride")),
    "basic": Op("ResNet basic block: two convolutions and a residual", _stage(_basic), _STAGE),
    "bottleneck": Op("ResNet bottleneck: 1x1 to channels/expand, convolution, 1x1 back to channels, residual",
                     _stage(_bottleneck), (*_STAGE, "expand")),
    "inverted": Op("MobileNetV2 block: 1x1 to expand times the channels, depth-wise convolution, 1x1 back, residual; "
                   "few MACs, but depth-wise convolutions are slow on many CPUs and GPUs",
                   _stage(_inverted), (*_STAGE, "expand")),
    "fused": Op("EfficientNetV2 fused block: one full convolution to expand times the channels, 1x1 back, residual; "
                "with expand 1 the full convolution alone",
                _stage(_fused), (*_STAGE, "expand")),
    # the NAS-Bench-Macro layer ops (arXiv 2103.11922), beside identity
    "projection": Op("1x1 convolution and batch norm, no activation: an identity that changes the shape",
                     _unary(_projection), ("channels", "stride")),
    "mb3_k3": Op("MobileNetV2 block: expansion 3, depth-wise 3x3; residual where the shape stays", _mobile(3, 3),
                 ("channels", "stride")),
    "mb6_k5": Op("MobileNetV2 block: expansion 6, depth-wise 5x5; residual where the shape stays; over twice the cost "
                 "of mb3_k3", _mobile(6, 5), ("channels", "stride")),
    # free typed ops
    "conv_block": Op("convolution, batch norm, ReLU", _unary(_conv_block), ("channels", "kernel", "stride")),
    "conv": Op("convolution without norm or activation", _unary(_plain_conv),
               ("channels", "kernel", "stride", "groups")),
    "dwconv": Op("depth-wise convolution: one filter per channel", _unary(_depthwise), ("kernel", "stride")),
    "norm": Op("batch normalisation", _unary(lambda draft, x, _: draft.norm(x))),
    "relu": Op("ReLU activation", _pointwise("relu")),
    "silu": Op("SiLU activation", _pointwise("silu")),
    "gelu": Op("GELU activation", _pointwise("gelu")),
    "sigmoid": Op("sigmoid: for gates before mul", _pointwise("sigmoid")),
    "max_pool": Op("max pooling", _pool("max_pool"), ("kernel", "stride")),
    "avg_pool": Op("average pooling", _pool("avg_pool"), ("kernel", "stride")),
    "se": Op("squeeze-and-excitation: channels weighted by a gate of their means",
             _unary(lambda draft, x, _: squeeze_excite(draft, x))),
    "attention": Op("multi-head self-attention over all positions", _unary(
        lambda draft, x, node: draft.attention(x, _given(node.heads))), ("heads",)),
    "identity": Op("passes its input on unchanged", _unary(lambda draft, x, _: x)),
}
