"""Comparing finished runs, and launching them: who is compared with whom, what is refused, what is gone on with."""

import json
from pathlib import Path

import pytest

from llmnas.bench import launching
from llmnas.bench.launching import Task, compare_on_data
from llmnas.bench.process import Ended
from llmnas.compare import parse_arms
from llmnas.compare.of_runs import compare_runs
from llmnas.compare.runs import grouped, read_runs, trajectory
from llmnas.errors import InputError, ModelError, RunError
from llmnas.records import Finished, Measured, RunStarted
from tests.report.conftest import story


def write(directory, seed, strategy="random", test=0.9, task=None, stop="budget", model=None, end=True, **given):
    """Writes the log of a run that says it has this seed, strategy and test score."""
    events = story(steps=3, seed=seed, end=end, model=model, strategy=strategy, **{"max_params": None, **given})
    lines = []
    for event in events:
        body = event.body
        if isinstance(body, RunStarted):
            settings = body.settings.model_copy(update={"seed": seed})
            body = body.model_copy(update={"settings": settings, "run": directory.name, "targets": ("cpu",),
                                           "task": {**body.task, "digests": {"train": f"d{seed}"}, **(task or {})}})
        if isinstance(body, Measured) and body.rung == "final":
            body = body.model_copy(update={"trained": body.trained.model_copy(update={"test_score": test})})
        if body.kind == "stopped":
            body = body.model_copy(update={"reason": stop})
        lines.append(event.model_copy(update={"body": body}).model_dump_json())
    directory.mkdir(parents=True)
    (directory / "events.jsonl").write_text("\n".join(lines) + "\n")
    return directory


@pytest.fixture
def pool(tmp_path):
    """Six seeds of two strategies; evolution is two points better in test."""
    return [write(tmp_path / f"{strategy}-{seed}", seed, strategy, test=0.9 + 0.001 * seed + shift)
            for seed in range(6) for strategy, shift in (("random", 0.0), ("evolution", 0.02 + 0.0001 * seed))]


def test_planted_difference_is_found(pool):
    found = compare_runs(pool)
    assert [arm["arm"] for arm in found["arms"]] == ["random", "evolution"]
    pair = next(one for one in found["pairs"] if one["measure"] == "test")
    assert (pair["verdict"], pair["n"], pair["wins"], pair["p"]) == ("better", 6, 6, pytest.approx(2 / 2**6))
    assert pair["difference"] == pytest.approx(0.02025)
    assert {one["name"] for one in found["measures"]} == {"test", "validation", "hv_ratio", "igd_plus", "anytime"}
    assert found["about"]["box"]["front"] >= 1
    assert json.loads(json.dumps(found)) == found


def test_a_trajectory_is_the_log(pool):
    run = read_runs([pool[0]])[0]
    found = trajectory(run, "random")
    short = [event for event in run.events if isinstance(event.body, Measured) and event.body.rung == "short"]
    assert [one.at_s for one in found.paid] == [event.t_s for event in short]
    assert [one.score for one in found.paid] == [run.state.trial(event.body.n).score for event in short]
    assert found.charges.proposals == len(run.state.trials)
    assert found.charges.invalid == run.state.spent.invalid
    assert found.charges.train_s == run.state.spent.train_s
    assert found.end_s is not None
    assert found.measures["validation"] == max(one.score for one in found.paid if one.score is not None)


def test_arms_are_what_differs(tmp_path):
    names = [write(tmp_path / "a", 0, "agent", model="mock:0"), write(tmp_path / "b", 0, "agent", model="openai:x"),
             write(tmp_path / "c", 0, "random", prompt="terse"), write(tmp_path / "d", 1, "random", prompt="base"),
             write(tmp_path / "e", 0, "random", prior=False)]
    assert set(grouped(read_runs(names))) == {"agent model=mock:0", "agent model=openai:x", "random prior=True",
                                              "random prior=False"}  # a prompt that nobody read makes no arm
    names.append(write(tmp_path / "f", 1, "random"))
    with pytest.raises(InputError, match="two runs of random prior=True have seed 1: d and f"):
        grouped(read_runs(names))


def test_the_mock_is_named(tmp_path):
    names = [write(tmp_path / f"{strategy}{seed}", seed, strategy, model=model) for seed in range(2)
             for strategy, model in (("agent", "mock:0"), ("random", None))]
    found = compare_runs(names)
    assert found["mock"]
    assert any("came from the mock" in note for note in found["notes"])


@pytest.mark.parametrize(("change", "says"), [
    ({"budget_s": 60.0}, "budget_s: 1800.0 (random-0), 60.0 (odd)"), ({"max_evals": 5}, "max_evals"),
    ({"space": "convnet"}, "space"), ({"max_latency_ms": 2.0}, "max_latency_ms"), ({"workers": 3}, "workers")])
def test_unlike_runs_are_refused_and_may_be_forced(pool, tmp_path, change, says):
    pool = [*pool[:11], write(tmp_path / "odd", 5, "evolution", **change)]
    with pytest.raises(InputError) as refused:
        compare_runs(pool)
    assert says in str(refused.value)
    assert "--unlike" in str(refused.value)
    notes = compare_runs(pool, unlike=True)["notes"]
    assert any("not alike" in note and says.partition(":")[0] in note for note in notes)


@pytest.mark.parametrize(("given", "says"), [
    ({"task": {"name": "mnist1d"}}, "data"), ({"task": {"digests": {"train": "other"}}}, "split: seed 5"),
    ({"metric": "macro_f1"}, "metric")])
