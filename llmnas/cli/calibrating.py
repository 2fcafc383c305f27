"""What `llmnas latency calibrate` does and says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from llmnas.cli.here import Machine, note, probe, run_job
from llmnas.cli.samples import Reading, Subject, drawn, read_samples
from llmnas.errors import InputError
from llmnas.executors import Executor, Job, LocalExecutor
from llmnas.latency import Target, need_runtime
from llmnas.latency.calibrate import Calibration, from_samples, path_of, save
from llmnas.latency.kernels import EXECUTION_NAMES
from llmnas.latency.predictor import REGRESSION, RESIDUAL, Predictor
from llmnas.network import Shape

SCHEMA: Final = "llmnas.latency.calibrate/1"
CANDIDATES: Final = 400


class Wanted(NamedTuple):
    """What the options of calibrate and check have in common.

    Attributes:
        target: As typed.
        spaces: To draw from, or whose digits are read; empty for the usual ones.
        shapes: Input shapes; empty for the usual ones.
        classes: None for the usual number.
        seed: Of the drawn networks.
        average: Whether several measurements of one network are averaged.
    """

    target: str
    spaces: tuple[str, ...]
    shapes: tuple[Shape, ...]
    classes: int | None
    seed: int
    average: bool

    def reading(self) -> Reading:
        """Returns how the architectures in a file are read.

        Raises:
            InputError: Several spaces or shapes: a line does not say of which it is.
        """
        if len(self.spaces) > 1 or len(self.shapes) > 1:
            raise InputError("a file of samples is read in one space and one shape", "give --space and --shape once")
        return Reading(next(iter(self.spaces), None), next(iter(self.shapes), None), self.classes)


def answer(wanted: Wanted, n: int, budget_s: float, samples: Path | None, proxy: str | None,
           out: Path | None) -> dict[str, Any]:
    """Calibrates, writes the file, and returns what came of it as the command's JSON document.

    Raises:
        InputError: The target cannot be timed here and there are no samples, or they are faulty.
    """
    with LocalExecutor() as executor:
        machine = Machine(probe(executor))
        target = machine.targets([wanted.target])[0]
        found = _measured(executor, target, wanted, n, budget_s) if samples is None else _brought(
            target, wanted, samples)
    if proxy is not None:
        found = found.model_copy(update={"proxy": _proxy(machine, target, wanted, proxy)})
    path = out or path_of(target)
    save(found, path)
    return {"schema": SCHEMA, "asked": n if samples is None else None, "file": str(path),
            **described(found, found.predictor(target))}


def _measured(executor: Executor, target: Target, wanted: Wanted, n: int, budget_s: float) -> Calibration:
    if not target.measurable:
        raise InputError(f"target {target.key!r} cannot be timed here: {target.reason}",
                         "bring measurements: llmnas latency calibrate --samples FILE.csv")
    need_runtime(target)
    candidates = drawn(wanted.spaces, wanted.shapes, wanted.classes, CANDIDATES, wanted.seed)
    found = run_job(executor, Job(kind="calibrate", payload=_payload(target, candidates, n, budget_s)), "calibrating")
    return Calibration.model_validate(found["calibration"])


def _payload(target: Target, candidates: Sequence[Subject], n: int, budget_s: float) -> dict[str, Any]:
    return {"networks": [one.network.to_data() for one in candidates], "names": [one.name for one in candidates],
            "choices": [list(one.choices) for one in candidates], "target": target.model_dump(mode="json"), "n": n,
            "budget_s": budget_s}


def _brought(target: Target, wanted: Wanted, file: Path) -> Calibration:
    samples, notes = read_samples(file, wanted.reading(), wanted.average)
    for text in notes:
        note(text)
    return from_samples(target, samples, str(file))


def _proxy(machine: Machine, target: Target, wanted: Wanted, text: str) -> Calibration:
    """Returns the measurements of another device; its target is this one's when the text does not say."""
    spec, equals, file = text.rpartition("=")
    other = machine.targets([spec])[0] if equals and not Path(text).exists() else target
    return _brought(other, wanted, Path(file if equals and not Path(text).exists() else text))


def described(found: Calibration, predictor: Predictor) -> dict[str, Any]:
    """Returns what a calibration holds and how well it predicts its own samples when they are left out."""
    errors = np.abs(np.expm1(predictor.residuals)) if found.samples[1:] else None
    return {"target": found.target, "says": found.says, "samples": len(found.samples),
            "operators": len(found.operators), "seconds": found.seconds, "stage": predictor.stage,
            "left_out_mape": None if errors is None else float(errors.mean()), "sigma": predictor.sigma,
            "proxy": None if found.proxy is None else found.proxy.says, "members": _members(predictor),
            "genes": predictor.code is not None,
            "shapes": ["x".join(map(str, shape)) for shape in sorted(found.shapes)]}


def _members(predictor: Predictor) -> list[dict[str, Any]]:
    fitted = predictor.fitted.members if predictor.fitted else ()
    return [{"execution": EXECUTION_NAMES[one.execution], "member": one.member.name, "weight": one.weight}
            for one in sorted(fitted, key=lambda one: -one.weight)]


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yields the answer in words."""
    took = "" if found["seconds"] is None else f"; {found['operators']} operators; took {found['seconds']:.0f} s"
    yield f"{found['target']}: {found['says']}{took}"
    if found["asked"] is not None and found["samples"] < found["asked"]:
        yield f"  only {found['samples']} of {found['asked']} networks in the time: a longer --budget measures more"
    yield f"  inputs of {', '.join(found['shapes'])}"
    yield f"  {found['stage']}{_next(found)}"
    if found["proxy"] is not None:
        yield f"  another device: {found['proxy']}" + (
            "" if found["members"] else f"; not used below {REGRESSION} samples of this one")
    yield _error(found)
    for one in found["members"]:
        yield f"  {100 * one['weight']:3.0f} % {one['member']} ({one['execution']})"
    yield f"  kept in {found['file']}"


def _next(found: dict[str, Any]) -> str:
    """Returns what more samples would bring."""
    n = found["samples"]
    if n < REGRESSION:
        return f"; from {REGRESSION} samples on regressions say what every operator costs"
    if n < RESIDUAL:
        return f"; from {RESIDUAL} samples on a process on what is left over, for spaces with fixed slots"
    return "" if found["genes"] else "; no process on what is left over: the samples are not of one space with slots"


def _error(found: dict[str, Any]) -> str:
    if found["left_out_mape"] is None:
        return "  one sample: its error cannot be told; the interval is what is usual"
    return (f"  each sample as the others predict it: mean error {100 * found['left_out_mape']:.1f} %; "
            f"what it is on new networks, says `llmnas latency check --target {found['target']}`")
