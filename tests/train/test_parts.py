"""The parts of a training: recipe, batches, average, metrics, clock, devices."""

from __future__ import annotations

import copy
import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmnas.data import DataRef
from llmnas.errors import InputError
from llmnas.train.average import Average
from llmnas.train.batches import Batches, chosen
from llmnas.train.device import Device, choose_device, compiles
from llmnas.train.metrics import score
from llmnas.train.order import Order
from llmnas.train.recipe import recipe_for
from llmnas.train.schedule import Clock, Never

CPU = torch.device("cpu")


def ref(shape, natural=False):
    """Returns a reference to data of a shape that lie nowhere."""
    return DataRef(name="made", directory="/none", shape=shape, classes=2, class_names=("a", "b"), natural=natural,
                   sizes={"train": 8, "val": 8, "test": 8}, mean=(0.0,) * shape[0], std=(1.0,) * shape[0],
                   digests={}, seed=0)


def batches(x, natural=False):
    """Returns examples as a part."""
    return Batches(x, np.zeros(len(x), dtype=np.int64), ref(x.shape[1:], natural), CPU)


def generator(seed=0):
    """Returns a seeded generator."""
    return torch.Generator().manual_seed(seed)


def test_recipe_fits_the_data():
    """Batches shrink with the data; only natural images are mirrored; small images move little."""
    assert [recipe_for(ref((3, 32, 32)), n).batch for n in (50_000, 9_999, 639, 200, 20)] == [128, 64, 32, 16, 8]
    natural, digits, signal = recipe_for(ref((3, 32, 32), True), 900), recipe_for(ref((1, 8, 8)), 900), recipe_for(
        ref((1, 40)), 900)
    assert (natural.flip, natural.shift, natural.border) == (True, 4, "reflect")
    assert (digits.flip, digits.shift, digits.border) == (False, 1, "fill")
    assert (signal.flip, signal.shift, signal.border) == (False, 2, "edge")


def test_learning_rate():
    """The rate rises to its peak at the end of the warm-up and ends at zero."""
    recipe = recipe_for(ref((1, 8, 8)), 2000)
    rates = [recipe.lr(step / 100) for step in range(101)]
    assert max(rates) == rates[20] == pytest.approx(recipe.peak_lr)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == 0.0


def test_plain_batches_are_normalised():
    """Unaugmented batches come in order, channels first, with mean and deviation removed."""
    x = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
    data = ref((3, 4, 6)).model_copy(update={"mean": (1.0, 2.0, 3.0), "std": (2.0, 4.0, 8.0)})
    found = torch.cat([batch for batch, _ in Batches(x, np.arange(5), data, CPU).plain(2)])
    expected = (x - np.array([1, 2, 3])[:, None, None]) / np.array([2, 4, 8])[:, None, None]
    assert np.allclose(found.numpy(), expected)


def test_serving_leaves_the_examples_alone():
    """Float examples are stored as they are served from: normalising them must not change what is stored."""
    x = np.random.default_rng(0).normal(size=(6, 1, 7)).astype(np.float32)
    data = ref((1, 7)).model_copy(update={"mean": (3.0,), "std": (2.0,)})
    part = Batches(x, np.arange(6), data, CPU)
    first, again = (torch.cat([batch for batch, _ in part.plain(4)]) for _ in range(2))
    assert torch.equal(first, again)
    part.augmented(torch.arange(6), recipe_for(data, 6), torch.Generator().manual_seed(0))
    assert torch.equal(first, next(part.plain(6))[0])
    assert sorted(part.some(3, 1).y.tolist()) != part.some(3, 2).y.tolist()
    assert len(part.some(99, 1)) == 6


def test_reflecting_crop_and_flip():
    """Each natural image becomes some crop of its mirrored-out self, half of them flipped, each its own way."""
    x = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16), dtype=np.uint8)
    recipe = recipe_for(ref((3, 16, 16), True), 2000)
    found, _ = batches(x).augmented(torch.zeros(64, dtype=torch.int64), recipe, generator())
    padded = np.pad(x[0], ((0, 0), (2, 2), (2, 2)), mode="reflect")
    crops = {padded[:, i:i + 16, j:j + 16][..., ::step].tobytes() for i in range(5) for j in range(5)
             for step in (1, -1)}
    results = [image.numpy().astype(np.uint8).tobytes() for image in found]
    assert set(results) <= crops
    assert len(set(results)) > 20


def test_fill_is_the_background():
    """What moves into a gray image is its usual border value, white here."""
    x = np.full((4, 1, 8, 8), 255, dtype=np.uint8)
    x[:, :, 3:5, 3:5] = 0
    recipe = recipe_for(ref((1, 8, 8)), 2000)
    found, _ = batches(x).augmented(torch.arange(4).repeat(8), recipe, generator())
    assert set(found.unique().tolist()) == {0.0, 255.0}
    assert ((found == 0).sum(dim=(1, 2, 3)) == 4).all()


