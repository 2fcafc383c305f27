"""Networks of published latency tables that are not in a space of ours, from the rows that name them.

Only what latency depends on is rebuilt: layers, shapes and the order they run in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from llmnas.network import Draft, Layer, Network

FBNET_OPS: Final = {"0": (3, 1, 1), "1": (3, 1, 2), "2": (3, 3, 1), "3": (3, 6, 1), "4": (5, 1, 1), "5": (5, 1, 2),
                    "6": (5, 3, 1), "7": (5, 6, 1)}
"""Kernel, expansion and groups of the pointwise convolutions; ``8`` skips the layer."""
_FBNET_STAGES: Final = ((16, 1, 1), (24, 4, 1), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
_OFA_STAGES: Final = ((24, 2, "relu", False), (40, 2, "relu", True), (80, 2, "hswish", False), (112, 1, "hswish", True),
                      (160, 2, "hswish", True))


def fbnet(row: Mapping[str, str]) -> Network:
    """Returns a network of FBNet's space (arXiv 1812.03443) for 32x32 images, from ``ops``: 22 ids joined by ``_``."""
    ids = iter(row["ops"].split("_"))
    draft = Draft((3, 32, 32))
    x = _conv(draft, -1, 16, 3, activation="relu")
    for channels, depth, stride in _FBNET_STAGES:
        for place in range(depth):
            x = _fbnet_layer(draft, x, next(ids), channels, stride if place == 0 else 1)
    x = _conv(draft, x, 1504, 1, activation="relu")
    draft.linear(draft.global_pool(x), 100)
    return draft.finish()


def _fbnet_layer(draft: Draft, x: int, op: str, channels: int, stride: int) -> int:
    same = stride == 1 and draft.shape(x)[0] == channels
    if op not in FBNET_OPS:
        return x if same else _conv(draft, x, channels, 1, stride, activation="relu")
    kernel, expand, groups = FBNET_OPS[op]
    inner = draft.shape(x)[0] * expand
    y = _conv(draft, x, inner, 1, groups=groups, activation="relu")
    y = _shuffle(draft, y) if groups > 1 else y
    y = _conv(draft, y, inner, kernel, stride, inner, "relu")
    y = _conv(draft, y, channels, 1, groups=groups)
    return draft.add([x, y]) if same else y


def _shuffle(draft: Draft, x: int) -> int:
    """Adds the shuffle of channels between grouped convolutions, a copy in another order."""
    draft.layers.append(Layer("copy", (x,), draft.shape(x)))
    return len(draft.layers) - 1


def ofa(row: Mapping[str, str]) -> Network:
    """Returns a sub-network of Once-for-all's MobileNetV3 (arXiv 1908.09791), from ``ks``, ``e``, ``d`` and ``r``."""
    kernels, expands = _numbers(row["ks"]), _numbers(row["e"])
    side = int(row["r"])
    draft = Draft((3, side, side))
    x = _conv(draft, -1, 16, 3, 2, activation="hswish")
    x = _mobile(draft, x, 16, 3, 1, 1, "relu", False)
    for stage, depth in enumerate(_numbers(row["d"])):
        channels, stride, activation, se = _OFA_STAGES[stage]
        for place in range(depth):
            at = 4 * stage + place
            x = _mobile(draft, x, channels, kernels[at], expands[at], stride if place == 0 else 1, activation, se)
    x = draft.global_pool(_conv(draft, x, 960, 1, activation="hswish"))
    x = draft.pointwise(draft.linear(x, 1280), "hswish")
    draft.linear(x, 1000)
    return draft.finish()


def _mobile(draft: Draft, x: int, channels: int, kernel: int, expand: int, stride: int, activation: str,
            se: bool) -> int:
    same = stride == 1 and draft.shape(x)[0] == channels
    inner = draft.shape(x)[0] * expand
    y = _conv(draft, x, inner, 1, activation=activation) if expand > 1 else x
    y = _conv(draft, y, inner, kernel, stride, inner, activation)
    if se:
        gate = draft.pointwise(draft.conv(draft.squeeze(y), max(inner // 4, 8), 1), "relu")
        y = draft.mul([y, draft.pointwise(draft.conv(gate, inner, 1), "sigmoid")])
    y = _conv(draft, y, channels, 1)
    return draft.add([x, y]) if same else y


def _conv(draft: Draft, x: int, channels: int, kernel: int, stride: int = 1, groups: int = 1,
          activation: str = "") -> int:
    y = draft.norm(draft.conv(x, channels, kernel, stride, groups))
    return draft.pointwise(y, activation) if activation else y


TOKENS: Final = 1024
"""Tokens of one sequence; HW-GPT-Bench ran eight at a time (8.2 k tokens a forward pass by its FLOPs)."""
GPT_BATCH: Final = 8
_VOCABULARY: Final = 50_304


def gpt(row: Mapping[str, str]) -> Network:
    """Returns a GPT-2 of HW-GPT-Bench (arXiv 2405.10299), from ``embed_dim``, ``n_head`` and ``mlp_ratio``."""
    width, layers = int(row["embed_dim"]), _Stack(int(row["embed_dim"]))
    x = -1
    for heads, ratio in zip(_numbers(row["n_head"]), _numbers(row["mlp_ratio"]), strict=True):
        y = layers.attention(layers.norm(x), heads)
        x = layers.add(x, y)
        y = layers.linear(layers.norm(x), width * ratio)
        x = layers.add(x, layers.linear(layers.pointwise(y, "gelu"), width))
    layers.linear(layers.norm(x), _VOCABULARY)
    return Network((width, TOKENS), tuple(layers.listed))


class _Stack:
    """Layers over a sequence of tokens, of shape (channels, tokens)."""

    def __init__(self, width: int) -> None:
        self.listed: list[Layer] = []
        self.input = (width, TOKENS)

    def shape(self, x: int) -> tuple[int, ...]:
        return self.listed[x].shape if x >= 0 else self.input

    def put(self, layer: Layer) -> int:
        self.listed.append(layer)
        return len(self.listed) - 1

    def norm(self, x: int) -> int:
        return self.put(Layer("norm", (x,), self.shape(x), 2 * self.shape(x)[0]))

    def pointwise(self, x: int, kind: str) -> int:
        return self.put(Layer(kind, (x,), self.shape(x)))

    def add(self, x: int, y: int) -> int:
        return self.put(Layer("add", (x, y), self.shape(x)))

    def linear(self, x: int, channels: int) -> int:
        weights = self.shape(x)[0] * channels
        return self.put(Layer("linear", (x,), (channels, TOKENS), weights, weights * TOKENS))

    def attention(self, x: int, heads: int) -> int:
        width = self.shape(x)[0]
        macs = 4 * width * width * TOKENS + 2 * width * TOKENS * TOKENS
        return self.put(Layer("attention", (x,), self.shape(x), 4 * width * width, macs, groups=heads))


def _numbers(text: str) -> Sequence[int]:
    return [int(part) for part in text.split(".")]
