"""What a supernet job is told."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from llmnas.data import DataRef
from llmnas.graph import Frozen


class SupernetPayload(Frozen):
    """What every job with a supernet is told, as JSON values.

    Attributes:
        network: The supernet: ``Network.to_data()``.
        slots: Its decisions: slot and ops.
        data: What to train on; only its training part is read.
        seed: Seed of weights, halves, order, augmentation and paths.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads; None leaves them as they are.
        saves: Folder and name of the checkpoints, ``fits/supernet``; None keeps none.
        start: A checkpoint to go on from, or to use; None for none.
    """

    network: dict[str, Any]
    slots: tuple[tuple[str, tuple[str, ...]], ...]
    data: DataRef
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    saves: str | None = None
    start: str | None = None


class DartsPayload(SupernetPayload):
    """What a differentiable search is told; the options are those of `llmnas.strategies.darts`.

    Attributes:
        epochs: Passes over one half of the training part.
        order: 1 or 2: whether a step of the weights is looked through (DARTS, arXiv 1806.09055, equations 6 to 8).
        partial: Parts of the channels, of which candidates get one (PC-DARTS).
        gate: What turns α into weights: ``softmax``, or ``sigmoid`` for each op by itself (FairDARTS).
        skip_decay: Whether an auxiliary skip that fades away stands beside the candidates (DARTS-).
        entropy: Weight of the mean entropy of the softmax.
        latency: Weight of the expected latency (ProxylessNAS, arXiv 1812.00332, equation 4).
        costs: Latency of every op of every slot as a share of the dearest network's, for that term.
        paths: Candidates that run at once: ``all``, or ``one`` (ProxylessNAS, section 3.2).
        guard: ``report``, ``stop`` or ``off``.
    """

    epochs: int = Field(ge=1)
    order: Literal[1, 2] = 1
    partial: int = Field(default=1, ge=1)
    gate: Literal["softmax", "sigmoid"] = "softmax"
    skip_decay: bool = False
    entropy: float = 0.0
    latency: float = 0.0
    costs: tuple[tuple[float, ...], ...] = ()
    paths: Literal["all", "one"] = "all"
    guard: Literal["report", "stop", "off"] = "report"


class PathsPayload(SupernetPayload):
    """What the training of a one-shot model is told.

    Attributes:
        epochs: Passes over one half of the training part.
        sampling: ``uniform``: one random path a step (SPOS, arXiv 1904.00420). ``fair``: every op of every slot once a
            step (FairNAS, arXiv 1907.01845, algorithm 1).
    """

    epochs: int = Field(ge=1)
    sampling: Literal["uniform", "fair"] = "uniform"


class ScorePayload(SupernetPayload):
    """What the scoring of paths is told; ``start`` holds the weights.

    Attributes:
        choices: The paths: the place of an op for every slot.
        examples: Examples of the half that the weights were not trained on, at most.
        recalibration: Batches that give each path its own batch-norm statistics.
    """

    choices: tuple[tuple[int, ...], ...]
    examples: int = Field(default=1_000, ge=1)
    recalibration: int = Field(default=8, ge=1)
