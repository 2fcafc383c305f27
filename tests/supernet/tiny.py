"""Supernet jobs in this process, on a few random examples."""

import json
import tempfile
from concurrent.futures import Future
from functools import cache
from pathlib import Path

import numpy as np

from llmnas.budget import rates_for
from llmnas.data import materialise, split
from llmnas.data.dataset import Dataset
from llmnas.executors import Outcome
from llmnas.executors.base import KINDS
from llmnas.space import load_space
from llmnas.space.superposed import Superposition
from llmnas.strategies.base import Fit, FitFailed
from llmnas.train.schedule import Never

FOLDER = tempfile.TemporaryDirectory(prefix="llmnas-tiny-")


@cache
def tiny_data(shape=(3, 8, 8), examples=100, scale=1.0):
    """Returns ten classes that differ in the means of their channels, so that there is something to learn."""
    rng = np.random.default_rng(0)
    y = np.arange(examples) % 10
    means = 2 * rng.normal(size=(10, shape[0]))[y].reshape(examples, shape[0], *[1] * (len(shape) - 1))
    x = (0.3 * rng.normal(size=(examples, *shape)) + means).astype(np.float32) * scale
    dataset = Dataset(name="tiny", x=x, y=y.astype(np.int64), class_names=tuple("abcdefghij"), natural=False)
    folder = Path(FOLDER.name) / f"{'x'.join(map(str, shape))}-{examples}-{scale}"
    return materialise(dataset, split(dataset, 0), folder)


def supernet(space="nb201", shape=(3, 8, 8), channels=2):
    """Returns the payload of a small supernet, its superposition and its data as layers."""
    whole = Superposition(load_space(space))
    data = whole.network(shape, 10, channels, 1)
    return {"network": data.network.to_data(), "slots": data.slots}, whole, data


def payload(space="nb201", shape=(3, 8, 8), channels=2, **more):
    return {**supernet(space, shape, channels)[0], "data": tiny_data(shape).model_dump(mode="json"), "threads": 1,
            "device": "cpu", **more}


def job(kind):
    """Returns the function of a job."""
    from importlib import import_module

    module, _, name = KINDS[kind].partition(":")
    return getattr(import_module(module), name)


_ANSWERS = {}


def run_job(kind, task, stop=None):
    """Runs a job here; the same task is run once."""
    name = kind + json.dumps({key: value for key, value in task.items() if key != "saves"}, sort_keys=True)
    if name not in _ANSWERS or task.get("saves") is not None:
        _ANSWERS[name] = json.loads(json.dumps(job(kind)(task, stop or Never())))
    return _ANSWERS[name]


class Done:
    """A job that is over."""

    def __init__(self, outcome):
        self.future = Future()
        self.future.set_result(outcome)

    def cancel(self):
        pass


class Here:
    """The part of an evaluator that fits, in this process; keeps what it was asked for."""

    def __init__(self, shape=(3, 8, 8), root=None, seed=0):
        self.shape, self.root, self.seed = shape, root, seed
        self.fits = []
        self.fail = None

    def fit(self, kind, task, name, limit_s, start=None):
        self.fits.append((name, kind, start))
        if self.fail is not None:
            return Done(Outcome(status="failed", kind=self.fail, error=f"made to fail: {self.fail}", seconds=1.0))
        saves = None if self.root is None else str(self.root.resolve() / "fits" / name)
        full = {**task, "data": tiny_data(self.shape).model_dump(mode="json"), "seed": self.seed, "device": "cpu",
                "threads": 1, "saves": saves, "start": None if start is None else str(self.root / start)}
        return Done(Outcome(status="ok", result=run_job(kind, full), seconds=1.0))


def fit_here(strategy, shape, seed=0, seconds=10.0):
    """Fits a strategy without a loop; returns what it warned of."""
    warned, folder = [], Path(FOLDER.name) / f"weights-{'x'.join(map(str, shape))}-{seed}"

    def run(what, kind, task, nominal_s, weights=None):
        assert nominal_s > 0
        full = {**task, "data": tiny_data(shape).model_dump(mode="json"), "seed": seed, "device": "cpu", "threads": 1}
        if kind == "paths":
            full["saves"] = str(folder / what)
        if weights is not None:
            full["start"] = json.loads((folder / f"{weights}.jsonl").read_text().splitlines()[-1])["file"]
        return run_job(kind, full)

    strategy.fit(Fit(seconds=seconds, deadline=float("inf"), examples=64, rates=rates_for("cpu", 1),
                     rng=np.random.default_rng([seed, 0, 1]), run=run, warn=warned.append))
    return warned


__all__ = ["Done", "FitFailed", "Here", "fit_here", "job", "payload", "run_job", "supernet", "tiny_data"]
