"""Single operators timed on this machine: a table that turns the analytic model into one of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import log
from statistics import median
from typing import Final

from llmnas.latency.features import Cost
from llmnas.latency.kernels import EAGER, Kernel, executed
from llmnas.latency.measure import clock_for, prepare, settings
from llmnas.latency.target import Target
from llmnas.latency.timing import never, time_in_turn
from llmnas.network import Layer, Network

PER_KERNEL_S: Final = .08
"""Wall seconds for one operator."""


def operators(networks: Iterable[Network]) -> dict[Kernel, Network]:
    """Returns the different operators of some networks, each as a network of one layer, the most frequent first.

    Operators that read values of different shapes are left out.
    """
    found: dict[Kernel, Network] = {}
    often: dict[Kernel, int] = {}
    for network in networks:
        for kernel in executed(network, EAGER):
            bare = kernel._replace(layer=0)
            often[bare] = often.get(bare, 0) + 1
            if bare not in found and (alone := _alone(network, network.layers[kernel.layer])) is not None:
                found[bare] = alone
    return {kernel: found[kernel] for kernel in sorted(found, key=lambda kernel: -often[kernel])}


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

    kernels = list(alone)[:max(1, int(budget_s / PER_KERNEL_S))]
    with settings(target), torch.inference_mode():
        clock = clock_for(target)
        ready = [prepare(alone[kernel], alone[kernel].input_shape, target).call for kernel in kernels]
        done = time_in_turn([partial(clock, call) for call in ready], PER_KERNEL_S, 2, expired)
    return {kernel: max(median(reading.ms for reading in series.readings), 1e-6)
            for kernel, series in zip(kernels, done, strict=True) if len(series.readings) >= 3}


def interpolated(measured: Mapping[Kernel, float], expected: Cost) -> Cost:
    """Returns the cost of any operator: measured, else expected times the ratio of the most similar measured one.

    Similar is the nearest in arithmetic and traffic among those of the same kind, else of the same class; where there
    is none of either, the median ratio of all counts.

    Args:
        measured: Milliseconds by kernel.
        expected: The analytic model's.
    """
    ratios = {kernel: ms / max(expected(kernel), 1e-9) for kernel, ms in measured.items()}
    usual = median(ratios.values()) if ratios else 1.0
    known: dict[Kernel, float] = dict(measured)

    def cost(kernel: Kernel) -> float:
        bare = kernel._replace(layer=0)
        if bare not in known:
            like = ([other for other in ratios if other.op == bare.op]
                    or [other for other in ratios if other.kind == bare.kind])
            nearest = min(like, key=lambda other: _distance(bare, other), default=None)
            known[bare] = expected(bare) * (usual if nearest is None else ratios[nearest])
        return known[bare]

    return cost


def _distance(one: Kernel, other: Kernel) -> float:
    return sum(abs(log(1 + a) - log(1 + b)) for a, b in ((one.flops, other.flops), (one.values, other.values),
                                                         (one.weights, other.weights)))
