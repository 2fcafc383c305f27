"""NSGA-II (Deb et al., IEEE Trans. Evol. Comp. 6(2), 2002): evolution of a front of score and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmnas.front import excess
from llmnas.graph import ArchGraph
from llmnas.records import Proposal, Trial
from llmnas.strategies.base import Context, Rng, Setup, proposal, unseen

POPULATION: Final = 20
CROSSOVER: Final = 0.9
"""Probability that a child has two parents, as in the paper's experiments."""
TRIES: Final = 20
"""Children made in place of one that was seen already; a random draw stands in after that."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """One architecture of a generation.

    Attributes:
        graph: The architecture.
        score: Search score, higher is better; 0 when it breaks a constraint, where it does not count.
        ms: Latency on the first target; None when unknown.
        macs: Multiply-accumulates.
        excess: How far it breaks the constraints, 0 when it keeps them.
    """

    graph: ArchGraph
    score: float
    ms: float | None
    macs: float
    excess: float


class Nsga2:
    """Generations of parents and children; the best fronts survive, and among equals the ones in the emptiest regions.

    Objectives are the search score and the cost to run: latency on the first target, or multiply-accumulates while
    no latency is known there. Legal beats illegal, and of two illegal ones the one that breaks less
    (constraint-domination, section VI-A). A child is a crossover of two winners of binary tournaments and one edit.

    Args:
        setup: The space and the constraints.
        population: N of the paper.
        crossover: Probability of a crossover; otherwise the child is an edit of one winner.
    """

    name = "nsga2"
    waits = False

    def __init__(self, setup: Setup, population: int = POPULATION, crossover: float = CROSSOVER) -> None:
        self.setup, self.space = setup, setup.space
        self.population, self.crossover = population, crossover
        self.parents: list[Member] = []
        self.order: list[tuple[int, float]] = []  # per parent: front, and crowding distance turned round
        self.children: list[Member] = []
        self.seen: set[str] = set()

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns random draws for the first generation, and children of tournaments afterwards."""
        seen = self.seen | ctx.pending()
        if not self.parents:
            return [proposal(self.name, "random", ctx.step, graph) for graph in unseen(self.space, rng, n, seen)]
        asked: list[Proposal] = []
        for _ in range(n):
            child = self._new_child(rng, ctx.step, seen)
            if child is None or child.graph is None:
                break
            asked.append(child)
            seen.add(child.graph.key())
        return asked

    def _new_child(self, rng: Rng, step: int, seen: set[str]) -> Proposal | None:
        """Returns a child that was not seen yet, else a random draw, else None: the space is used up."""
        for _ in range(TRIES):
            child, parents = self._child(rng)
            if child.key() not in seen:
                return proposal(self.name, "mutate" if len(parents) == 1 else "crossover", step, child, parents)
        drawn = unseen(self.space, rng, 1, seen)
        return proposal(self.name, "random", step, drawn[0]) if drawn else None

    def _child(self, rng: Rng) -> tuple[ArchGraph, list[ArchGraph]]:
        first = self._winner(rng)
        if rng.random() >= self.crossover:
            return self.space.mutate(first, rng), [first]
        second = self._winner(rng)
        return self.space.mutate(self.space.crossover(first, second, rng), rng), [first, second]

    def _winner(self, rng: Rng) -> ArchGraph:
        """Returns the better of two by the crowded-comparison operator (section III-B)."""
        left, right = (int(i) for i in rng.integers(len(self.parents), size=2))
        return self.parents[min(left, right, key=self.order.__getitem__)].graph

    def tell(self, trials: Sequence[Trial]) -> None:
        """Collects children; a full generation competes with its parents."""
        for trial in trials:
            if trial.key is not None:
                self.seen.add(trial.key)
            if (member := self._member(trial)) is not None:
                self.children.append(member)
            if len(self.children) >= self.population:
                self._next_generation()

    def _member(self, trial: Trial) -> Member | None:
        graph, broken = trial.proposal.graph, excess(trial, self.setup.settings, self.setup.targets)
        if graph is None or trial.counts is None or trial.duplicate_of is not None:
            return None
        if trial.score is None and not broken:
            return None
        found = None if self.setup.target is None else trial.latency.get(self.setup.target)
        return Member(graph, trial.score or 0.0, None if found is None else found.ms, float(trial.counts.macs), broken)

    def _next_generation(self) -> None:
        everyone = [*self.parents, *self.children]
        if any(member.ms is not None for member in everyone):  # milliseconds and MACs do not compare
            everyone = [member for member in everyone if member.ms is not None]
        points = np.array([(-one.score, one.macs if one.ms is None else one.ms) for one in everyone])
        chosen, self.order = survivors(points, np.array([one.excess for one in everyone]), self.population)
        self.parents, self.children = [everyone[i] for i in chosen], []


def survivors(points: Floats, broken: Floats, n: int) -> tuple[list[int], list[tuple[int, float]]]:
    """Returns the `n` best rows, and for each its front and minus its crowding distance: less is better.

    Args:
        points: One row a member, one column an objective, less is better.
        broken: How far each breaks the constraints.
        n: Members that survive.
    """
    chosen: list[int] = []
    order: list[tuple[int, float]] = []
    for rank, front in enumerate(fronts(points, broken)):
        distance = dict(zip(front, crowding(points[front]).tolist(), strict=True))
        kept = sorted(front, key=lambda i: (-distance[i], i))[:n - len(chosen)]
        chosen += kept
        order += [(rank, -distance[i]) for i in kept]
        if len(chosen) == n:
            break
    return chosen, order


def fronts(points: Floats, broken: Floats) -> list[list[int]]:
    """Returns the rows by front, best first: fast non-dominated sort (section III-A).

    O(M N²) for N rows and M objectives.
    """
    beats = dominates(points, broken)
    waiting = beats.sum(axis=0)
    found: list[list[int]] = []
    front = np.flatnonzero(waiting == 0)
    while front.size:
        found.append(front.tolist())
        waiting = waiting - beats[front].sum(axis=0)
        waiting[front] = -1
        front = np.flatnonzero(waiting == 0)
    return found


def dominates(points: Floats, broken: Floats) -> NDArray[np.bool_]:
    """Returns whether row i constraint-dominates row j (definition 1 of section VI-A)."""
    no_worse = (points[:, None] <= points[None]).all(axis=2)
    better = (points[:, None] < points[None]).any(axis=2)
    less_broken = broken[:, None] < broken[None]
    both_legal = (broken[:, None] <= 0) & (broken[None] <= 0)
    beats: Any = less_broken | (both_legal & no_worse & better)
    return np.asarray(beats, dtype=bool)


def crowding(points: Floats) -> Floats:
    """Returns the crowding distance of every row of one front: the sides of the box its neighbours span, normalised.

    The ends of the front are infinitely far apart (section III-B). An objective that is equal for all counts nothing.
    """
    distance = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        width = values[order[-1]] - values[order[0]]
        if width > 0:
            distance[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / width
            distance[order[[0, -1]]] = np.inf
    return distance
