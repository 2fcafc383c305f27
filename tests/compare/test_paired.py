"""Paired statistics against published examples, scipy, and simulated truth."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import PermutationMethod, binom, bootstrap, norm, wilcoxon

from llmnas.compare import paired
from llmnas.compare.paired import Task, decide, holm, interval, rank_biserial, seeds_to_decide, signed_rank
from llmnas.compare.rates import rate

MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
"""Darwin's fifteen pairs of maize plants, crossed less self-fertilised, in eighths of an inch (1876)."""


def task(left, right=None, higher=True, arm="a", against="b"):
    right = [0.0] * len(left) if right is None else right
    return Task("test", arm, against, dict(enumerate(left)), dict(enumerate(right)), higher)


@pytest.fixture
def no_bootstrap(monkeypatch):
    """Simulations of verdicts need no intervals, which take most of the time."""
    monkeypatch.setattr(paired, "interval", lambda values: None)


def test_darwins_maize():
    p, how = signed_rank(MAIZE)
    assert (p, how) == (pytest.approx(0.041259765625), "exact")  # 676 of 2**14: rank sum of the losses 24
    assert rank_biserial(MAIZE) == pytest.approx((96 - 24) / 120)
    pair = decide([task(MAIZE)])[0]
    assert (pair.wins, pair.ties, pair.losses, pair.verdict) == (13, 0, 2, "better")
    assert pair.difference == pytest.approx(20.9333, abs=1e-4)
    assert pair.superiority == pytest.approx(13 / 15)


@pytest.mark.parametrize("differences", [[1, 1, 1, 2, -1], [3, 3, -1, 2, 2, 2, 0, 0], [0.1 + 0.2, 0.3, -0.3, 0.5]])
def test_exact_with_ties_is_all_sign_changes(differences):
    """Against scipy's test of all permutations, binary fractions that should tie included."""
    kept = [round(one, 10) for one in differences if one]
    assert signed_rank(differences) == (pytest.approx(wilcoxon(kept, method=PermutationMethod()).pvalue), "exact")


@pytest.mark.parametrize("n", [4, 13, 30, 50, 51])
def test_without_ties_it_is_scipys(n):
    differences = np.random.default_rng(n).normal(0.2, 1, size=n)
    assert signed_rank(differences.tolist())[0] == pytest.approx(wilcoxon(np.round(differences, 10)).pvalue)
    assert signed_rank(differences.tolist())[1] == ("exact" if n <= 50 else "normal approximation")


def test_zeros_say_nothing():
    assert signed_rank([*MAIZE, 0, 0, 0]) == signed_rank(MAIZE)
    assert signed_rank([0.0, 0.0]) == (1.0, "all pairs tie")
    assert signed_rank([]) == (None, "no pairs")
    pair = decide([task([0.5] * 6, [0.5] * 6)])[0]
    assert (pair.verdict, pair.p, pair.rank_biserial, pair.superiority, pair.ties) == ("not decided", 1.0, None, 0.5, 6)
    assert pair.interval is not None
    assert (pair.interval.low, pair.interval.high, pair.interval.method) == (0.0, 0.0, "constant")
    assert pair.seeds_to_decide is None
    assert "about zero" in pair.note


