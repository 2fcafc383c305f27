"""From several proxies to one order of a pool, without labels.

Ranks belong to a pool: they are recomputed from the raw scores whenever the pool changes, and never stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, log
from typing import Final, Literal

PAIRS: Final[dict[str, tuple[str, str]]] = {"nb201": ("jacov", "params")}
"""Pairs fixed before any search. jacov + params orders NAS-Bench-201 best of all pairs (Spearman .91 with trained
accuracy); it was chosen on that table, so figures on that table flatter it."""

DEFAULT_PAIR: Final = ("nwot", "params")
"""Elsewhere: jacov correlates negatively on NAS-Bench-101 and DARTS cells (-.29, -.04; arXiv 2210.03230, figure 2).
nwot (.31, .47) and params (.37, .46) are positive on both and measure different things, expressivity on the data and
capacity; the price on NAS-Bench-201 is .83 instead of .91."""

Directions = Mapping[str, Literal[1, -1]]


def default_pair(space: str) -> tuple[str, str]:
    """Returns the two proxies that order candidates of a space before anything was trained."""
    return PAIRS.get(space, DEFAULT_PAIR)


def rank(pool: Sequence[Mapping[str, float | None]], directions: Directions) -> list[float]:
    """Returns the mean log-rank of every member of a pool, higher is better, at most 0.

    Per proxy, members are ranked 1 (worst) to n (best), ties sharing their mean rank; the result is the mean over
    proxies of ln(rank / n), so being worst in one costs more than being middling in both (arXiv 2403.19232).
    A member without a score, or with one that is not finite, is ranked below all that have one.

    Args:
        pool: Raw scores by proxy name.
        directions: The proxies to use: +1 where higher is better, -1 where lower is.
    """
    n = len(pool)
    columns = [_ranks([_signed(member.get(name), sign) for member in pool]) for name, sign in directions.items()]
    if not columns:
        return [0.0] * n
    return [sum(log(column[index] / n) for column in columns) / len(columns) for index in range(n)]


def ranking(pool: Sequence[Mapping[str, float | None]], directions: Directions) -> list[int]:
    """Returns the indices of a pool from best to worst; members that tie stay in their order."""
    scores = rank(pool, directions)
    return sorted(range(len(pool)), key=lambda index: -scores[index])


def _signed(value: float | None, sign: int) -> float:
    """Returns the value so that higher is better; minus infinity for a missing one."""
    return float("-inf") if value is None or not isfinite(value) else sign * value


def _ranks(values: Sequence[float]) -> list[float]:
    """Returns ranks from 1, ties sharing their mean rank."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = (start + 1 + end) / 2
        start = end
    return ranks
