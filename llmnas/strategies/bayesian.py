"""Bayesian optimisation on graphs, along the lines of BANANAS (White et al., arXiv 1910.11858)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from llmnas.front import latency_limits, violations
from llmnas.graph import INPUT, ArchGraph
from llmnas.records import Counts, Proposal, Trial
from llmnas.strategies.base import Context, Rng, Setup, proposal, unseen

if TYPE_CHECKING:
    from llmnas.strategies.gaussian import GaussianProcess

Floats = NDArray[np.float64]

INITIAL: Final = 10
"""Random designs before the first fit, as in the paper."""
PARENTS: Final = 3
"""Best designs whose neighbours are candidates."""
NEAR: Final = 40
"""Neighbours of each that are looked at."""
FRESH: Final = 16
"""Random candidates beside them."""
MOST: Final = 300
"""Trials a process is fitted to: the better half of them are the best, the others the latest."""
BINS: Final = 64
CHOICES: Final = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 1.0))
"""Weights of encoding, graph features and sizes among which the marginal likelihood decides."""
HOPELESS: Final = 0.1
"""Candidates whose chance to keep the limits is below this share of the best chance are not proposed."""
RHO: Final = 0.05
"""Weight of the linear part of ParEGO's scalar (Knowles 2006, section III)."""
KEPT: Final = 20_000


@dataclass(frozen=True)
class Point:
    """What the surrogate knows of a graph: its encoding, hashed graph features, and logs of its sizes."""

    graph: ArchGraph
    counts: Counts
    encoding: Floats
    edges: Floats
    sizes: Floats


@dataclass(frozen=True)
class Scored:
    """A trial with a merit. `cost` is milliseconds on the first target, else multiply-accumulates."""

    point: Point
    merit: float
    ms: float | None

    @property
    def cost(self) -> float:
        """What the front weighs against the merit."""
        return float(self.point.counts.macs) if self.ms is None else self.ms


