"""Bayesian optimisation on graphs, along the lines of BANANAS (White et al., arXiv 1910.11858)."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from llmnas.graph import ArchGraph
from llmnas.records import Proposal, Trial
from llmnas.strategies.acquisition import Aim, Best, Front
from llmnas.strategies.base import Context, Rng, Setup, proposal
from llmnas.strategies.points import Floats, Point, screened, sized, structure
from llmnas.strategies.prospects import Pool, Prospects
from llmnas.strategies.surrogate import SCREENED, SIZED, STRUCTURE, Forecast, Groups, forecast, most

INITIAL: Final = 10
"""Random designs before the first fit where nothing is screened, as in the paper."""
Known = Sequence[tuple[Point, float]]


class Bayesian:
    """Fits a Gaussian process at every ask and proposes the candidates of greatest expected improvement.

    The paper's ensemble of networks is a Gaussian process here: on a few hundred points it is fitted in
    milliseconds and needs no seed. Candidates are neighbours of the best designs and many random draws that keep the
    limits (`Prospects`). Where graphs may be screened (`Context.screen`), a process on structure alone chooses at every
    ask which of them are, and a second one with their proxies as features chooses among all that were screened what is
    proposed, as in the line of work on proxies in predictors (White et al., arXiv 2104.01177). Screened graphs that
    break a limit are never proposed; a latency that nothing predicts is learnt from those measured. In a batch the mean
    of what was chosen stands for its value (the kriging believer of Ginsbourger et al. 2010).

    What counts as improvement is the aim's: of the best score within the limits, or of the front of score and cost
    (`Setup.front`).

    Args:
        setup: The space and the constraints.
        initial: Random designs before the first fit where nothing is screened.
    """

    name = "bayesian"
    waits = False

    def __init__(self, setup: Setup, initial: int = INITIAL) -> None:
        self.setup, self.initial, self.identity = setup, initial, setup.identity
        self.prospects = Prospects(setup)
        self.aim: Aim = Front(setup) if setup.front else Best(setup)
        self.seen: set[str] = set()
        self.known: list[tuple[Point, float]] = []

    # -- learning

    def tell(self, trials: Sequence[Trial]) -> None:
        """Takes in values and latencies."""
        for trial in trials:
            graph = trial.proposal.graph
            if trial.key is None or graph is None or trial.duplicate_of is not None:
                continue
            self.seen.add(self.identity(graph))
            point = self.prospects.measured(graph, trial.counts, {key: one.ms for key, one in trial.latency.items()})
            value = self.aim.value(trial)
            if value is not None and not trial.violates:
                self.known.append((replace(point, scores=trial.scores), value))

    # -- proposing

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns the first designs until there is enough to fit, and the best candidates afterwards."""
        seen = self.taken(ctx)
        pool = self.pool(rng, ctx, seen)
        known = self.known_with_proxies(pool)
        if not self.fits(pool):
            return self._first(n, pool, ctx, seen)
        return [proposal(self.name, "surrogate", ctx.step, graph, self.aim.parents(known))
                for graph in self.best(n, known, pool, rng, ctx, seen)]

    def taken(self, ctx: Context) -> set[str]:
        """Returns the identities of what was proposed, pending trainings included."""
        return self.seen | {self.identity(trial.proposal.graph) for trial in ctx.trials
                            if trial.status == "pending" and trial.proposal.graph is not None}

    def fits(self, pool: Pool) -> bool:
        """Returns whether enough is known to fit to."""
        return len(self.known) >= (self.aim.warm if pool.scores else self.initial)

    def _first(self, n: int, pool: Pool, ctx: Context, seen: set[str]) -> list[Proposal]:
        """Returns what the aim would train first of the pool, and random draws where it has too few."""
        ordered = [pool.points[place] for place in self.aim.first(pool.points)] if pool.points else []
        warm = _unseen(ordered, seen)[:n]
        drawn = _unseen(self.prospects.drawn(ctx), seen | {self.identity(graph) for graph in warm})[:n - len(warm)]
        return [*(proposal(self.name, "warm", ctx.step, graph) for graph in warm),
                *(proposal(self.name, "random", ctx.step, graph) for graph in drawn)]

    def best(self, n: int, known: Known, pool: Pool, rng: Rng, ctx: Context, seen: set[str]) -> list[ArchGraph]:
        """Returns the candidates of greatest expected improvement, at most `n`, each as if the others had come true.

        They come from the pool where it has proxies; what was not screened competes only where it has none.
        """
        told, believed, chosen = most(known), list[tuple[Point, float]](), list[ArchGraph]()
        groups: Groups
        choices: Sequence[Sequence[float]]
        for _ in range(n):
            inside = [point for point in pool.points if point.name not in seen]
            if inside and pool.scores:
                candidates, groups, choices, chance = inside, screened, SCREENED, np.ones(len(inside))
            else:
                outside = {point.name: self.prospects.sized(point.graph)
                           for point in self._candidates(known, rng, ctx, seen)}
                candidates = list((outside | {point.name: point for point in inside}).values())
                groups, choices, chance = sized, SIZED, self.prospects.feasible(candidates, pool)
            if not candidates:
                break
            found = forecast(candidates, told, believed, groups, choices)
            place = int(np.argmax(self._gain(candidates, found, told, believed) * chance))
            believed.append((candidates[place], found.value(place)))
            chosen.append(candidates[place].graph)
            seen.add(candidates[place].name)
        return chosen

    def _gain(self, candidates: Sequence[Point], found: Forecast, told: Known, believed: Known) -> Floats:
        return self.aim.gain(candidates, found, [point for point, _ in (*told, *believed)])

    # -- candidates

    def _candidates(self, known: Known, rng: Rng, ctx: Context, seen: set[str]) -> list[Point]:
        """Returns random draws and neighbours of the best designs, nothing twice and nothing seen."""
        near = self.prospects.around(self.aim.parents(known), rng) if known else []
        return list({point.name: point for point in (*self.prospects.drawn(ctx), *near)
                     if point.name not in seen}.values())

    def pool(self, rng: Rng, ctx: Context, seen: set[str]) -> Pool:
        """Returns the pool of all asks so far, grown by what this one may screen."""
        before = self.prospects.gathered(ctx.pool)
        share = self.prospects.share(ctx)
        if ctx.pool and not self.fits(before):
            share = 0  # the pool waits until something says where it should grow
        graphs = self._worth_screening(share, before, rng, ctx, seen)
        return self.prospects.gathered([*ctx.pool, *(ctx.screen(graphs) if graphs else ())])

    def _worth_screening(self, share: int, pool: Pool, rng: Rng, ctx: Context, seen: set[str]) -> list[ArchGraph]:
        """Returns graphs to screen: the first draws, then those of greatest expected improvement by structure alone."""
        if not share:
            return []
        known = most(self.known_with_proxies(pool))
        if not self.fits(pool):
            return _unseen(self.prospects.drawn(ctx), seen | pool.scores.keys())[:share]
        points = self._candidates(known, rng, ctx, seen | pool.scores.keys())
        if not points:
            return []
        found = forecast(points, known, (), structure, STRUCTURE)
        if self.setup.front and any(point.cost is None for point in points):
            points = [self.prospects.sized(point.graph) for point in points]
        gain = self._gain(points, found, known, ()) * self.prospects.feasible(points, pool)
        return [points[place].graph for place in np.argsort(-gain, kind="stable")[:share]]

    def known_with_proxies(self, pool: Pool) -> list[tuple[Point, float]]:
        """Returns the points and values; a proposal that was alone in its batch has its proxies from the pool."""
        return [(replace(point, scores=point.scores or pool.scores.get(point.name, {})), value)
                for point, value in self.known]


def _unseen(points: Sequence[Point], seen: Container[str]) -> list[ArchGraph]:
    return [point.graph for point in points if point.name not in seen]
