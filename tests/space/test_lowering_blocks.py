"""Where the blocks of a network end."""

import numpy as np
import pytest

from llmnas.bench.baselines import mobilenet_v2_half, resnet8
from llmnas.network import Network
from llmnas.space import load_space


def test_a_cell_network_ends_a_block_at_stem_cells_and_reductions():
    """NAS-Bench-201: a stem, three stages of five cells, two reductions; a cell that is a skip ends where it began."""
    space = load_space("nb201")
    assert all(len(space.network(graph).blocks) == 18 for graph in space.prior())


def test_a_chain_ends_a_block_at_every_repeat():
    """A stem and three stages of one block; MobileNetV2 has its stem, ten blocks and a head."""
    assert len(load_space("convnet").network(resnet8()).blocks) == 4
    assert len(load_space("mbconv").network(mobilenet_v2_half()).blocks) == 12


@pytest.mark.parametrize("name", ["nb201", "convnet", "mbconv", "open", "conv1d"])
def test_everything_passes_through_the_end_of_a_block(name):
    """No later layer reads anything from before a block's end, except the end itself; data keep the blocks."""
    space = load_space(name)
    for seed in range(20):
        network = space.network(space.sample(np.random.default_rng(seed)))
        assert Network.from_data(network.to_data()) == network
        assert list(network.blocks) == sorted(network.blocks)
        for end in network.blocks:
            assert all(source >= end for layer in network.layers[end + 1:] for source in layer.inputs)
