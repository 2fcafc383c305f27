"""What the two strategies with a supernet share: its size, its cost on the nominal clock, its legal architectures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from math import log
from typing import Any, Final

from pydantic import Field

from llmnas.graph import ArchGraph, Frozen
from llmnas.space.superposed import Superposed, Superposition
from llmnas.strategies.base import Fit, Setup
from llmnas.supernet import nominal_epoch_s, places
from llmnas.train.recipe import BATCHES

MOST_CHANNELS: Final = 16
"""Channels of a supernet after the stem, where the space's own networks have more."""
MOST_EPOCHS: Final = 50
"""The paper's number (DARTS); more time than they take is left to the trainings."""
MOST_PATHS: Final = 20_000
"""Architectures looked at in the order of their probability."""


class SupernetOptions(Frozen):
    """Size and length of a supernet's training.

    Attributes:
        epochs: Passes over one half of the training part; None for what half of the search's time holds, at most 50.
        channels: After the stem; None for those of the space, at most 16.
        cells: Cells per stage.
    """

    epochs: int | None = Field(default=None, ge=1, le=1000)
    channels: int | None = Field(default=None, ge=1, le=512)
    cells: int = Field(default=1, ge=1, le=20)


class SharedNetwork:
    """The supernet that a strategy trains.

    Args:
        setup: Space and data.
        options: Its size.
        parts: Parts of the channels of which candidates get one.

    Raises:
        InputError: The space has no supernet, or its channels cannot be divided so.
    """

    def __init__(self, setup: Setup, options: SupernetOptions, parts: int = 1) -> None:
        self.setup, self.options, self.parts = setup, options, parts
        self.whole = Superposition(setup.space)
        own = setup.space.spec.skeleton.channels
        self.data: Superposed = self.whole.network(setup.shape, setup.classes, options.channels
                                                   or min(own, MOST_CHANNELS), options.cells)
        places(self.data.network, self.data.slots, parts)  # refuses what cannot be divided

    def payload(self) -> dict[str, Any]:
        """Returns what jobs are told of it."""
        return {"network": self.data.network.to_data(), "slots": self.data.slots}

    def steps_s(self, fit: Fit, steps: float, active: float = 1.0) -> float:
        """Returns the nominal seconds of training steps in which this share of the candidates runs."""
        one = nominal_epoch_s(self.data.network, fit.rates, batch_of(fit.examples), 1, self.parts, active)
        return steps * one

    def legal(self, path: Sequence[int]) -> ArchGraph | None:
        """Returns the architecture with these ops; None when it breaks a rule of the space or a limit of the person."""
        graph = self.whole.graph(path)
        setup = self.setup
        return graph if not setup.space.validate(graph, setup.shape, setup.classes) and setup.keeps(graph) else None


def batch_of(examples: int) -> int:
    """Returns the batch size of a supernet: the recipe's, for one half of the training part."""
    return next(size for size, least in BATCHES if examples // 2 >= least)


def steps_of(examples: int) -> int:
    """Returns the steps of an epoch over one half of the training part."""
    return max(1, examples // 2 // batch_of(examples))


def by_probability(rows: Sequence[Sequence[float]]) -> Iterator[tuple[int, ...]]:
    """Yields choices, one op per slot, from the most to the least probable; ops of probability 0 are left out.

    Args:
        rows: Probability of every op of every slot.
    """
    orders = [[n for p, n in sorted((-p, n) for n, p in enumerate(row)) if p < 0] for row in rows]
    first = (0,) * len(rows)
    queue, seen = [(0.0, first)], {first}
    for _ in range(MOST_PATHS):
        if not queue:
            return
        lost, ranks = heappop(queue)
        yield tuple(order[rank] for order, rank in zip(orders, ranks, strict=True))
        for slot, (order, rank) in enumerate(zip(orders, ranks, strict=True)):
            further = (*ranks[:slot], rank + 1, *ranks[slot + 1:])
            if rank + 1 < len(order) and further not in seen:
                seen.add(further)
                row = rows[slot]
                heappush(queue, (lost + log(row[order[rank]] / row[order[rank + 1]]), further))
