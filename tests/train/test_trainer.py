"""Whole trainings on the built-in digits."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

from llmnas.data import load, materialise, reads_of_test, split
from llmnas.errors import InputError
from llmnas.executors import Job, LocalExecutor, Stop
from llmnas.executors.nursery import TERM_AFTER_S
from llmnas.network import Draft
from llmnas.records import Trained
from llmnas.train import TrainingError, trainer
from llmnas.train.schedule import Never


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The digits on disk."""
    data = load("digits")
    return materialise(data, split(data, 0), tmp_path_factory.mktemp("digits"))


def small(shape=(1, 8, 8), classes=10, channels=8):
    """Returns a network that trains in a moment."""
    draft = Draft(shape)
    x = draft.pointwise(draft.norm(draft.conv(-1, channels, 3)), "relu")
    x = draft.pointwise(draft.norm(draft.conv(x, 2 * channels, 3, 2)), "relu")
    draft.linear(draft.global_pool(x), classes)
    return draft.finish()


def payload(data, network=None, **more):
    """Returns a payload for one epoch on one thread."""
    return {"network": (network or small()).to_data(), "data": data.model_dump(mode="json"), "epochs": 1,
            "device": "cpu", "threads": 1, **more}


def trained(data, stop=None, **more):
    """Returns the result of a training in this process."""
    return Trained.model_validate(trainer.train(payload(data, **more), stop or Never()))


