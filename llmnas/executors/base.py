"""What a job is, what comes of it, and what runs it.

A job is a function ``(payload, stop) -> result`` named by text, with JSON values in and out, so that it can run in a
child process, or on another machine.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from pydantic import Field

from llmnas.errors import LlmnasError, nearest
from llmnas.graph import Frozen

KINDS: Final[dict[str, str]] = {
    "probe": "llmnas.executors.probe:probe",
    "train": "llmnas.train.trainer:train",
    "screen": "llmnas.evaluate.screening:screen_job",
    "measure": "llmnas.latency.estimate:measure_job",
    "meter": "llmnas.latency.metering:meter_job",
    "calibrate": "llmnas.latency.calibrate:calibrate_job",
    "score": "llmnas.proxies.job:score_job",
    "darts": "llmnas.supernet.differentiable:darts_job",
    "paths": "llmnas.supernet.sampling:paths_job",
    "score_paths": "llmnas.supernet.scoring:score_job",
    "export": "llmnas.export.job:export_job",
}
"""Names of jobs → ``module:function``. May be extended; a job may also name ``module:function`` itself."""


class Job(Frozen):
    """One piece of work.

    Attributes:
        kind: A name in `KINDS`, or ``module:function``.
        payload: JSON values handed to the function.
        deadline_s: Wall seconds it may take, counted from its start in its own process; None for no limit.
        threads: CPU threads it may use.
    """

    kind: str
    payload: dict[str, Any] = Field(default_factory=dict)
    deadline_s: float | None = Field(default=None, gt=0)
    threads: int = Field(default=1, ge=1)

    @property
    def target(self) -> str:
        """The function as ``module:function``.

        Raises:
            LlmnasError: The kind is not known.
        """
        if ":" in self.kind:
            return self.kind
        if self.kind not in KINDS:
            raise LlmnasError(f"unknown job kind {self.kind!r}", nearest(self.kind, list(KINDS)))
        return KINDS[self.kind]


class Outcome(Frozen):
    """What came of a job.

    Attributes:
        status: ``ok``: the function returned, even if late. ``failed``: it raised, or its process died by itself.
            ``timeout``: it was killed at its deadline. ``killed``: it was cancelled.
        result: What the function returned; None unless ok.
        error: What went wrong, in words; empty when ok.
        kind: Kind of failure: the exception's ``kind`` if it has one (``diverged``, ``out_of_memory``), else its
            class; ``died`` for a process that ended without a result.
        seconds: Wall time of the process.
        peak_rss_mb: Largest resident memory of the process; None when unknown.
    """

    status: Literal["ok", "failed", "timeout", "killed"]
    result: dict[str, Any] | None = None
    error: str = ""
    kind: str = ""
    seconds: float = 0.0
    peak_rss_mb: float | None = None


class Stop:
    """Tells a job function when to come to its end; handed to it by the executor.

    Args:
        left_s: Seconds until the deadline; None for no limit.
    """

    def __init__(self, left_s: float | None = None) -> None:
        self._end = None if left_s is None else time.monotonic() + left_s
        self._told = False

    def tell(self) -> None:
        """Asks the job to end now; called when the process receives SIGTERM."""
        self._told = True

    def expired(self) -> bool:
        """Returns whether the deadline has passed or the process was asked to end."""
        return self.left() <= 0

    def left(self) -> float:
        """Returns the seconds left, at least 0; infinity when there is no limit."""
        if self._told:
            return 0.0
        return float("inf") if self._end is None else max(0.0, self._end - time.monotonic())


class Handle(Protocol):
    """A job that was submitted."""

    @property
    def future(self) -> Future[Outcome]:
        """The outcome to come, for `concurrent.futures.wait` over several jobs. It never holds an exception."""

    def done(self) -> bool:
        """Returns whether the outcome is known."""

    def wait(self, timeout: float | None = None) -> Outcome | None:
        """Returns the outcome, or None when it is not known after `timeout` seconds."""

    def cancel(self) -> None:
        """Ends the job: asks it to stop, then kills it. Returns at once; the outcome follows."""


class Executor(Protocol):
    """Runs jobs. A job starts when it is submitted; how many run at once is the caller's decision."""

    def submit(self, job: Job) -> Handle:
        """Starts `job` in a fresh process."""

    def close(self) -> None:
        """Kills what still runs and frees everything."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None: ...
