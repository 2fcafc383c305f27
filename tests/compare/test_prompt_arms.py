"""Prompts as arms: one grammar, one folder, statistics as for strategies, and what the proposals were worth."""

import json
import shutil

import pytest
import typer
from typer.testing import CliRunner

from llmnas.bench.comparing import compare_on_table
from llmnas.bench.launching import Launch, Task
from llmnas.bench.meter import Terms
from llmnas.bench.seeds import Place
from llmnas.cli import compare as compare_cli
from llmnas.cli import prompting
from llmnas.compare import Answers, parse_arms
from llmnas.compare.rates import answer_rates, answers
from llmnas.compare.results import RESULTS, read_results
from llmnas.errors import InputError, RunError
from llmnas.graph import Issue
from llmnas.prompts import load_prompt
from llmnas.records import Origin, Proposal, Trial
from tests.compare.conftest import made_up

TERMS = Terms("", 12, llm="mock", prior=False)


@pytest.fixture
def place(tables):
    return Place(tables, "toy", "c10")


@pytest.fixture
def invoke(tables):
    app = typer.Typer()
    compare_cli.register(app)
    prompting.register(app)
    return lambda *arguments: CliRunner().invoke(app, list(arguments), env={"LLMNAS_DATA": str(tables)})


def test_the_grammar():
    """A strategy, the prompt behind @, the stream behind #; names for files hold no slash."""
    arms = parse_arms("random,agent@base,agent@base,agent@base:facts=no,agent@/tmp/mine#3,darts:order=2")
    assert [(arm.label, arm.strategy, arm.prompt, arm.stream) for arm in arms] == [
        ("random", "random", None, 1), ("agent@base", "agent", "base", 1), ("agent@base#2", "agent", "base", 2),
        ("agent@base:facts=no", "agent", "base:facts=no", 1), ("agent@/tmp/mine#3", "agent", "/tmp/mine", 3),
        ("darts:order=2", "darts:order=2", None, 1)]
    assert [arm.file for arm in arms][3:] == ["agent@base:facts=no", "agent@%2Ftmp%2Fmine#3", "darts:order=2"]
    for text, says in (("agent@", "NAME@PROMPT"), ("@base", "NAME@PROMPT"), ("agent@base,agent@base#1", "named twice")):
        with pytest.raises(InputError, match=says):
            parse_arms(text)


