"""The loop alone: store, checks, keys and strategies at full speed, with nothing to evaluate and no model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from cProfile import Profile
from multiprocessing import get_context
from pathlib import Path
from pstats import Stats
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from llmnas.bench.process import Say
from llmnas.budget import Clock, rates_for
from llmnas.errors import InputError
from llmnas.evaluate import Ordered, Screened
from llmnas.executors import Handle
from llmnas.graph import ArchGraph
from llmnas.records import Counts, Event, Measured, Plan, Rung, RunStarted, Settings, Trained, Trial
from llmnas.search import Journal, Search
from llmnas.space import Space, load_space
from llmnas.store import RunState, RunStore, fold, read_events, read_run
from llmnas.strategies import Setup, load_strategy

CASES: Final = (("nb201", "random"), ("nb201", "evolution"), ("convnet", "random"), ("convnet", "evolution"))
SAMPLED: Final = 1000
"""Graphs on which `key` and `validate` are timed."""
WINDOW: Final = 1000
"""Proposals before a mark over which its milliseconds are averaged."""
_COUNTS: Final = Counts(params=1, macs=1, memory_mb=0.0, layers=1)
_FOREVER_S: Final = 1e6
_PLAN: Final = Plan(search_s=_FOREVER_S, final_s=0, wrap_s=0, full_s=0, finalists=0, short_s=1,
                    train_deadline_s=6, batch=8, promote=2, trainings=1, proposals=1,
                    calls=None, rates=rates_for("cpu", 1), train_batch=1, train_steps=1, max_epoch_s=_FOREVER_S,
                    proxies=("params", "flops"))


class _Instant:
    """A training that is over: its score is a function of the architecture's key."""

    def __init__(self, trial: Trial, rung: Rung, share: float) -> None:
        self._share = share
        self.n, self._rung, self._key = trial.n, rung, trial.key or "g1:000000"
        self.future: Future[Any] = Future()
        self.future.set_result(None)

    def result(self) -> Measured:
        """Returns the score."""
        score = int(self._key[3:9], 16) / 2**24
        return Measured(n=self.n, rung=self._rung, trained=Trained(
            metric="accuracy", val_score=score, val_loss=1 - score, epochs=1, seconds=0.0, seed=0, share=self._share))

    def cancel(self) -> None:
        """There is nothing to end."""


class NullEvaluator:
    """Costs nothing: every graph has the same counts, and trainings are over when they start."""

    def screen(self, graphs: Sequence[ArchGraph], scored: int | None, limit_s: float) -> list[Screened]:
        """Returns counts only."""
        return [Screened(counts=_COUNTS) for _ in graphs]

    def order(self, screened: Sequence[Screened], labelled: Sequence[Trial]) -> Ordered:
        """Returns the order in which they came."""
        return Ordered(places=tuple(range(len(screened))))

    def cost(self, trial: Trial, share: float) -> float:
        """Returns the share."""
        return share

    def start(self, trial: Trial, rung: Rung, limit_s: float, nominal_s: float | None = None,
              share: float = 1.0) -> _Instant:
        """Returns a training that is over."""
        return _Instant(trial, rung, share)

    def fit(self, job: str, payload: dict[str, Any], name: str, limit_s: float, start: str | None = None) -> Handle:
        """Refuses: there are no data."""
        raise InputError("the loop without evaluation has no data to train on", "choose another strategy")

    def settle(self, trial: Trial, limit_s: float, targets: Sequence[str]) -> list[Measured]:
        """Returns nothing: there are no latencies."""
        return []


class _Marks:
    """An observer that notes when how many proposals were done."""

    def __init__(self) -> None:
        self.done: list[int] = [0]
        self.at: list[float] = [time.perf_counter()]

    def event(self, event: Event, state: RunState) -> None:
        if event.body.kind == "told":
            self.done.append(state.spent.proposals)
            self.at.append(time.perf_counter())

    def tick(self, state: RunState, clock_s: float, activity: str) -> None:
        pass

    def window_ms(self, mark: int) -> float:
        """Returns the milliseconds per proposal over the `WINDOW` proposals before `mark`."""
        done = np.asarray(self.done)
        last = int(np.searchsorted(done, mark))
        last = min(last, len(done) - 1)
        first = int(np.searchsorted(done, max(0, done[last] - WINDOW)))
        first = min(first, last - 1)
        return 1e3 * (self.at[last] - self.at[first]) / float(done[last] - done[first])


def bench_loop(trials: int, seed: int = 0, profile: bool = False, say: Say = lambda _: None) -> dict[str, Any]:
    """Returns one row per case, each run in a fresh process so that its peak memory is its own."""
    rows = []
    for space, strategy in CASES:
        say(f"{space}, {strategy}: {trials:,} trials")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows.append(pool.submit(run_case, space, strategy, trials, seed, profile).result())
    return {"trials": trials, "seed": seed, "cases": rows,
            "spaces": [micro(load_space(name), seed) for name in dict.fromkeys(space for space, _ in CASES)]}


