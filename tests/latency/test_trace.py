"""Tracing modules: equal to the calls of a network where both exist, and sensible where only a module does."""

from collections import Counter

import numpy as np
import pytest
import torch
from nb201_cells import cell_network
from torch import nn

from llmnas.build import build
from llmnas.errors import InputError
from llmnas.latency import parse_target, predict
from llmnas.latency.kernels import kernels
from llmnas.latency.trace import predict_module, trace
from llmnas.network import Draft
from llmnas.space import list_spaces, load_space


def _work(calls):
    return [(call.kind, call.op, call.flops, call.values, call.weights) for call in calls]


def _networks(name):
    space, rng = load_space(name), np.random.default_rng(2)
    return [space.network(graph) for graph in [*space.prior()[:4], *(space.sample(rng) for _ in range(6))]]


@pytest.mark.parametrize("name", list_spaces())
def test_trace_agrees_with_the_network(name):
    """A module's calls are those of its network, one by one: class, operator, FLOPs, values and weights."""
    for network in _networks(name):
        if not any(layer.kind == "attention" for layer in network.layers):
            assert _work(trace(build(network, seed=0), network.input_shape)) == _work(kernels(network))


def test_attention_differs_by_bias_and_copies():
    """A network counts no bias in the projections of attention, and four copies of layout where torch makes one."""
    draft = Draft((8, 4, 4))
    draft.attention(-1, 2)
    network = draft.finish()
    traced, counted = (Counter(call.kind for call in calls)
                       for calls in (trace(build(network, seed=0), (8, 4, 4)), kernels(network)))
    assert traced == {"linear": 3, "light": 1}
    assert counted == {"linear": 3, "light": 4}
    flops = [[call.flops for call in calls if call.kind == "linear"]
             for calls in (trace(build(network, seed=0), (8, 4, 4)), kernels(network))]
    assert flops[0] == [flops[1][0] * 9 / 8, flops[1][1], flops[1][2] * 9 / 8]


@pytest.mark.parametrize("name", ["convnet", "mbconv", "nbmacro", "conv1d"])
def test_compiled_trace_folds_what_a_compiler_folds(name):
    """Without dead layers, norms and activations fold as they do in a network."""
    for network in _networks(name):
        assert _work(trace(build(network, seed=0), network.input_shape, "compiled")) == _work(
            kernels(network, "compiled"))


def test_prediction_of_a_module_is_that_of_its_network():
    """`predict_module` and `predict` share everything after the calls."""
    network = cell_network("312430", cells=2)
    for spec in ("t4", "cpu", "t4@batch=64,runtime=cudagraph"):
        target = parse_target(spec, False)
        assert predict_module(build(network, seed=0), (3, 32, 32), target).ms == pytest.approx(
            predict(network, target).ms)


def test_tracing_changes_nothing():
    """The module keeps its mode, its weights and its device; no values are computed."""
    module = build(cell_network("312430", cells=1), seed=0).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trace(module, (3, 32, 32))
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()


def test_modules_that_no_network_describes():
    """Transposed convolutions, group and layer norms, adaptive pools, transformers."""
    module = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1, groups=1), nn.GroupNorm(2, 8), nn.LeakyReLU(inplace=True),
                           nn.ConvTranspose2d(8, 4, 2, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
    calls = trace(module, (3, 16, 16))
    assert [call.kind for call in calls] == ["conv", "norm", "light", "conv", "pool", "linear"]
    assert calls[3].flops == 2 * 8 * 4 * 4 * 64  # each input value meets each weight of its channel
    compiled = [call.kind for call in trace(module, (3, 16, 16), "onnx")]
    assert compiled == ["conv", "norm", "conv", "pool", "linear"]  # a group norm does not fold, an activation does
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    kinds = Counter(call.kind for call in trace(layer, (10, 16)))
    assert kinds["linear"] == 6  # four layers; torch's own attention module is taken apart into two products
    assert kinds["norm"] == 2


def test_flops_are_those_of_torch():
    """Convolutions and products add up to what torch's own counter says, biases aside."""
    from torch.utils.flop_counter import FlopCounterMode

    module = build(cell_network("332211", cells=2), seed=0).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.randn(1, 3, 32, 32))
    found = sum(call.flops for call in trace(module, (3, 32, 32)) if call.kind in {"conv", "grouped", "linear"})
    assert found == counter.get_total_flops() + 2 * 10


def test_what_cannot_be_traced_is_explained():
    """A wrong shape and a branch on values are wrong inputs."""

    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    for module, shape in [(nn.Conv2d(3, 4, 3), (5, 8, 8)), (Branch(), (3,))]:
        with pytest.raises(InputError, match="cannot be traced"):
            trace(module, shape)
