"""Were the proxies right? Their scores against trained scores, with intervals: no torch, nothing from a run's disk.

A figure that cannot be had is None, never 0. Definitions are at `Validity`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Literal

from llmnas.proxies.combine import Directions, Pool, log_ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

Verdict = Literal["helps", "misleads", "not decided", "too few"]

LEAST: Final = 4
"""Pairs below which there is no figure."""
ENOUGH: Final = 6
"""Pairs below which there is no interval, hence no verdict."""
SHARE: Final = 4
"""One in so many counts as the top."""
RESAMPLES: Final = 1000
"""Bootstrap samples; fewer for more than `_DRAWS` / `RESAMPLES` pairs, but never less than a fifth."""
_DRAWS: Final = 1_000_000
_LEVEL: Final = (2.5, 97.5)


@dataclass(frozen=True)
class Validity:
    """What one signal knew of the trained scores before training.

    Attributes:
        name: The signal.
        n: Members with both a signal and a trained score.
        spearman: Rank correlation of signal and trained score; positive when the signal is right, whatever its
            direction. None under `LEAST` pairs or when either side is constant.
        low: Lower end of the 95 % interval of `spearman`: percentile bootstrap over members, seed fixed. None under
            `ENOUGH` pairs. With few members such an interval is somewhat too narrow.
        high: Its upper end.
        spearman_top: Rank correlation within the better half by trained score (the middle one included), where the
            choice is made; a signal may tell good from bad and nothing beyond.
        k: A quarter of `n`, at least 1; None under `LEAST` pairs.
        precision: Of the `k` that the signal puts first, the share whose trained score is at least the `k`-th best.
            Members that tie in the signal stay in their order.
        regret: Best trained score minus the best among those `k`, in units of the score, at least 0.
        verdict: ``helps`` or ``misleads`` when the interval lies above or below 0, else ``not decided``; ``too few``
            under `ENOUGH` pairs.
    """

    name: str
    n: int
    spearman: float | None = None
    low: float | None = None
    high: float | None = None
    spearman_top: float | None = None
    k: int | None = None
    precision: float | None = None
    regret: float | None = None
    verdict: Verdict = "too few"


def validate(pool: Pool, labels: Sequence[float], directions: Directions) -> list[Validity]:
    """Returns one judgement per proxy, in order of `directions`.

    Args:
        pool: Raw scores by proxy name; a member without one is left out of that proxy's figures.
        labels: Trained scores of the members, finite, higher is better.
        directions: +1 where higher is better, -1 where lower is.
    """
    return [judge(name, [_signed(member.get(name), sign) for member in pool], labels)
            for name, sign in directions.items()]


def combined(pool: Pool, directions: Directions, used: Sequence[Mapping[str, float]]) -> list[float]:
    """Returns the weighted mean log-rank of every member, each with weights of its own; higher is better.

    With the weights that were in force when a member was chosen, no member is judged by what its own training taught.

    Args:
        pool: Raw scores by proxy name; ranks are those within this pool.
        directions: See `validate`.
        used: The weights of each member, by proxy; they add up to 1.
    """
    import numpy as np

    table = np.array([[shares.get(name, 0.0) for name in directions] for shares in used])
    table = table.reshape(len(pool), len(directions))
    return [float(value) for value in (log_ranks(pool, directions) * table).sum(axis=1).round(9)]  # ties stay ties


def judge(name: str, signal: Sequence[float | None], labels: Sequence[float]) -> Validity:
    """Returns what a signal, higher meaning better, knew of the labels; see `Validity`."""
    pairs = [(value, label) for value, label in zip(signal, labels, strict=True)
             if value is not None and isfinite(value) and isfinite(label)]
    n = len(pairs)
    if n < LEAST:
        return Validity(name, n)
    values, scores = [value for value, _ in pairs], [label for _, label in pairs]
    low, high = interval(values, scores)
    k = max(1, round(n / SHARE))
    best = sorted(scores, reverse=True)
    picked = [scores[i] for i in sorted(range(n), key=lambda i: -values[i])[:k]]
    return Validity(name, n, spearman(values, scores), low, high, _within_top(values, scores), k,
                    sum(score >= best[k - 1] for score in picked) / k, best[0] - max(picked), _verdict(n, low, high))


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Returns Spearman's rank correlation, ties sharing their mean rank; None under `LEAST` pairs or if constant."""
    import numpy as np

    if len(left) < LEAST:
        return None
    found = float(_correlations(left, right, np.ones((1, len(left))))[0])
    return found if isfinite(found) else None


def interval(left: Sequence[float], right: Sequence[float]) -> tuple[float | None, float | None]:
    """Returns the 95 % interval of Spearman's correlation: percentiles over resampled pairs, always the same draws.

    Samples in which a side is constant are left out. (None, None) under `ENOUGH` pairs, or if a side is constant.
    """
    import numpy as np

    n = len(left)
    if n < ENOUGH or spearman(left, right) is None:
        return None, None
    samples = max(RESAMPLES // 5, min(RESAMPLES, _DRAWS // n))
    drawn = np.random.default_rng(0).integers(n, size=(samples, n)) + n * np.arange(samples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=samples * n).reshape(samples, n).astype(float)
    found = _correlations(left, right, counts)
    low, high = np.percentile(found[np.isfinite(found)], _LEVEL)
    return float(low), float(high)


def _correlations(left: Sequence[float], right: Sequence[float], counts: NDArray[Any]) -> NDArray[Any]:
    """Returns Spearman's correlation of every sample; NaN where a side is constant.

    Args:
        left: One side.
        right: The other.
        counts: How often each sample (row) has each pair (column).
    """
    import numpy as np

    n = counts.sum(axis=1, keepdims=True)
    sides = [_sample_ranks(side, counts) - (n + 1) / 2 for side in (left, right)]  # the mean rank is (n + 1) / 2
    product, one, two = ((counts * a * b).sum(axis=1) for a, b in ((sides[0], sides[1]), (sides[0], sides[0]),
                                                                   (sides[1], sides[1])))
    spread = np.sqrt(one * two)
    return np.asarray(np.divide(product, spread, out=np.full_like(product, np.nan), where=spread > 0))


def _sample_ranks(values: Sequence[float], counts: NDArray[Any]) -> NDArray[Any]:
    """Returns the rank that each value has in each sample, ties sharing their mean rank."""
    import numpy as np

    _, place = np.unique(np.asarray(values, dtype=float), return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(place.max() + 1))
    groups = np.add.reduceat(counts[:, order], starts, axis=1)
    return np.asarray((np.cumsum(groups, axis=1) - (groups - 1) / 2)[:, place])


def _within_top(values: Sequence[float], scores: Sequence[float]) -> float | None:
    top = sorted(range(len(scores)), key=lambda i: -scores[i])[:(len(scores) + 1) // 2]
    return spearman([values[i] for i in top], [scores[i] for i in top])


def _verdict(n: int, low: float | None, high: float | None) -> Verdict:
    if n < ENOUGH:
        return "too few"
    if low is not None and low > 0:
        return "helps"
    return "misleads" if high is not None and high < 0 else "not decided"


def _signed(value: float | None, sign: int) -> float | None:
    return None if value is None else sign * value
