"""The jobs: what they give, that a checkpoint goes on as if nothing had happened, and how they fail."""

import json

import pytest
import torch

from llmnas.errors import InputError
from llmnas.supernet.differentiable import Differentiable
from llmnas.supernet.payload import DartsPayload, PathsPayload
from llmnas.supernet.sampling import OneShot
from llmnas.train.failure import TrainingError
from tests.supernet.tiny import job, payload, run_job, tiny_data


class After:
    """A deadline that comes after so many looks at it."""

    def __init__(self, looks):
        self.looks = looks

    def expired(self):
        self.looks -= 1
        return self.looks < 0

    def left(self):
        return 0.0 if self.looks < 0 else 1e9


def without_times(found):
    """Returns a result without what a clock measured."""
    found = {key: value for key, value in found.items() if key != "seconds"}
    return found | {"history": [{k: v for k, v in one.items() if k != "seconds"} for one in found["history"]]}


@pytest.mark.parametrize("options", [
    {}, {"order": 2}, {"partial": 2}, {"gate": "sigmoid", "skip_decay": True}, {"paths": "one", "entropy": 0.1},
    {"latency": 1.0, "costs": [[0.0, 0.0, 0.02, 0.1, 0.05]] * 6, "guard": "off"}], ids=str)
def test_every_option_searches(options):
    """α moves, the history is whole, and the derived ops are the strongest other than none."""
    found = run_job("darts", payload(epochs=2, **options))
    assert (found["epochs"], found["cut"], found["stopped"]) == (2, False, None)
    assert all((one["eigenvalue"] is None) == (options.get("guard") == "off") for one in found["history"])
    assert [one["epoch"] for one in found["history"]] == [1, 2]
    assert found["history"][-1]["path"] == found["path"]
    for row, op in zip(found["probabilities"], found["path"], strict=True):
        assert sum(row) == pytest.approx(1.0, abs=1e-5)
        assert op == 1 + max(range(4), key=lambda n, row=row: row[1 + n])
    assert found["skips"] == found["path"].count(1)
    assert max(abs(a) for row in found["alpha"] for a in row) > 0.005


def test_seeds_decide():
    one = payload(epochs=1)
    assert run_job("darts", one) == run_job("darts", dict(one))
    again = job("darts")(one, After(10**9))
    assert without_times(json.loads(json.dumps(again))) == without_times(run_job("darts", one))
    assert run_job("darts", {**one, "seed": 1})["alpha"] != run_job("darts", one)["alpha"]


@pytest.mark.parametrize("kind", ["darts", "paths"])
def test_a_checkpoint_goes_on_as_if_nothing_had_happened(kind, tmp_path):
    """Cut after two of three epochs and continued: the same as left alone, weights included."""
    more = {"guard": "off"} if kind == "darts" else {}
    whole = run_job(kind, payload(epochs=3, **more, saves=str(tmp_path / "whole" / "net")))
    cut = Differentiable if kind == "darts" else OneShot
    first = cut((DartsPayload if kind == "darts" else PathsPayload).model_validate(
        payload(epochs=3, **more, saves=str(tmp_path / "parts" / "net"))))
    found = first.run(After(2 * first.per_epoch))
    assert (found["cut"], found["epochs"]) == (True, 2)
    if kind == "darts":  # the last checkpoint of a search that is cut is the one before; here it is written by hand
        from llmnas.supernet.checkpoint import Saves

        Saves(str(tmp_path / "parts" / "net")).keep(first._state, "", last=True)
    start = next((tmp_path / "parts").glob("net-*.pt"))
    ended = run_job(kind, payload(epochs=3, **more, start=str(start), saves=str(tmp_path / "parts" / "net")))
    assert without_times(ended) == without_times(whole)
    weights = [torch.load(json.loads(line)["file"], weights_only=True)["model"] for line in
               [(tmp_path / folder / "net.jsonl").read_text().splitlines()[-1] for folder in ("whole", "parts")]]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_cut_within_an_epoch_the_last_whole_one_counts():
    search = Differentiable(DartsPayload.model_validate(payload(epochs=3)))
    found = search.run(After(2 * search.per_epoch - 1))
    assert (found["cut"], found["epochs"], found["planned"]) == (True, 1, 3)
    with pytest.raises(TrainingError, match="not one epoch") as error:
        job("darts")(payload(epochs=3), After(1))
    assert error.value.kind == "too_slow"


