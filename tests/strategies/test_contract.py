"""Every classical strategy keeps the contract."""

import pytest

from llmnas.errors import InputError
from llmnas.llm import open_model
from llmnas.prompts import load_prompt
from llmnas.strategies import load_strategy
from llmnas.testing.strategy import StrategyContract


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


def test_unknown_strategy_names_the_nearest():
    """A misspelt strategy gets the nearest name."""
    with pytest.raises(InputError, match="did you mean 'evolution'"):
        load_strategy("evolutoin")
    with pytest.raises(InputError, match="cannot load"):
        load_strategy("no.such.module:Thing")
