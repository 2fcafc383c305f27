"""`TrainPayload`: everything one training is told."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

from pydantic import Field

from llmnas.data import DataRef
from llmnas.graph import Frozen

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1"]
METRICS: Final[tuple[str, ...]] = get_args(Metric)


class TrainPayload(Frozen):
    """The argument of the job ``train``, as JSON values.

    Attributes:
        network: ``Network.to_data()``.
        data: What to train on.
        epochs: Passes over the training part; the schedule anneals over them.
        time_limit_s: When given, the training, loading and last validation (and test) included, ends within these
            seconds, and the schedule anneals by time where time runs out before the epochs do. None anneals by
            epochs alone, which does not depend on the speed of the machine.
        seed: Seed of weights, order and augmentation.
        metric: The score, higher is better.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads; None leaves them as they are.
        fraction: Share of the training examples used, the same ones for every network.
        validations: Validations over the training, evenly spaced; None for one every epoch, and at most ten.
        weights: File the trained weights are written to (safetensors), or None.
        init_weights: File of weights to start from, or None.
        test: Whether the test part is read and scored: once, for the selected network.
        progress: File that gets one JSON line per validation and every few seconds, or None.
    """

    network: dict[str, Any]
    data: DataRef
    epochs: float = Field(gt=0)
    time_limit_s: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)
    metric: Metric = "accuracy"
    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    fraction: float = Field(default=1.0, gt=0, le=1)
    validations: int | None = Field(default=None, ge=1)
    weights: str | None = None
    init_weights: str | None = None
    test: bool = False
    progress: str | None = None
