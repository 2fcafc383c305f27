"""How well orders made without labels find good architectures, on tables where every answer is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from llmnas.bench.pools import Pool, nb201_pool, nbmacro_pool
from llmnas.bench.process import Say
from llmnas.errors import InputError
from llmnas.proxies import PROXIES, default_pair, rank

Bench = Literal["nb201", "nbmacro"]
Ranker = tuple[str, ...]

FIRST: Final = 10
"""How many of an order's first are looked at for the regret of ten."""
TOP: Final = 10
"""The best nth of a pool is its top."""


def bench_ranking(bench: Bench, folder: Path, sets: Sequence[Ranker], n: int, seed: int,
                  say: Say = lambda _: None) -> dict[str, Any]:
    """Returns the figures of the default pair, of `sets` and of every single proxy.

    Args:
        bench: ``nb201``: all cells, published scores. ``nbmacro``: drawn nets, scores computed here.
        folder: The folder with the tables.
        sets: Sets of proxies whose mean log-rank is the order.
        n: Nets drawn (nbmacro).
        seed: Of the draw, the batch and the initial weights (nbmacro).
        say: Gets progress.

    Returns:
        ``rows``: per data set and ranker ``bench, dataset, ranker, default, n`` and the figures of `figures`;
        ``about``: what they rest on.

    Raises:
        InputError: A table is missing or other than expected, or there is no such proxy.
    """
    together = list(dict.fromkeys([default_pair(bench), *sets]))
    names = list(dict.fromkeys(name for ranker in together for name in ranker))
    pool = nb201_pool(folder, names) if bench == "nb201" else nbmacro_pool(folder, names, n, seed, say)
    say(f"{len(pool.scores):,} architectures")
    rankers = [*together, *((name,) for name in pool.names)]
    rows = [row for ranker in dict.fromkeys(rankers) for row in judged(pool, ranker)]
    return {"bench": bench, "seed": seed, "about": pool.about,
            "rows": sorted(rows, key=lambda row: list(pool.accuracy).index(row["dataset"]))}


def judged(pool: Pool, ranker: Ranker) -> Iterator[dict[str, Any]]:
    """Yields the figures of one ranker, a row per data set."""
    scores = np.array(rank(pool.scores, {name: PROXIES[name].direction if name in PROXIES else 1 for name in ranker}))
    for dataset, accuracy in pool.accuracy.items():
        yield {"bench": pool.bench, "dataset": dataset, "ranker": "+".join(ranker),
               "default": ranker == default_pair(pool.bench), "n": len(scores), **figures(scores, accuracy)}


def figures(scores: NDArray[np.float64], accuracy: NDArray[np.float64]) -> dict[str, float | None]:
    """Returns how well an order by `scores` finds what is accurate.

    Args:
        scores: Higher is ranked first, ties by index, (n,).
        accuracy: In %, (n,).

    Returns:
        ``spearman`` and ``kendall`` (tau-b) over the pool. ``regret1`` and ``regret10``: the best accuracy of the pool
        minus the best among the first 1 and 10, in percentage points. ``precision``: the share of the most accurate
        tenth among the first tenth. ``spearman_top``: Spearman within the most accurate tenth. A correlation is None
        where scores or accuracies do not vary.
    """
    from scipy.stats import kendalltau, spearmanr

    order, truth = _descending(scores), _descending(accuracy)
    k = max(1, len(scores) // TOP)
    top = truth[:k]
    return {"spearman": _correlation(spearmanr, scores, accuracy),
            "kendall": _correlation(kendalltau, scores, accuracy),
            "regret1": float(accuracy.max() - accuracy[order[0]]),
            "regret10": float(accuracy.max() - accuracy[order[:FIRST]].max()),
            "precision": len(set(order[:k]) & set(top)) / k,
            "spearman_top": _correlation(spearmanr, scores[top], accuracy[top])}


def _descending(values: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.argsort(-values, kind="stable")


def _correlation(measure: Any, left: NDArray[np.float64], right: NDArray[np.float64]) -> float | None:
    varies = len(left) > 1 and np.ptp(left) > 0 and np.ptp(right) > 0
    return float(measure(left, right).statistic) if varies else None


def parse_sets(text: str) -> list[Ranker]:
    """Returns the sets in ``jacov+params,nwot+params``; none in an empty text.

    Raises:
        InputError: A set with an empty or repeated name.
    """
    sets = [tuple(name.strip() for name in one.split("+")) for one in text.split(",") if one.strip()]
    for one in sets:
        if not all(one) or len(set(one)) < len(one):
            raise InputError(f"not a set of proxies: {'+'.join(one)!r}", "for example jacov+params,nwot+params")
    return sets
