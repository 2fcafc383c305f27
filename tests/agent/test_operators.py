"""The bandit over operators, niches, rules that expire, placebos and the controls."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from llmnas.agent import Agent, BestOfN, NoModel, Shuffled
from llmnas.agent.agent import AgentOptions
from llmnas.agent.knowledge import LASTS, standing
from llmnas.agent.niches import chosen, niches
from llmnas.agent.operators import CODE_OPERATORS, MODEL_OPERATORS, PLATEAU, Earned, earned, gainful, on_plateau, shares
from llmnas.agent.placebo import seen_as
from llmnas.agent.probe import PROBE
from llmnas.errors import InputError
from llmnas.llm import open_model
from llmnas.llm.mock import MockModel
from llmnas.prompts import load_prompt
from llmnas.records import Called, Latency, Rule, Settings, Usage
from llmnas.space import load_space
from llmnas.strategies import Setup, load_strategy
from llmnas.strategies.base import proposal
from llmnas.strategies.prospects import Prospects
from llmnas.testing.strategy import StrategyContract, context, measured, trained

SPACE = load_space("nb201")
TASK = {"name": "toy", "shape": [3, 32, 32], "classes": 10, "metric": "accuracy", "sizes": {"train": 100}}


def setup(**more):
    settings = Settings(space="nb201", **{name: more.pop(name) for name in list(more) if name in Settings.model_fields})
    return Setup(**{"space": SPACE, "settings": settings, "shape": SPACE.spec.shape, "classes": 10,
                    "targets": ("cpu",), "model": MockModel(0), "prompts": load_prompt("base"), "task": TASK, **more})


def trial(n, score, operator="random", ms=1.0, **changes):
    graph = SPACE.sample(np.random.default_rng(n))
    found = measured(n, proposal("agent", operator, n, graph), score, SPACE)
    return found.model_copy(update={"latency": {"cpu": Latency(ms=ms, low=ms, high=ms, device="cpu", source="table")},
                                    **changes})


# -- the bandit


def test_what_pays_gets_more():
    """An operator with many gains is asked far more often than one with none, and that one is still tried."""
    found = {"one_edit": Earned(40, 20, 1.0), "random": Earned(40, 0, 1.0)}
    counts = shares(4000, found, np.random.default_rng(0))
    assert counts["one_edit"] > 20 * counts["random"]
    fresh = {"one_edit": Earned(4, 1, 1.0), "random": Earned(4, 0, 1.0)}
    assert shares(4000, fresh, np.random.default_rng(0))["random"] > 400


def test_what_costs_more_must_bring_more():
    """Equal gains at four times the cost: a fraction of the proposals."""
    counts = shares(4000, {"llm_fresh": Earned(20, 10, 4.0), "one_edit": Earned(20, 10, 1.0)}, np.random.default_rng(1))
    assert counts["llm_fresh"] < counts["one_edit"] / 10


def test_one_call_makes_all_of_the_models():
    """What the model's operators get goes to one of them; nothing is lost."""
    found = {name: Earned(1, 0, 1.0) for name in (*MODEL_OPERATORS, *CODE_OPERATORS)}
    for seed in range(40):
        counts = shares(8, found, np.random.default_rng(seed))
        assert counts.total() == 8
        assert sum(name in MODEL_OPERATORS for name in counts) <= 1


def test_on_a_plateau_all_explore_alike():
    """What was earned does not count then."""
    found = {"one_edit": Earned(40, 20, 1.0), "random": Earned(40, 0, 1.0)}
    counts = shares(4000, found, np.random.default_rng(0), wide=True)
    assert abs(counts["random"] - 2000) < 200


def test_gains_are_of_the_best_or_of_the_front():
    """A cheaper and worse trial is a gain for a front only; a trial that breaks a limit is none."""
    trials = [trial(1, 0.5, ms=2.0), trial(2, 0.4, ms=1.0), trial(3, 0.6, ms=3.0, violates=("x",)),
              trial(4, 0.55, ms=9.0)]
    assert [one.n for one in gainful(trials, setup())] == [1, 4]
    assert [one.n for one in gainful(trials, setup(front=True))] == [1, 2, 4]


def test_the_models_operators_cost_their_tokens():
    """A proposal by the model costs a screening and its share of the tokens."""
    calls = [Called(call="c", step=0, role="propose", prompt="p", model="m", mode="json", status="ok", finish="stop",
                    usage=Usage(attempts=1, input_tokens=15_000, output_tokens=1_000), file="f")]
    trials = [trial(n, 0.5, "llm_fresh" if n < 4 else "random") for n in range(1, 6)]
    found = earned(("llm_fresh", "random"), trials, calls, setup())
    assert found["llm_fresh"].cost == pytest.approx(1 + 16_000 / 3 / 2_000)
    assert found["random"].cost == 1.0
    assert (found["llm_fresh"].made, found["llm_fresh"].gains, found["random"].gains) == (3, 1, 0)


def test_returns_diminish_after_trainings_without_a_gain():
    """One more training without a gain than the plateau is long, and not before; a gain ends it."""
    flat = [trial(1, 0.9), *(trial(n, 0.5) for n in range(2, PLATEAU + 2))]
    assert not on_plateau(flat[:-1], setup())
    assert on_plateau(flat, setup())
    assert not on_plateau([*flat, trial(99, 0.95)], setup())


# -- niches


def points(n=80):
    prospects = Prospects(setup(milliseconds=lambda graph: 1.0 + sum(node.op == "nor_conv_3x3" for node in graph.nodes),
                                front=True))
    return [prospects.sized(SPACE.sample(np.random.default_rng(seed))) for seed in range(n)]


