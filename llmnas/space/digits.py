"""Names of architectures in published tables: one digit per choice of an op."""

from __future__ import annotations

from typing import Final

from llmnas.errors import InputError
from llmnas.graph import ArchGraph
from llmnas.space.slots import Slots
from llmnas.space.space import Space
from llmnas.space.spec import Slot

_MOST_OPS: Final = 10  # a digit tells ten ops apart


class Digits:
    """The codec between the graphs of a space where only ops are chosen and the digits of its published table.

    A digit is the place of an op in its slot's list; slots stand in their order, those without a choice have no digit.
    In ``nb201`` they are the edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3, in ``nbmacro`` the layers l1 to l8.

    Args:
        space: The space.

    Raises:
        InputError: More is chosen than ops, or among more than ten.
    """

    def __init__(self, space: Space) -> None:
        if space.spec.dag is not None:
            raise InputError(f"the graphs of space {space.name} have no digits", "its wiring is free")
        self._slots: Final = Slots(space.spec)
        self._chosen: Final = [slot for slot in self._slots.slots if len(slot.choices) > 1]
        if not self._slots.only_ops or any(len(slot.choices) > _MOST_OPS for slot in self._chosen):
            raise InputError(f"the graphs of space {space.name} have no digits",
                             "a digit names one of ten ops and no attributes")

    def graph(self, digits: str) -> ArchGraph:
        """Returns the graph of these digits.

        Raises:
            InputError: Too many or too few digits, or one that names no op.
        """
        if len(digits) != len(self._chosen):
            raise InputError(f"expected {len(self._chosen)} digits, got {digits!r}",
                             "read the column as text: leading zeros count")
        places = {slot.id: _place(slot, digit, digits) for slot, digit in zip(self._chosen, digits, strict=True)}
        return self._slots.graph([self._slots.pick(slot, places.get(slot.id, 0)) for slot in self._slots.slots])

    def digits(self, graph: ArchGraph) -> str:
        """Returns the digits of a legal graph of the space."""
        return "".join(str(list(slot.choices).index(graph.by_id[slot.id].op)) for slot in self._chosen)


def _place(slot: Slot, digit: str, digits: str) -> int:
    if digit not in "0123456789"[:len(slot.choices)]:
        raise InputError(f"{digits!r} has {digit!r} for {slot.id}", f"known: 0 to {len(slot.choices) - 1}")
    return int(digit)
