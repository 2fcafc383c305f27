"""What the proxies of a run were worth: known answers on tiny pools, and intervals against plain resampling."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from llmnas.proxies.combine import rank
from llmnas.proxies.validity import ENOUGH, RESAMPLES, combined, interval, judge, spearman, validate

EIGHT = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def test_a_perfect_signal_helps():
    """Everything is right, the interval excludes 0, and a quarter of eight is two."""
    found = judge("x", [score * 3 for score in EIGHT], EIGHT)
    assert (found.n, found.k, found.precision, found.regret) == (8, 2, 1.0, 0.0)
    assert found.spearman == found.high == pytest.approx(1)
    assert found.spearman_top == pytest.approx(1)
    assert found.verdict == "helps"


def test_a_reversed_signal_misleads_and_direction_turns_it():
    """A signal that is always wrong misleads; said to be lower-is-better it is always right."""
    pool = [{"x": -score} for score in EIGHT]
    wrong, right = validate(pool, EIGHT, {"x": 1})[0], validate(pool, EIGHT, {"x": -1})[0]
    assert (wrong.verdict, wrong.precision, wrong.regret) == ("misleads", 0.0, pytest.approx(0.6))
    assert (right.verdict, right.precision, right.regret) == ("helps", 1.0, 0.0)


def test_right_over_all_but_not_at_the_top():
    """The better half turned round: the correlation stays positive, the top's is -1, and the pick misses the best."""
    found = judge("x", [1, 2, 3, 4, 8, 7, 6, 5], EIGHT)
    assert found.spearman == pytest.approx(1 - 6 * 20 / (8 * 63))
    assert found.spearman_top == pytest.approx(-1)
    assert found.precision == 0
    assert found.regret == pytest.approx(0.8 - 0.6)


@pytest.mark.parametrize(("n", "k"), [(4, 1), (6, 2), (7, 2), (9, 2), (11, 3), (16, 4)])
def test_a_quarter_is_at_least_one(n, k):
    """A quarter of the pairs, rounded."""
    assert judge("x", range(n), range(n)).k == k


def test_too_few_is_unknown_not_zero():
    """Under four pairs there is no figure at all, under six no interval; no pair is no error."""
    for n in (0, 1, 3):
        found = judge("x", EIGHT[:n], EIGHT[:n])
        assert (found.n, found.verdict) == (n, "too few")
        assert {found.spearman, found.low, found.high, found.spearman_top, found.k, found.precision, found.regret} == {
            None}
    five = judge("x", EIGHT[:ENOUGH - 1], EIGHT[:ENOUGH - 1])
    assert (five.verdict, five.low, five.k) == ("too few", None, 1)
    assert five.spearman == pytest.approx(1)


def test_a_constant_signal_decides_nothing():
    """It has no correlation; ties stay in order, so the first come first."""
    found = judge("x", [1.0] * 8, EIGHT)
    assert (found.spearman, found.low, found.verdict, found.precision) == (None, None, "not decided", 0.0)


def test_members_without_a_signal_are_left_out():
    """Missing and infinite scores, and infinite labels, are no pairs."""
    found = judge("x", [None, float("nan"), float("inf"), 4, 5, 6, 7, 8], [*EIGHT[:7], float("nan")])
    assert found.n == 4


def test_equal_best_labels_are_all_right():
    """With three members that share the best score, any two of them are the best quarter of eight."""
    found = judge("x", [8, 7, 6, 5, 4, 3, 2, 1], [0.1, 0.9, 0.9, 0.9, 0.2, 0.2, 0.2, 0.2])
    assert found.precision == 0.5
    assert found.regret == 0


@pytest.mark.parametrize("n", [6, 13, 40])
def test_interval_is_that_of_plain_resampling(n):
    """The fast bootstrap equals drawing pairs and calling scipy, ties included, and never changes."""
    rng = np.random.default_rng(n)
    left = rng.integers(0, n // 2, n).astype(float)
    right = left + rng.normal(0, n / 4, n)
    draws = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = np.array([spearmanr(left[draw], right[draw]).statistic for draw in draws])
    assert interval(left, right) == pytest.approx(tuple(np.nanpercentile(plain, [2.5, 97.5])))
    assert interval(left, right) == interval(left, right)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=20))
def test_spearman_is_scipys(pairs):
    """With any ties; unknown where a side is constant."""
    left, right = zip(*pairs, strict=True)
    if len(set(left)) < 2 or len(set(right)) < 2:
        assert spearman(left, right) is None
    else:
        assert spearman(left, right) == pytest.approx(spearmanr(left, right).statistic)


def test_noise_is_seldom_decided():
    """Of a hundred signals of pure noise few are decided: the interval is about as wide as it says."""
    rng = np.random.default_rng(0)
    verdicts = [judge("x", list(rng.normal(size=30)), list(rng.normal(size=30))).verdict for _ in range(100)]
    assert verdicts.count("not decided") > 85


def test_combined_is_the_rank_when_all_have_equal_weights():
    """Weights of one's own are used member by member."""
    pool = [{"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 1.0}, {"a": 3.0, "b": 2.0}]
    signs = {"a": 1, "b": -1}
    half = {"a": 0.5, "b": 0.5}
    assert combined(pool, signs, [half] * 3) == pytest.approx(rank(pool, signs), abs=1e-8)
    assert combined(pool, signs, [half, half, {"a": 1.0}])[2] == 0
    assert combined([], signs, []) == []
