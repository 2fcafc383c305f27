"""The group `bench` of the command line."""

import json

import pytest
import typer
from typer.testing import CliRunner

from llmnas.cli import bench


@pytest.fixture
def call():
    """Calls the group as the command line does."""
    app = typer.Typer()
    bench.register(app)
    app.command("other")(lambda: None)
    return lambda *arguments, **options: CliRunner().invoke(app, ["bench", *arguments], **options)


def test_every_bench_has_help(call):
    """Every bench has --json."""
    for name in ("loop", "fuzz", "resume", "budget", "hand", "proxies", "throughput", "reweight", "ranking"):
        done = call(name, "--help", env={"COLUMNS": "120", "NO_COLOR": "1"})
        assert done.exit_code == 0
        assert "--json" in done.output


def test_fuzz_answers_in_json(call):
    """One document on stdout, with its schema."""
    done = call("fuzz", "--n", "50", "--json")
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["n"], answer["exceptions"]) == ("llmnas.bench.fuzz/1", 50, 0)


def test_fuzz_answers_in_words(call):
    """The figure that counts is named."""
    assert "exceptions: 0 (must be 0)" in call("fuzz", "--n", "50").stdout


def test_loop_answers_both_ways(call, monkeypatch):
    """Cases, milestones and verbs, in words and in JSON."""
    monkeypatch.setattr("llmnas.bench.loop.CASES", (("nb201", "random"),))
    monkeypatch.setattr("llmnas.bench.loop.SAMPLED", 20)
    answer = json.loads(call("loop", "--trials", "40", "--json").stdout)
    assert answer["schema"] == "llmnas.bench.loop/1"
    assert answer["cases"][0]["trials"] >= 40
    assert "per proposal" in call("loop", "--trials", "40").stdout


def test_full_needs_the_table(call):
    """--full without a data folder is refused with its fix."""
    done = call("loop", "--full", env={"LLMNAS_DATA": ""})
    assert done.exit_code != 0
