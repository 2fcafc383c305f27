"""Graphs as a regression sees them: groups of features, one row a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from llmnas.graph import INPUT, ArchGraph
from llmnas.records import Counts

Floats = NDArray[np.float64]

BINS: Final = 64


@dataclass(frozen=True)
class Point:
    """What is known of a graph without training it.

    Attributes:
        graph: The graph.
        name: What makes it one with others (`llmnas.strategies.base.Setup.identity`).
        encoding: Of its space (`llmnas.space.Space.encode`).
        edges: `edge_features`.
        counts: Its size, where somebody worked it out.
        scores: Proxy scores by name, raw.
        cost: What it costs to run: log milliseconds on the first target; None when nothing predicts them.
    """

    graph: ArchGraph
    name: str
    encoding: Floats
    edges: Floats
    counts: Counts | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    cost: float | None = None

    @property
    def raw(self) -> dict[str, float]:
        """Sizes and proxy scores by name, as `llmnas.proxies.ranking` takes them."""
        counts = self.counts
        sizes = {} if counts is None else {"params": float(counts.params), "flops": float(counts.macs)}
        return {**sizes, **self.scores}

    @property
    def sizes(self) -> Floats:
        """Logs of parameters and multiply-accumulates; zeros where they are not known."""
        sizes = (0, 0) if self.counts is None else (self.counts.params, self.counts.macs)
        return np.asarray(np.log1p(np.array(sizes, dtype=float)))


def log_cost(milliseconds: float) -> float:
    """Returns the cost of a latency: what halves it is worth the same everywhere on a front."""
    return float(np.log(max(milliseconds, 1e-6)))


def structure(points: Sequence[Point]) -> list[Floats]:
    """Returns two groups of features, encodings and edge features: what costs nothing to know."""
    return [np.stack([point.encoding for point in points]), np.stack([point.edges for point in points])]


def sized(points: Sequence[Point]) -> list[Floats]:
    """Returns the groups of `structure` and the sizes."""
    return [*structure(points), np.stack([point.sizes for point in points])]


def screened(points: Sequence[Point]) -> list[Floats]:
    """Returns the groups of `sized` and the proxies, as ranks within `points`, 0 to 1.

    Ranks, because raw scores span orders of magnitude; a score that is missing gets the rank in the middle.
    """
    names = sorted({name for point in points for name in point.scores})
    columns = [_ranks(np.array([point.scores.get(name, np.nan) for point in points])) for name in names]
    return [*sized(points), np.stack(columns, axis=1) if columns else np.zeros((len(points), 1))]


def _ranks(values: Floats) -> Floats:
    from scipy.stats import rankdata

    known = np.isfinite(values)
    found = np.full(len(values), 0.5)
    if known.any():
        found[known] = rankdata(values[known]) / known.sum()
    return found


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
