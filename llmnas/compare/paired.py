"""Paired statistics: is one arm better than another on the same seeds, by how much, and how sure is that?

The test is Wilcoxon's signed-rank test on the differences by seed, the recommendation for comparing two methods over
several cases of Demšar (JMLR 7, 2006). Over a family of pairs p-values are adjusted by Holm's step-down procedure
(Scand. J. Statist. 6, 1979), which holds the chance of any false word at alpha.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Verdict = Literal["better", "worse", "not decided"]

ALPHA: Final = 0.05
"""Chance of any false *better* or *worse* in a family of pairs."""
CONFIDENCE: Final = 0.95
RESAMPLES: Final = 9999
EXACT: Final = 50
"""Differences up to which the test is exact."""
POWER: Final = 0.8
MOST_SEEDS: Final = 1000
"""Where more seeds than these would be needed, the difference counts as about zero."""
DIGITS: Final = 10
"""Decimals to which differences are rounded, so that equal ones tie in spite of binary fractions."""


@dataclass(frozen=True)
class Interval:
    """A 95 % bootstrap interval of a mean.

    Attributes:
        low: Lower end.
        high: Upper end.
        method: ``BCa`` (Efron 1987), ``percentile`` where that is undefined, ``constant`` when all values are equal.
    """

    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Task:
    """Two arms on one measure, by seed; None where an arm has no value.

    Attributes:
        measure: Name of the measure.
        arm: The arm the words will be about.
        against: The other one.
        left: Values of the arm.
        right: Values of the other one.
        higher: Whether higher is better.
    """

    measure: str
    arm: str
    against: str
    left: Mapping[int, float | None]
    right: Mapping[int, float | None]
    higher: bool = True

    def differences(self) -> list[float]:
        """Returns arm − against on the seeds on which both have a value, by seed."""
        both = [(self.left[seed], self.right[seed]) for seed in sorted(self.left.keys() & self.right.keys())]
        return [one - other for one, other in both if one is not None and other is not None]

    def gains(self, differences: Sequence[float]) -> list[float]:
        """Returns differences so that above 0 means better, rounded so that equal ones tie."""
        return [round(one if self.higher else -one, DIGITS) for one in differences]


@dataclass(frozen=True)
class Pair:
    """One arm against another on one measure.

    Attributes:
        measure: Name of the measure.
        arm: The arm the words are about.
        against: The other one.
        n: Seeds on which both have a value.
        missing: Seeds on which one of them has none; left out of everything below.
        difference: Mean of arm − against, in the unit of the measure; None without pairs.
        interval: Of that mean; None for fewer than two pairs.
        wins: Seeds on which the arm is better, in the direction of the measure.
        ties: Seeds on which both are equal.
        losses: Seeds on which the arm is worse.
        p: Two-sided p of the signed-rank test; 1 when all pairs tie; None without pairs.
        test: How it was computed.
        p_holm: Adjusted over the family.
        family: Number of pairs in it.
        rank_biserial: Matched-pairs rank biserial correlation, −1 to 1, above 0 when the arm is better (Kerby 2014).
        superiority: Share of seeds won, ties counted half.
        verdict: What may be said.
        seeds_to_decide: About how many seeds would decide what is not decided; None when it is decided, or the
            difference is about zero.
        note: What must be said beside it.
    """

    measure: str
    arm: str
    against: str
    n: int
    missing: int
    difference: float | None
    interval: Interval | None
    wins: int
    ties: int
    losses: int
    p: float | None
    test: str
    p_holm: float | None
    family: int
    rank_biserial: float | None
    superiority: float | None
    verdict: Verdict
    seeds_to_decide: int | None
    note: str


def interval(values: Sequence[float]) -> Interval | None:
    """Returns the bootstrap interval of the mean; None for fewer than two values. The same values give the same."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return None
    if np.ptp(sample) == 0:
        return Interval(float(sample[0]), float(sample[0]), "constant")
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DegenerateDataWarning)
            found = bootstrap((sample,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method=method,
                              rng=np.random.default_rng(0)).confidence_interval
        if math.isfinite(found.low) and math.isfinite(found.high):
            return Interval(float(found.low), float(found.high), method)
    raise ValueError(f"no interval for {values}")


def signed_rank(differences: Sequence[float]) -> tuple[float | None, str]:
    """Returns the two-sided p of Wilcoxon's signed-rank test, and how it was computed.

    Differences of zero are left out, as by Wilcoxon (1945): they say that both are equal on that seed and nothing about
    which is better. Up to `EXACT` others the distribution is exact, ties included, where `scipy.stats.wilcoxon` would
    leave it for the normal one; that comes from there for more.
    """
    if not len(differences):
        return None, "no pairs"
    kept = _nonzero(differences)
    if not len(kept):
        return 1.0, "all pairs tie"
    if len(kept) > EXACT:
        from scipy.stats import wilcoxon

        return float(wilcoxon(kept, method="asymptotic").pvalue), "normal approximation"
    return _exact(kept), "exact"


def _exact(kept: Values) -> float:
    """Returns p from the distribution of the rank sum over all changes of signs, one difference after the other."""
    from scipy.stats import rankdata

    ranks = np.rint(2 * rankdata(np.abs(kept))).astype(int)  # doubled: ties share half ranks
    ways = np.ones(1)
    for rank in ranks:
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    seen, of = int(ranks[kept > 0].sum()), 2.0 ** len(kept)
    return float(min(1.0, 2 * min(ways[:seen + 1].sum(), ways[seen:].sum()) / of))


def rank_biserial(differences: Sequence[float]) -> float | None:
    """Returns (favourable − unfavourable) over all rank sum of the non-zero differences; None when there are none."""
    from scipy.stats import rankdata

    kept = _nonzero(differences)
    if not len(kept):
        return None
    ranks = rankdata(np.abs(kept))
    return float((ranks * np.sign(kept)).sum() / ranks.sum())


def _nonzero(differences: Sequence[float]) -> Values:
    rounded = np.round(np.asarray(differences, dtype=float), DIGITS)
    return np.asarray(rounded[rounded != 0])


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Returns Holm's adjusted p-values in the given order; None stays None and is in no family."""
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    found: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        found[place] = least
    return found


def seeds_to_decide(differences: Sequence[float], alpha: float) -> int | None:
    """Returns about how many seeds the signed-rank test needs for a power of 0.8, from the differences seen.

    Noether's formula (JASA 82, 1987): n = (z(1−α/2) + z(0.8))² / (3 (p − 1/2)²), where p is the chance that the sum of
    two differences is above 0, estimated over all pairs of them; at least as many as can reach alpha at all. None when
    it is more than `MOST_SEEDS`, where the difference is about zero, and for fewer than three differences.

    Args:
        differences: By seed.
        alpha: Level of this test: of the family, by the number of its pairs.
    """
    from scipy.stats import norm

    seen = np.round(np.asarray(differences, dtype=float), DIGITS)
    if len(seen) < 3:
        return None
    sums = (seen[:, None] + seen[None, :])[np.triu_indices(len(seen), 1)]
    off = float((np.sign(sums) / 2).mean())
    reach = (norm.ppf(1 - alpha / 2) + norm.ppf(POWER)) ** 2 / 3
    if off * off * MOST_SEEDS < reach:
        return None
    needed = max(math.ceil(reach / off**2), 1 + math.ceil(math.log2(1 / alpha)))
    return needed if needed <= MOST_SEEDS else None


def decide(tasks: Sequence[Task], alpha: float = ALPHA) -> list[Pair]:
    """Returns what may be said of every pair, the family of Holm's procedure being all of them.

    Args:
        tasks: The pairs.
        alpha: Chance of any false word among them.
    """
    differences = [task.differences() for task in tasks]
    tests = [signed_rank(own) for own in differences]
    adjusted = holm([p for p, _ in tests])
    family = sum(p is not None for p, _ in tests)
    return [_pair(task, own, test, p_holm, family, alpha)
            for task, own, test, p_holm in zip(tasks, differences, tests, adjusted, strict=True)]


def _pair(task: Task, raw: list[float], test: tuple[float | None, str], p_holm: float | None, family: int,
          alpha: float) -> Pair:
    gains = task.gains(raw)
    wins, losses = sum(one > 0 for one in gains), sum(one < 0 for one in gains)
    ties, effect = len(gains) - wins - losses, rank_biserial(gains)
    verdict, note = _verdict(gains, effect, p_holm, alpha)
    needed = seeds_to_decide(gains, alpha / max(1, family)) if verdict == "not decided" and not note else None
    if needed is not None:
        needed = max(needed, len(gains) + 1)  # as many as there are did not
    if verdict == "not decided" and not note:
        note = _undecided(len(gains), needed)
    if missing := len(task.left.keys() | task.right.keys()) - len(raw):
        note = f"{note}; {missing} seeds without a value on one side are left out".removeprefix("; ")
    return Pair(measure=task.measure, arm=task.arm, against=task.against, n=len(raw), missing=missing,
                difference=float(np.mean(raw)) if raw else None, interval=interval(raw), wins=wins, ties=ties,
                losses=losses, p=test[0], test=test[1], p_holm=p_holm, family=family, rank_biserial=effect,
                superiority=(wins + ties / 2) / len(gains) if gains else None, verdict=verdict,
                seeds_to_decide=needed, note=note)


def _undecided(n: int, needed: int | None) -> str:
    if needed is not None:
        return f"about {needed} seeds would decide"
    return ("too few pairs to say how many seeds would decide" if n < 3 else
            f"the difference is about zero: more than {MOST_SEEDS:,} seeds would be needed")


def _verdict(gains: Sequence[float], effect: float | None, p: float | None, alpha: float) -> tuple[Verdict, str]:
    """Returns the word: decided when the adjusted p is at most alpha, and mean and ranks point the same way."""
    if p is None or p > alpha or effect is None:
        return "not decided", ""
    if effect * float(np.mean(gains)) <= 0:
        return "not decided", "ranks and mean point in different directions"
    return ("better" if effect > 0 else "worse"), ""