def test_scores_that_do_not_mean_the_same_are_never_compared(pool, tmp_path, given, says):
    pool = [*pool[:11], write(tmp_path / "odd", 5, "evolution", **given)]
    with pytest.raises(InputError, match=says):
        compare_runs(pool, unlike=True)


def test_half_a_run_is_refused(pool, tmp_path):
    with pytest.raises(InputError, match="llmnas resume"):
        compare_runs([*pool, write(tmp_path / "half", 9, end=False)])
    with pytest.raises(InputError, match="before its budget was used"):
        compare_runs([*pool, write(tmp_path / "stopped", 9, stop="interrupted")])


class Children:
    """Stands in for child processes: writes the log of a run, or half of it, or fails."""

    def __init__(self, code=0, half=()):
        self.code, self.half, self.calls = code, set(half), []

    def __call__(self, arguments, log, limit_s=None, own_environment=False, halt=None):
        self.calls.append(arguments)
        if self.code:
            return Ended(self.code, 0.1, "error: no such model")
        options = dict(zip(arguments[1::2], arguments[2::2], strict=False)) if arguments[0] == "run" else {}
        directory = Path(options.get("--out", arguments[1]))
        if directory.name in self.half:
            self.half.discard(directory.name)
            write(directory, int(options["--seed"]), options["--strategy"], end=False)
            return Ended(5, 0.1, "killed")
        strategy, _, seed = directory.name.rpartition("-")
        if arguments[0] == "resume":
            log_ = directory / "events.jsonl"
            log_.unlink()
            directory.rmdir()
        write(directory, int(options.get("--seed", seed)), strategy.partition("#")[0], test=0.9)
        return Ended(0, 0.1, "")


TASK = Task("digits", evals=20, llm="mock")


def test_launched_runs_are_kept_and_half_done_ones_go_on(tmp_path, monkeypatch):
    children = Children(half=["evolution-1"])
    monkeypatch.setattr(launching, "llmnas", children)
    arms = parse_arms("random,evolution")
    with pytest.raises(InputError, match="not finished"):
        compare_on_data(TASK, arms, 2, tmp_path / "c")
    assert [call[0] for call in children.calls] == ["run"] * 4
    children.calls.clear()
    found = compare_on_data(TASK, arms, 2, tmp_path / "c")
    assert children.calls == [["resume", str(tmp_path / "c" / "runs" / "evolution-1"), "--progress", "quiet"]]
    assert found["source"] == "training"
    assert all(len(arm["seeds"]) == 2 for arm in found["arms"])
    children.calls.clear()
    compare_on_data(TASK, parse_arms("random,evolution,prior"), 3, tmp_path / "c")
    assert sorted(call[call.index("--out") + 1].rpartition("/")[2] for call in children.calls) == [
        "evolution-2", "prior-0", "prior-1", "prior-2", "random-2"]


def test_launching_asks_for_what_was_asked(tmp_path, monkeypatch):
    children = Children()
    monkeypatch.setattr(launching, "llmnas", children)
    found = compare_on_data(Task("digits", "nb201", 90.0, 7, "cpu", 5, False, "mock:3", "terse"),
                            parse_arms("random,random"), 1, tmp_path / "c")
    first = " ".join(children.calls[0])
    for wanted in ("--data digits", "--space nb201", "--budget 1min30s", "--max-evals 7", "--screen 5", "--no-prior",
                   "--llm mock:3", "--prompt terse", "--seed 0"):
        assert wanted in first
    assert "--seed 0" not in " ".join(children.calls[1])
    assert any("random#2 draws its seeds anew" in note for note in found["notes"])


def test_launching_refuses_other_terms_and_says_why_a_run_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "llmnas", Children())
    compare_on_data(TASK, parse_arms("random,evolution"), 1, tmp_path / "c")
    with pytest.raises(RunError, match="evals: 20 there, 30 asked for"):
        compare_on_data(Task("digits", evals=30, llm="mock"), parse_arms("random,evolution"), 1, tmp_path / "c")
    monkeypatch.setattr(launching, "llmnas", Children(code=4))
    with pytest.raises(ModelError, match="no such model"):
        compare_on_data(TASK, parse_arms("random,evolution"), 1, tmp_path / "d")


def test_a_run_that_a_person_stopped_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "llmnas", Children())
    write(tmp_path / "c" / "runs" / "random-0", 0, stop="stop_file")
    with pytest.raises(RunError, match="random-0 ended before its budget was used"):
        compare_on_data(TASK, parse_arms("random,evolution"), 1, tmp_path / "c")


def test_a_run_that_found_nothing_is_a_result(tmp_path):
    """Its seed is missing from the pairs, and that is said."""
    pool = [write(tmp_path / f"{strategy}-{seed}", seed, strategy, test=0.9 + seed / 100)
            for seed in range(4) for strategy in ("random", "evolution")]
    log = pool[-1] / "events.jsonl"
    events = [line for line in log.read_text().splitlines() if '"selected"' not in line and '"final"' not in line]
    numbered = [json.dumps({**json.loads(line), "seq": place}) for place, line in enumerate(events)]
    log.write_text("\n".join(numbered) + "\n")
    assert any(isinstance(event.body, Finished) for event in read_runs([pool[-1]])[0].events)
    pair = compare_runs(pool)["pairs"][0]
    assert (pair["n"], pair["missing"]) == (3, 1)
    assert "without a value" in pair["note"]
