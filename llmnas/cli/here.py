"""What the command line knows of this machine: the targets that a person named, and what is kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from llmnas.errors import InputError, LlmnasError
from llmnas.executors import Executor, Job
from llmnas.latency import Target, parse_targets
from llmnas.latency.calibrate import Calibration, Here, here_for, read, stored
from llmnas.latency.predictor import Predictor

PROBE_S = 60.0


def probe(executor: Executor) -> dict[str, Any]:
    """Returns what the machine has.

    Raises:
        LlmnasError: torch cannot be started.
    """
    outcome = executor.submit(Job(kind="probe", deadline_s=PROBE_S)).future.result()
    if outcome.result is None:
        raise LlmnasError(f"torch cannot be started: {outcome.error}", "run `llmnas doctor`")
    return outcome.result


class Machine(NamedTuple):
    """This machine.

    Attributes:
        found: What the probe found.
    """

    found: dict[str, Any]

    def targets(self, specs: Sequence[str]) -> list[Target]:
        """Returns the targets that were typed."""
        gpus = self.found["gpus"]
        return parse_targets(specs, bool(gpus), gpus[0] if gpus else "")

    def here(self, target: Target) -> Here:
        """Returns what would make a calibration of the target void."""
        return here_for(target, self.found)


class Kept(NamedTuple):
    """What is used for a target.

    Attributes:
        predictor: The best there is.
        calibration: Where it comes from; None when nothing was measured.
        why: Why a calibration is not used; empty when there is none, or it is.
    """

    predictor: Predictor
    calibration: Calibration | None
    why: str

    @property
    def says(self) -> str:
        """What the predictions rest on, in words."""
        if self.calibration is None:
            return "analytic: no measurement of this target is known" + (f"; {self.why}" if self.why else "")
        return f"calibrated on {self.calibration.says}; {self.predictor.stage}"


def kept(target: Target, here: Here, file: Path | None = None) -> Kept:
    """Returns what is used for a target: the calibration in a file, else the kept one, else the analytic model."""
    if file is None:
        calibration, why = stored(target, here)
    else:
        calibration, why = read(file), ""
        if unfit := calibration.fits(target, here):
            calibration, why = None, f"{file} is not used: {unfit}"
    return Kept(Predictor(target) if calibration is None else calibration.predictor(target), calibration, why)


def run_job(executor: Executor, job: Job, what: str) -> dict[str, Any]:
    """Returns the result of a job in a child process.

    Raises:
        InputError: The job says that its input is bad.
        LlmnasError: It failed.
    """
    outcome = executor.submit(job).future.result()
    if outcome.kind == InputError.__name__:
        raise InputError(f"{what}: {outcome.error}")
    if outcome.status != "ok" or outcome.result is None:
        raise LlmnasError(f"{what} failed: {outcome.error}")
    return outcome.result


def note(text: str) -> None:
    """Prints a line that is not part of the answer."""
    typer.echo(f"note: {text}", err=True)
