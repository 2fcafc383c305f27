"""Devices whose costs are known, so that no test depends on a clock."""

from functools import cache

import numpy as np

from llmnas.latency.calibrate import Sample
from llmnas.latency.kernels import EAGER, executed
from llmnas.space import load_space


def cost(kernel):
    """Milliseconds of one call."""
    return {"conv": .06, "grouped": .08, "norm": .03}.get(kernel.kind, .015) + kernel.flops / 2e9


@cache
def drawn(space, n, seed=0):
    """Random graphs of a space that connect something, each once."""
    rng, space, found = np.random.default_rng(seed), load_space(space), {}
    while len(found) < n:
        graph = space.sample(rng)
        if not space.validate(graph):
            found.setdefault(space.network(graph), graph)
    return tuple(found.values())


def ms_of(network, noise=0.0, rng=None):
    """Milliseconds of a network on the made-up device."""
    clean = sum(map(cost, executed(network, EAGER))) + .4
    return clean * float(np.exp(noise * rng.standard_normal())) if rng else clean


def samples(space, n, seed=0, noise=.01, factor=1.0):
    """Networks of a space as measured on the made-up device."""
    rng, space_ = np.random.default_rng(seed), load_space(space)
    return [Sample(name=graph.key(), network=space_.network(graph).to_data(), choices=space_.choices(graph),
                   ms=factor * ms_of(space_.network(graph), noise, rng)) for graph in drawn(space, n, seed)]
