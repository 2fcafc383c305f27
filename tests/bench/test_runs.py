"""The benches that run the main job: their parts that need no run."""

import json

import numpy as np
import pytest

from llmnas.bench import budget, hand, resume
from llmnas.bench.baselines import BASELINES, mobilenet_v2_half, resnet8
from llmnas.bench.ledger import Ledger
from llmnas.bench.process import KILLED, llmnas
from llmnas.data import load
from llmnas.errors import RunError
from llmnas.records import Finished, Measured, Selected, Stopped, Trained
from llmnas.space import load_space
from tests.search.loop import open_search, toy_settings


@pytest.fixture
def state(tmp_path):
    """A finished search, without machines."""
    store, search = open_search(tmp_path / "run", toy_settings(max_evals=4))
    with store:
        search.run()
        yield store.state


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_baselines_are_legal(name, shape):
    """Both baselines are graphs of a shipped space, on coloured and on grey images."""
    graph = BASELINES[name]()
    assert load_space(graph.space).validate(graph, shape, 10) == []


def test_baselines_have_their_known_size():
    """ResNet-8 has 78 k parameters and 12.5 M MACs; MobileNetV2 at half width has fewer MACs and more parameters."""
    small = load_space("convnet").network(resnet8()).counts
    other = load_space("mbconv").network(mobilenet_v2_half()).counts
    assert small.params == 78_042
    assert small.macs == pytest.approx(12.5e6, rel=0.01)
    assert 200_000 < other.params < 800_000
    assert other.macs < small.macs


def test_the_ledger_keeps_what_was_paid_for(tmp_path):
    """A step is worked out once; a torn line is dropped; another setup is refused."""
    path, calls = tmp_path / "rows.jsonl", []

    def work():
        calls.append(1)
        return {"score": 0.5}

    assert Ledger(path, {"a": 1}).once("one", work) == {"score": 0.5}
    with path.open("a") as file:
        file.write('{"step": "two", "val')
    again = Ledger(path, {"a": 1})
    assert again.once("one", work) == {"score": 0.5}
    assert len(calls) == 1
    assert again.once("two", lambda: 2) == 2
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == ["setup", "one", "two"]
    with pytest.raises(RunError, match="other options"):
        Ledger(path, {"a": 2})


def net(test, ms):
    return {"test": test, "ms": ms, "params": 1, "macs": 1, "seconds": 1.0}


@pytest.mark.parametrize(("found", "ahead"), [(net(0.9, 1.0), True), (net(0.9, 1.2), False), (net(0.8, 0.5), False)])
def test_ahead_means_more_accurate_and_no_slower(found, ahead):
    """A tie in accuracy is not ahead, nor is a slower network."""
    nets = {"resnet8": net(0.8, 1.0), "mobilenetv2_half": net(0.7, 2.0), "found": found}
    row = hand.judged({"seed": 0, "nets": nets, "problem": ""})
    assert row["ahead"] is ahead
    result = hand.summary([row, {"seed": 1, "problem": "nothing", "ahead": False}])
    assert (result["ahead"], result["seeds"]) == (int(ahead), 2)
    assert result["mean"]["found"]["test"] == found["test"]
    assert "seed 0" in hand.line(row)


def test_a_search_without_a_final_training_is_a_problem(state):
    """There is nothing to compare then, and the row says so."""
    assert hand.found_in(state)["seconds"] is None


def test_equal_runs_are_equal_and_others_are_not(state, tmp_path):
    """Runs of one seed do not differ; runs of two seeds do, in keys."""
    for seed, same in ((0, True), (1, False)):
        store, search = open_search(tmp_path / f"other-{seed}", toy_settings(max_evals=4, seed=seed))
        with store:
            search.run()
            found = resume.compare(state, store.state)
        assert (found == []) is same
        assert same or any("key" in text for text in found)


def test_where_a_kill_fell(tmp_path):
    """Every stage of a run has its words, from the first event to the last."""
    assert resume.where(tmp_path / "run")["says"] == "before the first event"
    store, search = open_search(tmp_path / "run", toy_settings(max_evals=2))
    with store:
        assert resume.where(store.directory)["says"] == "between steps, after run_started"
        search.run()
        assert resume.where(store.directory)["says"] == "after the search, before the choice"
        store.emit(Selected(n=1, why="", front=()), 1.0)
        assert resume.where(store.directory)["says"] == "during the final training"
        store.emit(Measured(n=1, rung="final", trained=Trained(metric="accuracy", val_score=1, val_loss=0, epochs=1,
                                                               seconds=1, seed=0)), 2.0)
        assert resume.where(store.directory)["says"] == "during the export"
        store.emit(Finished(files={}, seconds=1.0), 3.0)
        found = resume.where(store.directory)
        assert (found["says"], found["torn"], found["clock_s"]) == ("finished", False, 3.0)
        assert isinstance(store.state.stopped, Stopped)


def test_ten_runs_of_all_kinds(tmp_path):
    """Ten different runs of 30 to 120 seconds, three strategies, one slow start."""
    assert len({case.name for case in budget.CASES}) == 10
    assert {case.strategy for case in budget.CASES} == {"random", "evolution", "agent"}
    assert all(30 <= case.budget_s <= 120 for case in budget.CASES)
    (slow,) = [case for case in budget.CASES if case.slow]
    assert "--start" in budget.arguments(slow, tmp_path, 0)


def test_the_slow_start_outlasts_its_budget(tmp_path):
    """It is legal on the synthetic images, and an epoch takes longer than its budget even at 100 GMAC/s."""
    budget.synthetic(tmp_path / "synthetic.npz", 300)
    data = load(str(tmp_path / "synthetic.npz"), 0)
    assert (data.shape, data.classes, data.x.dtype) == ((3, 32, 32), 10, np.uint8)
    space, graph = load_space("convnet"), budget.slow_graph()
    assert space.validate(graph, data.shape, data.classes) == []
    assert 3 * 0.7 * 6000 * space.network(graph).counts.macs / 100e9 > 45


@pytest.mark.parametrize(("wall_s", "code", "ok"), [(58.0, 0, True), (62.9, 0, True), (63.1, 0, False),
                                                    (41.0, 0, False), (58.0, 5, False)])
def test_a_budget_is_kept_from_70_percent_to_3_seconds_over(wall_s, code, ok):
    """The verdict of a row, and its words."""
    row = budget.judged({"run": "x", "budget_s": 60, "wall_s": wall_s, "share": wall_s / 60, "code": code,
                         "trained": 3, "report": True, "model": True, "test": 0.9})
    assert row["ok"] is ok
    assert budget.line(row).endswith("ok") is ok or "NOT ok" in budget.line(row)


def test_a_model_that_was_not_trained_is_no_answer():
    """A file of weights alone is not enough."""
    row = budget.judged({"run": "x", "budget_s": 60, "wall_s": 58.0, "share": 0.97, "code": 0, "trained": 0,
                         "report": True, "model": True, "test": None})
    assert not row["ok"]
    assert budget.line(row).endswith("NOT ok, without a final training")


def test_commands_run_and_are_killed(tmp_path):
    """A command's code and output come back; one that is killed says so."""
    ended = llmnas(["runs", "list", "--root", str(tmp_path)], tmp_path / "log")
    assert (ended.code, "no runs below" in ended.says) == (0, True)
    assert llmnas(["runs", "list"], tmp_path / "log", kill_after_s=0.01).code == KILLED
    assert llmnas(["runs", "list"], tmp_path / "log", limit_s=0.01).code == KILLED
