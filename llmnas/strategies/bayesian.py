"""Bayesian optimisation on graphs, along the lines of BANANAS (White et al., arXiv 1910.11858)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

import numpy as np

from llmnas.front import latency_limits, violations
from llmnas.graph import ArchGraph
from llmnas.records import Candidate, Counts, Proposal, Trial
from llmnas.strategies.base import Context, Rng, Setup, proposal, unseen
from llmnas.strategies.points import Floats, Point, edge_features, screened, sized, structure
from llmnas.strategies.proxy_warm import by_proxies
from llmnas.strategies.surrogate import SCREENED, SIZED, STRUCTURE, best_of, expected, fitted

INITIAL: Final = 10
"""Random designs before the first fit, as in the paper."""
WARM: Final = 5
"""Designs before it where proxies choose them."""
FIRST: Final = 5
"""The first pool takes one part in so many of what may be screened."""
GROWTH: Final = 16
"""And every further ask one part in so many of what is left."""
LEAST: Final = 20
"""The first pool is not smaller, if that may be screened at all."""
PARENTS: Final = 5
"""Best designs whose neighbours are candidates."""
NEAR: Final = 40
"""Neighbours of each that are looked at."""
TWO_EDITS: Final = 20
"""Graphs two edits away from each that are looked at, where latency is limited."""
FAR: Final = 3
"""Random graphs beside them for each one that is screened, likewise."""
FRESH: Final = 16
"""Random candidates beside them, where nothing is screened."""
TIMED: Final = 150
"""Latencies, the latest, that a process is fitted to."""
HOPELESS: Final = 0.1
"""Candidates whose chance to keep the limits is below this share of the best chance are not proposed."""
KEPT: Final = 20_000

@dataclass(frozen=True)
class Scored:
    """A trial with a merit. `ms` is on the first target."""

    point: Point
    merit: float
    ms: float | None


@dataclass(frozen=True)
class Pool:
    """The screened graphs of all asks.

    Attributes:
        points: Those that keep the limits and were not proposed yet.
        ms: Their milliseconds on the first target, where known.
        scores: Proxy scores of all, by key.
        timed: Points and log milliseconds of all, by target with a limit.
        grows: Whether more can be screened at a later ask.
    """

    points: list[Point]
    ms: list[float | None]
    scores: Mapping[str, Mapping[str, float]]
    timed: Mapping[str, list[tuple[Point, float]]]
    grows: bool


class Bayesian:
    """Fits a Gaussian process at every ask and proposes the candidates of greatest expected improvement.

    The paper's ensemble of networks is a Gaussian process here: on a few hundred points it is fitted in
    milliseconds and needs no seed. Where graphs may be screened (`Context.screen`), the candidates are a pool of
    screened graphs, and their proxies are features beside the encoding, as in the line of work on proxies in
    predictors (White et al., arXiv 2104.01177). The pool begins with random draws, of which the best by proxies are
    proposed first, and grows at every ask by neighbours of the best, so that what may be screened is spent where the
    search is. Screened graphs that break a limit are never proposed. Without screening, candidates are neighbours of
    the best designs and a few random ones, as in the paper; then limits on size are checked exactly, and for
    limits on latency the improvement is multiplied by the probability that a second process on log milliseconds gives
    (Gardner et al. 2014, eq. 6). In a batch the mean of what was chosen stands for its value (the kriging believer of
    Ginsbourger et al. 2010).

    Args:
        setup: The space and the constraints.
        initial: Random designs before the first fit.
    """

    name = "bayesian"
    waits = False

    def __init__(self, setup: Setup, initial: int = INITIAL) -> None:
        self.setup, self.space, self.initial = setup, setup.space, initial
        self.identity = setup.identity
        self.limits = latency_limits(setup.settings, setup.targets)
        self.seen: set[str] = set()
        self.scored: list[Scored] = []
        self.timed: dict[str, list[tuple[Point, float]]] = {key: [] for key in self.limits}
        # Derived from the space alone; by graph, not by key: equal functions differ in encoding and neighbours.
        self._points: dict[ArchGraph, Point] = {}
        self._near: dict[ArchGraph, list[ArchGraph]] = {}

    # -- learning

    def tell(self, trials: Sequence[Trial]) -> None:
        """Takes in merits and latencies."""
        for trial in trials:
            graph = trial.proposal.graph
            if trial.key is None or graph is None or trial.duplicate_of is not None:
                continue
            self.seen.add(self.identity(graph))
            point = replace(self._sized(graph, trial.counts), scores=trial.scores)
            for key, known in self.timed.items():
                if key in trial.latency:
                    known.append((point, float(np.log(trial.latency[key].ms))))
            merit = self._merit(trial)
            if merit is not None and not trial.violates:
                found = None if self.setup.target is None else trial.latency.get(self.setup.target)
                self.scored.append(Scored(point, merit, None if found is None else found.ms))

    def _merit(self, trial: Trial) -> float | None:
        return self.setup.merit(trial)

    def _point(self, graph: ArchGraph) -> Point:
        if graph not in self._points:
            if len(self._points) >= KEPT:
                self._points.clear()
            self._points[graph] = Point(graph, self.space.encode(graph), edge_features(graph))
        return self._points[graph]

    def _sized(self, graph: ArchGraph, counts: Counts | None = None) -> Point:
        """Returns the point with its size, which takes longer than all else."""
        point = self._point(graph)
        if point.counts is None:
            counts = counts or self.space.network(graph, self.setup.shape, self.setup.classes).counts
            point = self._points[graph] = replace(point, counts=counts)
        return point

    # -- proposing

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns the first designs until there is enough to fit, and the best candidates afterwards."""
        seen = self.seen | {self.identity(trial.proposal.graph) for trial in ctx.trials
                            if trial.status == "pending" and trial.proposal.graph is not None}
        pool = self._pool(rng, ctx, seen)
        if len(self.scored) < (WARM if pool.scores else self.initial):
            return self._first(n, pool, rng, ctx.step, seen)
        asked: list[Proposal] = []
        believed: list[tuple[Point, float]] = []
        for values in self._aims(n, rng):
            known = self._known(values, pool)
            chosen = self._chosen(known, believed, pool, rng, seen)
            if chosen is None:
                break
            believed = [*believed, chosen]
            seen.add(self.identity(chosen[0].graph))
            asked.append(proposal(self.name, "surrogate", ctx.step, chosen[0].graph, _parents(known)))
        return asked

    def _first(self, n: int, pool: Pool, rng: Rng, step: int, seen: set[str]) -> list[Proposal]:
        """Returns the most promising of the pool by proxies, and random draws where it has too few."""
        places = self._promising(pool, rng)[:n] if pool.points else []
        warm = [pool.points[i].graph for i in places]
        drawn = self._drawn(n - len(warm), rng, seen | {self.identity(graph) for graph in warm})
        return [*(proposal(self.name, "warm", step, graph) for graph in warm),
                *(proposal(self.name, "random", step, graph) for graph in drawn)]

    def _drawn(self, n: int, rng: Rng, seen: set[str]) -> list[ArchGraph]:
        return unseen(self.space, rng, n, seen, self.identity)

    def _promising(self, pool: Pool, rng: Rng) -> list[int]:
        """Returns the places of the pool from the most to the least promising by proxies."""
        return by_proxies(self.space.name, [_raw(point) for point in pool.points])

    def _aims(self, n: int, rng: Rng) -> list[Floats]:
        """Returns for each proposal what it should maximise, for every scored trial."""
        return [np.array([one.merit for one in self.scored])] * n

    def _known(self, values: Floats, pool: Pool) -> list[tuple[Point, float]]:
        """Returns the scored points with these values; a batch of one has its proxies from the pool alone."""
        points = [one.point for one in self.scored]
        return [(replace(point, scores=point.scores or pool.scores.get(self.identity(point.graph), {})), value)
                for point, value in zip(points, values, strict=True)]

    def _chosen(self, known: Sequence[tuple[Point, float]], believed: Sequence[tuple[Point, float]], pool: Pool,
                rng: Rng, seen: set[str]) -> tuple[Point, float] | None:
        """Returns the candidate of greatest expected improvement and the value expected of it."""
        found: list[tuple[float, Point, float]] = []
        inside = [point for point in pool.points if self.identity(point.graph) not in seen]
        if inside:
            found.append(best_of(inside, known, believed, screened, SCREENED, np.ones(len(inside))))
        if not inside or not pool.grows:
            outside = self._outside(known, rng, seen)
            if outside:
                found.append(best_of(outside, known, believed, sized, SIZED, self._feasible(outside, pool)))
        return max(found, key=lambda one: one[0])[1:] if found else None

    # -- candidates that are not screened

    def _outside(self, known: Sequence[tuple[Point, float]], rng: Rng, seen: set[str]) -> list[Point]:
        """Returns neighbours of the best designs and random draws, within the limits on size if any is."""
        graphs = {self.identity(graph): graph for parent in _parents(known) for graph in self._some_near(parent, rng)
                  if self.identity(graph) not in seen}
        graphs |= {self.identity(graph): graph for graph in self._drawn(FRESH, rng, seen)}
        points = [self._sized(graph) for graph in graphs.values()]
        return [point for point in points if self._fits(point)] or points

    def _fits(self, point: Point) -> bool:
        return point.counts is None or not violations(self.setup.settings, self.setup.targets, point.counts, {}, {})

    def _some_near(self, parent: ArchGraph, rng: Rng) -> list[ArchGraph]:
        if parent not in self._near:
            self._near[parent] = list(self.space.neighbours(parent))
        near = self._near[parent]
        return [near[i] for i in rng.permutation(len(near))[:NEAR]]

    def _feasible(self, candidates: Sequence[Point], pool: Pool) -> Floats:
        """Returns the probability that each candidate keeps the limits on latency; 1 where nothing is known."""
        from scipy.special import ndtr

        chance = np.ones(len(candidates))
        for key, most in self.limits.items():
            known = [*pool.timed.get(key, ()), *self.timed[key]][-TIMED:]
            if len(known) >= self.initial:
                logs = np.array([log for _, log in known])
                centre, width = float(logs.mean()), max(float(logs.std()), 1e-6)
                fit = fitted([point for point, _ in known], (logs - centre) / width, structure, STRUCTURE)
                mean, spread = fit.predict(structure(candidates))
                chance *= ndtr(((np.log(most) - centre) / width - mean) / spread)
        return np.where(chance < HOPELESS * chance.max(), 0.0, chance)

    # -- the pool

    def _pool(self, rng: Rng, ctx: Context, seen: set[str]) -> Pool:
        """Returns the pool of all asks so far, grown by what this one may screen."""
        pool = self._gathered(ctx.pool, seen, grows=True)
        share = ceil(ctx.room / GROWTH) if ctx.pool else min(ctx.room, max(LEAST, ceil(ctx.room / FIRST)))
        added = ctx.screen(self._grown(share, pool, rng, seen)) if share else ()
        return self._gathered([*ctx.pool, *added], seen, grows=ctx.room > len(added))

    def _gathered(self, candidates: Sequence[Candidate], seen: set[str], grows: bool) -> Pool:
        target, points, ms = self.setup.target, list[Point](), list[float | None]()
        timed: dict[str, list[tuple[Point, float]]] = {key: [] for key in self.limits}
        for one in candidates:
            point = replace(self._sized(one.graph, one.counts), scores=one.scores)
            for key in timed.keys() & one.latency.keys():
                timed[key].append((point, float(np.log(one.latency[key].ms))))
            if not one.violates and self.identity(one.graph) not in seen:
                points.append(point)
                ms.append(one.latency[target].ms if target in one.latency else None)
        return Pool(points, ms, {self.identity(one.graph): one.scores for one in candidates}, timed, grows)

    def _grown(self, share: int, pool: Pool, rng: Rng, seen: set[str]) -> list[ArchGraph]:
        """Returns graphs worth screening: random ones at first, then neighbours of the best, the best of them first."""
        if not pool.scores:
            return self._drawn(share, rng, seen)
        graphs = {self.identity(graph): graph for parent in self._best_so_far(pool, rng)
                  for graph in (*self._some_near(parent, rng), *self._two_edits(parent, rng))}
        if self.limits:  # neighbours of the best run out at a limit; what is far away may keep it too
            graphs |= {self.identity(graph): graph for graph in self._drawn(FAR * share, rng, seen)}
        points = [self._point(graph) for key, graph in graphs.items() if key not in seen and key not in pool.scores]
        if not points:
            return self._drawn(share, rng, seen | pool.scores.keys())
        chance, gain = self._feasible(points, pool), self._hopes(points, rng)
        hopeful = list(np.argsort(-chance * gain, kind="stable")[:share - share // 2])
        likely = [i for i in np.argsort(-chance * rng.random(len(points)), kind="stable") if i not in set(hopeful)]
        return [points[i].graph for i in (*hopeful, *likely[:share // 2])]

    def _two_edits(self, parent: ArchGraph, rng: Rng) -> list[ArchGraph]:
        """Returns some graphs two edits away, where there are limits.

        At a limit one edit makes a design too slow or worse; an op that moves from one place to another is two edits.
        """
        return [self.space.mutate(self.space.mutate(parent, rng), rng) for _ in range(TWO_EDITS if self.limits else 0)]

    def _best_so_far(self, pool: Pool, rng: Rng) -> list[ArchGraph]:
        """Returns the designs whose neighbours are looked at: by merit, or by proxies before anything has one."""
        if len(self.scored) < WARM:
            return [pool.points[i].graph for i in self._promising(pool, rng)[:PARENTS]] if pool.points else []
        values = self._aims(1, rng)[0]
        means: Sequence[float] = expected(pool.points, self._known(values, pool)).tolist() if pool.points else ()
        ranked = sorted([*zip((one.point for one in self.scored), values, strict=True),
                         *zip(pool.points, means, strict=True)], key=lambda one: -one[1])
        return [point.graph for point, _ in ranked[:PARENTS]]

    def _hopes(self, points: Sequence[Point], rng: Rng) -> Floats:
        """Returns the expected improvement by structure alone; chance decides before there is enough to fit."""
        from llmnas.strategies.gaussian import expected_improvement, normal_scores

        if len(self.scored) < WARM:
            return rng.random(len(points))
        values = normal_scores(self._aims(1, rng)[0])
        fit = fitted([one.point for one in self.scored], values, structure, STRUCTURE)
        return expected_improvement(*fit.predict(structure(points)), float(values.max()))


def _raw(point: Point) -> dict[str, float]:
    counts = point.counts
    sizes = {} if counts is None else {"params": float(counts.params), "flops": float(counts.macs)}
    return {**sizes, **point.scores}


def _parents(known: Sequence[tuple[Point, float]]) -> list[ArchGraph]:
    best = sorted(range(len(known)), key=lambda i: (-known[i][1], i))[:PARENTS]
    return [known[i][0].graph for i in best]
