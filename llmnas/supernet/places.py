"""Where a supernet chooses: its candidates as networks of their own, and what an epoch of it costs. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llmnas.budget import epoch_seconds
from llmnas.errors import InputError
from llmnas.network import Layer, Network, Shape
from llmnas.records import Rates

BETWEEN: Final = "/"  # between slot and op in a layer's node, as `llmnas.space.superposed` writes it
Decisions = Sequence[tuple[str, Sequence[str]]]
"""Slots with the ops to choose from."""


@dataclass(frozen=True)
class Place:
    """One place where an op is chosen: a slot in one repeat of a cell.

    Attributes:
        slot: Number of the decision.
        source: Layer that all candidates read; -1 is the network's input.
        candidates: One network per op, in the order of the decision.
        ends: Last layer of each candidate in the supernet.
    """

    slot: int
    source: int
    candidates: tuple[Network, ...]
    ends: tuple[int, ...]


def places(network: Network, slots: Decisions, parts: int = 1) -> list[Place]:
    """Returns the places of a supernet in the order of their layers.

    Args:
        network: The supernet; layers of a candidate have the node ``slot/op``.
        slots: Its decisions.
        parts: Candidates get one of so many equal parts of the channels (PC-DARTS, arXiv 1907.05737, section 3.2).

    Raises:
        InputError: Channels cannot be divided so, or a candidate changes the shape and channels are divided.
    """
    found: dict[tuple[str, int], dict[str, list[int]]] = {}
    for i, layer in enumerate(network.layers):
        slot, between, op = layer.node.partition(BETWEEN)
        if between:
            inside = next((runs[op] for runs in found.values() if not set(layer.inputs).isdisjoint(runs.get(op, ()))),
                          None)
            if inside is not None:
                inside.append(i)
            else:
                found.setdefault((slot, layer.inputs[0]), {})[op] = [i]
    numbers = {slot: n for n, (slot, _) in enumerate(slots)}
    return [_place(network, numbers[slot], source, [runs[op] for op in slots[numbers[slot]][1]], parts)
            for (slot, source), runs in found.items()]


def _place(network: Network, slot: int, source: int, runs: Sequence[Sequence[int]], parts: int) -> Place:
    shape = network.shape_of(source)
    kept = all(network.shape_of(run[-1]) == shape for run in runs)
    if parts > 1 and (shape[0] % parts or not kept):
        raise InputError(f"channels cannot be divided into {parts} parts: a slot reads shape {list(shape)}"
                         + ("" if kept else " and changes it"), "use partial=1, or channels that it divides")
    return Place(slot, source, tuple(_alone(network, run, source, parts) for run in runs),
                 tuple(run[-1] for run in runs))


def _alone(network: Network, run: Sequence[int], source: int, parts: int) -> Network:
    """Returns the layers of one candidate as a network that reads one part of the channels."""
    local = {source: -1} | {index: n for n, index in enumerate(run)}
    layers = [_part(network.layers[i], parts)._replace(
        inputs=tuple(local[one] for one in network.layers[i].inputs)) for i in run]
    return Network(_divided(network.shape_of(source), parts), tuple(layers))


def _part(layer: Layer, parts: int) -> Layer:
    groups = layer.groups // parts if layer.groups > 1 else 1
    over = parts if layer.groups > 1 or layer.kind != "conv" else parts * parts
    return layer._replace(shape=_divided(layer.shape, parts), groups=groups, params=layer.params // over,
                          macs=layer.macs // over)


def _divided(shape: Shape, parts: int) -> Shape:
    return (shape[0] // parts, *shape[1:])


def nominal_epoch_s(network: Network, rates: Rates, batch: int, steps: int, parts: int = 1,
                    active: float = 1.0) -> float:
    """Returns the nominal seconds of `steps` training steps of a supernet.

    Args:
        network: The supernet.
        rates: Nominal rates.
        batch: Examples per step.
        steps: Steps.
        parts: As in `places`.
        active: Share of the candidates that run in a step: 1 for all.
    """
    chosen = [BETWEEN in layer.node for layer in network.layers]
    divided = [_part(layer, parts) if inside else layer for layer, inside in zip(network.layers, chosen, strict=True)]
    whole = epoch_seconds(Network(network.input_shape, tuple(divided)), rates, batch, steps)
    idle = [layer._replace(shape=(0,), macs=0, params=0) if inside else layer
            for layer, inside in zip(network.layers, chosen, strict=True)]
    fixed = epoch_seconds(Network(network.input_shape, tuple(idle)), rates, batch, steps)
    fixed -= steps * sum(chosen) * rates.layer_s
    return fixed + active * (whole - fixed)
