"""Every classical strategy keeps the contract."""

from dataclasses import replace
from pathlib import Path

import pytest

from llmnas.errors import InputError
from llmnas.llm import open_model
from llmnas.prompts import load_prompt
from llmnas.records import Latency, Settings
from llmnas.space import load_space
from llmnas.strategies import STRATEGIES, Setup, load_strategy
from llmnas.strategies.base import GLOSSES, proposal
from llmnas.strategies.bayesian import Bayesian
from llmnas.strategies.bayesian_front import BayesianFront
from llmnas.strategies.nsga2 import Nsga2
from llmnas.testing.strategy import StrategyContract, measured
from tests.search.loop import InstantEvaluator, open_search, toy_settings


class TestRandom(StrategyContract):
    def make(self, setup):
        return load_strategy("random")(setup)


class TestRandomConvnet(TestRandom):
    space_name = "convnet"


class TestEvolution(StrategyContract):
    def make(self, setup):
        return load_strategy("evolution")(setup)


class TestEvolutionOpen(TestEvolution):
    space_name = "open"


class TestPrior(StrategyContract):
    def make(self, setup):
        return load_strategy("prior")(setup)


class TestAgentWithMock(StrategyContract):
    def make(self, setup):
        import dataclasses

        setup = dataclasses.replace(setup, model=open_model("mock:3"), prompts=load_prompt("base"))
        return load_strategy("agent")(setup)


class TestAgentOnConvnet(TestAgentWithMock):
    space_name = "convnet"


class TestAgentWithFaultyMock(TestAgentWithMock):
    def make(self, setup):
        import dataclasses

        model = open_model("mock:3,invalid=0.3,truncated=0.2,duplicate=0.2,refused=0.1")
        return load_strategy("agent")(dataclasses.replace(setup, model=model, prompts=load_prompt("terse")))


class TestEvolutionWithAnAim(TestEvolution):
    def make(self, setup):
        return load_strategy("evolution")(replace(setup, settings=Settings(space="nb201", aim_latency_ms=1.0)))


class TestLocalSearch(StrategyContract):
    def make(self, setup):
        return load_strategy("local_search")(setup)


class TestLocalSearchConvnet(TestLocalSearch):
    space_name = "convnet"


class TestLocalSearchOpen(TestLocalSearch):
    space_name = "open"


class TestNsga2(StrategyContract):
    def make(self, setup):
        return Nsga2(setup, population=4)


class TestNsga2Convnet(TestNsga2):
    space_name = "convnet"


class TestNsga2Open(TestNsga2):
    space_name = "open"


class TestReinforce(StrategyContract):
    def make(self, setup):
        return load_strategy("reinforce")(setup)


class TestReinforceConvnet(TestReinforce):
    space_name = "convnet"


class TestProxyWarm(StrategyContract):
    def make(self, setup):
        return load_strategy("proxy_warm")(setup)


class TestBayesian(StrategyContract):
    def make(self, setup):
        return Bayesian(setup, initial=5)


class TestBayesianConvnet(TestBayesian):
    space_name = "convnet"


class TestBayesianOpen(TestBayesian):
    space_name = "open"


class TestBayesianFront(StrategyContract):
    def make(self, setup):
        return BayesianFront(setup, initial=5)


class TestSuccessiveHalving(StrategyContract):
    def make(self, setup):
        return load_strategy("successive_halving")(setup)


class TestSuccessiveHalvingOpen(TestSuccessiveHalving):
    space_name = "open"


class TestSuccessiveHalvingOnATable(TestSuccessiveHalving):
    def make(self, setup):
        return super().make(replace(setup, shares=(0.25, 0.5, 0.75, 1.0)))


class TestProxyWarmConvnet(TestProxyWarm):
    space_name = "convnet"


TINY = """
name: tiny
title: Eight designs
why: A space that is soon used up.
source: none
input: image
shape: [1, 8, 8]
classes: 10
skeleton: {kind: plain}
chain:
  - {id: a, choices: {conv_block: {channels: [4, 8], kernel: [3, 5], stride: 1}}}
  - {id: b, choices: {conv_block: {channels: [4, 8], kernel: 3, stride: 1}}}
"""


