"""Graphs that a strategy with a surrogate looks at: random draws, neighbours of the best, and what was screened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

import numpy as np

from llmnas.front import latency_limits, violations
from llmnas.graph import ArchGraph
from llmnas.records import Candidate, Counts
from llmnas.strategies.base import Context, Rng, Setup, unseen
from llmnas.strategies.points import Floats, Point, edge_features, log_cost, structure
from llmnas.strategies.surrogate import STRUCTURE, fitted

KEPT: Final = 4
"""Random draws looked at for every graph that may be screened: a draw costs nothing but its encoding."""
DRAWS: Final = 16
"""Draws made for them, where limits refuse some."""
LEAST: Final = 500
"""Draws looked at, at least."""
FIRST: Final = 5
"""The first pool takes one part in so many of what may be screened."""
GROWTH: Final = 32
"""And every further ask one part in so many of what is left."""
SMALLEST: Final = 20
"""The first pool is not smaller, if that may be screened at all."""
NEAR: Final = 40
"""Neighbours of a design that are looked at."""
TIMED: Final = 150
"""Latencies, the latest, that a process is fitted to."""
ENOUGH: Final = 10
"""Latencies before it is."""
HOPELESS: Final = 0.1
"""Graphs whose chance to keep the limits is below this share of the best chance are passed over."""
_STREAM: Final = 1_000_003  # chance of the draws, apart from that of any step


@dataclass(frozen=True)
class Pool:
    """The screened graphs of all asks.

    Attributes:
        points: Those that keep the limits, in order.
        scores: Proxy scores of all, by identity.
        timed: Points and log milliseconds of all, by target with a limit.
    """

    points: list[Point]
    scores: Mapping[str, Mapping[str, float]]
    timed: Mapping[str, list[tuple[Point, float]]]


class Prospects:
    """What a strategy knows of the space beside its trials.

    Many random draws are made once, of which those stay that keep the limits as far as can be told; neighbours of good
    designs join them. A surrogate on their structure chooses which are screened, so what may be screened is spent where
    the search is, and not on draws of no promise.

    Everything here follows from the space, the seed and the log: a killed run looks at the same graphs again.

    Args:
        setup: The space and the constraints.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup, self.space, self.identity = setup, setup.space, setup.identity
        self.limits = latency_limits(setup.settings, setup.targets)
        self.timed: dict[str, list[tuple[Point, float]]] = {key: [] for key in self.limits}
        self._points: dict[ArchGraph, Point] = {}  # by graph, not by key: equal functions differ in encoding
        self._pooled: dict[ArchGraph, Point] = {}
        self._near: dict[ArchGraph, list[ArchGraph]] = {}
        self._drawn: dict[int, list[Point]] = {}

    # -- points

    def point(self, graph: ArchGraph) -> Point:
        """Returns what is known of the structure of a graph."""
        if graph not in self._points:
            cost = self.setup.milliseconds(graph) if self.setup.front else None
            self._points[graph] = Point(graph, self.identity(graph), self.space.encode(graph), edge_features(graph),
                                        cost=None if cost is None else log_cost(cost))
        return self._points[graph]

    def sized(self, graph: ArchGraph, counts: Counts | None = None) -> Point:
        """Returns the point with its size, which takes longer than all else."""
        point = self.point(graph)
        if point.counts is None:
            counts = counts or self.space.network(graph, self.setup.shape, self.setup.classes).counts
            point = self._points[graph] = replace(point, counts=counts)
        return point

    def measured(self, graph: ArchGraph, counts: Counts | None, milliseconds: Mapping[str, float]) -> Point:
        """Returns the point of a trial, and remembers its latencies."""
        point = self._costed(self.sized(graph, counts), milliseconds)
        for key, known in self.timed.items():
            if key in milliseconds:
                known.append((point, float(np.log(milliseconds[key]))))
        return point

    def _costed(self, point: Point, milliseconds: Mapping[str, float]) -> Point:
        target = self.setup.target
        known = None if target is None else milliseconds.get(target)
        return point if known is None else replace(point, cost=log_cost(known))

    # -- draws and neighbours

    def drawn(self, ctx: Context) -> list[Point]:
        """Returns the random draws that keep the limits, the same ones in every ask of a run."""
        screenable = max(LEAST // KEPT, ctx.room + sum(not one.violates for one in ctx.pool))
        if screenable not in self._drawn:
            self._drawn[screenable] = self._draw(KEPT * screenable, DRAWS * screenable)
        return self._drawn[screenable]

    def _draw(self, enough: int, most: int) -> list[Point]:
        rng = np.random.default_rng([self.setup.settings.seed, _STREAM, 0])
        seen: set[str] = set()
        kept: list[Point] = []
        while len(kept) < enough and len(seen) < most:
            graphs = unseen(self.space, rng, enough, seen, self.identity)
            if not graphs:
                break
            seen.update(self.identity(graph) for graph in graphs)
            kept += [self.point(graph) for graph in graphs if self.setup.keeps(graph)]
        return kept[:enough]

    def around(self, parents: Iterable[ArchGraph], rng: Rng) -> list[Point]:
        """Returns neighbours of designs, within the limits as far as can be told."""
        return [self.point(graph) for parent in parents for graph in self._some_near(parent, rng)]

    def _some_near(self, parent: ArchGraph, rng: Rng) -> list[ArchGraph]:
        if parent not in self._near:
            self._near[parent] = [graph for graph in self.space.neighbours(parent) if self.setup.keeps(graph)]
        near = self._near[parent]
        return [near[i] for i in rng.permutation(len(near))[:NEAR]]

    def feasible(self, candidates: Sequence[Point], pool: Pool) -> Floats:
        """Returns the probability that each candidate keeps the limits; 1 where nothing is known.

        Limits on size are exact where sizes are known. For latency a second process on log milliseconds gives it
        (Gardner et al. 2014, eq. 6); what is all but hopeless gets 0.
        """
        from scipy.special import ndtr

        chance = np.array([self._sizes_fit(point) for point in candidates], dtype=float)
        for key, most in self.limits.items():
            known = [*pool.timed.get(key, ()), *self.timed[key]][-TIMED:]
            if len(known) >= ENOUGH and candidates:
                logs = np.array([log for _, log in known])
                centre, width = float(logs.mean()), max(float(logs.std()), 1e-6)
                fit = fitted([point for point, _ in known], (logs - centre) / width, structure, STRUCTURE)
                mean, spread = fit.predict(structure(candidates))
                chance *= ndtr(((np.log(most) - centre) / width - mean) / spread)
        return np.where(chance < HOPELESS * chance.max(initial=0), 0.0, chance)

    def _sizes_fit(self, point: Point) -> bool:
        return point.counts is None or not violations(self.setup.settings, self.setup.targets, point.counts, {}, {})

    # -- the pool

    def share(self, ctx: Context) -> int:
        """Returns how many graphs this ask should have screened."""
        return ceil(ctx.room / GROWTH) if ctx.pool else min(ctx.room, max(SMALLEST, ceil(ctx.room / FIRST)))

    def gathered(self, candidates: Sequence[Candidate]) -> Pool:
        """Returns the pool of these candidates."""
        points = [self._screened(one) for one in candidates]
        both = list(zip(points, candidates, strict=True))
        timed = {key: [(point, float(np.log(one.latency[key].ms))) for point, one in both if key in one.latency]
                 for key in self.limits}
        kept = [point for point, one in both if not one.violates]
        return Pool(kept, {point.name: point.scores for point in points}, timed)

    def _screened(self, one: Candidate) -> Point:
        if one.graph not in self._pooled:
            point = replace(self.sized(one.graph, one.counts), scores=one.scores)
            self._pooled[one.graph] = self._costed(point, {key: found.ms for key, found in one.latency.items()})
        return self._pooled[one.graph]
