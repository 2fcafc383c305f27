"""How a flat network is told as a readable program: runs of layers, and the repeats among them.

A network is a list of primitive layers. A reader wants "five times this cell" instead; `split` finds it, from the list
alone: a block that is followed by equal blocks is one `Piece`, and the other layers are gathered by graph node.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from llmnas.network import Layer, Network

STATEFUL: Final = frozenset({"conv", "linear", "norm", "attention"})  # kinds with weights
ACTIVATIONS: Final = frozenset({"relu", "silu", "gelu", "hswish", "sigmoid"})


@dataclass(frozen=True)
class Piece:
    """Equal blocks in a row: layers ``low`` to ``high - 1``, as ``times`` blocks of one length."""

    low: int
    high: int
    times: int = 1

    @property
    def size(self) -> int:
        """Layers of one block."""
        return (self.high - self.low) // self.times

    @property
    def starts(self) -> range:
        """The first layer of each block."""
        return range(self.low, self.high, self.size)


@dataclass(frozen=True)
class Run:
    """Layers that become one attribute of the model, or one expression.

    Either a single layer, or pieces in sequence that read one value and hand on one value.
    """

    node: str
    pieces: tuple[Piece, ...]

    @property
    def low(self) -> int:
        """The first layer."""
        return self.pieces[0].low

    @property
    def high(self) -> int:
        """The layer after the last."""
        return self.pieces[-1].high

    @property
    def single(self) -> bool:
        """Whether it is one layer."""
        return self.high - self.low == 1


def prune(network: Network) -> tuple[Network, list[int]]:
    """Returns the network without layers whose value nobody reads, and the original index of each layer kept."""
    wanted = {len(network.layers) - 1}
    for index in range(len(network.layers) - 1, -1, -1):
        if index in wanted:
            wanted |= set(network.layers[index].inputs)
    kept = sorted(wanted - {-1})
    place = {old: new for new, old in enumerate(kept)} | {-1: -1}
    layers = (network.layers[old] for old in kept)
    return Network(network.input_shape, tuple(
        layer._replace(inputs=tuple(place[source] for source in layer.inputs)) for layer in layers)), kept


def externals(network: Network, low: int, high: int) -> list[int]:
    """Returns the values from before `low` that layers up to `high` read, each once, in order of use."""
    read = (source for layer in network.layers[low:high] for source in layer.inputs if source < low)
    return list(dict.fromkeys(read))


def split(network: Network) -> list[Run]:
    """Returns the runs of a pruned network, in order; together they are all its layers."""
    runs: list[Run] = []
    for piece in _pieces(network, 0, len(network.layers)):
        if piece.times > 1:
            nodes = {layer.node for layer in network.layers[piece.low:piece.high]}
            runs.append(Run(nodes.pop() if len(nodes) == 1 else "", (piece,)))
        else:
            runs += _by_node(network, piece.low, piece.high)
    return _merged(network, runs)


def _pieces(network: Network, low: int, high: int) -> list[Piece]:
    """Returns the range as repeated blocks and what lies between them.

    Blocks are looked for from the end, because a block ends with its activation: searching from the front finds
    the same repeats, shifted by one layer.
    """
    cuts = _cuts(network, low, high)
    found: list[Piece] = []
    end = rest = len(cuts) - 1
    while end > 0:
        start, times = _repeat(network, cuts, end)
        if times == 1:
            end -= 1
            continue
        if end < rest:
            found.append(Piece(cuts[end], cuts[rest]))
        found.append(Piece(cuts[start], cuts[end], times))
        end = rest = start
    if rest > 0:
        found.append(Piece(low, cuts[rest]))
    return found[::-1]


def _cuts(network: Network, low: int, high: int) -> list[int]:
    """Returns the places where only one value crosses: the range's ends, and before layers that only it feeds."""
    floor = high  # the earliest value that layers from `cut` on read
    cuts = [high]
    for cut in range(high - 1, low, -1):
        floor = min(floor, *network.layers[cut].inputs)
        if floor >= cut - 1:
            cuts.append(cut)
    return [low, *reversed(cuts)]