@pytest.mark.parametrize("kind", ["darts", "paths"])
def test_divergence_is_a_typed_failure(kind):
    task = payload(epochs=2)
    task["data"] = tiny_data(scale=1e30).model_dump(mode="json") | {"mean": [0.0] * 3, "std": [1e-30] * 3}
    with pytest.raises(TrainingError, match=r"nan|inf") as error:
        job(kind)(task, After(10**9))
    assert error.value.kind == "diverged"


def test_a_guard_that_stops_goes_back(monkeypatch):
    """With an eigenvalue that jumps, the search ends at the rise and answers with the α of four epochs before."""
    values = iter([1.0] * 6 + [9.0] * 20)
    monkeypatch.setattr(Differentiable, "_eigenvalue", lambda self: next(values))
    monkeypatch.setattr("llmnas.supernet.guard.is_filled", lambda skips, slots: False)
    search = Differentiable(DartsPayload.model_validate(payload(epochs=20, guard="stop")))
    found = search.run(After(10**9))
    assert (found["stopped"], found["epochs"], found["epoch"]) == ("eigenvalue", 9, 5)
    assert found["alpha"] == search.history[4].alpha != search.history[-1].alpha
    assert found["rises"][-1] == pytest.approx(5.8)


def test_a_cell_full_of_skips_stops_too(monkeypatch):
    monkeypatch.setattr(Differentiable, "_eigenvalue", lambda self: 1.0)
    monkeypatch.setattr("llmnas.supernet.guard.is_filled", lambda skips, slots: True)
    found = Differentiable(DartsPayload.model_validate(payload(epochs=5, guard="stop"))).run(After(10**9))
    assert (found["stopped"], found["epochs"]) == ("skips", 1)


def test_fair_steps_have_every_op_once():
    """FairNAS: of the paths of a step each op of each slot is in one; uniform steps have one path."""
    fair = OneShot(PathsPayload.model_validate(payload(epochs=1, sampling="fair")))
    drawn = fair._drawn(torch.Generator().manual_seed(0))
    assert len(drawn) == 5
    assert all(sorted(path[slot][0] for path in drawn) == [0, 1, 2, 3, 4] for slot in range(6))
    uniform = OneShot(PathsPayload.model_validate(payload(epochs=1)))
    assert len(uniform._drawn(torch.Generator().manual_seed(0))) == 1
    assert run_job("paths", payload(epochs=1, sampling="fair"))["history"][0]["loss"] > 0


def test_scores_are_accuracies_of_single_paths(tmp_path):
    """A path that has learnt beats chance, one without input does not; what there was no time for is None."""
    run_job("paths", payload(epochs=20, channels=4, saves=str(tmp_path / "net")))
    start = json.loads((tmp_path / "net.jsonl").read_text().splitlines()[-1])["file"]
    task = payload(channels=4, start=str(start), choices=[[3] * 6, [1] * 6, [0] * 6], examples=32)
    conv, skips, none = run_job("score_paths", task)["scores"]
    assert skips > 0.3
    assert none == pytest.approx(0.1)  # constant logits, and every class has its tenth
    assert job("score_paths")(task, After(1))["scores"] == [conv, None, None]
    with pytest.raises(InputError, match="none were given"):
        job("score_paths")(payload(choices=[[3] * 6]), After(9))
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a checkpoint"):
        job("score_paths")({**task, "start": str(broken)}, After(9))
