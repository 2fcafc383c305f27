"""What other packages add: found by entry point, used like our own, kept apart when broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmnas.errors import InputError
from llmnas.plugins import is_path, load_path
from llmnas.store import read_run
from tests.plugins.theirs import write

HERE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Returns the folder with the package."""
    return write(tmp_path_factory.mktemp("theirs"))


@pytest.fixture(scope="module")
def call(theirs):
    """Calls python in a process that has the package installed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI", "LLMNAS_MODEL"))}

    def invoke(*arguments):
        return subprocess.run([sys.executable, *arguments], cwd=theirs, capture_output=True, text=True, timeout=120,
                              env={**clean, "PYTHONPATH": f"{theirs}{os.pathsep}{HERE}"}, check=False)

    return invoke


def listed(call, kind):
    done = call("-m", "llmnas", kind, "list", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_run_with_their_strategy_space_and_model(call, theirs):
    """One command uses all three; the model's words are in the log, the network is of their space."""
    done = call("-m", "llmnas", "run", "--strategy", "walk", "--space", "small", "--llm", "parrot:hi", "--budget",
                "14s", "--max-evals", "2", "--out", "out")
    assert done.returncode == 0, done.stderr
    state = read_run(theirs / "out")
    assert state.spent.evaluations == 2
    assert {trial.proposal.graph.space for trial in state.trials} == {"small"}
    assert {trial.proposal.rationale for trial in state.trials} == {"hi"}
    assert state.begun.model == "parrot:hi"
    assert "final" in state.trial(state.selected.n).trained


def test_their_proxy_scores_and_a_failing_one_is_a_reason(call, theirs):
    """`score` computes it in the child process beside ours; a formula that raises anything has a reason."""
    sample = call("-m", "llmnas", "spaces", "sample", "small")
    (theirs / "graph.json").write_text(sample.stdout)
    done = call("-m", "llmnas", "score", "graph.json", "--target", "t4", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["graphs"]
    assert row["space"] == "small"
    assert row["scores"]["head_grad"] > 0
    assert row["scores"]["grad_norm"] > 0
    assert "KeyError" in row["unscored"]["clumsy"]


def test_lists_say_where_everything_comes_from(call):
    """Every entry names its package; what cannot be used has one line of reason and breaks nothing."""
    found = {row["name"]: row for row in listed(call, "spaces")["spaces"]}
    assert (found["nb201"]["from"], found["small"]["from"]) == ("llmnas", "theirs 1.2")
    assert "calls itself 'small'" in found["tiny"]["problem"]
    assert "theirs.walk" in found["number"]["problem"]
    proxies = listed(call, "proxies")
    assert {row["name"]: row["from"] for row in proxies["proxies"]} | {"snip": "llmnas", "head_grad": "theirs 1.2"} == {
        row["name"]: row["from"] for row in proxies["proxies"]}
    assert {row["name"] for row in proxies["broken"]} == {"missing", "other_name"}
    strategies = {row["name"]: row for row in listed(call, "strategies")["strategies"] if row["from"] != "llmnas"}
    assert strategies["walk"]["about"] == "Mutations of the best so far."
    assert "taken" in strategies["random"]["problem"]
    assert "SystemExit" in strategies["leaves"]["problem"]
    assert strategies["fails"]["problem"].endswith("RuntimeError: this module never loads")
    models = {row["name"]: row for row in listed(call, "models")["models"]}
    assert models["parrot"]["from"] == "theirs 1.2"
    assert "has no attribute 'Nobody'" in models["mute"]["problem"]


def test_the_text_of_a_list_is_one_line_each(call):
    """People read the package and the fault behind the name."""
    said = call("-m", "llmnas", "strategies", "list").stdout.splitlines()
    assert any(line.startswith("walk ") and line.endswith("[theirs 1.2]") for line in said)
    assert sum("cannot be used" in line for line in said) == 3
    assert any("small" in line and "[theirs 1.2]" in line for line in call(
        "-m", "llmnas", "spaces", "list").stdout.splitlines())
    assert "ops" in call("-m", "llmnas", "spaces", "show", "small").stdout


def test_doctor_lists_them(call):
    """Good ones with their package, broken ones with the fix; a broken one does not fail the machine."""
    done = call("-m", "llmnas", "doctor", "--llm", "mock", "--json")
    assert done.returncode == 0, done.stderr
    checks = {check["what"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["strategy walk"]["ok"]
    assert not checks["strategy fails"]["ok"]
    assert checks["strategy fails"]["fix"] == "mend or remove theirs 1.2"
    assert not checks["language model mute"]["ok"]


def test_naming_a_broken_one_is_one_clear_error(call):
    """Bad input, exit code 3, no traceback; the package is named."""
    for arguments, says in (
            (("--strategy", "fails"), "strategy 'fails' of package theirs 1.2"),
            (("--strategy", "theirs.nowhere:X"), "No module named 'theirs.nowhere'"),
            (("--space", "tiny"), "calls itself 'small'")):
        done = call("-m", "llmnas", "run", "--budget", "10s", "--out", "refused", *arguments)
        assert done.returncode == 3, done.stderr
        assert says in done.stderr
        assert "Traceback" not in done.stderr
    done = call("-c", "from llmnas.llm import open_model; open_model('parrot:silence')")
    assert "InputError: language model 'parrot:silence' cannot be made: ValueError: a parrot needs a" in done.stderr


def test_the_contract_suites_hold_for_them(call):
    """Five lines a kind, run by pytest in their own folder."""
    done = call("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_theirs.py")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout


def test_a_contract_that_is_broken_shows_it(call, theirs):
    """A strategy that keeps its own generator fails the suite, and the values are in the report."""
    (theirs / "test_bad.py").write_text('''
import numpy as np
from llmnas.strategies.base import proposal
from llmnas.testing import StrategyContract

RNG = np.random.default_rng()

class Bad:
    name, waits = "bad", False
    def __init__(self, setup): self.space = setup.space
    def ask(self, n, rng, ctx): return [proposal("bad", "x", ctx.step, self.space.sample(RNG)) for _ in range(n + 1)]
    def tell(self, trials): pass

class TestBad(StrategyContract):
    def make(self, setup): return Bad(setup)
''')
    done = call("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_bad.py")
    assert done.returncode == 1
    for test in ("same_seed_same_proposals", "never_more_than_asked", "ask_changes_nothing", "rebuilt_by_telling"):
        assert f"FAILED test_bad.py::TestBad::test_{test}" in done.stdout
    assert "assert 4 <= 3" in done.stdout  # assertions are rewritten in their folder too


@pytest.mark.parametrize(("name", "found"), [
    ("a.b:C", True), ("a:b", True), ("openai:gpt-5", False), ("local:x.gguf", False), ("plain", False),
    ("a:b:c", False), ("C:/space.yaml", False)])
def test_what_looks_like_a_path(name, found):
    """module:attribute and nothing else."""
    assert is_path(name) is found


def test_a_path_that_leads_nowhere():
    """Whatever goes wrong is bad input in one line."""
    with pytest.raises(InputError, match="ModuleNotFoundError"):
        load_path("no_such_module:x", "the thing")
    with pytest.raises(InputError, match="no attribute 'nope'"):
        load_path("json:nope", "the thing")
