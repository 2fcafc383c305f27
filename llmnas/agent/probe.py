"""The probe: known-good designs over the range of cost, which an agent proposes before anything is known."""

from __future__ import annotations

from typing import Final

import numpy as np

from llmnas.graph import ArchGraph
from llmnas.strategies.base import Setup

PROBE: Final = 8
"""Designs of the probe at most."""


def probes(setup: Setup) -> list[ArchGraph]:
    """Returns known-good designs evenly spread over the range of cost, every other one first.

    Those that keep the constraints; when none does, those that can be trained in the time.
    """
    designs = [graph for graph in setup.space.prior() if _trainable(graph, setup)]
    designs = [graph for graph in designs if setup.keeps(graph)] or designs
    designs.sort(key=lambda graph: _cost(graph, setup))
    places = sorted(set(np.linspace(0, len(designs) - 1, min(PROBE, len(designs))).round().astype(int)))
    return [designs[place] for place in (*places[::2], *places[1::2])]


def _cost(graph: ArchGraph, setup: Setup) -> float:
    """Returns milliseconds, or multiply-accumulates where nothing predicts them."""
    ms = setup.milliseconds(graph)
    return float(_macs(graph, setup)) if ms is None else ms


def _trainable(graph: ArchGraph, setup: Setup) -> bool:
    return not setup.space.validate(graph, setup.shape, setup.classes) and (
        setup.max_macs is None or _macs(graph, setup) <= setup.max_macs)


def _macs(graph: ArchGraph, setup: Setup) -> int:
    return setup.space.network(graph, setup.shape, setup.classes).counts.macs
