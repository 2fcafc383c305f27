"""What a regression of latency sees of a network: per kind of operator how often it runs and how much it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from llmnas.latency.counting import Counted, Floats
from llmnas.latency.kernels import Kernel

Cost = Callable[[Kernel], float]
"""Milliseconds of one call of a kernel."""


class Costs(NamedTuple):
    """Prior costs of a kernel on a target, in ms per call.

    Attributes:
        expected: Launch and work together, as the analytic model has them.
        waiting: The part of `expected` that is waiting for a launch.
        work: Arithmetic and traffic alone, without any launch.
        start_ms: What a call of any network costs, in ms.
        measured: By micro-benchmark on the target; None when there was none.
    """

    expected: Cost
    waiting: Cost
    work: Cost
    start_ms: float
    measured: Cost | None = None


class Features(NamedTuple):
    """Totals of several networks by kind of operator, for one way of executing them.

    Attributes:
        ops: The kinds, in the order of the columns.
        calls: Calls, of shape (networks, ops).
        mflop: Millions of floating-point operations a batch, of shape (networks, ops).
        mb: Millions of bytes moved a batch, of shape (networks, ops).
        expected: ms by the analytic model, of shape (networks, ops).
        work: ms of work alone, of shape (networks, ops).
        measured: ms by micro-benchmark, of shape (networks, ops); None when there was none.
        start_ms: What a call of any network costs.
        strange: Share of the expected ms in kinds that are not among `ops`, of shape (networks,).
        proxy: ms on another device, as its own predictor has them, of shape (networks,); None when there is none.
    """

    ops: tuple[str, ...]
    calls: Floats
    mflop: Floats
    mb: Floats
    expected: Floats
    work: Floats
    measured: Floats | None
    start_ms: float
    strange: Floats
    proxy: Floats | None = None

    def take(self, places: Sequence[int] | np.ndarray) -> Features:
        """Returns the networks at these places."""
        at = np.asarray(places, dtype=np.intp)
        measured = None if self.measured is None else self.measured[at]
        return Features(self.ops, self.calls[at], self.mflop[at], self.mb[at], self.expected[at], self.work[at],
                        measured, self.start_ms, self.strange[at], None if self.proxy is None else self.proxy[at])


def kinds(counted: Counted) -> tuple[str, ...]:
    """Returns the kinds of operator that occur, in alphabetical order."""
    used = counted.counts.sum(axis=0) > 0
    return tuple(sorted({kernel.op for kernel, runs in zip(counted.kernels, used, strict=True) if runs}))


def features(counted: Counted, costs: Costs, ops: Sequence[str], batch: int, bytes_per_value: int = 4) -> Features:
    """Returns the totals by kind of operator.

    Args:
        counted: Kernels of the networks.
        costs: Prior costs on the target.
        ops: The kinds that have a column; what else occurs only shows in `Features.strange`.
        batch: Examples per call.
        bytes_per_value: Of the target's precision.
    """
    kernels, counts = counted.kernels, counted.counts
    place = {op: i for i, op in enumerate(ops)}
    column = np.array([place.get(kernel.op, len(ops)) for kernel in kernels], dtype=np.intp)
    belongs = np.zeros((len(kernels), len(ops) + 1))
    belongs[np.arange(len(kernels)), column] = 1

    def totals(cost: Cost) -> Floats:
        per_call: Floats = np.array([cost(kernel) for kernel in kernels], dtype=float)
        return np.asarray(counts @ (belongs * per_call[:, None]), dtype=float)

    expected = totals(costs.expected)
    whole = np.maximum(expected.sum(axis=1), 1e-12)
    return Features(
        tuple(ops), totals(lambda kernel: 1.0)[:, :-1],
        totals(lambda kernel: kernel.flops * batch / 1e6)[:, :-1],
        totals(lambda kernel: bytes_per_value * (kernel.values * batch + kernel.weights) / 1e6)[:, :-1],
        expected[:, :-1], totals(costs.work)[:, :-1],
        None if costs.measured is None else totals(costs.measured)[:, :-1], costs.start_ms,
        expected[:, -1] / whole)
