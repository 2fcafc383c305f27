"""The fronts of runs, measured in a box of their own: nobody knows the true front of real data.

Box: least and greatest lost score and latency over everything that any of the runs trained. Reference: its worst
corner. What stands in for the true front is the front of all runs together, so it favours no arm but grows with every
run that is added: figures of two comparisons cannot be set side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from llmnas.compare.analysis import Measure
from llmnas.compare.paired import Values
from llmnas.compare.trajectory import Trajectory

FRONT: Final = (
    Measure("hv_ratio", "hypervolume of validation score and latency, over that of the front of all runs together"),
    Measure("igd_plus", "IGD+ to the front of all runs together", higher=False))


def with_fronts(trajectories: Sequence[Trajectory]) -> tuple[list[Trajectory], dict[str, Any] | None]:
    """Returns the trajectories with the measures of `FRONT`, and the box; as they are where latencies are not known."""
    import moocore

    own = [_points(one) for one in trajectories]
    every = np.concatenate(own) if own else np.empty((0, 2))
    if not len(every) or (every.max(axis=0) == every.min(axis=0)).any():
        return list(trajectories), None
    low, high = every.min(axis=0), every.max(axis=0)
    true = _front((every - low) / (high - low))
    whole = float(moocore.hypervolume(true, ref=[1.0, 1.0]))
    judged = []
    for one, points in zip(trajectories, own, strict=True):
        found = _front((points - low) / (high - low)) if len(points) else None
        measures: dict[str, float | None] = {measure.name: None for measure in FRONT}
        if found is not None and whole > 0:
            measures = {"hv_ratio": float(moocore.hypervolume(found, ref=[1.0, 1.0])) / whole,
                        "igd_plus": float(moocore.igd_plus(found, ref=true))}
        judged.append(one.model_copy(update={"measures": {**one.measures, **measures}}))
    return judged, {"score": [1 - float(high[0]), 1 - float(low[0])], "latency_ms": [float(low[1]), float(high[1])],
                    "reference": {"score": 1 - float(high[0]), "latency_ms": float(high[1])}, "front": len(true)}


def _points(trajectory: Trajectory) -> Values:
    """Returns (lost score, latency) of every evaluation that has both."""
    return np.array([(1 - one.score, one.latency_ms) for one in trajectory.paid
                     if one.score is not None and one.latency_ms is not None], dtype=float).reshape(-1, 2)


def _front(points: Values) -> Values:
    import moocore

    return np.asarray(points[np.asarray(moocore.is_nondominated(points), dtype=bool)])
