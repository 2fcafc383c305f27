"""Regularised evolution (Real et al., arXiv 1802.01548, algorithm 1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from llmnas.graph import ArchGraph
from llmnas.records import Proposal, Trial
from llmnas.strategies.base import Context, Rng, Setup, proposal

POPULATION: Final = 10
SAMPLE: Final = 3


class Evolution:
    """A population of the youngest trained architectures; a tournament picks a parent, one mutation makes the child.

    Until the population is full, proposals are random draws. Ages replace quality in deciding who dies, so a lucky
    score does not stay for ever. As in the paper a tournament draws with replacement, and a child that was seen before
    enters too; it is not trained again but has the score it had. Architectures that break a constraint do not enter.

    Args:
        setup: The space.
        population: P of the paper (NATS-Bench uses 10).
        sample: S of the paper, the tournament's size.
    """

    name = "evolution"
    waits = False
    founder = "random"  # operator of the first population

    def __init__(self, setup: Setup, population: int = POPULATION, sample: int = SAMPLE) -> None:
        self.space, self.merit = setup.space, setup.merit
        self.sample = sample
        self.population: deque[tuple[float, ArchGraph]] = deque(maxlen=population)
        self.known: dict[str, float] = {}

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns random draws while the population fills, and mutated winners of tournaments afterwards."""
        if len(self.population) < (self.population.maxlen or 0):
            return [proposal(self.name, self.founder, ctx.step, graph) for graph in self._founders(n, rng, ctx)]
        return [self._child(rng, ctx.step) for _ in range(n)]

    def _founders(self, n: int, rng: Rng, ctx: Context) -> list[ArchGraph]:
        return [self.space.sample(rng) for _ in range(n)]

    def _child(self, rng: Rng, step: int) -> Proposal:
        drawn = rng.integers(len(self.population), size=self.sample)
        _, parent = max((self.population[i] for i in drawn), key=lambda member: member[0])
        return proposal(self.name, "mutate", step, self.space.mutate(parent, rng), [parent])

    def tell(self, trials: Sequence[Trial]) -> None:
        """Lets trials with a merit in; the oldest leaves when the population is full."""
        for trial in trials:
            value, graph = self._merit(trial), trial.proposal.graph
            if value is not None and not trial.violates and graph is not None:
                self.population.append((value, graph))

    def _merit(self, trial: Trial) -> float | None:
        """Returns the merit of a trial, for a duplicate that of the trial before it."""
        value = self.merit(trial)
        if trial.key is None or trial.violates:
            return None
        if value is not None:
            self.known[trial.key] = value
        return self.known.get(trial.key) if trial.duplicate_of is not None else value
