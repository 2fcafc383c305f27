"""All architectures of a space in one network: every slot runs all of its ops side by side (a supernet, as data)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from llmnas.errors import InputError
from llmnas.graph import IDENTITY, ArchGraph, Node
from llmnas.network import Network, Shape
from llmnas.space.lowering import lower
from llmnas.space.slots import Slots
from llmnas.space.space import Space
from llmnas.space.spec import Slot

BETWEEN: Final = "/"
"""Stands between slot and op in the node of a candidate's layers: ``0>1/nor_conv_3x3``."""


@dataclass(frozen=True)
class Superposed:
    """A supernet as data.

    Attributes:
        network: Its layers; those of a candidate have the node ``slot/op``.
        slots: Per decision its slot and the ops to choose from, in the order of the space's file.
    """

    network: Network
    slots: tuple[tuple[str, tuple[str, ...]], ...]


class Superposition:
    """The supernet of a space, and the way from a choice per slot back to a graph.

    Args:
        space: A space with fixed wiring where only ops are chosen: a cell, or a chain of layers.

    Raises:
        InputError: More is chosen than ops.
    """

    def __init__(self, space: Space) -> None:
        if space.spec.dag is not None or not Slots(space.spec).only_ops:
            raise InputError(f"space {space.name} has no supernet: more is chosen in it than the op of each slot",
                             "spaces with one are nb201, conv1d_cell, nbmacro, and your own of that kind")
        self.space = space
        self._all: Final = Slots(space.spec)
        self.slots: Final = tuple(slot for slot in self._all.slots if len(slot.choices) > 1)

    def graph(self, path: Sequence[int]) -> ArchGraph:
        """Returns the graph that takes, in each slot with a choice, the op at this place of its list."""
        places = dict(zip((slot.id for slot in self.slots), path, strict=True))
        return self._all.graph([self._all.pick(slot, places.get(slot.id, 0)) for slot in self._all.slots])

    def path(self, graph: ArchGraph) -> tuple[int, ...]:
        """Returns the places of a legal graph's ops; the inverse of `graph`."""
        return tuple(list(slot.choices).index(graph.by_id[slot.id].op) for slot in self.slots)

    def network(self, shape: Shape, classes: int, channels: int | None = None, cells: int | None = None) -> Superposed:
        """Returns the supernet for data of this shape.

        Args:
            shape: Of one example.
            classes: Number of logits.
            channels: After the stem, where the skeleton repeats a cell; None as the space has it.
            cells: Per stage, likewise.
        """
        sizes = {name: value for name, value in (("channels", channels), ("cells", cells)) if value is not None}
        skeleton = self.space.spec.skeleton.model_copy(update=sizes)
        graph = ArchGraph.model_construct(version=1, space=self.space.name, nodes=tuple(self._nodes()), output="out")
        return Superposed(_with_identities(lower(graph, skeleton, shape, classes, raw=True)),
                          tuple((slot.id, tuple(slot.choices)) for slot in self.slots))

    def _nodes(self) -> Iterator[Node]:
        """Yields every candidate as a node of its own, and a sum where several are read."""
        sums: dict[tuple[str, ...], str] = {}
        for slot in self._all.slots:
            read = self._read(slot.inputs)
            if len(read) > 1 and read not in sums:
                sums[read] = f"sum{len(sums)}"
                yield Node(id=sums[read], op="add", inputs=read)
            yield from self._candidates(slot, (sums[read],) if len(read) > 1 else read)
        fixed = self._all.fixed[0].inputs if self._all.fixed else (self._all.output,)
        yield Node(id="out", op="add", inputs=self._read(fixed))

    def _read(self, ids: Sequence[str]) -> tuple[str, ...]:
        chosen = {slot.id: [f"{slot.id}{BETWEEN}{op}" for op in slot.choices] for slot in self.slots}
        return tuple(name for one in ids for name in chosen.get(one, [one]))

    def _candidates(self, slot: Slot, inputs: tuple[str, ...]) -> Iterator[Node]:
        for place, op in enumerate(slot.choices):
            name = f"{slot.id}{BETWEEN}{op}" if len(slot.choices) > 1 else slot.id
            node = self._all.pick(slot, place).model_copy(update={"id": name, "inputs": inputs})
            yield Node(id=name, op="none", inputs=inputs) if op in IDENTITY else node


def _with_identities(network: Network) -> Network:
    """Returns the network with a layer for every op that passes its input on, where so far a placeholder stands.

    Lowered as usual they have no layer, hence no place beside the other candidates.
    """
    layers = [layer._replace(kind="identity") if layer.node.partition(BETWEEN)[2] in IDENTITY else layer
              for layer in network.layers]
    return Network(network.input_shape, tuple(layers), network.blocks)
