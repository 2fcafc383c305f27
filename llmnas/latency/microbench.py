"""Single operators timed on this machine: a table that turns the analytic model into one of this machine."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import exp, log
from statistics import median
from typing import Any, Final

from llmnas.latency.features import Cost
from llmnas.latency.kernels import EAGER, Kernel, executed
from llmnas.latency.measure import clock_for, prepare, settings
from llmnas.latency.target import Target
from llmnas.latency.timing import never, time_in_turn
from llmnas.network import Layer, Network

PER_KERNEL_S: Final = .03
"""Wall seconds for one operator, as a rule."""
PASSES: Final = 3
"""How often every operator has its turn; a slow moment of the machine spoils one turn only."""
_FEW: Final = 4


def operators(networks: Iterable[Network], expected: Cost) -> dict[Kernel, Network]:
    """Returns the different operators of some networks, each as a network of one layer.

    Those that are expected to take the most time in all networks together come first. Operators that read values of
    different shapes are left out.
    """
    found: dict[Kernel, Network] = {}
    share: dict[Kernel, float] = {}
    for network in networks:
        for kernel in executed(network, EAGER):
            bare = kernel._replace(layer=0)
            share[bare] = share.get(bare, 0.0) + expected(bare)
            if bare not in found and (alone := _alone(network, network.layers[kernel.layer])) is not None:
                found[bare] = alone
    return {kernel: found[kernel] for kernel in sorted(found, key=lambda kernel: -share[kernel])}


def _alone(network: Network, layer: Layer) -> Network | None:
    """Returns a network of this layer only; None when there is no such network."""
    shapes = {network.shape_of(source) for source in layer.inputs}
    if len(shapes) != 1 or layer.kind == "attention":
        return None
    reads = layer.inputs[:2] if layer.kind == "add" else layer.inputs  # a sum of many is several calls
    return Network(shapes.pop(), (layer._replace(inputs=(-1,) * len(reads)),))


def time_operators(alone: Mapping[Kernel, Network], target: Target, budget_s: float,
                   expired: Callable[[], bool] = never) -> dict[Kernel, float]:
    """Returns milliseconds per call of operators, as many as fit the budget.

    Args:
        alone: As `operators` gives them.
        target: A measurable target.
        budget_s: Wall seconds for all.
        expired: Whether to end now.
    """
    import torch

    found: dict[Kernel, list[float]] = {}
    ends = time.monotonic() + budget_s
    with settings(target), torch.inference_mode():
        clock = clock_for(target)
        for _ in range(PASSES):
            for kernel, network in alone.items():
                if expired() or time.monotonic() > ends:
                    break
                call = partial(clock, prepare(network, network.input_shape, target).call)
                series, = time_in_turn([call], PER_KERNEL_S, 2, expired)
                if len(series.readings) >= 3:
                    found.setdefault(kernel, []).append(median(reading.ms for reading in series.readings))
    return {kernel: max(min(seen), 1e-6) for kernel, seen in found.items()}


def interpolated(measured: Mapping[Kernel, float], expected: Cost) -> Cost:
    """Returns the cost of any operator: measured, else as a Gaussian process over those of its kind has it.

    The process is over the log of measured / expected, given the logs of arithmetic, traffic and weights, which
    together tell an operator's shape. Kinds with fewer than four measured operators take the median ratio of their
    class, else of all.

    Args:
        measured: Milliseconds by kernel.
        expected: The analytic model's.
    """
    ratios = {kernel: log(ms / max(expected(kernel), 1e-9)) for kernel, ms in measured.items()}
    fits = {op: _fit_ratios({kernel: ratio for kernel, ratio in ratios.items() if kernel.op == op})
            for op in {kernel.op for kernel in ratios}}
    known: dict[Kernel, float] = dict(measured)

    def ratio(kernel: Kernel) -> float:
        if (model := fits.get(kernel.op)) is not None:
            return float(model.predict([_shape(kernel)])[0])
        like = [value for other, value in ratios.items() if other.kind == kernel.kind] or list(ratios.values())
        return median(like) if like else 0.0

    def cost(kernel: Kernel) -> float:
        bare = kernel._replace(layer=0)
        if bare not in known:
            known[bare] = expected(bare) * exp(ratio(bare))
        return known[bare]

    return cost


def _fit_ratios(ratios: Mapping[Kernel, float]) -> Any:
    """Returns the process over operators of one kind; None when there are too few."""
    if len(ratios) < _FEW:
        return None
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(.3) * RBF([1.0, 1.0, 1.0]) + WhiteKernel(.02)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound means that it does not matter
        return GaussianProcessRegressor(kernel, normalize_y=True).fit([_shape(one) for one in ratios],
                                                                      list(ratios.values()))


def _shape(kernel: Kernel) -> list[float]:
    return [log(1 + kernel.flops), log(1 + kernel.values), log(1 + kernel.weights)]