def test_two_prompts_and_one_twice(place, invoke, tmp_path):
    """An A/A pair is not decided; wording is nothing to the mock, which the answer says; tokens tell prompts apart."""
    options = ["--bench", "toy", "--seeds", "8", "--evals", "12", "--llm", "mock", "--workers", "1", "--no-prior",
               "--out", str(tmp_path / "ab"), "--html", str(tmp_path / "ab.html")]
    done = invoke("prompts", "ab", "base", "base", "terse", *options, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    pairs = {pair["arm"]: pair for pair in found["pairs"] if pair["measure"] == found["by"]}
    assert (found["reference"], set(pairs)) == ("agent@base", {"agent@base#2", "agent@terse"})
    assert {pair["verdict"] for pair in found["pairs"]} == {"not decided"}
    assert pairs["agent@terse"]["ties"] >= 4  # tokens are what an operator costs, so the bandit may choose otherwise
    base, again, terse = found["arms"]
    assert base["prompt"] == again["prompt"] == load_prompt("base").id
    assert base["answers"] != again["answers"]
    assert min(arm["answers"]["valid at once"]["of"] for arm in (base, terse)) > 50
    assert base["charges"]["input_tokens"] > 1.3 * terse["charges"]["input_tokens"]
    assert base["charges"]["usd"] == 0
    assert base["model"] == "mock:0:prior=0"  # --no-prior takes the known-good designs from the mock too
    assert found["notes"][0].startswith("The mock reads the JSON block alone")
    text = invoke("prompts", "ab", "base", "base", "terse", *options)
    assert "24 of 24 searches" in text.stderr
    assert "No language model took part" in text.stdout
    assert "agent@terse (mock)" in text.stdout
    assert "valid at once" in text.stdout
    assert "tokens in" in text.stdout
    assert "own proposals alone" in (tmp_path / "ab.html").read_text()
    one, other = parse_arms("agent@base,agent@terse")
    compare_on_table(place, [one, other], TERMS, 8, tmp_path / "alone")
    by_arm = [{one.model_copy(update={"charges": None}).model_dump_json() for one in read_results(folder / RESULTS)
               if one.arm != "agent@base#2"} for folder in (tmp_path / "ab", tmp_path / "alone")]
    assert by_arm[0] == by_arm[1]


def test_what_is_not_to_be_compared(place, invoke, tmp_path):
    """One prompt, a strategy that asks nobody, an unknown prompt or dial: said before anything is searched."""
    for arguments, says in ((["prompts", "ab", "base"], "needs two prompts"),
                            (["compare", "--bench", "toy", "--strategies", "random@base,agent"], "asks no language"),
                            (["compare", "--bench", "toy", "--strategies", "random,agent@bse"], "did you mean 'base'"),
                            (["compare", "--bench", "toy", "--strategies", "random,agent", "--prompt", "base:x=1"],
                             "has no option 'x'"),
                            (["prompts", "ab", "base", "base:facts=2", "--bench", "toy"], "option facts")):
        done = invoke(*arguments, *(["--out", str(tmp_path)] if "toy" in arguments else []))
        assert isinstance(done.exception, InputError)
        assert says in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_a_prompt_that_changed_is_another_one(place, tmp_path):
    """What was asked with other words is not gone on with under the same label."""
    mine = tmp_path / "mine"
    shutil.copytree(load_prompt("terse").folder, mine)
    arms = parse_arms(f"random,agent@{mine}")
    compare_on_table(place, arms, TERMS, 2, tmp_path / "out")
    (mine / "system.j2").write_text("Answer with JSON.\n")
    with pytest.raises(RunError, match=r"was asked with mine@b2:.*restore the prompt"):
        compare_on_table(place, arms, TERMS, 2, tmp_path / "out")
    compare_on_table(place, parse_arms("random,agent@base"), TERMS, 2, tmp_path / "out")


def test_a_run_gets_the_prompt_of_its_arm(tmp_path):
    task = Task("digits", prompt="terse")
    given = [Launch(task, arm, 0, tmp_path / "none").arguments() for arm in parse_arms("agent,agent@base:rules=0")]
    assert [one[one.index("--prompt") + 1] for one in given] == ["terse", "base:rules=0"]


def trial(n, status="trained", call="c", repairs=0):
    issues = (Issue(code="cycle", at="nodes", says="x", fix="y"),) if status == "invalid" else ()
    return Trial(n=n, status=status, proposal=Proposal(raw={}, graph=None, issues=issues, origin=Origin(
        strategy="agent", operator="llm_propose" if call else "one_edit", step=0, call=call, repairs=repairs)))


def test_what_proposals_were_worth():
    """Only those of the model count; repaired ones are valid, but not at once; unknown stays unknown."""
    found = answers([trial(1), trial(2, call=None), trial(3, "invalid", repairs=2), trial(4, repairs=1),
                     trial(5, "duplicate"), trial(6, "duplicate", call=None)])
    assert found == Answers(proposals=4, repaired=1, invalid=1, duplicate=1)
    one = made_up("a", 0, [0.5]).model_copy(update={"answers": found})
    rates = answer_rates([one, one])
    assert {name: (rate["count"], rate["of"]) for name, rate in rates.items()} == {
        "valid at once": (4, 8), "valid": (6, 8), "duplicate": (2, 8)}
    # Wilson's interval for 4 of 8 by hand: (.5 + z²/16 ± z·√(.25/8 + z²/256)) / (1 + z²/8), z = 1.96.
    assert (rates["valid at once"]["low"], rates["valid at once"]["high"]) == pytest.approx((0.2152, 0.7848), abs=1e-4)
    assert answer_rates([one, made_up("a", 1, [0.5])]) is None