def test_niches_have_equal_mass_along_the_axis_that_tracks_cost():
    """Every one of 80 graphs lies in one, about as many in each; too few graphs give none."""
    found = points()
    parts = niches(found)
    sizes = [sum(niche.holds(point) for point in found) for niche in parts]
    assert len(parts) == 4
    assert all(15 <= size <= 40 for size in sizes)
    assert all(any(niche.holds(point) for niche in parts) for point in found)
    assert {niche.axis for niche in parts} <= {"macs", "params"}
    assert niches(found[:10]) == []


def test_the_niche_is_drawn_by_what_its_candidates_promise():
    """All promise in one niche: it is the one."""
    found = points()
    parts = niches(found)
    gains = np.array([1.0 if parts[2].holds(point) and not parts[1].holds(point) and not parts[3].holds(point) else 0.0
                      for point in found])
    assert {chosen(parts, found, gains, np.random.default_rng(seed)) for seed in range(20)} == {parts[2]}
    assert chosen([], found, gains, np.random.default_rng(0)) is None


# -- rules and placebos


def test_rules_expire_and_must_hit():
    """A rule that was not confirmed for long, or with more against than for it, is not shown."""
    rules = [Rule(text="old", supports=(1,), step=0), Rule(text="wrong", supports=(1,), contradicts=(2, 3), step=9),
             Rule(text="good", supports=(1, 2), contradicts=(3,), step=9)]
    assert [rule.text for rule in standing(rules, LASTS + 1)] == ["good"]
    assert rules[2].hit_rate == pytest.approx(2 / 3)


def test_shuffled_scores_are_the_same_scores_elsewhere():
    """Only results move; the model without a history sees no trial."""
    trials = [trial(n, n / 20) for n in range(1, 15)]
    found = seen_as(trials, "shuffled", np.random.default_rng(0))
    assert sorted(one.score for one in found) == sorted(one.score for one in trials)
    assert [one.score for one in found] != [one.score for one in trials]
    assert [one.proposal for one in found] == [one.proposal for one in trials]
    assert list(seen_as(trials, "none", np.random.default_rng(0))) == []
    assert seen_as(trials, "true", np.random.default_rng(0)) is trials


# -- the strategies


class TestAgent(StrategyContract):
    def make(self, setup_):
        return Agent(replace(setup_, model=MockModel(0), prompts=load_prompt("base")))


class TestAgentOnOpenGraphs(TestAgent):
    space_name = "open"


class TestNoModel(StrategyContract):
    def make(self, setup_):
        return NoModel(setup_)


class TestBestOfN(StrategyContract):
    def make(self, setup_):
        return BestOfN(replace(setup_, model=MockModel(0), prompts=load_prompt("base")))


class TestShuffled(StrategyContract):
    def make(self, setup_):
        return Shuffled(replace(setup_, model=MockModel(0), prompts=load_prompt("base")))


def play(agent, steps, n=8):
    """Plays an agent without a pool; what is proposed with share 0 waits as screened."""
    trials, asked = [], []
    for step in range(steps):
        made = agent.ask(n, np.random.default_rng([0, step]), context(step, trials))
        asked.append(made)
        for one in made:
            if one.promotes is not None:
                done = trials[one.promotes - 1]
                scored = trained(done, 0.5 + done.counts.params / 1e7)
                trials[done.n - 1] = scored
                agent.tell([scored])
                continue
            scored = measured(len(trials) + 1, one, None, SPACE)
            if scored.key in {other.key for other in trials}:
                scored = scored.model_copy(update={"status": "duplicate", "duplicate_of": 1})
            elif one.share > 0:
                scored = measured(scored.n, one, 0.5 + scored.counts.params / 1e7, SPACE)
            trials.append(scored)
            agent.tell([scored])
    return trials, asked


def test_what_the_model_proposes_waits_and_is_promoted():
    """Known-good designs come first; one design is trained an ask; the model's are among those promoted later."""
    trials, asked = play(Agent(setup()), 20)
    first = [one for made in asked[:2] for one in made if one.origin.operator == "prior"]
    assert 0 < len(first) <= PROBE
    for made in asked:
        assert sum(one.share > 0 for one in made) == 1
    operators = Counter(one.proposal.origin.operator for one in trials if one.score is not None)
    assert operators["prior"] >= 5
    assert sum(operators[name] for name in MODEL_OPERATORS) >= 1
    assert any(one.promotes is not None for made in asked[8:] for one in made)


def test_parts_can_be_switched_off():
    """Without the model nothing is asked; without code operators only the model proposes."""
    trials, _ = play(NoModel(setup(model=None)), 6)
    assert not any(one.proposal.origin.call for one in trials)
    alone = load_strategy("agent:operators=no:surrogate=no")(setup(prior=False))
    assert {one.origin.operator for one in alone.ask(4, np.random.default_rng(0), context(0))} <= set(MODEL_OPERATORS)
    assert not load_strategy("agent:model=no").uses_model
    with pytest.raises(InputError, match="history"):
        load_strategy("agent:history=false")


def test_best_of_n_sees_nothing():
    """Its prompts hold no exemplars, rules or failures, whatever was measured."""
    model = MockModel(0)
    asked = []
    chat = model.chat
    model.chat = lambda messages, *rest: asked.append(messages[1].content) or chat(messages, *rest)
    agent = BestOfN(setup(model=model, prior=False))
    agent.ask(1, np.random.default_rng(0), context(8, [trial(n, n / 20) for n in range(1, 12)]))
    assert len(asked) == 1
    assert '"exemplars":[]' in asked[0].replace(" ", "")
    assert "Measured so far" not in asked[0]


def test_an_unknown_option_is_named():
    """`AgentOptions` are the options of the command line."""
    assert AgentOptions().history == "true"
    with pytest.raises(InputError, match="niche"):
        load_strategy("agent:niche=no")
    assert open_model("mock:0").instant
