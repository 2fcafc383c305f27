"""What it costs a host to launch operators one by one: this, not arithmetic, is the latency of small networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy.optimize import least_squares

from llmnas.latency.counting import Counted, Floats
from llmnas.latency.kernels import KernelClass


class Host(NamedTuple):
    """Cost of launching one operator, in µs, by what is launched.

    Attributes:
        heavy: Convolutions and linear layers.
        grouped: Grouped and depth-wise convolutions.
        norm: Norms.
        light: Everything else.
        sigma: Standard deviation of their logarithm; they move together.
        source: Where the figures come from.
    """

    heavy: float
    grouped: float
    norm: float
    light: float
    sigma: float
    source: str


TORCH_2020: Final = Host(60, 60, 35, 20, .5,
                         "fitted: HELP, NAS-Bench-201 on a GTX 1080 Ti, batch 1, eager torch of 2020")
PRESENT: Final = Host(25, 25, 15, 8, .7,
                      "guess: eager torch >= 2, desktop host, a factor of 2 either way, not measured")
PRESENT_CPU: Final = Host(12, 12, 10, 4, .7, "guess: eager torch >= 2 running on a desktop CPU, not measured")
GRAPH: Final = Host(2.5, 2.5, 2.5, 2.5, .5, "from memory: unverified: a kernel inside a CUDA graph")
COMPILED_HOST: Final = Host(10, 10, 10, 6, .9, "guess: a compiled runtime, not measured")


def launch_us(host: Host, kind: KernelClass) -> float:
    """Returns the cost of launching an operator of this class, in µs."""
    if kind in {"conv", "linear"}:
        return host.heavy
    return host.grouped if kind == "grouped" else host.norm if kind == "norm" else host.light


_START: Final = (60.0, 60.0, 35.0, 20.0)  # µs: heavy, grouped, norm, light
_HELD: Final = (.5, .5, .5, .5)  # deviations of their logarithms
_SCALE: Final = .4  # deviation of a column's own factor: hosts differ
_RELATIVE: Final = .03  # error of one measurement


def fit_launches(columns: Sequence[tuple[Counted, Floats]], source: str) -> Host:
    """Returns launch costs fitted to measurements of networks that wait for the host (batch 1, eager, on a GPU).

    Every column has a factor of its own, for its host; the median of them is taken up by the costs. Costs are held to
    round figures of the same stack with a deviation of half in the logarithm.

    Args:
        columns: Per device the kernels of networks, as eager runs them, and their ms, of shape (networks,).
        source: Where the measurements come from.
    """
    parts = [(_calls(counted), ms) for counted, ms in columns]

    def errors(values: Floats) -> Floats:
        costs, factors = values[:len(_START)], values[len(_START):]
        found = [costs / np.array(_HELD), factors / _SCALE]
        per_call = np.array(_START) * np.exp(costs) / 1e3
        for (calls, ms), factor in zip(parts, factors, strict=True):
            found.append((np.log(calls @ per_call + .3) + factor - np.log(ms)) / (_RELATIVE * np.sqrt(len(ms) / 20)))
        return np.concatenate(found)

    solved = least_squares(errors, np.zeros(len(_START) + len(parts))).x
    common = float(np.exp(np.median(solved[len(_START):])))
    heavy, grouped, norm, light = (np.array(_START) * np.exp(solved[:len(_START)]) * common).tolist()
    return Host(heavy, grouped, norm, light, .5, f"fitted: {source}")


def _calls(counted: Counted) -> Floats:
    """Returns calls per network that are heavy, grouped, norms and light, of shape (networks, 4)."""
    classes: tuple[frozenset[KernelClass], ...] = (frozenset({"conv", "linear"}), frozenset({"grouped"}),
                                                   frozenset({"norm"}), frozenset({"light", "pool"}))
    kinds = [kernel.kind for kernel in counted.kernels]
    return np.stack([counted.counts @ np.array([float(kind in one) for kind in kinds]) for one in classes], axis=1)
