"""How architectures were chosen, as columns of 0 and 1: what is left over by a regression may depend on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from llmnas.latency.counting import Floats

Choices = tuple[str, ...]
"""What was chosen, ``slot=choice`` each: ``nb201/0>1=conv_3x3``. Empty where the wiring is free."""


class Genes(NamedTuple):
    """The code of some architectures that have the same slots.

    Attributes:
        slots: The part before ``=``, of every slot.
        columns: Every choice that occurs, in alphabetical order.
    """

    slots: tuple[str, ...]
    columns: tuple[str, ...]

    def encode(self, choices: Choices) -> Floats | None:
        """Returns the columns of one architecture, of shape (genes,); None when its slots are others.

        A choice that never occurred is no column, so its slot has zeros only.
        """
        if slots_of(choices) != self.slots:
            return None
        return np.array([float(column in choices) for column in self.columns])


def slots_of(choices: Choices) -> tuple[str, ...]:
    """Returns the names of the slots."""
    return tuple(choice.partition("=")[0] for choice in choices)


def genes_of(chosen: Sequence[Choices]) -> Genes | None:
    """Returns the code of architectures; None when their slots differ, or there are none."""
    slots = {slots_of(choices) for choices in chosen}
    if len(slots) != 1 or slots == {()}:
        return None
    return Genes(slots.pop(), tuple(sorted({choice for choices in chosen for choice in choices})))


def encoded(chosen: Sequence[Choices]) -> Floats | None:
    """Returns the columns of architectures, of shape (architectures, genes); None where `genes_of` is."""
    code = genes_of(chosen)
    if code is None:
        return None
    found: Floats = np.array([code.encode(choices) for choices in chosen], dtype=float)
    return found