FITTED = {"darts", "one_shot"}  # tests/strategies/test_gradient.py
LED = {"agent", "best_of_n", "shuffled"}  # by a language model: tests/agent


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - LED - {"none", "prior"} - FITTED))
def test_a_space_that_is_used_up_ends_the_search(name, tmp_path):
    """Every strategy finds all eight designs, and the search ends by itself and says why."""
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    settings = toy_settings(space=str(file), strategy=name, budget_s=1e6)
    store, search = open_search(tmp_path / "run", settings,
                                evaluator=InstantEvaluator(load_space(str(file)), fail=False))
    with store:
        assert search.run().reason == "space_exhausted"
        assert len(store.state.first) == 8


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - LED - {"none"} - FITTED))
def test_killed_and_resumed_is_the_same_search(name, tmp_path):
    """A run stopped after five evaluations and resumed proposes what a run left alone does; failures happen in both."""
    def keys(directory, *limits):
        for n, limit in enumerate(limits):
            store, search = open_search(directory, toy_settings(strategy=name, budget_s=1e6), create=n == 0)
            search.interrupted = lambda state=store.state, limit=limit: state.spent.evaluations >= limit
            with store:
                search.run()
                found = [trial.key for trial in store.state.trials]
        return found

    assert keys(tmp_path / "a", 5, 16) == keys(tmp_path / "b", 16)


def test_evolution_lives_by_the_reward():
    """With an aim the population holds rewards: the fast design wins a tournament against the more accurate one."""
    space = load_space("nb201")
    setup = Setup(space=space, settings=Settings(aim_latency_ms=1.0), shape=(1, 8, 8), classes=10, targets=("cpu",))
    graphs = space.prior()[:2]
    trials = [measured(n, proposal("t", "t", 0, graph), score, space).model_copy(update={"latency": {"cpu": Latency(
        ms=ms, low=ms, high=ms, device="cpu", source="measured")}})
        for n, graph, score, ms in ((1, graphs[0], 0.8, 1.0), (2, graphs[1], 0.9, 100.0))]
    strategy = load_strategy("evolution")(setup)
    strategy.tell([*trials, trials[0].model_copy(update={"latency": {}})])
    assert [graph for _, graph in strategy.population] == graphs
    assert max(strategy.population, key=lambda member: member[0])[1] == graphs[0]


def test_unknown_strategy_names_the_nearest():
    """A misspelt strategy gets the nearest name."""
    with pytest.raises(InputError, match="did you mean 'evolution'"):
        load_strategy("evolutoin")
    with pytest.raises(InputError, match="cannot load"):
        load_strategy("no.such.module:Thing")


def test_every_strategy_has_a_line_and_stands_in_the_help():
    """Names, glosses and the option's help agree."""
    from llmnas.cli.work import STRATEGY_HELP

    assert list(GLOSSES) == list(STRATEGIES)
    assert STRATEGY_HELP.removesuffix(".").split(", ")[:-1] == [name for name in STRATEGIES if name != "none"]


def test_reinforce_names_the_spaces_it_works_on():
    """A free wiring has no list of decisions."""
    space = load_space("open")
    with pytest.raises(InputError, match="convnet"):
        load_strategy("reinforce")(Setup(space=space, settings=Settings(), shape=space.spec.shape, classes=10))


WRITTEN_ELSEWHERE = {"agent", "agent-nollm", "best_of_n", "shuffled", "darts", "one_shot"}


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - WRITTEN_ELSEWHERE))
def test_every_strategy_has_a_page_and_stands_in_the_index(name):
    """A page says the idea, when to use it and figures, or that there are none; the index links it."""
    docs = Path(__file__).resolve().parents[2] / "docs"
    page = (docs / "strategies" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    assert name == "none" or all(part in page for part in ("**Settings.**", "**When.**", "## Figures", "llmnas bench"))
    assert f"strategies/{name}.md" in (docs / "strategies.md").read_text(encoding="utf-8")