def test_holm_published():
    """The example of R's manual page of p.adjust, worked by hand."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_properties(ps):
    adjusted = holm(ps)
    order = np.argsort(ps, kind="stable")
    assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(order))  # monotone in p
    assert all(p <= q <= min(1, len(ps) * p) or math.isclose(q, min(1, len(ps) * p))
               for p, q in zip(ps, adjusted, strict=True))  # between the raw and Bonferroni's
    assert holm(ps[::-1]) == adjusted[::-1]


@pytest.mark.parametrize(("count", "of", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)])
def test_wilson_published(count, of, low, high):
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    found = rate(count, of)
    assert (found["low"], found["high"]) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert rate(0, 0)["rate"] is None


def test_interval_is_scipys():
    found = interval(MAIZE)
    wanted = bootstrap((np.array(MAIZE, dtype=float),), np.mean, n_resamples=9999, method="BCa",
                       rng=np.random.default_rng(0)).confidence_interval
    assert found is not None
    assert (found.low, found.high, found.method) == (wanted.low, wanted.high, "BCa")
    assert found.low < np.mean(MAIZE) < found.high
    assert interval([1.0]) is None
    two = interval([1.0, 2.0])
    assert two is not None
    assert two.low >= 1.0
    assert two.high <= 2.0


def test_seeds_to_decide_is_noethers():
    """Noether 1987 for two-sided .05 and power .8: n = (1.96 + 0.84)² / (3 (p − ½)²)."""
    differences = [1.0, 2.0, 3.0, 4.0, -0.5, -1.5, -2.5, -3.5]
    sums = [a + b for i, a in enumerate(differences) for b in differences[i + 1:]]
    p = np.mean([(one > 0) + 0.5 * (one == 0) for one in sums])
    wanted = math.ceil((norm.ppf(0.975) + norm.ppf(0.8)) ** 2 / (3 * (p - 0.5) ** 2))
    assert seeds_to_decide(differences, 0.05) == wanted
    assert seeds_to_decide([1.0, -1.0, 2.0, -2.0], 0.05) is None  # about zero
    assert seeds_to_decide([1.0, 2.0], 0.05) is None  # too few to say
    assert seeds_to_decide([0.1] * 5, 0.05 / 50) >= 11  # 2 / 2**n must be able to reach the level


def test_so_many_seeds_do_decide(no_bootstrap):
    """With as many seeds as said from a large sample, the truth is found in about four of five cases."""
    rng = np.random.default_rng(4)
    needed = seeds_to_decide((0.6 + rng.normal(size=800)).tolist(), 0.05)
    assert needed is not None
    assert 20 <= needed <= 40
    found = sum(decide([task((0.6 + rng.normal(size=needed)).tolist())])[0].verdict == "better" for _ in range(400))
    assert 0.74 <= found / 400 <= 0.92


@pytest.mark.parametrize("draw", [
    pytest.param(lambda rng, n: rng.normal(size=n), id="smooth"),
    pytest.param(lambda rng, n: rng.exponential(size=n) ** 2, id="skewed"),
    pytest.param(lambda rng, n: rng.integers(0, 4, size=n).astype(float), id="ties"),
    pytest.param(lambda rng, n: rng.choice([0.9, 0.91], p=[0.8, 0.2], size=n), id="mostly equal")])
@pytest.mark.parametrize("seeds", [6, 10, 20])
def test_an_a_a_pair_is_not_decided(draw, seeds, no_bootstrap):
    """False words in at most 5 % of A/A pairs, by a bound that fails a true 5 % once in a hundred."""
    rng, trials = np.random.default_rng(seeds), 400
    false = sum(decide([task(draw(rng, seeds).tolist(), draw(rng, seeds).tolist())])[0].verdict != "not decided"
                for _ in range(trials))
    assert false <= binom.ppf(0.99, trials, 0.05)


def test_a_family_of_a_a_pairs_is_not_decided(no_bootstrap):
    """Any false word among seven arms against one reference: at most 5 % of comparisons."""
    rng, trials = np.random.default_rng(7), 250
    false = 0
    for _ in range(trials):
        scores = rng.normal(size=(8, 20)) + rng.normal(size=20)  # a seed is easy or hard for all
        pairs = decide([task(own.tolist(), scores[0].tolist(), arm=str(place)) for place, own in enumerate(scores[1:])])
        false += any(pair.verdict != "not decided" for pair in pairs)
    assert false <= binom.ppf(0.99, trials, 0.05)


def test_pairing_is_what_finds_a_small_difference():
    """A difference that drowns in the scatter of seeds is found because both arms share it."""
    rng = np.random.default_rng(1)
    hard = 10 * rng.normal(size=12)
    arm, other = hard + 0.5 + 0.2 * rng.normal(size=12), hard + 0.2 * rng.normal(size=12)
    assert decide([task(arm.tolist(), other.tolist())])[0].verdict == "better"
    shuffled = rng.permutation(other)
    assert decide([task(arm.tolist(), shuffled.tolist())])[0].verdict == "not decided"


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=9), st.booleans())
@settings(max_examples=25, deadline=None)
def test_turned_round_says_the_opposite(values, higher):
    left, right = ([float(pair[side]) for pair in values] for side in (0, 1))
    there, back = decide([task(left, right, higher)])[0], decide([task(right, left, higher)])[0]
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert there.p == back.p
    assert back.verdict == {"better": "worse", "worse": "better"}.get(there.verdict, there.verdict)
    assert there.difference == pytest.approx(-(back.difference or 0.0))
    assert there.seeds_to_decide == back.seeds_to_decide


def test_lower_may_be_better():
    """A measure in which lower is better: the raw difference stays, the word turns."""
    up, down = decide([task(MAIZE)])[0], decide([task(MAIZE, higher=False)])[0]
    assert (up.verdict, down.verdict) == ("better", "worse")
    assert up.difference == down.difference


def test_missing_values_are_left_out_and_said():
    left = {0: 1.0, 1: None, 2: 3.0, 3: 1.0}
    pair = decide([Task("test", "a", "b", left, {0: 0.5, 1: 1.0, 2: 1.0})])[0]
    assert (pair.n, pair.missing) == (2, 2)
    assert "2 seeds without a value" in pair.note
    empty = decide([Task("test", "a", "b", {0: None}, {0: 1.0})])[0]
    assert (empty.n, empty.p, empty.difference, empty.interval, empty.verdict) == (0, None, None, None, "not decided")


def test_mean_and_ranks_must_agree():
    """Twenty small gains and two great losses: the ranks say better, the mean says worse, nothing is decided."""
    pair = decide([task([0.1 + place / 1000 for place in range(20)] + [-9.0, -9.5])])[0]
    assert pair.p_holm is not None
    assert pair.p_holm <= 0.05
    assert pair.verdict == "not decided"
    assert "different directions" in pair.note