def run_case(space: str, strategy: str, trials: int, seed: int = 0, profile: bool = False) -> dict[str, Any]:
    """Returns the speed, log and memory of one search of `trials` proposals."""
    with TemporaryDirectory(prefix="llmnas-bench-") as folder:
        directory, marks, profiler = Path(folder) / "run", _Marks(), Profile() if profile else None
        before = peak_mb()
        with RunStore(directory, create=True) as store:
            search = _search(Journal(store, Clock(_FOREVER_S), marks), space, strategy, trials, seed)
            stopped = profiler.runcall(search.run) if profiler else search.run()
            reached, trained = len(store.state.trials), store.state.spent.trainings
            duplicate, events = store.state.spent.duplicate, store.state.events
        after, log = peak_mb(), directory / "events.jsonl"
        marked = {str(mark): marks.window_ms(mark) for mark in _milestones(reached)}
        row: dict[str, Any] = {"space": space, "strategy": strategy, "trials": reached, "trained": trained,
               "duplicate": duplicate, "stopped": stopped.reason if reached < trials else "all trials done",
               "ms_per_proposal": marked, "slowdown": _slowdown(marked),
               "seconds": marks.at[-1] - marks.at[0], "peak_mb": after,
               "grown_mb": None if after is None or before is None else after - before,
               "log_mb": log.stat().st_size / 2**20, "log_bytes_per_trial": log.stat().st_size / max(1, reached),
               **_fold_speed(directory, events)}
        return row | ({"profile": _hottest(profiler)} if profiler else {})


def _search(journal: Journal, name: str, strategy: str, trials: int, seed: int) -> Search:
    settings = Settings(space=name, strategy=strategy, budget_s=_FOREVER_S, seed=seed)
    space = load_space(name)
    shape, classes = space.spec.shape, space.spec.classes
    journal.emit(RunStarted(run="bench", settings=settings, plan=_PLAN, task={}, environment={}, model=None))
    made = load_strategy(strategy)(Setup(space=space, settings=settings, shape=shape, classes=classes))
    return Search(journal, space, shape, classes, made, NullEvaluator(),
                  interrupted=lambda: len(journal.state.trials) >= trials)


def _milestones(reached: int) -> list[int]:
    """Returns 1,000, 10,000, … up to what was reached, which is the last."""
    powers = [10**exponent for exponent in range(3, 9) if 10**exponent < reached]
    return [*powers, reached] if reached else []


def _slowdown(marks: dict[str, float]) -> float | None:
    """Returns how much slower a proposal is at the last mark than at the first; 1 when the loop is linear."""
    speeds = list(marks.values())
    return speeds[-1] / speeds[0] if speeds else None


def _fold_speed(directory: Path, events: int) -> dict[str, float]:
    """Returns events per second of reading a run back: with parsing, and of folding alone."""
    start = time.perf_counter()
    read_run(directory)
    read = time.perf_counter() - start
    parsed = list(read_events(directory / "events.jsonl"))
    start = time.perf_counter()
    fold(parsed)
    return {"events": events, "read_events_per_s": events / read,
            "fold_events_per_s": events / (time.perf_counter() - start)}


def micro(space: Space, seed: int = 0, n: int = SAMPLED) -> dict[str, Any]:
    """Returns microseconds of `key`, `validate` and `sample` on graphs for which nothing is cached."""
    rng = np.random.default_rng(seed)
    start = time.perf_counter()
    graphs = [space.sample(rng) for _ in range(n)]
    sample = time.perf_counter() - start

    def timed(call: Any) -> float:
        fresh = [graph.model_copy() for graph in graphs]
        begin = time.perf_counter()
        for graph in fresh:
            call(graph)
        return 1e6 * (time.perf_counter() - begin) / n

    return {"space": space.name, "key_us": timed(lambda graph: graph.key()),
            "validate_us": timed(space.validate), "sample_us": 1e6 * sample / n}


def peak_mb() -> float | None:
    """Returns the largest resident memory of this process so far, in MB; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def _hottest(profiler: Profile, n: int = 25) -> list[dict[str, Any]]:
    """Returns the functions with the most time of their own."""
    stats: dict[Any, Any] = Stats(profiler).stats  # type: ignore[attr-defined]
    rows = [{"function": f"{Path(file).name}:{line}({name})", "calls": calls, "own_s": own, "total_s": total}
            for (file, line, name), (_, calls, own, total, _) in stats.items()]
    return sorted(rows, key=lambda row: -row["own_s"])[:n]