def test_learns(digits, tmp_path):
    """Eight epochs learn the digits; the result says how, and the validations are in the progress file."""
    found = trained(digits, epochs=8, progress=str(tmp_path / "progress.jsonl"))
    assert found.val_score > 0.6
    assert (found.epochs, found.cut, found.test_score, len(found.curve)) == (8, False, None, 8)
    assert found.curve[-1] == found.val_score
    assert found.examples == 8 * (1151 // 64) * 64
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [line["val"] for line in lines if line["val"] is not None] == list(found.curve)
    assert [line["epoch"] for line in lines if line["val"] is not None] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert set(lines[0]) == {"epoch", "step", "steps", "val", "loss", "t"}


def test_equal_seeds_equal_results(digits):
    """The same seed gives exactly the same curve and loss, another seed another."""
    one, two, other = (trained(digits, epochs=2, seed=seed) for seed in (3, 3, 4))
    assert (one.curve, one.val_loss) == (two.curve, two.val_loss)
    assert one.val_loss != other.val_loss


def test_sequences(tmp_path):
    """One-dimensional data are trained by the same code."""
    data = load("mnist1d")
    ref = materialise(data, split(data, 0), tmp_path)
    found = trained(ref, network=small((1, 40)), epochs=2, fraction=0.3)
    assert found.val_score > 0.15
    assert found.examples <= 2 * 960


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_metrics(digits, metric):
    """Every metric gives a score in its range under its name."""
    found = trained(digits, metric=metric)
    assert found.metric == metric
    assert 0 < found.val_score <= 1


def test_test_part_is_read_only_when_asked(digits):
    """A training reads the test part if told to, once, and never otherwise."""
    trained(digits)
    assert reads_of_test(digits) == []
    found = trained(digits, test=True)
    assert found.test_score is not None
    assert found.test_loss is not None
    assert len(reads_of_test(digits)) == 1


def test_weights_are_written_and_read(digits, tmp_path):
    """Saved weights are the ones that were scored, and can start another training."""
    from safetensors.torch import load_file

    from llmnas.build import build
    from llmnas.train.batches import Batches

    found = trained(digits, epochs=3, weights=str(tmp_path / "w.safetensors"))
    model = build(small()).eval()
    model.load_state_dict(load_file(tmp_path / "w.safetensors"))
    part = Batches(*trainer.read(digits, "val"), digits, torch.device("cpu"))
    with torch.no_grad():
        right = [(model(x).argmax(1) == y).numpy() for x, y in part.plain(100)]
    assert np.concatenate(right).mean() == pytest.approx(found.val_score, abs=0.005)
    again = trained(digits, epochs=1, fraction=0.1, init_weights=str(tmp_path / "w.safetensors"))
    assert again.val_score > trained(digits, epochs=1, fraction=0.1).val_score + 0.1


def test_wrong_weights_and_networks(digits, tmp_path):
    """Weights of another network, a missing file and a network for other data are refused."""
    trained(digits, weights=str(tmp_path / "w.safetensors"))
    for network, name in ((small(channels=4), "w.safetensors"), (small(), "gone")):
        with pytest.raises(InputError, match=name):
            trained(digits, network=network, init_weights=str(tmp_path / name))
    with pytest.raises(InputError, match="5 classes"):
        trained(digits, network=small(classes=5))


def heavy():
    """Returns a network whose epoch takes seconds."""
    draft = Draft((1, 8, 8))
    x = draft.conv(-1, 64, 3)
    for _ in range(3):
        x = draft.pointwise(draft.norm(draft.conv(x, 64, 5)), "relu")
    draft.linear(draft.global_pool(x), 10)
    return draft.finish()


def test_one_epoch_outlasts_the_limit(digits, monkeypatch):
    """With a time limit within the first epoch, the training ends on time and with an annealed learning rate."""
    rates = []
    plain = trainer._Training._step

    def watched(self, x, y):
        loss = plain(self, x, y)
        time.sleep(0.2)  # 17 steps of an epoch outlast the limit on any machine
        rates.append(self.optimiser.param_groups[0]["lr"])
        return loss

    monkeypatch.setattr(trainer._Training, "_step", watched)
    start = time.monotonic()
    found = trained(digits, epochs=3, time_limit_s=2.5, test=True)
    assert time.monotonic() - start < 3.0
    assert 0.2 < found.epochs < 1
    assert not found.cut
    assert found.test_score is not None
    assert rates[-1] < 0.3 * max(rates)


def test_epochs_end_before_the_limit(digits):
    """When the epochs are done early, the training does not wait for the limit."""
    found = trained(digits, epochs=1, time_limit_s=60)
    assert found.epochs == 1
    assert found.seconds < 20


def test_cut_training_has_a_score(digits):
    """A short training cut by its deadline keeps to it, says so and is scored."""
    start = time.monotonic()
    found = trained(digits, Stop(2.0), network=heavy(), epochs=1000)
    assert time.monotonic() - start < 2.6
    assert found.cut
    assert 0 < found.epochs < 1000
    assert found.val_score > 0
    assert found.curve[-1] == found.val_score


def test_deadline_too_short_for_anything(digits):
    """A deadline that leaves no room for one step and its validation is a failure with a reason."""
    with pytest.raises(TrainingError, match="not one step") as caught:
        trained(digits, Stop(0.0), network=heavy())
    assert caught.value.kind == "too_slow"


def test_divergence_is_told(digits, monkeypatch):
    """A loss that is not finite ends the training with the step at which it happened."""
    plain = trainer.recipe_for
    monkeypatch.setattr(trainer, "recipe_for", lambda *args: plain(*args).model_copy(
        update={"peak_lr": 1e30, "clip": 1e30}))
    with pytest.raises(TrainingError, match=r"diverged at step \d+") as caught:
        trained(digits)
    assert caught.value.kind == "diverged"


@pytest.mark.parametrize("fault", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])
def test_out_of_memory_is_told(digits, monkeypatch, fault):
    """Running out of memory, on any device, is a failure of its own kind; other errors are not hidden."""
    def fail(*_):
        raise fault

    monkeypatch.setattr(trainer._Training, "_step", fail)
    with pytest.raises(TrainingError, match="memory") as caught:
        trained(digits)
    assert caught.value.kind == "out_of_memory"
    fault = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        trained(digits)


def test_in_a_child_process(digits):
    """Through the executor: the same result as here, a cut one before its deadline, and typed failures."""
    with LocalExecutor() as executor:
        plain = executor.submit(Job(kind="train", payload=payload(digits, epochs=2, seed=3)))
        assert plain.wait(60).result["curve"] == list(trained(digits, epochs=2, seed=3).curve)
        cut = executor.submit(Job(kind="train", payload=payload(digits, heavy(), epochs=9999), deadline_s=3))
        outcome = cut.wait(30)
        assert outcome.status == "ok", outcome.error
        assert outcome.result["cut"]
        assert outcome.seconds < 3 + TERM_AFTER_S
        wrong = executor.submit(Job(kind="train", payload=payload(digits, small(classes=5)))).wait(30)
        assert (wrong.status, wrong.kind) == ("failed", "InputError")
