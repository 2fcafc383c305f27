"""What a strategy with a surrogate looks at, and what it has screened."""

from dataclasses import replace

import numpy as np

from llmnas.records import Candidate
from llmnas.space import load_space
from llmnas.space.digits import Digits
from llmnas.strategies import Setup
from llmnas.strategies.acquisition import Front
from llmnas.strategies.base import Context
from llmnas.strategies.bayesian import Bayesian
from llmnas.strategies.prospects import KEPT, LEAST, Prospects
from llmnas.testing.strategy import measured
from tests.strategies.table import setup_on

SPACE = load_space("nb201")
DIGITS = Digits(SPACE).digits


def threes(graph):
    return DIGITS(graph).count("3")


def context(step=0, room=0, pool=(), trials=(), screen=lambda graphs: ()):
    return Context(step=step, trials=trials, rules=(), deadline=float("inf"), emit=lambda body: body,
                   reply=lambda call: None, save=lambda record: "", screen=screen, room=room, pool=pool)


def candidate(graph, violates=()):
    return Candidate(graph=graph, counts=SPACE.network(graph).counts, scores={"nwot": float(threes(graph))},
                     latency={}, violates=violates)


def test_draws_keep_the_limits_and_are_the_same_in_every_ask():
    """They depend on the seed and on what may be screened in all, not on the step; another seed draws others."""
    setup = replace(setup_on(SPACE), keeps=lambda graph: threes(graph) <= 2)
    prospects, again = Prospects(setup), Prospects(setup)
    first = prospects.drawn(context(room=200))
    assert len(first) == KEPT * 200
    assert all(threes(point.graph) <= 2 for point in first)
    pool = tuple(candidate(point.graph) for point in first[:50])
    later = again.drawn(context(step=7, room=150, pool=pool))
    assert [point.name for point in later] == [point.name for point in first]
    other = Prospects(replace(setup, settings=setup.settings.model_copy(update={"seed": 1}))).drawn(context(room=200))
    assert [point.name for point in other] != [point.name for point in first]


def test_what_breaks_a_limit_takes_no_room():
    """A pool with refused graphs leaves as much to draw as one without."""
    prospects = Prospects(setup_on(SPACE))
    graphs = [SPACE.sample(np.random.default_rng(i)) for i in range(10)]
    refused = tuple(candidate(graph, ("too slow",)) for graph in graphs)
    assert prospects.drawn(context(room=300, pool=refused)) is prospects.drawn(context(room=300))


def test_a_limit_that_nothing_keeps_ends():
    """There are no draws then, and the strategy has nothing to propose."""
    setup = replace(setup_on(SPACE), keeps=lambda graph: False)
    assert Prospects(setup).drawn(context()) == []
    assert list(Bayesian(setup).ask(3, np.random.default_rng(0), context())) == []


def test_without_screening_it_still_looks_at_many_draws():
    """As many as are looked at at least."""
    assert len(Prospects(setup_on(SPACE)).drawn(context())) == LEAST


def test_the_pool_waits_for_the_first_fit():
    """It is screened at once, not again before there are scores, and by structure then: good draws come first."""
    asked = []

    def screen(graphs):
        asked.append(list(graphs))
        return tuple(candidate(graph) for graph in graphs)

    strategy, trials, pool = Bayesian(setup_on(SPACE)), [], []
    for step in range(12):
        before = len(asked)
        for one in strategy.ask(1, np.random.default_rng([0, step]),
                                context(step, 100 - len(pool), tuple(pool), trials, screen)):
            trials.append(measured(len(trials) + 1, one, 0.5 + threes(one.graph) / 20, SPACE))
            strategy.tell(trials[-1:])
        pool += [candidate(graph) for batch in asked[before:] for graph in batch]
    sizes = [len(batch) for batch in asked]
    assert sizes[0] == 20
    assert sizes[1:] == [3] * 6 + [2] * (len(sizes) - 7)  # one in 32 of what is left
    assert len(sizes) - 1 == 12 - strategy.aim.warm
    drawn, chosen = (np.mean([threes(graph) for batch in part for graph in batch]) for part in (asked[:1], asked[1:]))
    assert chosen > drawn + 1


def test_the_first_designs_of_a_front_cover_its_costs():
    """One of every part of the range, the best of it by proxies."""
    setup = Setup(space=SPACE, settings=setup_on(SPACE).settings, shape=SPACE.spec.shape, classes=10, targets=("toy",),
                  milliseconds=lambda graph: 1.0 + threes(graph), front=True)
    prospects = Prospects(setup)
    points = prospects.gathered([candidate(point.graph) for point in prospects.drawn(context())[:80]]).points
    order = Front(setup).first(points)
    assert sorted(order) == list(range(80))
    first = [threes(points[place].graph) for place in order[:8]]
    assert first == sorted(first)
    assert len(set(first)) >= 3
