"""Every proxy on every space: a finite score, or a reason."""

from math import isfinite

import numpy as np
import pytest
import torch

from llmnas.proxies import PROXIES, score
from llmnas.space import load_space


@pytest.mark.parametrize("name", ["nb201", "convnet", "mbconv", "open", "conv1d"])
def test_every_proxy_scores_every_space_or_says_why_not(name):
    """Two random graphs of each space; most proxies are defined on a network that has weights, gates and norms."""
    space, defined = load_space(name), set()
    for seed in range(2):
        network = space.network(space.sample(np.random.default_rng(seed)))
        x = torch.randn((6, *network.input_shape), generator=torch.Generator().manual_seed(seed))
        found = score(network, x, torch.arange(6) % network.classes, list(PROXIES))
        assert all((one.value is None) == bool(one.problem) for one in found.values())
        assert all(one.value is None or isfinite(one.value) for one in found.values())
        defined |= {proxy for proxy, one in found.items() if one.value is not None}
    assert len(defined) >= len(PROXIES) - 4, set(PROXIES) - defined
