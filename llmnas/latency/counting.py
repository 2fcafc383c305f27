"""How often each kernel runs in each of many networks: what every model of latency here is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmnas.latency.kernels import Execution, Kernel, executed
from llmnas.network import Network

Floats = NDArray[np.float64]


class Counted(NamedTuple):
    """The kernels of several networks.

    Attributes:
        kernels: Every different kernel; `Kernel.layer` is 0.
        counts: How often each runs, of shape (networks, kernels).
    """

    kernels: tuple[Kernel, ...]
    counts: Floats

    def total(self, cost: Callable[[Kernel], float]) -> Floats:
        """Returns per network the sum of a cost over its kernels, of shape (networks,)."""
        costs: Floats = np.array([cost(kernel) for kernel in self.kernels], dtype=float)
        return np.asarray(self.counts @ costs, dtype=float)

    def take(self, places: Sequence[int] | NDArray[np.intp]) -> Counted:
        """Returns the networks at these places."""
        return Counted(self.kernels, self.counts[np.asarray(places, dtype=np.intp)])


def count(networks: Iterable[Network], execution: Execution) -> Counted:
    """Returns the kernels of networks and how often each runs, for one way of executing them."""
    return count_calls(executed(network, execution) for network in networks)


def count_calls(passes: Iterable[Iterable[Kernel]]) -> Counted:
    """Returns the kernels of several passes and how often each runs."""
    places: dict[Kernel, int] = {}
    rows: list[dict[int, int]] = []
    for calls in passes:
        row: dict[int, int] = {}
        for kernel in calls:
            place = places.setdefault(kernel._replace(layer=0), len(places))
            row[place] = row.get(place, 0) + 1
        rows.append(row)
    counts = np.zeros((len(rows), len(places)))
    for i, row in enumerate(rows):
        counts[i, list(row)] = list(row.values())
    return Counted(tuple(places), counts)
