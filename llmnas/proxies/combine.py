"""From several proxies to one order of a pool: without labels first, then with weights learned from trained members.

Ranks belong to a pool: they are recomputed from the raw scores whenever the pool changes, and never stored.

The rule, fixed before it was tried on any table (`weights`):

- Fewer than `MIN_LABELS` labels: the space's default pair, equally weighted. Nothing is learned from noise.
- From then on: least squares of the labels' ranks on the proxies' log-ranks, both within the labelled pool, with
  weights of at least 0, drawn to the default pair by a ridge as strong as `PRIOR_LABELS` labels that agree with it. The
  influence of the default fades as labels arrive; there is no second switch.

Why a regression and not one correlation per proxy: trained members were chosen by the default pair, which narrows its
range and lowers its correlation, and only its; a regression on all proxies is largely untouched by a choice among them.
It also does not count one signal six times because six proxies measure it. Why no negative weight: among chosen
members two good proxies correlate negatively, because a member weak in one was only chosen if strong in the other; a
turned sign would learn the choice, not the architecture. A proxy that speaks against the labels gets weight 0.

`MIN_LABELS` and `PRIOR_LABELS` come from the standard error of a rank correlation, 1 / sqrt(n - 1): 1/3 at 10 labels,
so that fewer tell no proxy from noise, and about 1/4 at 20, where data and default weigh the same. They were not chosen
on NAS-Bench-201 or any other table, nor on any run, and have not been changed since they were measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Literal

from llmnas.records import Trial

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS: Final[dict[str, tuple[str, str]]] = {"nb201": ("jacov", "params")}
"""Pairs fixed before any search. jacov + params orders NAS-Bench-201 best of all pairs (Spearman .91 with trained
accuracy); it was chosen on that table, so figures on that table flatter it."""

DEFAULT_PAIR: Final = ("nwot", "params")
"""Elsewhere: jacov correlates negatively on NAS-Bench-101 and DARTS cells (-.29, -.04; arXiv 2210.03230, figure 2).
nwot (.31, .47) and params (.37, .46) are positive on both and measure different things, expressivity on the data and
capacity; the price on NAS-Bench-201 is .83 instead of .91."""

SIZES: Final = ("params", "flops")
"""Proxies that are always known: they only count."""

MIN_LABELS: Final = 10
"""Labels below which the default pair orders alone."""
PRIOR_LABELS: Final = 20.0
"""Labels that the default pair counts for afterwards."""
_DIGITS: Final = 6  # weights are rounded, so that what is logged is exactly what ordered

Pool = Sequence[Mapping[str, float | None]]
Directions = Mapping[str, Literal[1, -1]]


def default_pair(space: str) -> tuple[str, str]:
    """Returns the two proxies that order candidates of a space before anything was trained."""
    return PAIRS.get(space, DEFAULT_PAIR)


def default_weights(space: str, names: Iterable[str]) -> dict[str, float]:
    """Returns the label-free weights of the proxies `names`: equal ones for those of the space's pair, else 0.

    params is in every pair and always known, so it stands alone when the other one is not computed.
    """
    known = tuple(names)
    pair = [name for name in default_pair(space) if name in known]
    return {name: 1 / len(pair) if name in pair else 0.0 for name in known}


def labelled_pool(trials: Iterable[Trial]) -> tuple[list[dict[str, float]], list[float]]:
    """Returns the raw scores by proxy name, sizes included, and the search scores of the trials that have one."""
    known = [(trial, trial.score) for trial in trials if trial.score is not None and isfinite(trial.score)]
    return [_raw(trial) for trial, _ in known], [label for _, label in known]


def _raw(trial: Trial) -> dict[str, float]:
    sizes = {} if trial.counts is None else {"params": float(trial.counts.params), "flops": float(trial.counts.macs)}
    return {**sizes, **trial.scores}


def weights(pool: Pool, labels: Sequence[float], directions: Directions,
            prior: Mapping[str, float]) -> dict[str, float]:
    """Returns the weight of every proxy, at least 0 and 1 in all; the module says by which rule.

    They depend on ranks alone, so a growing function of a proxy or of the labels changes nothing. The prior is returned
    when there are fewer than `MIN_LABELS` labels, when all labels are equal, and when every proxy speaks against them.

    Args:
        pool: Raw scores by proxy name of the labelled members.
        labels: Their trained scores, finite, higher is better.
        directions: The proxies to weigh: +1 where higher is better, -1 where lower is.
        prior: Weights before any label; proxies that are not named have 0.
    """
    start = _scaled({name: prior.get(name, 0.0) for name in directions})
    if len(labels) < MIN_LABELS or len(set(labels)) < 2:
        return start
    found = _ridge(log_ranks(pool, directions), ranks(labels), list(start.values()))
    return _scaled(dict(zip(directions, found, strict=True))) if sum(found) > 0 else start


def rank(pool: Pool, directions: Directions, weights: Mapping[str, float] | None = None) -> list[float]:
    """Returns the weighted mean log-rank of every member of a pool, higher is better, at most 0.

    Per proxy, members are ranked 1 (worst) to n (best), ties sharing their mean rank; the result is the mean over
    proxies of ln(rank / n), so being worst in one costs more than being middling in both (arXiv 2403.19232).
    A member without a score, or with one that is not finite, is ranked below all that have one.

    Args:
        pool: Raw scores by proxy name.
        directions: The proxies to use: +1 where higher is better, -1 where lower is.
        weights: Weight of every proxy, at least 0; all equal when None.
    """
    shares = {name: 1.0 if weights is None else weights.get(name, 0.0) for name in directions}
    used = {name: share for name, share in shares.items() if share > 0}
    if not used or not pool:
        return [0.0] * len(pool)
    largest = max(used.values())  # equal weights become exactly 1, so that they give exactly the mean
    columns = log_ranks(pool, {name: directions[name] for name in used}).T
    scaled = [share / largest for share in used.values()]
    total = sum(share * column for share, column in zip(scaled, columns, strict=True)) / sum(scaled)
    return [float(value) for value in total]


def ranking(pool: Pool, directions: Directions, weights: Mapping[str, float] | None = None) -> list[int]:
    """Returns the indices of a pool from best to worst; members that tie stay in their order. See `rank`."""
    scores = rank(pool, directions, weights)
    return sorted(range(len(pool)), key=lambda index: -scores[index])


def log_ranks(pool: Pool, directions: Directions) -> NDArray[Any]:
    """Returns ln(rank / n) of every member (row) in every proxy (column); see `rank`."""
    import numpy as np

    found = np.empty((len(pool), len(directions)))
    for place, (name, sign) in enumerate(directions.items()):
        raw = np.array([member.get(name) for member in pool], dtype=float)
        found[:, place] = np.log(ranks(np.where(np.isfinite(raw), sign * raw, -np.inf)) / len(pool))
    return found


def ranks(values: Sequence[float] | NDArray[Any]) -> NDArray[Any]:
    """Returns ranks from 1, ties sharing their mean rank, as floats."""
    import numpy as np

    _, place, count = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place])


def _ridge(x: NDArray[Any], y: NDArray[Any], start: Sequence[float]) -> list[float]:
    """Returns the weights of at least 0 that explain `y` best, drawn to `start` by imaginary labels that obey it.

    ln(rank / n) has variance 1 in a large pool without ties; `y` is brought to that, so that both are of one size.
    """
    import numpy as np
    from scipy.optimize import nnls

    strength = np.sqrt(PRIOR_LABELS)
    rows = np.vstack([x - x.mean(axis=0), strength * np.eye(x.shape[1])])
    target = np.concatenate([(y - y.mean()) / y.std(), strength * np.asarray(start)])
    return [float(value) for value in nnls(rows, target)[0]]


def _scaled(found: Mapping[str, float]) -> dict[str, float]:
    """Returns weights that sum to 1, rounded."""
    total = sum(found.values())
    return {name: round(value / total, _DIGITS) for name, value in found.items()}
