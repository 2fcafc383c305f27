"""What each strategy does, and how well on the published table."""

import numpy as np
import pytest

from llmnas.evaluate import Screened
from llmnas.records import Latency, Settings
from llmnas.space import Digits, load_space
from llmnas.strategies import Context, Setup, load_strategy
from llmnas.strategies.base import proposal
from llmnas.strategies.bayesian import Bayesian
from llmnas.strategies.evolution import Evolution
from llmnas.testing.strategy import context, measured
from tests.search.loop import InstantEvaluator, open_search, toy_settings
from tests.strategies.table import TableSearch, setup_on, table


def near(digits, optimum):
    """The share of digits that are right."""
    return sum(a == b for a, b in zip(digits, optimum, strict=True)) / 6


def planted(digits):
    """A score with one optimum, 131313, and no local one."""
    return near(digits, "131313")


# -- local search


def test_local_search_climbs_and_starts_again():
    """Every neighbour is one edit from the best of its walk; nothing is asked for twice; it restarts at an optimum."""
    search = TableSearch("local_search", 0, 60, score=planted).run()
    digits = search.digits
    assert len({trial.key for trial in search.trials}) == len(search.trials) == 60
    best, origins = None, []
    for trial in search.trials:
        operator, row = trial.proposal.origin.operator, digits(trial.proposal.graph)
        origins.append(operator)
        if operator == "restart":
            best = row
            continue
        assert sum(a != b for a, b in zip(row, best, strict=True)) == 1
        best = max(best, row, key=planted) if planted(row) > planted(best) else best
    assert "131313" in search.rows
    assert origins[0] == "restart"
    assert "restart" in origins[1:]


def test_local_search_goes_to_what_it_knows():
    """Where all neighbours are known and one is better, the walk goes on from there at no cost."""
    space = load_space("nb201")
    strategy = load_strategy("local_search")(setup_on(space))
    graph = Digits(space).graph("131310")
    near = list({one.key(): one for one in space.neighbours(graph)}.values())
    start = proposal("t", "restart", 0, graph)
    told = [measured(1, start, 0.5, space)]
    told += [measured(i + 2, proposal("t", "t", 1, one), 0.4, space) for i, one in enumerate(near)]
    strategy.tell(told)
    assert strategy.current == graph
    strategy.known[near[3].key()] = 0.9
    asked = strategy.ask(2, np.random.default_rng(0), context(2))
    assert {one.origin.parents for one in asked} == {(near[3].key(),)}


# -- evolution


def test_a_repeat_enters_the_population_with_the_score_it_had():
    """As in the paper, where it is trained again; here the score is known. A repeat of what failed does not."""
    space = load_space("nb201")
    strategy = Evolution(setup_on(space), population=2)
    left, right = (measured(n, proposal("t", "t", 0, graph), score, space)
                   for n, graph, score in zip((1, 2), space.prior()[:2], (0.9, 0.5), strict=True))
    strategy.tell([left, right, left.model_copy(update={"n": 3, "status": "duplicate", "trained": {},
                                                        "duplicate_of": 1})])
    assert [value for value, _ in strategy.population] == [0.5, 0.9]


# -- reinforcement learning


def test_reinforce_learns_a_planted_optimum():
    """Its last draws are better than its first and than random ones."""
    def late(name, seed):
        search = TableSearch(name, seed, 150, score=planted).run(asks=300)
        return np.mean([planted(search.digits(trial.proposal.graph)) for trial in search.trials[-30:]])

    learnt, random = ([late(name, seed) for seed in range(5)] for name in ("reinforce", "random"))
    assert np.mean(learnt) > np.mean(random) + 0.3


def test_the_gradient_is_that_of_the_log_probability():
    """Against finite differences, attributes included."""
    space = load_space("convnet")
    strategy = load_strategy("reinforce")(setup_on(space))
    policy, rng = strategy.policy, np.random.default_rng(0)
    policy.logits = rng.normal(size=policy.logits.shape)
    graph = policy.draw(policy.probabilities(), rng)

    def log_probability():
        p = policy.probabilities()
        return sum(np.log(p[policy._at[decision][0] + policy._options[decision].index(value)])
                   for node in graph.nodes for decision, value in policy._taken(node))

    slope = policy.gradient(graph, 1.0, 0.0)
    for i in rng.choice(len(slope), 40, replace=False):
        policy.logits[i] += 1e-6
        high = log_probability()
        policy.logits[i] -= 2e-6
        low = log_probability()
        policy.logits[i] += 1e-6
        assert slope[i] == pytest.approx((high - low) / 2e-6, abs=1e-6)


# -- proxies first


def test_proxy_warm_starts_from_the_best_by_proxies():
    """The first population is the top of the draws by params and the space's other proxy."""
    space = load_space("nb201")
    strategy = load_strategy("proxy_warm")(setup_on(space))
    seen = []

    def screen(graphs):
        seen.extend(graphs)
        return [Screened(counts=(counts := space.network(graph).counts), scores={"jacov": float(counts.params)})
                for graph in graphs]

    ctx = Context(step=0, trials=(), rules=(), deadline=1e9, emit=lambda body: body, reply=lambda call: None,
                  save=lambda record: "", screen=screen)
    asked = strategy.ask(3, np.random.default_rng(0), ctx)
    params = sorted((space.network(graph).counts.params for graph in seen), reverse=True)
    assert len(seen) == 300
    assert sorted((space.network(one.graph).counts.params for one in asked), reverse=True) == params[:3]
    assert {one.origin.operator for one in asked} == {"warm"}