def test_sequences_move_and_get_noise():
    """A sequence moves by at most its share of positions, its ends repeated, with small noise."""
    x = np.arange(40, dtype=np.float32)[None, None].repeat(3, axis=0)
    recipe = recipe_for(ref((1, 40)), 2000)
    quiet, _ = batches(x).augmented(torch.arange(3), recipe.model_copy(update={"noise": 0.0}), generator())
    assert quiet.shape == (3, 1, 40)
    assert (quiet[:, 0, 20] - 20).abs().max() <= 2
    noisy, _ = batches(x).augmented(torch.arange(3), recipe, generator())
    assert 0.02 < (noisy - quiet).std() < 0.1


def test_fraction_is_nested_and_stratified():
    """A smaller fraction is part of a larger one, and every class keeps its share."""
    y = np.random.default_rng(0).integers(0, 3, 300)
    small, large = chosen(y, 0.1), chosen(y, 0.5)
    assert set(small) <= set(large)
    assert len(chosen(y, 1.0)) == 300
    assert np.abs(np.bincount(y[large]) / np.bincount(y) - 0.5).max() < 0.02
    assert len(np.unique(y[chosen(y, 1e-6)])) == 3


def test_order_sees_everything_once_an_epoch():
    """Full batches of an epoch share no example; epochs differ; the same seed gives the same order."""
    order, again = Order(10, 3, 5, CPU), Order(10, 3, 5, CPU)
    epochs = [torch.cat([order.next() for _ in range(3)]).tolist() for _ in range(2)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert torch.cat([again.next() for _ in range(3)]).tolist() == epochs[0]


def test_average_follows_weights_and_statistics():
    """Weights and running statistics move by the same share; the trained module is untouched."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = Average(module)
    before = copy.deepcopy(average.module.state_dict())
    with torch.no_grad():
        module[0].weight += 1.0
    module[1].running_mean += 4.0
    average.follow(0.75)
    now = average.module.state_dict()
    assert torch.allclose(now["0.weight"], before["0.weight"] + 0.25)
    assert torch.allclose(now["1.running_mean"], before["1.running_mean"] + 1.0)
    assert not average.module.training


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_metrics_are_those_of_sklearn(pairs):
    """The scores equal scikit-learn's for any labels, classes missing included."""
    from sklearn import metrics

    y, predicted = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {"accuracy": metrics.accuracy_score(y, predicted),
                    "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted),
                    "macro_f1": metrics.f1_score(y, predicted, average="macro")}
    assert {name: pytest.approx(score(name, y, predicted, 4)) for name in expected} == expected


def test_clock_by_steps():
    """Without a limit progress counts steps only, whatever the time."""
    clock = Clock(4, time.monotonic() - 1e6, None, Never(), reserve_s=1.0)
    seen = []
    while not clock.over():
        seen.append(clock.progress())
        clock.tick()
    assert seen == [0.125, 0.375, 0.625, 0.875]
    assert not clock.cut


def test_clock_by_time():
    """With a limit progress follows the time when that is further, and what is reserved is left."""
    start = time.monotonic()
    clock = Clock(1_000_000, start, 0.5, Never(), reserve_s=0.2)
    last = 0.0
    while not clock.over():
        last = clock.progress()
        time.sleep(0.01)
        clock.tick()
    assert 0.25 < time.monotonic() - start < 0.4
    assert last > 0.9
    assert not clock.cut


def test_clock_is_cut_before_the_deadline():
    """A deadline cuts as soon as what is reserved would not fit any more."""
    class Soon(Never):
        def left(self):
            return 0.9

    clock = Clock(10, time.monotonic(), None, Soon(), reserve_s=1.0)
    assert clock.over()
    assert clock.cut


def test_devices():
    """The device comes with its reason; one that is not there is refused."""
    assert choose_device("cpu").device == CPU
    assert choose_device("auto").reason
    for spec, words in (("tpu", "known: auto"), ("cuda:x", "known: auto"), ("cuda:99", "is not there")):
        with pytest.raises(InputError, match=words):
            choose_device(spec)


def test_compiling_rule():
    """Compiling is for CUDA and long trainings only."""
    cuda = Device(torch.device("cuda", 0), torch.bfloat16, "")
    assert compiles(cuda, 1200.0)
    assert not compiles(cuda, 60.0)
    assert not compiles(cuda, None)
    assert not compiles(Device(CPU, None, ""), 1200.0)
