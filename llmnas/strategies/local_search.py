"""Local search (White et al., arXiv 2005.02960, section 3), by first improvement."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from llmnas.graph import ArchGraph
from llmnas.records import Proposal, Trial
from llmnas.strategies.base import Context, Rng, Setup, proposal, unseen

KEPT: Final = 64
"""Neighbourhoods kept in memory."""


class LocalSearch:
    """From a random architecture to the first neighbour that is better, until no neighbour is; then from a new one.

    Neighbours are one edit away and come in random order, each once. Nothing is asked for twice: at an architecture
    all of whose neighbours are known, the best of them is moved to when it is better, at no cost.

    The paper evaluates all neighbours and moves to the best; moving to the first that is better reaches good designs
    with fewer evaluations.

    Args:
        setup: The space.
    """

    name = "local_search"
    waits = False

    def __init__(self, setup: Setup) -> None:
        self.space, self.merit = setup.space, setup.merit
        self.current: ArchGraph | None = None
        self.begun = -1  # the step at which the walk began
        self.seen: set[str] = set()
        self.known: dict[str, float] = {}
        self._near: dict[ArchGraph, list[ArchGraph]] = {}  # derived from the space alone, so not part of the state;
        # by graph, because graphs of one key may differ in their neighbours

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns untested neighbours of where the walk is, or random draws when there is none."""
        seen = self.seen | ctx.pending()
        here = self.current
        while here is not None:
            if near := self._untested(here, n, rng, seen):
                return [proposal(self.name, "neighbour", ctx.step, graph, [here]) for graph in near]
            here = self._known_better(here)
        return [proposal(self.name, "restart", ctx.step, graph) for graph in unseen(self.space, rng, n, seen)]

    def _untested(self, here: ArchGraph, n: int, rng: Rng, seen: Set[str]) -> list[ArchGraph]:
        """Returns up to `n` neighbours that compute functions not seen yet, drawn without replacement."""
        near = self._neighbours(here)
        found: dict[str, ArchGraph] = {}
        for i in rng.permutation(len(near)):
            if len(found) == n:
                break
            if near[i].key() not in seen:
                found.setdefault(near[i].key(), near[i])
        return list(found.values())

    def _known_better(self, here: ArchGraph) -> ArchGraph | None:
        """Returns the best neighbour already measured, when it is better."""
        best = max(self._neighbours(here), key=self._value, default=here)
        return best if self._value(best) > self._value(here) else None

    def _value(self, graph: ArchGraph) -> float:
        return self._known(graph.key())

    def _known(self, key: str) -> float:
        return self.known.get(key, float("-inf"))

    def _neighbours(self, graph: ArchGraph) -> list[ArchGraph]:
        if graph not in self._near:
            if len(self._near) >= KEPT:
                self._near.clear()
            self._near[graph] = list(self.space.neighbours(graph))
        return self._near[graph]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Moves to a trial that is better than where it came from, or that begins a new walk."""
        for trial in trials:
            if trial.key is None:
                continue
            self.seen.add(trial.key)
            value, graph = self.merit(trial), trial.proposal.graph
            if value is not None and not trial.violates and graph is not None:
                self.known[trial.key] = value
                self._arrive(trial, graph, value)

    def _arrive(self, trial: Trial, graph: ArchGraph, value: float) -> None:
        origin = trial.proposal.origin
        if self.current is None or (origin.operator == "restart" and origin.step != self.begun):
            self.current, self.begun = graph, origin.step
        elif value > max(map(self._known, (self.current.key(), *origin.parents))):
            self.current = graph
