"""A loop without machines: a store in a temporary folder, a fake clock, an evaluator that answers at once."""

from collections.abc import Sequence
from concurrent.futures import Future

from llmnas.budget import Clock, rates_for
from llmnas.evaluate.base import Ordered, Screened
from llmnas.records import Measured, Plan, RunStarted, Settings, Trained
from llmnas.search import Journal, Search
from llmnas.space import load_space
from llmnas.store import RunStore
from llmnas.strategies import Setup, load_strategy

PLAN = Plan(search_s=60, final_s=30, wrap_s=5, full_s=0, finalists=0,
            short_s=1, train_deadline_s=6, batch=4, promote=2, trainings=30, proposals=60, calls=None,
            rates=rates_for("cpu", 2), train_batch=64, train_steps=10, max_epoch_s=60,
            proxies=("params", "flops"))


class Quiet:
    """An observer that keeps what it was told."""

    def __init__(self):
        self.kinds = []

    def event(self, event, state):
        self.kinds.append(event.body.kind)

    def tick(self, state, clock_s, activity):
        pass


class Instant:
    """A training that is over: its score depends on the architecture alone."""

    def __init__(self, trial, rung, fail, share):
        self.n, self.rung, self.share = trial.n, rung, share
        self._trial, self._fail = trial, fail
        self.future = Future()
        self.future.set_result(None)

    def result(self):
        if self._fail and self.n % 5 == 0:
            return Measured(n=self.n, rung=self.rung, failed="failed", note="diverged", seconds=1.0)
        score = int(self._trial.key[3:9], 16) / 2**24
        return Measured(n=self.n, rung=self.rung, seconds=1.0, trained=Trained(
            metric="accuracy", val_score=score, val_loss=1 - score, epochs=1, seconds=1, seed=0,
            share=self.share))

    def cancel(self):
        pass


class InstantEvaluator:
    """Counts are real, scores come from the key, time passes on the fake clock."""

    def __init__(self, space, tick=None, fail=True):
        self.space, self.tick, self.fail = space, tick or (lambda s: None), fail
        self.started = []

    def screen(self, graphs, scored, limit_s):
        self.tick(0.1)
        return [Screened(counts=self.space.network(graph, (1, 8, 8), 10).counts) for graph in graphs]

    def order(self, screened: Sequence[Screened], labelled):
        return Ordered(places=tuple(sorted(range(len(screened)), key=lambda i: -screened[i].counts.macs)))

    def cost(self, trial, share):
        return share

    def start(self, trial, rung, limit_s, share=1.0):
        self.tick(share)
        self.started.append(trial.n)
        return Instant(trial, rung, self.fail, share)

    def settle(self, trial, limit_s, targets):
        return []


class Time:
    """A clock that only moves when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def pass_(self, seconds):
        self.now += seconds


def started(settings, space):
    return RunStarted(run="toy", settings=settings, plan=PLAN, environment={}, model=None, task={
        "name": "toy", "shape": [1, 8, 8], "classes": 10, "metric": "accuracy",
        "sizes": {"train": 100, "val": 20, "test": 20}, "digests": {}})


def open_search(directory, settings, create=True, time=None, evaluator=None, strategy=None, model=None, start=()):
    """Returns (store, search) of a new or reopened run."""
    space = load_space(settings.space)
    time = time or Time()
    store = RunStore(directory, create=create)
    journal = Journal(store, Clock(settings.budget_s, store.state.clock_s, time), Quiet())
    if create:
        journal.emit(started(settings, space))
    setup = Setup(space=space, settings=settings, shape=(1, 8, 8), classes=10, targets=("cpu",),
                  task=store.state.begun.task)
    made = strategy or load_strategy(settings.strategy)(setup)
    search = Search(journal, space, (1, 8, 8), 10, made, evaluator or InstantEvaluator(space, time.pass_), start=start,
                    model=model)
    return store, search


def toy_settings(**options):
    return Settings(**{"space": "nb201", "strategy": "evolution", "budget_s": 100, **options})