def _repeat(network: Network, cuts: list[int], end: int) -> tuple[int, int]:
    """Returns the first cut and the number of the equal blocks that end at cut `end` and cover most layers."""
    best = (end, 1)
    covered = 0
    for length in range(1, end // 2 + 1):
        start, times = end - length, 1
        if cuts[end] - cuts[start] < 2:
            continue
        while start >= length and _equal(network, cuts, start, length):
            start, times = start - length, times + 1
        if times > 1 and cuts[end] - cuts[start] > covered:
            best, covered = (start, times), cuts[end] - cuts[start]
    return best


def _equal(network: Network, cuts: list[int], middle: int, length: int) -> bool:
    """Returns whether the blocks of `length` segments before and after cut `middle` are equal."""
    first, second, end = cuts[middle - length], cuts[middle], cuts[middle + length]
    if second - first != end - second or len(externals(network, first, second)) != 1:
        return False
    return all(_moved(a, first) == _moved(b, second) for a, b in zip(
        network.layers[first:second], network.layers[second:end], strict=True))


def _moved(layer: Layer, low: int) -> Layer:
    return layer._replace(inputs=tuple(max(source - low, -1) for source in layer.inputs))


def _by_node(network: Network, low: int, high: int) -> list[Run]:
    runs: list[Run] = []
    start = low
    for index in range(low + 1, high + 1):
        if index == high or network.layers[index].node != network.layers[start].node:
            runs += _node_runs(network, start, index)
            start = index
    return runs


def _node_runs(network: Network, low: int, high: int) -> list[Run]:
    """Returns the runs of consecutive layers of one node."""
    node = network.layers[low].node
    if high - low > 1 and len(set(network.layers[low].inputs)) > 1:  # the sum that comes before an op
        return [Run(node, (Piece(low, low + 1),)), *_node_runs(network, low + 1, high)]
    if not node:  # the skeleton has no names: what cannot be cut is a block
        cuts = _cuts(network, low, high)
        return [run for start, end in pairwise(cuts) for run in _checked(network, node, start, end)]
    return _checked(network, node, low, high)


def _checked(network: Network, node: str, low: int, high: int) -> list[Run]:
    """Returns the layers as one run, or as single layers when more than one value goes in or comes out."""
    inner = any(low <= source < high - 1 for layer in network.layers[high:] for source in layer.inputs)
    if high - low > 1 and (inner or len(externals(network, low, high)) != 1):
        return [Run(node, (Piece(index, index + 1),)) for index in range(low, high)]
    pieces = _pieces(network, low, high)
    return [Run(node, tuple(block for piece in pieces for block in (
        [piece] if piece.times > 1 else _blocks(network, piece.low, piece.high))))]


def _blocks(network: Network, low: int, high: int) -> list[Piece]:
    """Returns layers without repeats as residual blocks: each its branch, its sum and the activation after it."""
    cuts = _cuts(network, low, high)
    places = [low]
    for start, end in pairwise(cuts):
        if end - start > 1 and network.layers[end - 1].kind == "add":
            after = end + (end < high and network.layers[end].kind in ACTIVATIONS)
            places += [start, after] if start >= places[-1] else [after]
    return [Piece(start, end) for start, end in zip(places, [*places[1:], high], strict=True) if start < end]


def _merged(network: Network, runs: list[Run]) -> list[Run]:
    """Returns the runs with those of one node joined where the second reads the first and nobody else does."""
    merged: list[Run] = []
    for run in runs:
        before = merged[-1] if merged else None
        if before and run.node and run.node == before.node and not before.single and not run.single \
                and externals(network, run.low, run.high) == [before.high - 1] \
                and network.last_use[before.high - 1] < run.high:
            merged[-1] = Run(run.node, before.pieces + run.pieces)
        else:
            merged.append(run)
    return merged
