"""A search on the published NAS-Bench-201 table: one design an ask, rows that were paid for are free."""

import csv
import gzip
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from llmnas.records import Latency, Settings, Trained, Trial
from llmnas.space import Digits, load_space
from llmnas.strategies import Context, Setup, load_strategy

ROOM = 20  # asks per evaluation before a search that only repeats itself is ended


@cache
def table():
    """Returns (validation, test) accuracy in percent by digits; skips the test without the data."""
    path = Path(os.environ.get("LLMNAS_DATA", "")) / "nb201" / "nb201.csv.gz"
    if not os.environ.get("LLMNAS_DATA") or not path.is_file():
        pytest.skip("needs LLMNAS_DATA with nb201/nb201.csv.gz")
    with gzip.open(path, "rt") as file:
        return {row["ops"]: (float(row["c10_val200"]), float(row["c10_test200"])) for row in csv.DictReader(file)}


@cache
def counted(space, digits):
    """Returns the sizes of a row."""
    return space.network(Digits(space).graph(digits)).counts


def setup_on(space, targets=(), **settings):
    return Setup(space=space, settings=Settings(space=space.name, **settings), shape=space.spec.shape, classes=10,
                 targets=targets)


class TableSearch:
    """Asks a strategy for one design at a time until `evals` distinct rows were read.

    Sizes are the networks'. On the target `toy` a design takes 1 ms and one more for every unit of its digits.
    """

    def __init__(self, strategy, seed, evals=100, score=None, space="nb201"):
        self.space = load_space(space)
        self.strategy = strategy if not isinstance(strategy, str) else load_strategy(strategy)(setup_on(self.space))
        self.digits = Digits(self.space).digits
        self.score = score or (lambda digits: table()[digits][0] / 100)
        self.seed, self.evals = seed, evals
        self.trials, self.rows = [], {}

    def run(self, asks=None):
        for step in range(asks or ROOM * self.evals):
            if len(self.rows) >= self.evals or not self._step(step):
                break
        return self

    def _step(self, step):
        ctx = Context(step=step, trials=self.trials, rules=(), deadline=float("inf"), emit=lambda body: body,
                      reply=lambda call: None, save=lambda record: "")
        asked = self.strategy.ask(1, np.random.default_rng([self.seed, step]), ctx)
        told = [self._trial(one) for one in asked]
        self.trials += told
        self.strategy.tell(told)
        return bool(asked)

    def _trial(self, one):
        row = self.digits(one.graph)
        n, seen = len(self.trials) + 1, self.rows.get(row)
        counts, ms = counted(self.space, row), 1.0 + sum(map(int, row))
        if seen is not None:
            return Trial(n=n, proposal=one, status="duplicate", key=one.graph.key(), duplicate_of=seen, counts=counts)
        self.rows[row] = n
        score = self.score(row)
        latency = {"toy": Latency(ms=ms, low=ms, high=ms, device="toy", source="table")}
        return Trial(n=n, proposal=one, status="trained", key=one.graph.key(), counts=counts, latency=latency, trained={
            "short": Trained(metric="accuracy", val_score=score, val_loss=1 - score, epochs=1, seconds=1, seed=0)})

    def best(self):
        """Returns the digits of the best row by validation."""
        return max(self.rows, key=self.score)

    def test_accuracy(self):
        return table()[self.best()][1]
