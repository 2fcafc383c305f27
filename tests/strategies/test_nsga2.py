"""NSGA-II's sort, crowding and constraints, against their definitions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmnas.front import excess
from llmnas.records import Counts, Latency, Trial
from llmnas.space import load_space
from llmnas.space.digits import Digits
from llmnas.strategies import load_strategy
from llmnas.strategies.base import proposal
from llmnas.strategies.nsga2 import Nsga2, crowding, dominates, fronts, survivors
from tests.strategies.table import TableSearch, setup_on

ROWS = st.integers(1, 25)
POINTS = ROWS.flatmap(lambda n: arrays(float, (n, 2), elements=st.integers(0, 6).map(float)))


def beats(a, b, broken_a, broken_b):
    """Definition 1 of section VI-A, in words."""
    if broken_a > 0 or broken_b > 0:
        return broken_a < broken_b
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@given(points=POINTS, data=st.data())
def test_fronts_are_what_peeling_gives(points, data):
    """Each front is what nothing left beats; every row is in one front."""
    broken = data.draw(arrays(float, len(points), elements=st.sampled_from([0.0, 0.0, 0.5, 1.0])))
    left, expected = set(range(len(points))), []
    while left:
        front = {i for i in left if not any(beats(points[j], points[i], broken[j], broken[i]) for j in left)}
        expected.append(sorted(front))
        left -= front
    assert fronts(points, broken) == expected
    found = dominates(points, broken)
    assert all(found[i, j] == beats(points[i], points[j], broken[i], broken[j])
               for i in range(len(points)) for j in range(len(points)))


@given(values=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20, unique_by=(
    lambda p: p[0], lambda p: p[1])))
def test_crowding_is_the_box_of_the_neighbours(values):
    """With all values different: infinite at the ends, else the sides of the box between the next ones."""
    points = np.array(values, float)
    for i, found in enumerate(crowding(points)):
        expected = 0.0
        for column in points.T:
            below, above = column[column < column[i]], column[column > column[i]]
            if len(points) > 1:
                expected += np.inf if not len(below) or not len(above) else (
                    (above.min() - below.max()) / (column.max() - column.min()))
        assert found == pytest.approx(expected)


def test_crowding_of_equal_points_is_zero():
    """Where nothing differs nothing is divided by zero."""
    assert crowding(np.ones((4, 2))).tolist() == [0.0] * 4


@given(points=POINTS, n=st.integers(1, 25))
def test_the_survivors_are_the_first_fronts(points, n):
    """No row that is left out beats one that is kept."""
    broken = np.zeros(len(points))
    kept, order = survivors(points, broken, n)
    assert len(kept) == len(set(kept)) == len(order) == min(n, len(points))
    lost = set(range(len(points))) - set(kept)
    assert not any(dominates(points, broken)[i, j] for i in lost for j in kept)


def test_illegal_ones_compete_by_how_far_they_are_off():
    """An untrained network that breaks a limit is a member, behind every legal one; the nearer one is ahead."""
    space = load_space("nb201")
    setup = setup_on(space, max_params=100, max_latency_ms=2.0)
    graph = space.prior()[0]

    def trial(params, ms):
        return Trial(n=1, proposal=proposal("t", "t", 0, graph), status="screened", key=graph.key(), violates=("x",),
                     counts=Counts(params=params, macs=1, memory_mb=1, layers=1),
                     latency={"cpu": Latency(ms=ms, low=ms, high=ms, device="cpu", source="table")})

    assert excess(trial(150, 3.0), setup.settings, ("cpu",)) == pytest.approx(0.5 + 0.5)
    assert excess(trial(50, 1.0), setup.settings, ("cpu",)) == 1.0
    strategy = Nsga2(setup, population=2)
    strategy.tell([trial(300, 1.0), trial(150, 1.0), trial(200, 1.0), trial(110, 1.0)])
    assert sorted(member.excess for member in strategy.parents) == pytest.approx([0.1, 0.5])


def test_it_finds_more_of_a_front_than_random():
    """Score and cost in conflict: after 100 evaluations the area under the front is larger than of random draws."""
    def score(digits):
        return 0.5 + sum(digit == "3" for digit in digits) / 20 + 0.1 * (digits[3] == "1")

    def area(search):
        steps = sorted((sum(map(int, row)), score(row)) for row in search.rows)
        best, total, last = 0.0, 0.0, 0
        for cost, value in steps:
            total, last, best = total + best * (cost - last), cost, max(best, value)
        return total + best * (24 - last)

    def mean(name, seeds):
        space = load_space("nb201")
        digits = Digits(space).digits
        setup = replace(setup_on(space, targets=("toy",)),
                        milliseconds=lambda graph: 1.0 + sum(map(int, digits(graph))))
        return np.mean([area(TableSearch(load_strategy(name)(setup), seed, score=score).run())
                        for seed in range(seeds)])

    assert mean("random", 8) < mean("nsga2", 8) < mean("bayesian_front", 2)
