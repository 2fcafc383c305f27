"""The calibrations a run works with: copied into its directory when it starts, so that a resumed run keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from llmnas.latency import Target
from llmnas.latency.calibrate import Calibration, here_for, path_of, read, save, stored
from llmnas.latency.predictor import Predictor
from llmnas.network import Shape

FOLDER: Final = "calibrations"
DOUBTFUL: Final = 0.25
"""Share of the screened networks that are expected to be timed on a calibrated target with a limit; a guess."""


def copy_calibrations(targets: Sequence[Target], machine: Mapping[str, Any], shape: Shape,
                      directory: Path) -> dict[str, str]:
    """Copies the kept calibrations that fit into a run's directory.

    Args:
        targets: Of the run.
        machine: What the ``probe`` job found.
        shape: Of one example.
        directory: Of the run.

    Returns:
        Why a kept calibration is not used, by target key.

    Raises:
        InputError: A file in the folder of calibrations is none.
    """
    unused = {}
    for target in targets:
        found, why = stored(target, here_for(target, machine), shape)
        if found is not None:
            save(found, path_of(target, directory / FOLDER))
        elif why:
            unused[target.key] = why
    return unused


def calibrations(targets: Sequence[Target], directory: Path) -> dict[str, Calibration]:
    """Returns the calibrations in a run's directory, by target key."""
    files = {target.key: path_of(target, directory / FOLDER) for target in targets}
    return {key: read(file) for key, file in files.items() if file.exists()}


def predictors(targets: Sequence[Target], directory: Path) -> dict[str, Predictor]:
    """Returns the predictors of a run by target key: calibrated, or analytic where the target cannot be timed."""
    found = calibrations(targets, directory)
    return {target.key: found[target.key].predictor(target) if target.key in found else Predictor(target)
            for target in targets if target.key in found or not target.measurable}


def timings(targets: Sequence[Target], calibrated: Mapping[str, Calibration], limited: Mapping[str, float]) -> float:
    """Returns how many timings a screened network is expected to need."""
    return sum(1.0 if target.key not in calibrated else DOUBTFUL if target.key in limited else 0.0
               for target in targets if target.measurable)


def sentence(target: Target, calibration: Calibration | None, why: str) -> str:
    """Returns what a run says of a target's latency at its start; nothing when it is simply measured.

    Args:
        target: The target.
        calibration: What is used.
        why: Why a kept calibration is not.
    """
    if target.measurable:
        if calibration is not None:
            return (f"target {target.key}: its latency is predicted, calibrated on {calibration.says}; a network is "
                    "timed when a limit lies in the interval, when it enters the front, and as a finalist")
        return f"target {target.key}: {why}; every network is timed" if why else ""
    how = "analytic" if calibration is None else f"calibrated on {calibration.says}"
    return f"target {target.key}: {target.reason}; its latency is {how}, not measured" + (f"; {why}" if why else "")