class Bayesian:
    """Fits a Gaussian process at every ask and proposes the candidates of greatest expected improvement.

    The paper's ensemble of networks is a Gaussian process here: on a few hundred points it is fitted in
    milliseconds and needs no seed. Candidates are neighbours of the best designs and a few random ones, as in the
    paper. Limits on size are checked exactly; for limits on latency the improvement is multiplied by the probability
    that a second process on log milliseconds gives (Gardner et al. 2014, eq. 6). In a batch the mean of what was chosen
    stands for its value (the kriging believer of Ginsbourger et al. 2010).

    Args:
        setup: The space and the constraints.
        initial: Random designs before the first fit.
    """

    name = "bayesian"
    waits = False

    def __init__(self, setup: Setup, initial: int = INITIAL) -> None:
        self.setup, self.space, self.initial = setup, setup.space, initial
        self.seen: set[str] = set()
        self.scored: list[Scored] = []
        self.timed: dict[str, list[tuple[Point, float]]] = {
            key: [] for key in latency_limits(setup.settings, setup.targets)}
        self._points: dict[ArchGraph, Point] = {}  # derived from the space alone, as the next; by graph, as graphs
        self._near: dict[ArchGraph, list[ArchGraph]] = {}  # of one key differ in neighbours and encoding

    # -- learning

    def tell(self, trials: Sequence[Trial]) -> None:
        """Takes in merits and latencies."""
        for trial in trials:
            graph = trial.proposal.graph
            if trial.key is None or graph is None or trial.duplicate_of is not None:
                continue
            self.seen.add(trial.key)
            for key, known in self.timed.items():
                if key in trial.latency:
                    known.append((self._point(graph, trial.counts), float(np.log(trial.latency[key].ms))))
            merit = self._merit(trial)
            if merit is not None and not trial.violates:
                found = None if self.setup.target is None else trial.latency.get(self.setup.target)
                self.scored.append(Scored(self._point(graph, trial.counts), merit, None if found is None else found.ms))

    def _merit(self, trial: Trial) -> float | None:
        return self.setup.merit(trial)

    def _point(self, graph: ArchGraph, counts: Counts | None = None) -> Point:
        if graph not in self._points:
            if len(self._points) >= KEPT:
                self._points.clear()
            counts = counts or self.space.network(graph, self.setup.shape, self.setup.classes).counts
            self._points[graph] = Point(
                graph, counts, self.space.encode(graph), edge_features(graph),
                np.log1p(np.array([counts.params, counts.macs], dtype=float)))
        return self._points[graph]

    # -- proposing

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns random draws until there is enough to fit, and the best candidates afterwards."""
        seen = self.seen | ctx.pending()
        if len(self.scored) < self.initial:
            return [proposal(self.name, "random", ctx.step, graph) for graph in unseen(self.space, rng, n, seen)]
        asked = []
        believed: list[tuple[Point, float]] = []
        for values in self._aims(n, rng):
            known = [(one.point, value) for one, value in zip(self.scored, values, strict=True)]
            candidates, parents = self._candidates(known, rng, seen)
            if not candidates:
                break
            best, mean = self._best(candidates, known, believed)
            believed = [*believed, (candidates[best], mean)]
            seen.add(candidates[best].graph.key())
            asked.append(proposal(self.name, "surrogate", ctx.step, candidates[best].graph, parents))
        return asked

    def _aims(self, n: int, rng: Rng) -> list[Floats]:
        """Returns for each proposal what it should maximise, for every scored trial."""
        return [np.array([one.merit for one in self.scored])] * n

    def _candidates(self, known: Sequence[tuple[Point, float]], rng: Rng, seen: set[str],
                    ) -> tuple[list[Point], list[ArchGraph]]:
        """Returns legal candidates not seen yet, and the parents whose neighbours most of them are."""
        best = sorted(range(len(known)), key=lambda i: (-known[i][1], i))[:PARENTS]
        parents = [known[i][0].graph for i in best]
        graphs = {graph.key(): graph for parent in parents for graph in self._some_near(parent, rng)
                  if graph.key() not in seen}
        graphs |= {graph.key(): graph for graph in unseen(self.space, rng, FRESH, seen)}
        points = [self._point(graph) for graph in graphs.values()]
        return [point for point in points if not violations(self.setup.settings, self.setup.targets, point.counts,
                                                            {}, {})] or points, parents

    def _some_near(self, parent: ArchGraph, rng: Rng) -> list[ArchGraph]:
        if parent not in self._near:
            self._near[parent] = list(self.space.neighbours(parent))
        near = self._near[parent]
        return [near[i] for i in rng.permutation(len(near))[:NEAR]]

    def _best(self, candidates: Sequence[Point], known: Sequence[tuple[Point, float]],
              believed: Sequence[tuple[Point, float]]) -> tuple[int, float]:
        """Returns the place of the best candidate and the value expected of it."""
        from llmnas.strategies.gaussian import expected_improvement, normal_scores

        told = _most(known)
        values = normal_scores(np.array([value for _, value in told]))
        ladder = np.sort([value for _, value in told])
        best = float(values.max())
        values = np.append(values, np.interp([value for _, value in believed], ladder, np.sort(values)))
        mean, spread = _process([point for point, _ in (*told, *believed)], values).predict(features(candidates))
        gain = expected_improvement(mean, spread, best) * self._feasible(candidates)
        chosen = int(np.argmax(gain))
        return chosen, float(np.interp(mean[chosen], np.sort(values[:len(told)]), ladder))

    def _feasible(self, candidates: Sequence[Point]) -> Floats:
        """Returns the probability that each candidate keeps the limits on latency; 1 where nothing is known."""
        from scipy.special import ndtr

        chance = np.ones(len(candidates))
        for key, most in latency_limits(self.setup.settings, self.setup.targets).items():
            known = self.timed[key][-MOST:]
            if len(known) >= self.initial:
                logs = np.array([log for _, log in known])
                centre, width = float(logs.mean()), max(float(logs.std()), 1e-6)
                process = _process([point for point, _ in known], (logs - centre) / width)
                mean, spread = process.predict(features(candidates))
                chance *= ndtr(((np.log(most) - centre) / width - mean) / spread)
        return np.where(chance < HOPELESS * chance.max(), 0.0, chance)


class BayesianFront(Bayesian):
    """The same for a front of score and cost: every proposal aims at a random weighting of the two (ParEGO).

    The augmented Chebyshev scalar reaches every point of a front, concave parts included. It needs one process, no
    reference point, and one draw of weights a proposal, so a batch spreads over the front by itself; the expected
    hypervolume would need a box and an integral for every candidate.
    """

    name = "bayesian_front"

    def _merit(self, trial: Trial) -> float | None:
        return trial.score

    def _aims(self, n: int, rng: Rng) -> list[Floats]:
        timed = any(one.ms is not None for one in self.scored)
        cost = np.array([np.nan if timed and one.ms is None else one.cost for one in self.scored])
        objectives = [_unit(-np.array([one.merit for one in self.scored])), _unit(np.log1p(cost))]
        return [-scalar(np.stack(objectives), float(rng.random())) for _ in range(n)]


def scalar(objectives: Floats, weight: float) -> Floats:
    """Returns ParEGO's scalar of two normalised objectives, less is better (Knowles 2006, eq. 2)."""
    weighted = objectives * np.array([[weight], [1 - weight]])
    return np.asarray(weighted.max(axis=0) + RHO * weighted.sum(axis=0))


def _unit(values: Floats) -> Floats:
    """Returns values scaled to 0 … 1; unknown ones become 1, the worst."""
    low, high = np.nanmin(values), np.nanmax(values)
    return np.nan_to_num((values - low) / max(high - low, 1e-12), nan=1.0)


def _most(known: Sequence[tuple[Point, float]]) -> Sequence[tuple[Point, float]]:
    if len(known) <= MOST:
        return known
    best = sorted(range(len(known)), key=lambda i: (-known[i][1], i))[:MOST // 2]
    latest = [i for i in range(len(known) - 1, -1, -1) if i not in set(best)][:MOST - len(best)]
    return [known[i] for i in sorted([*best, *latest])]


def _process(points: Sequence[Point], values: Floats) -> GaussianProcess:
    from llmnas.strategies.gaussian import GaussianProcess

    return GaussianProcess(features(points), values, CHOICES)


def features(points: Iterable[Point]) -> list[Floats]:
    """Returns the three groups of features, a row a point."""
    listed = list(points)
    return [np.stack([point.encoding for point in listed]), np.stack([point.edges for point in listed]),
            np.stack([point.sizes for point in listed])]


def edge_features(graph: ArchGraph, bins: int = BINS) -> Floats:
    """Returns root counts of live ops and of live pairs of ops that follow each other, hashed into bins.

    These are the first two iterations of the Weisfeiler-Lehman features (Ru et al., arXiv 2006.07556), on edges. They
    have one length for any graph, and dead branches do not count.
    """
    found = np.zeros(bins)
    live = graph.live()
    ops = {node.id: node.op for node in live.nodes} | {INPUT: INPUT}
    for node in live.nodes:
        for text in (node.op, *(f"{ops[source]}>{node.op}" for source in node.inputs)):
            found[crc32(text.encode()) % bins] += 1
    return np.asarray(np.sqrt(found))
