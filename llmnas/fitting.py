"""How a strategy that learns by training is fitted: its jobs run like trainings, charged, logged and resumable."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmnas.evaluate.base import Evaluator
from llmnas.evaluate.rungs import FITS
from llmnas.executors import Handle
from llmnas.records import Checkpointed, Fitted, Warned
from llmnas.strategies.base import Fit, FitFailed
from llmnas.supernet.checkpoint import digest_of

if TYPE_CHECKING:
    from llmnas.search import Journal

SHARE: Final = 0.5
"""Of the search's time, nominal: what a fit may take. The rest is for training what it proposes."""
LIMIT: Final = 0.7
"""Of what is left of the search's time: where a fit is cut on a machine that is slower than its nominal rates."""
TICK_S: Final = 0.2
_STREAM: Final = 0xF17  # the chance of a fit; asks have that of their step


class FitEnded(Exception):
    """Time is up, or the person wants to stop: the fit goes on when the run is resumed."""


class Fitter:
    """The loop's side of `llmnas.strategies.base.Fit`.

    Args:
        journal: The run.
        evaluator: Starts the jobs.
        seconds: Nominal seconds of the whole fit.
        limit: When it must end, on the run's clock.
        over: Whether the search is over.
    """

    def __init__(self, journal: Journal, evaluator: Evaluator, seconds: float, limit: float,
                 over: Callable[[], bool] = lambda: False) -> None:
        self.journal, self.evaluator, self.over = journal, evaluator, over
        self.seconds, self.limit = seconds, limit

    def channel(self) -> Fit:
        """Returns what the strategy gets."""
        state = self.journal.state
        return Fit(seconds=self.seconds, deadline=self.journal.clock.monotonic(self.limit),
                   examples=int(state.begun.task["sizes"]["train"]) if "sizes" in state.begun.task else 0,
                   rates=state.plan.rates, rng=np.random.default_rng([state.settings.seed, 0, _STREAM]),
                   run=self._run, warn=self._warn)

    def _warn(self, message: str) -> None:
        if message not in self.journal.state.warnings:
            self.journal.emit(Warned(message=message))

    def _run(self, what: str, job: str, payload: dict[str, Any], nominal_s: float,
             weights: str | None = None) -> dict[str, Any]:
        """Returns the result of a piece of the fit: from the log, or from a job; see `RunFit`."""
        done = self.journal.state.fits.get(what)
        if done is None:
            done = self._carried_out(what, job, payload, nominal_s, weights)
            self.journal.emit(done)
        if done.failed is not None:
            raise FitFailed(what, done.failed, done.note)
        return done.result

    def _carried_out(self, what: str, job: str, payload: dict[str, Any], nominal_s: float,
                     weights: str | None) -> Fitted:
        left = self.limit - self.journal.clock.t()
        if self.over():
            raise FitEnded
        if left <= 0:
            return Fitted(what=what, job=job, nominal_s=nominal_s, seconds=0.0, failed="too_slow",
                          note="the time for learning is over")
        root = self.journal.store.directory
        saved = None if root is None else root / FITS / f"{what}.jsonl"
        if saved is not None:
            saved.unlink(missing_ok=True)
        handle = self.evaluator.fit(job, payload, what, left, self._checkpoint(weights or what))
        self._follow(what, handle, saved)
        if saved is not None:
            saved.unlink(missing_ok=True)
        outcome = handle.future.result()
        if outcome.status == "ok" and outcome.result is not None:
            return Fitted(what=what, job=job, nominal_s=nominal_s, seconds=outcome.seconds, result=outcome.result)
        return Fitted(what=what, job=job, nominal_s=nominal_s, seconds=outcome.seconds, failed=outcome.kind or "failed",
                      note=outcome.error[:500])

    def _checkpoint(self, what: str) -> str | None:
        """Returns the last checkpoint of a piece, relative to the run; None when there is none that is whole."""
        found, root = self.journal.state.checkpoints.get(what), self.journal.store.directory
        if found is None or root is None:
            return None
        path = root / found.file
        if path.is_file() and digest_of(path) == found.digest:
            return found.file
        self._warn(f"the checkpoint {found.file} is gone or damaged; {what} is fitted anew")
        return None

    def _follow(self, what: str, handle: Handle, saved: Path | None) -> None:
        """Waits for a job; every checkpoint it leaves is logged, and the one before it removed.

        Raises:
            FitEnded: The search was over before the job was.
        """
        read, says = 0, ""
        while True:
            done = bool(wait([handle.future], timeout=TICK_S).done)
            lines = saved.read_bytes().split(b"\n")[:-1] if saved is not None and saved.exists() else []
            for line in lines[read:]:
                says = self._log(what, json.loads(line))
            read = len(lines)
            if done:
                return
            self.journal.tick(f"fitting {what}" + (f": {says}" if says else ""))
            if self.over():
                handle.cancel()
                raise FitEnded

    def _log(self, what: str, line: dict[str, str]) -> str:
        root = self.journal.store.directory
        assert root is not None
        before = self.journal.state.checkpoints.get(what)
        file = str(Path(line["file"]).relative_to(root.resolve()))
        self.journal.emit(Checkpointed(what=what, file=file, digest=line["digest"]))
        if before is not None and before.file != file:
            (root / before.file).unlink(missing_ok=True)
        return line["says"]

