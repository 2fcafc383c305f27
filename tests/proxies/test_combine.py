"""From labels to weights: known answers, and what must hold for every pool."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmnas.proxies import PROXIES, default_weights, labelled_pool, rank, ranking, weights
from llmnas.proxies.combine import MIN_LABELS, PRIOR_LABELS, log_ranks, ranks
from llmnas.records import Counts, Origin, Proposal, Trained, Trial

SIGNS = {"a": 1, "b": -1, "c": 1}
PRIOR = {"a": 0.5, "b": 0.5}
GROWING = (lambda value: 3.0 * value + 7, lambda value: float(value**3), lambda value: 2.0**value)
VALUES = st.none() | st.integers(-20, 20)


def pool_of(**columns):
    """Returns a pool from its columns."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def members(n, seed=0):
    """Returns random columns a, b, c of n members."""
    return {name: list(map(float, column)) for name, column in
            zip("abc", np.random.default_rng(seed).normal(size=(3, n)), strict=True)}


@st.composite
def pools(draw, least=0):
    """Draws a pool with gaps and ties, and as many labels."""
    n = draw(st.integers(least, 25))
    pool = draw(st.lists(st.fixed_dictionaries({"a": VALUES, "b": VALUES, "c": VALUES}), min_size=n, max_size=n))
    return pool, draw(st.lists(st.integers(0, 12), min_size=n, max_size=n))


def test_ranks_share_ties():
    """Ranks start at 1 and ties share their mean."""
    assert ranks([5, 1, 5, 9]).tolist() == [2.5, 1, 2.5, 4]
    assert ranks([]).tolist() == []


def test_label_free_weights_are_the_pair():
    """The pair counts equally and the others nothing; params stands alone when its partner is not computed."""
    assert default_weights("nb201", ["params", "flops", "jacov"]) == {"params": 0.5, "flops": 0.0, "jacov": 0.5}
    assert default_weights("convnet", ["params", "flops"]) == {"params": 1.0, "flops": 0.0}


def test_too_few_labels_leave_the_default():
    """One label less than the least changes nothing, whatever it says."""
    columns = members(MIN_LABELS)
    found = weights(pool_of(**columns), columns["c"], SIGNS, PRIOR)
    assert found["c"] > 0
    short = {name: column[1:] for name, column in columns.items()}
    assert weights(pool_of(**short), short["c"], SIGNS, PRIOR) == {"a": 0.5, "b": 0.5, "c": 0.0}


def test_equal_labels_and_opposed_proxies_leave_the_default():
    """Labels that say nothing, and proxies that all speak against them, teach no order."""
    columns = members(30)
    assert weights(pool_of(**columns), [0.5] * 30, SIGNS, PRIOR)["a"] == 0.5
    one = list(range(400))
    assert weights(pool_of(a=one), one[::-1], {"a": 1}, {"a": 1.0}) == {"a": 1.0}


def test_a_proxy_against_the_labels_gets_nothing():
    """Its sign is not turned: the proxy that is right takes its place."""
    columns = members(60)
    found = weights(pool_of(**columns), [c - a for a, c in zip(columns["a"], columns["c"], strict=True)], SIGNS, PRIOR)
    assert found["a"] == 0
    assert found["c"] > 0.5


def test_the_default_fades_as_labels_arrive():
    """The more labels, the more the right proxy counts; direction -1 is obeyed."""
    shares = []
    for n in (10, 40, 160, 640):
        columns = members(n)
        shares.append(weights(pool_of(**columns), [-value for value in columns["b"]], SIGNS, {"a": 1.0})["b"])
    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert shares[-1] > 0.9