def test_the_loop_screens_for_a_strategy_and_charges(tmp_path):
    """A quarter of the proposals of the plan are screened for the first population; the log has them."""
    store, search = open_search(tmp_path / "run", toy_settings(strategy="proxy_warm", max_evals=12, budget_s=1e6))
    with store:
        search.run()
        pools = store.state.pools
        assert sum(pool.graphs for pool in pools.values()) == store.state.plan.proposals // 4
        assert store.state.spent.screen_s >= sum(pool.seconds for pool in pools.values()) > 0


def test_the_limit_on_proxies_counts_what_a_strategy_screened(tmp_path):
    """With --screen 6 the pool is scored six times, and no proposal after that."""
    limits = []

    class Counting(InstantEvaluator):
        def screen(self, graphs, scored, limit_s):
            limits.append(scored)
            return [one.model_copy(update={"scores": {"a": 1.0, "b": 1.0, "c": 1.0}}) if i < scored else one
                    for i, one in enumerate(super().screen(graphs, scored, limit_s))]

    store, search = open_search(tmp_path / "run", toy_settings(strategy="proxy_warm", max_evals=4, screen=6,
                                                               budget_s=1e6),
                                evaluator=Counting(load_space("nb201")))
    with store:
        search.run()
    assert limits[0] == 6
    assert set(limits[1:]) == {0}


# -- Bayesian optimisation under limits


def test_bayesian_keeps_a_latency_it_has_to_learn():
    """The best design and most random ones break the limit: it learns to keep it and finds the best that does."""
    space = load_space("nb201")
    setup = Setup(space=space, settings=Settings(space="nb201", max_latency_ms=5.0), shape=space.spec.shape,
                  classes=10, targets=("cpu",))
    strategy, digits, trials = Bayesian(setup), Digits(space).digits, []
    for step in range(40):
        for one in strategy.ask(2, np.random.default_rng([0, step]), context(step, trials)):
            row = digits(one.graph)
            ms = 0.5 + 3.0 * row.count("3") + 2.0 * row.count("2")
            violates = ("too slow",) if ms > 5.0 else ()
            trial = measured(len(trials) + 1, one, None if violates else near(row, "111213"), space)
            trials.append(trial.model_copy(update={"violates": violates, "latency": {
                "cpu": Latency(ms=ms, low=ms, high=ms, device="cpu", source="table")}}))
            strategy.tell(trials[-1:])
    drawn, fitted = ([not trial.violates for trial in trials if trial.proposal.origin.operator == operator]
                     for operator in ("random", "surrogate"))
    assert np.mean(drawn) < 0.4
    assert np.mean(fitted) > 0.5
    assert max(trial.score for trial in trials if trial.score is not None) == 5 / 6


def test_bayesian_skips_what_is_too_large():
    """A limit on parameters is exact: nothing above it is proposed once there is a fit."""
    space = load_space("nb201")
    setup = setup_on(space, max_params=400_000)
    strategy, trials = Bayesian(setup, initial=4), []
    for step in range(20):
        for one in strategy.ask(1, np.random.default_rng([1, step]), context(step, trials)):
            counts = space.network(one.graph).counts
            assert one.origin.operator == "random" or counts.params <= 400_000
            trial = measured(len(trials) + 1, one, 0.5 + counts.params / 1e7, space)
            trials.append(trial if counts.params <= 400_000 else trial.model_copy(
                update={"violates": ("too large",), "trained": {}}))
            strategy.tell(trials[-1:])
    assert any(trial.proposal.origin.operator == "surrogate" for trial in trials)


# -- the published table


@pytest.mark.parametrize(("name", "seeds", "low", "high"), [
    ("random", 20, 93.6, 93.95), ("evolution", 20, 93.9, 94.3), ("local_search", 20, 94.15, 94.37),
    ("nsga2", 20, 93.8, 94.3), ("reinforce", 20, 93.85, 94.37), ("bayesian", 6, 94.2, 94.38)])
def test_accuracy_on_nas_bench_201(name, seeds, low, high):
    """Mean CIFAR-10 test accuracy of the best after 100 distinct rows; bounds are four standard errors."""
    table()
    found = [TableSearch(name, seed).run().test_accuracy() for seed in range(seeds)]
    assert low <= np.mean(found) <= high


def test_counts_are_not_needed():
    """A trial without counts, as an old log may have, is passed over or taken without them."""
    space = load_space("nb201")
    trial = measured(1, proposal("t", "t", 0, space.prior()[0]), 0.5, space).model_copy(update={"counts": None})
    for name in ("nsga2", "bayesian", "reinforce", "local_search", "evolution"):
        strategy = load_strategy(name)(setup_on(space))
        strategy.tell([trial])
        assert strategy.ask(1, np.random.default_rng(0), context(1, [trial]))
