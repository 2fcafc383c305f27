"""One path of a supernet is the network it stands for; parts of channels; batch-norm statistics of a path."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

from llmnas.build import build
from llmnas.errors import InputError
from llmnas.network import Network
from llmnas.space import load_space
from llmnas.space.lowering import lower
from llmnas.space.superposed import Superposition
from llmnas.supernet.halves import divided
from llmnas.supernet.module import NORMS, Supernet, shuffled
from llmnas.supernet.places import nominal_epoch_s, places
from tests.supernet.tiny import supernet


def made(space="nb201", shape=(3, 8, 8), channels=4, parts=1):
    task, whole, data = supernet(space, shape, channels)
    torch.manual_seed(0)
    return Supernet(Network.from_data(task["network"]), data.slots, parts), whole, data


def weighted(layers):
    """Returns the layers with weights of every node in their order."""
    found = defaultdict(list)
    for node, module in layers:
        if any(True for _ in module.parameters()):
            found[node].append(module)
    return found


def of_supernet(model, data, places_):
    """Returns the layers with weights of the supernet by node, ``slot/op`` for candidates."""
    layers = [(data.network.layers[int(i)].node, module) for i, module in model.fixed.items()]
    for place, choice in zip(places_, model.choices, strict=True):
        slot, ops = data.slots[place.slot]
        for op, candidate in zip(ops, choice.candidates, strict=True):
            layers += [(f"{slot}/{op}", module) for module in candidate.layers]
    return weighted(layers)


@pytest.mark.parametrize(("space", "shape", "channels"), [
    ("nb201", (3, 8, 8), 4), ("conv1d_cell", (1, 40), 4), ("nbmacro", (3, 16, 16), None)])
def test_a_path_computes_what_the_built_network_does(space, shape, channels):
    """With the same weights, one-hot gates and a single path both give the network's own output."""
    model, whole, data = made(space, shape, channels)
    graph = whole.space.sample(np.random.default_rng(2))
    skeleton = whole.space.spec.skeleton.model_copy(update={"cells": 1, **({"channels": channels} if channels else {})})
    net = build(lower(graph, skeleton, shape, 10, raw=True), seed=3)
    path = whole.path(graph)
    chosen = {slot: f"{slot}/{ops[op]}" for (slot, ops), op in zip(data.slots, path, strict=True)}
    theirs = of_supernet(model, data, places(data.network, data.slots))
    for node, modules in weighted(zip((layer.node for layer in net.network.layers), net.layers, strict=True)).items():
        for mine, other in zip(modules, theirs[chosen.get(node, node)], strict=True):
            mine.load_state_dict({name: value for name, value in other.state_dict().items()
                                  if name in dict(mine.named_parameters())}, strict=False)
    x = torch.randn(6, *shape)
    gates = torch.zeros(len(data.slots), max(len(ops) for _, ops in data.slots))
    gates[torch.arange(len(path)), torch.tensor(path)] = 1.0
    net.train()
    expected = net(x)
    torch.testing.assert_close(model(x, None, [[op] for op in path]), expected)
    torch.testing.assert_close(model(x, gates), expected)
    assert whole.graph(path).key() == graph.key()


def test_mixed_output_is_the_weighted_sum_of_candidates():
    """One place by itself: gates weigh, an auxiliary skip adds, `none` adds nothing."""
    model, _, data = made()
    choice, x = model.choices[0], torch.randn(4, 4, 8, 8)
    gates = torch.rand(len(data.slots), 5)
    expected = sum(gates[choice.slot, op] * choice.candidates[op](x) for op in range(1, 5))
    torch.testing.assert_close(choice(x, gates, None, 0.0), expected)
    torch.testing.assert_close(choice(x, gates, None, 0.5), expected + 0.5 * x)
    assert not choice(x, None, [[0]] * 6, 0.0).any()


def test_partial_channels():
    """A quarter of the channels goes through the candidates, the others pass, and the order is mixed."""
    whole_model, _, _ = made(channels=8)
    model, _, data = made(channels=8, parts=4)
    found = places(data.network, data.slots, 4)
    assert {place.candidates[3].input_shape[0] * 4 for place in found} == {8, 16, 32}
    x = torch.randn(2, 8, 8, 8)
    out = model.choices[0](x, None, [[1]] * 6, 0.0)  # skip: all channels pass
    torch.testing.assert_close(out, shuffled(x, 4))
    assert out[0, 1].equal(x[0, 2])
    assert model(torch.randn(4, 3, 8, 8), torch.full((6, 5), .2)).shape == (4, 10)

    def candidates(net):
        return sum(p.numel() for one in net.choices for p in one.parameters() if p.dim() > 1)

    assert candidates(whole_model) == 16 * candidates(model)
    with pytest.raises(InputError, match="3 parts"):
        places(data.network, data.slots, 3)
    _, _, macro = made("nbmacro", (3, 16, 16), None)
    with pytest.raises(InputError, match="changes it"):
        places(macro.network, macro.slots, 2)


def test_recalibration_gives_the_statistics_of_the_path():
    """In evaluation the mean over batches is used, and it is that of this path alone."""
    model, _, _ = made()
    batches = [torch.randn(16, 3, 8, 8) + 1 for _ in range(3)]
    path = [[3]] * 6
    model.recalibrate(batches, path)
    stem = model.fixed["0"]
    norm = model.fixed["1"]
    values = [stem(x) for x in batches]
    torch.testing.assert_close(norm.running_mean, torch.stack([v.mean((0, 2, 3)) for v in values]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([v.var((0, 2, 3)) for v in values]).mean(0))
    once = model(batches[0], None, path)
    model.recalibrate([x * 3 for x in batches], path)
    model.recalibrate(batches, path)
    torch.testing.assert_close(model(batches[0], None, path), once)
    assert not torch.allclose(once, model.train()(batches[0], None, path))


def test_candidates_have_no_scale_and_past_statistics_are_not_kept():
    """Scales would undo the gates; statistics of the past belong to another architecture."""
    model, _, _ = made()
    inside = [one for one in model.choices.modules() if isinstance(one, NORMS)]
    assert inside
    assert not any(p.requires_grad for one in inside for p in one.parameters())
    assert all(one.running_mean is None for one in model.norms())
    assert isinstance(model.fixed["1"], nn.BatchNorm2d)
    assert model.fixed["1"].weight.requires_grad


def test_spaces_with_more_to_choose_than_ops_have_none():
    for name in ("convnet", "open"):
        with pytest.raises(InputError, match="nb201, conv1d_cell"):
            Superposition(load_space(name))


def test_halves_are_disjoint_and_stratified():
    y = np.repeat(np.arange(3), (7, 4, 9)).astype(np.int64)
    first, second = divided(y, 1)
    assert sorted([*first, *second]) == list(range(20))
    assert abs(len(first) - len(second)) <= 1
    for label in range(3):
        assert abs((y[first] == label).sum() - (y[second] == label).sum()) <= 1
    assert not np.array_equal(first, divided(y, 2)[0])


def test_nominal_cost_grows_with_what_runs():
    from llmnas.budget import epoch_seconds, rates_for

    _, _, data = made(channels=8)
    rates = rates_for("cpu", 1)
    whole = nominal_epoch_s(data.network, rates, 64, 10)
    assert whole == pytest.approx(epoch_seconds(data.network, rates, 64, 10))
    single = nominal_epoch_s(data.network, rates, 64, 10, active=0.2)
    assert nominal_epoch_s(data.network, rates, 64, 10, parts=4) < whole
    assert 0 < nominal_epoch_s(data.network, rates, 64, 10, active=0.0) < single < whole
