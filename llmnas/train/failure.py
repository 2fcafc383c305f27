"""Why a training has no result."""

from __future__ import annotations

from typing import Literal

from llmnas.errors import LlmnasError

FailureKind = Literal["diverged", "out_of_memory", "too_slow"]


class TrainingError(LlmnasError):
    """A training that ended without a score, for a reason that lies in the network.

    Attributes:
        kind: ``diverged``: the loss is not finite. ``out_of_memory``. ``too_slow``: not one step fits the deadline.
    """

    def __init__(self, kind: FailureKind, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.kind = kind
