"""`Replayed`: the evaluator of a replay. Nothing is timed, scored or trained: all of it comes from the recording."""

from __future__ import annotations

import shutil
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from llmnas.errors import RunError
from llmnas.evaluate.base import Screened
from llmnas.evaluate.rungs import Rungs
from llmnas.executors import Handle
from llmnas.graph import ArchGraph
from llmnas.recording import Recording
from llmnas.records import Latency, Measured, Pooled, Rung, Told, Trial


class PlayedBack:
    """A training of the recording. It is done when its end is the next event.

    Args:
        measured: Its end.
        seq: Its place in the log.
    """

    def __init__(self, measured: Measured, seq: int) -> None:
        self.n, self.seq = measured.n, seq
        self.future: Future[Any] = Future()
        self._measured = measured

    def result(self) -> Measured:
        """Returns what came of it then."""
        return self._measured

    def cancel(self) -> None:
        """There is nothing to end: what was cut then is in the recording."""


class Replayed(Rungs):
    """Screening, trainings and timings of a finished run, served in the order of its log.

    A screening is found by the key of its graph, a training by trial and rung, a timing by its place in the log. What
    is computed from them, the order of proposals for one, is computed again.
    """

    recording: Recording

    def play(self, recording: Recording) -> Replayed:
        """Takes a recording in; returns itself."""
        self.recording = recording
        self._position = 0
        self._screened: defaultdict[str, deque[Screened]] = defaultdict(deque)
        self._under_way: list[PlayedBack] = []
        for event in recording.events:
            for key, one in _screenings(event.body):
                self._screened[key].append(one)
        return self

    def advance(self, position: int) -> None:
        """Is told how many events the replay has written: the training whose end comes next is then done."""
        self._position = position
        for training in self._under_way:
            if training.seq == position and not training.future.done():
                training.future.set_result(None)

    def screen(self, graphs: Sequence[ArchGraph], scored: int | None, limit_s: float) -> list[Screened]:
        """Returns what the recording has, one result a graph."""
        found = []
        for graph in graphs:
            queue = self._screened[graph.key()]
            if not queue:
                raise self._missing(f"no screening of {graph.key()}")
            found.append(queue.popleft())
        return found

    def start(self, trial: Trial, rung: Rung, limit_s: float, nominal_s: float | None = None,
              share: float = 1.0) -> PlayedBack:
        """Returns the training of the recording."""
        for event in self.recording.events[self._position:]:
            body = event.body
            if isinstance(body, Measured) and (body.n, body.rung) == (trial.n, rung):
                training = PlayedBack(body, event.seq)
                self._under_way.append(training)
                if body.trained is not None and body.trained.weights:
                    self._copy(body.trained.weights)
                self.advance(self._position)
                return training
        raise self._missing(f"no {rung} training of trial {trial.n}")

    def fit(self, job: str, payload: dict[str, Any], name: str, limit_s: float, start: str | None = None) -> Handle:
        """Refuses: strategies that learn by training ask no model, so nobody replays them."""
        raise self._missing(f"no fit {name}")

    def settle(self, trial: Trial, limit_s: float, targets: Sequence[str]) -> list[Measured]:
        """Returns the timings of a trial that come next in the log."""
        found = []
        for body in self._next_timings():
            if body.n != trial.n or body.latency is None:
                break
            found.append(body)
        return found

    def time_finalists(self, graphs: Sequence[ArchGraph], limit_s: float) -> dict[str, list[Latency | None]]:
        """Returns the timings of several graphs that come next in the log."""
        keys = [graph.key() for graph in graphs]
        found: dict[str, list[Latency | None]] = {}
        for body in self._next_timings():
            if body.latency is None:
                break
            key = self._key(body.n)
            if key in keys:
                found.setdefault(body.latency.device, [None] * len(keys))[keys.index(key)] = body.latency
        return found

    def meter(self, trial: Trial, limit_s: float) -> list[Measured]:
        """Returns the readings of energy that come next in the log."""
        found = []
        for body in self._next_timings():
            if body.n != trial.n or body.latency is not None:
                break
            found.append(body)
        return found

    def _next_timings(self) -> list[Measured]:
        found = []
        for event in self.recording.events[self._position:]:
            if not isinstance(event.body, Measured) or event.body.rung is not None:
                break
            found.append(event.body)
        return found

    def _key(self, n: int) -> str | None:
        for event in self.recording.events:
            if isinstance(event.body, Told):
                for trial in event.body.trials:
                    if trial.n == n:
                        return trial.key
        return None

    def _copy(self, weights: str) -> None:
        source, fresh = self.recording.directory / weights, self.root / weights
        if not source.is_file():
            raise self._missing(f"no {weights}")
        fresh.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, fresh)
        progress = self.recording.directory / "final.jsonl"
        if progress.is_file():
            shutil.copyfile(progress, self.root / progress.name)

    def _missing(self, what: str) -> RunError:
        return RunError(f"{self.recording.directory} holds {what}",
                        "it was recorded with other settings or another version, or files of it are gone")


def _screenings(body: Any) -> list[tuple[str, Screened]]:
    """Returns what an event says of graphs that were screened, by their keys."""
    if isinstance(body, Pooled):
        return [(one.graph.key(), Screened(counts=one.counts, scores=one.scores, latency=one.latency,
                                           violates=one.violates)) for one in body.candidates]
    if isinstance(body, Told):
        return [(one.key, Screened(counts=one.counts, scores=one.scores, unscored=one.unscored, latency=one.latency,
                                   energy=one.energy, violates=one.violates))
                for one in body.trials if one.counts is not None and one.key is not None]
    return []
