"""The contract of every prompt set that ships, on every space, in every role; and what its dials do."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from llmnas.agent import Agent, preview
from llmnas.agent.agent import AgentOptions
from llmnas.errors import InputError
from llmnas.llm import read_block
from llmnas.llm.mock import MockModel
from llmnas.prompts import ROLES, list_prompts, load_prompt, token_estimate
from llmnas.records import Issue, Proposal, Rule, Settings, Trial
from llmnas.space import list_spaces, load_space
from llmnas.testing.strategy import context

PROMPTS = [one.name for one in list_prompts()]
RULE = Rule(text="Deeper is better.", supports=(1, 2))


def test_what_ships():
    assert PROMPTS == ["anonymous", "base", "no_reflection", "terse"]
    assert not load_prompt("terse").shows.facts
    assert not load_prompt("no_reflection").reflects
    assert load_prompt("anonymous").hides_ops


@pytest.mark.parametrize("space", list_spaces())
@pytest.mark.parametrize("name", PROMPTS)
def test_every_set_on_every_space(name, space):
    """Each call is rendered, its block is read back, and its size is told; a set that asks for no rules says so."""
    prompts = load_prompt(name)
    for trained in (True, False):
        scene = preview.example(load_space(space), trained=trained)
        for role in ROLES:
            if role == "reflect" and not (trained and prompts.reflects):
                with pytest.raises(InputError, match="reflect call"):
                    preview.next_messages(scene, prompts, role)
                continue
            messages = preview.next_messages(scene, prompts, role)
            block = read_block(messages)
            assert (block["role"], [message.role for message in messages]) == (role, ["system", "user"])
            assert {"space", "topology", "objective"} <= block.keys()
            assert len(block["exemplars"]) == (3 if role == "propose" and trained else 0)
            assert token_estimate(messages) > 50


def scene(**settings):
    """A moment with everything there is to show: trials, faults, rules, limits."""
    found = preview.example(load_space("nb201"))
    broken = Trial(n=9, proposal=Proposal(raw={}, graph=None, issues=(
        Issue(code="cycle", at="nodes", says="a cycle", fix="Break the cycle."),),
        origin=found.trials[0].proposal.origin), status="invalid")
    own = Settings(space="nb201", max_params=10**7, max_latency_ms=5.0, **settings)
    return replace(found, setup=replace(found.setup, settings=own), trials=[*found.trials, broken], rules=[RULE])


def shown(prompt):
    messages = preview.next_messages(scene(), load_prompt(prompt), "propose")
    return messages[1].content, read_block(messages)


SIGNS = {"facts": "% of params", "failures": "Break the cycle.", "constraint": "10000000", "rules": RULE.text}


@pytest.mark.parametrize(("option", "gone"), [("facts=no", "facts"), ("failures=no", "failures"),
                                              ("constraint=no", "constraint"), ("rules=0", "rules")])
def test_each_dial_takes_one_thing_away(option, gone):
    """One flag, one kind of information, in the text and in the block; all else is the same."""
    text, block = shown(f"base:{option}")
    assert {name for name, sign in SIGNS.items() if sign not in text} == {gone}
    whole = shown("base")[1]
    assert {key for key in whole if block[key] != whole[key]} == (
        {"limits"} if gone == "constraint" else {"rules"} if gone == "rules" else set())
    assert all(sign in shown("base")[0] for sign in SIGNS.values())


def test_how_many_exemplars():
    """None takes the facts about them along; the best is always among them; more than there are is all."""
    assert [len(shown(f"base:exemplars={n}")[1]["exemplars"]) for n in (0, 1, 2, 5, 12)] == [0, 1, 2, 5, 8]
    assert shown("base:exemplars=1")[1]["exemplars"][0]["score"] == max(
        trial.score for trial in scene().trials if trial.score)
    assert SIGNS["facts"] not in shown("base:exemplars=0")[0]


def test_what_is_varied_has_an_id_of_its_own():
    """The id says what differs from the set's own settings, in one order, and the hash differs too."""
    ids = [load_prompt(f"base{tail}").id for tail in ("", ":exemplars=0", ":facts=no", ":facts=no:exemplars=0")]
    assert [one.partition("@")[0] for one in ids] == ["base", "base:exemplars=0", "base:facts=no",
                                                      "base:exemplars=0:facts=no"]
    assert len({one.partition("@")[2] for one in ids}) == 4
    assert load_prompt("base:exemplars=3:facts=yes").id == ids[0]
    assert load_prompt("anonymous:facts=true").id.startswith("anonymous:facts=yes@")


@pytest.mark.parametrize(("prompt", "says"), [
    ("base:exmplars=1", "prompt base has no option 'exmplars'.*did you mean 'exemplars'"),
    ("base:exemplars", "expected exemplars=VALUE"), ("base:exemplars=", "expected exemplars=VALUE"),
    ("base:exemplars=13", "option exemplars: .*12.*got 13"), ("base:exemplars=-1", "option exemplars"),
    ("base:facts=maybe", "option facts: .*boolean.*got 'maybe'"), ("base:", "nothing follows the colon"),
    ("bas:facts=no", "unknown prompt 'bas'"), ("terse:facts=yes", "never writes facts, so facts changes nothing"),
    ("terse:failures=no", "never writes failures")])
def test_variations_that_cannot_be(prompt, says):
    with pytest.raises(InputError, match=says):
        load_prompt(prompt)


@pytest.mark.parametrize("prompt", ["no_reflection", "base:rules=0"])
def test_no_reflection_means_no_call(prompt):
    """Nobody is asked for rules, and none that are there are shown; base asks at the same step."""
    moment = scene()
    for name, roles in ((prompt, {"propose"}), ("base", {"propose", "reflect"})):
        emitted = []
        ctx = replace(context(4, moment.trials), rules=(RULE,), emit=emitted.append)
        alone = AgentOptions(probe=False, surrogate=False, operators=False)
        Agent(replace(moment.setup, model=MockModel(0), prompts=load_prompt(name)), alone).ask(
            4, np.random.default_rng(0), ctx)
        assert {body.role for body in emitted if body.kind == "called"} - {"repair"} == roles
    assert RULE.text not in shown(prompt)[0]


def command(*arguments):
    """Runs a command, which must end well and import neither torch nor openai."""
    code = ("import sys\nfrom llmnas.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n"
            "    assert not end.code, end.code\nassert not {'torch', 'openai'} & set(sys.modules)")
    found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found


def test_render_on_the_command_line():
    """The text goes to stdout, its size and what is made up to stderr; no torch, no openai."""
    found = command("prompts", "render", "anonymous", "--role", "repair", "--space", "conv1d_cell")
    assert "op_a" in found.stdout
    assert "nor_conv" not in found.stdout
    assert "an estimate, a quarter of the characters" in found.stderr
    assert "scores and latencies are made up" in found.stderr
    as_json = json.loads(command("prompts", "render", "base:facts=no", "--first", "--json").stdout)
    assert as_json["prompt"].startswith("base:facts=no@b2:")
    assert as_json["tokens"] == sum(len(one["content"]) for one in as_json["messages"]) // 4
    assert as_json["note"] == ""


def test_differences_of_what_is_sent():
    text = command("prompts", "diff", "base", "base:failures=no", "--rendered").stdout
    assert text == ""  # the example has no faults to show
    text = command("prompts", "diff", "base", "no_reflection", "--rendered").stdout
    assert text.startswith("--- base/reflect\n+++ no_reflection/reflect\n")
