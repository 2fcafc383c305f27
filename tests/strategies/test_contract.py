"""Every classical strategy keeps the contract."""

from dataclasses import replace

import pytest

from llmnas.errors import InputError
from llmnas.llm import open_model
from llmnas.prompts import load_prompt
from llmnas.records import Latency, Settings
from llmnas.space import load_space
from llmnas.strategies import Setup, load_strategy
from llmnas.strategies.base import proposal
from llmnas.testing.strategy import StrategyContract, measured


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