def test_one_proxy_by_hand():
    """Two proxies that do not correlate: the shares are those of the two scalar equations.

    b has no correlation with anything, so a and b solve on their own: a gets (x.y + P/2) / (x.x + P), b gets
    P/2 / (z.z + P) with x, z the centred log-ranks and y the standardised ranks of the labels.
    """
    a, b = [1, 1, 2, 2] * 3, [1, 2, 1, 2] * 3
    pool = pool_of(a=a, b=b)
    x, z = (log_ranks(pool, {"a": 1, "b": 1}) - log_ranks(pool, {"a": 1, "b": 1}).mean(axis=0)).T
    y = np.where(np.array(a) == 2, 1.0, -1.0)
    first = (x @ y + PRIOR_LABELS / 2) / (x @ x + PRIOR_LABELS)
    second = (PRIOR_LABELS / 2) / (z @ z + PRIOR_LABELS)
    found = weights(pool, a, {"a": 1, "b": 1}, PRIOR)
    assert found["a"] == pytest.approx(first / (first + second), abs=1e-6)


def test_weighted_rank_by_hand():
    """Three to one; a weight of 0 leaves a proxy out."""
    pool = pool_of(a=[1.0, 2.0], b=[1.0, 2.0], c=[9.0, 1.0])
    found = rank(pool, {"a": 1, "b": -1}, {"a": 0.75, "b": 0.25})
    assert found == pytest.approx([0.75 * np.log(0.5), 0.25 * np.log(0.5)])
    assert ranking(pool, SIGNS, {"c": 1.0}) == [0, 1]
    assert rank(pool, SIGNS, {"c": 0.0}) == [0.0, 0.0]


@given(pools())
def test_without_labels_the_order_is_the_default_exactly(drawn):
    """No labels: the same numbers, to the last bit, as the pair's plain mean log-rank."""
    pool, _ = drawn
    found = weights([], [], SIGNS, PRIOR)
    assert rank(pool, SIGNS, found) == rank(pool, {"a": 1, "b": -1})


@given(pools())
def test_weights_are_shares(drawn):
    """Weights are at least 0 and 1 in all, one for every proxy."""
    found = weights(*drawn, SIGNS, PRIOR)
    assert set(found) == set(SIGNS)
    assert min(found.values()) >= 0
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)


@given(pools(least=MIN_LABELS), st.sampled_from(GROWING), st.sampled_from(GROWING))
def test_growing_functions_change_nothing(drawn, of_proxy, of_label):
    """Only the order of a proxy's scores and of the labels counts, in the weights and in the rank."""
    pool, labels = drawn
    bent = [{**member, "c": None if member["c"] is None else of_proxy(member["c"])} for member in pool]
    found = weights(pool, labels, SIGNS, PRIOR)
    assert weights(bent, [of_label(label) for label in labels], SIGNS, PRIOR) == found
    assert rank(bent, SIGNS, found) == rank(pool, SIGNS, found)


def test_a_thousand_members_take_milliseconds():
    """Sixteen proxies of a thousand members: weights and order together, generously bounded for a busy machine."""
    names = [f"p{i}" for i in range(16)]
    pool = [dict(zip(names, map(float, row), strict=True)) for row in np.random.default_rng(0).normal(size=(1000, 16))]
    signs, labels = dict.fromkeys(names, 1), [member["p0"] for member in pool]
    weights(pool, labels, signs, {"p1": 1.0})
    times = []
    for _ in range(5):
        start = time.process_time()
        rank(pool, signs, weights(pool, labels, signs, {"p1": 1.0}))
        times.append(time.process_time() - start)
    assert min(times) < 0.02


def test_labelled_pool_has_sizes_and_leaves_out_what_has_no_score():
    """Sizes come from the counts; cut, failed and infinite trainings are no labels."""
    def trial(n, score, **more):
        short = Trained(metric="accuracy", val_score=score, val_loss=1, epochs=1, seconds=1, seed=0, **more)
        return Trial(n=n, status="trained", counts=Counts(params=n, macs=2 * n, memory_mb=1, layers=1),
                     scores={"nwot": 3.0}, trained={"short": short},
                     proposal=Proposal(graph=None, origin=Origin(strategy="t", operator="t", step=0)))

    bare = trial(9, 0.5).model_copy(update={"trained": {}})
    found = labelled_pool([trial(1, 0.7), trial(2, 0.6, cut=True), trial(3, float("nan")), bare])
    assert found == ([{"params": 1.0, "flops": 2.0, "nwot": 3.0}], [0.7])
    assert set(found[0][0]) <= set(PROXIES)
