"""The thin pass: linear regions of a thin copy of the network (TE-NAS, arXiv 2102.11535, section 3.1.2).

At full width every input falls into a region of its own, whatever the network, so the regions of the narrowest
network of the same structure are counted, on inputs of few positions.
"""

from __future__ import annotations

from math import gcd
from typing import Any, Final

import torch
from torch import Tensor

from llmnas.build import build
from llmnas.network import Draft, Layer, Network, ShapeFault
from llmnas.proxies.base import UnscorableError
from llmnas.proxies.taps import gates_seen

INPUTS: Final = 1000
SIDE: Final = 4
"""Positions of an input per axis. The released code takes 3, which a strided pool and a strided convolution halve to
different sizes."""


def thin_pass(network: Network, seed: int) -> dict[str, Any]:
    """Returns ``regions``: distinct activation patterns of the thin network over `INPUTS` random inputs.

    Args:
        network: The network as data.
        seed: Of weights and inputs.

    Raises:
        UnscorableError: The structure does not fit such small inputs, or has no gate.
    """
    net = build(thinned(network), seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((INPUTS, *net.network.input_shape), generator=generator)
    rows = _Rows()
    with torch.no_grad(), gates_seen(net, [rows]):
        net(x)
    if not rows.seen:
        raise UnscorableError("the network has no ReLU, SiLU, GELU or Hardswish")
    return {"regions": len(torch.unique(torch.cat(rows.seen, dim=1), dim=0))}


class _Rows:
    """Keeps the pattern of every input over all units."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def see(self, on: Tensor) -> None:
        """Adds the units of a gate, (B, units) of 0 and 1."""
        self.seen.append(on.bool())


def thinned(network: Network) -> Network:
    """Returns the same structure with one input channel, channels divided by the narrowest layer's, on small inputs.

    Raises:
        UnscorableError: A layer cannot take the small shapes.
    """
    narrowest = min((layer.shape[0] for layer in network.layers if layer.kind == "conv"), default=1)
    draft = Draft((1, *(SIDE for _ in network.input_shape[1:])))
    try:
        for index, layer in enumerate(network.layers):
            _copy(draft, network, index, layer, narrowest)
    except (ShapeFault, ValueError, IndexError) as fault:
        raise UnscorableError(f"its thin copy cannot be built: {fault}") from None
    return draft.finish()


def _copy(draft: Draft, network: Network, index: int, layer: Layer, narrowest: int) -> None:
    """Adds the thin copy of a layer; indices stay the same."""
    source = layer.inputs[0]
    before = draft.shape(source)[0]
    width = max(1, layer.shape[0] // narrowest)
    if layer.kind == "conv":
        depthwise = layer.groups > 1 and layer.groups == network.shape_of(source)[0]
        width = before * max(1, layer.shape[0] // layer.groups) if depthwise else width
        draft.conv(source, width, layer.kernel, layer.stride, before if depthwise else gcd(before, width, layer.groups),
                   layer.bias)
    elif layer.kind == "linear":
        draft.linear(source, layer.shape[0] if index == len(network.layers) - 1 else width)
    elif layer.kind in ("max_pool", "avg_pool"):
        fits = layer.kernel % 2 == 1 or min(draft.shape(source)[1:]) >= layer.kernel
        draft.pool(source, layer.kind, layer.kernel if fits else 1, layer.stride)
    elif layer.kind == "global_pool":
        (draft.squeeze if len(layer.shape) > 1 else draft.global_pool)(source)
    elif layer.kind == "norm":
        draft.norm(source)
    elif layer.kind in ("add", "mul", "concat"):
        getattr(draft, layer.kind)(list(layer.inputs))
    elif layer.kind == "attention":
        draft.attention(source, gcd(before, layer.groups))
    else:
        draft.pointwise(source, layer.kind)
