"""The calibrations a run works with: copied into its directory when it starts, so that a resumed run keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmnas.data import DataRef
from llmnas.executors import Executor, Job
from llmnas.graph import ArchGraph
from llmnas.latency import Target
from llmnas.latency.calibrate import NETWORKS, Calibration, here_for, path_of, read, save, stored
from llmnas.latency.predictor import Predictor
from llmnas.network import Shape
from llmnas.space import Space

FOLDER: Final = "calibrations"
LEAST_RUN_S: Final = 600.0
"""Budget from which a run calibrates by itself."""
SHARE: Final = .015
"""Of the budget that a calibration may take, up to `MOST_S` seconds."""
MOST_S: Final = 20.0
CANDIDATES: Final = 150
_STREAM: Final = 4  # of random numbers, apart from those of the search
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


def calibrate_here(targets: Sequence[Target], space: Space, data: DataRef, executor: Executor, budget_s: float,
                   seed: int, directory: Path) -> dict[str, str]:
    """Calibrates, into a run's directory, the targets that can be timed here and have no calibration yet.

    In a long run this costs less than timing every network that is screened, and tells beforehand which known-good
    designs keep a limit.

    Args:
        targets: Of the run.
        space: Networks are drawn from it.
        data: What they read.
        executor: Runs the timings.
        budget_s: Of the whole run; runs shorter than `LEAST_RUN_S` are left alone.
        seed: Of the run.
        directory: Of the run.

    Returns:
        Why a target could not be calibrated, by target key.
    """
    missing = [target for target in targets if target.measurable and not path_of(target, directory / FOLDER).exists()]
    if budget_s < LEAST_RUN_S or not missing:
        return {}
    graphs = _drawn(space, data, seed)
    names, choices = [graph.key() for graph in graphs], [space.choices(graph) for graph in graphs]
    networks = [space.network(graph, data.shape, data.classes).to_data() for graph in graphs]
    failed = {}
    for target in missing:
        seconds = min(MOST_S, SHARE * budget_s)
        outcome = executor.submit(Job(kind="calibrate", threads=target.threads, deadline_s=2 * seconds, payload={
            "networks": networks, "target": target.model_dump(mode="json"), "n": NETWORKS, "budget_s": seconds,
            "names": names, "choices": choices})).future.result()
        if outcome.result is None:
            failed[target.key] = f"it could not be calibrated: {outcome.error[:200]}"
        else:
            save(Calibration.model_validate(outcome.result["calibration"]), path_of(target, directory / FOLDER))
    return failed


def _drawn(space: Space, data: DataRef, seed: int) -> list[ArchGraph]:
    """Returns the known-good designs and random graphs that are no larger than the largest of them."""

    def macs(graph: ArchGraph) -> int:
        return space.network(graph, data.shape, data.classes).counts.macs

    designs = [graph for graph in space.prior() if not space.validate(graph, data.shape, data.classes)]
    largest, rng = max(map(macs, designs), default=None), np.random.default_rng([seed, _STREAM])
    drawn = [graph for graph in (space.sample(rng) for _ in range(CANDIDATES))
             if not space.validate(graph, data.shape, data.classes) and (largest is None or macs(graph) <= largest)]
    return [*designs, *drawn]


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
