"""The analytic prediction: counting, properties, and order against published measurements."""

import csv
import gzip
import os
import random
from pathlib import Path

import pytest
from nb201_cells import cell_network
from scipy.stats import spearmanr

from llmnas.latency import parse_target, predict
from llmnas.latency.analytic import breakdown
from llmnas.latency.kernels import kernels
from llmnas.latency.launches import TORCH_2020
from llmnas.network import Draft

T4 = parse_target("t4", False)


def _chain(depth=3, channels=16, groups=1, zero=False):
    draft = Draft((3, 32, 32))
    x = draft.conv(-1, channels, 3)
    for _ in range(depth):
        x = draft.pointwise(draft.norm(draft.conv(x, channels, 3, groups=groups)), "relu")
    if zero:
        x = draft.add([x, draft.pointwise(draft.conv(x, channels), "zero")])
    draft.linear(draft.global_pool(x), 10)
    return draft.finish()


def test_prediction_by_hand():
    """A network so small that only launches count: c0 + (conv 60 + pool 20 + linear 60) µs."""
    draft = Draft((3, 4, 4))
    draft.linear(draft.global_pool(draft.conv(-1, 4)), 2)
    found = predict(draft.finish(), T4, TORCH_2020)
    assert found.ms == pytest.approx(.3 + .14)
    assert found.source == "analytic"
    assert found.n is None


def test_work_by_hand():
    """A convolution too large for its launch: floor + FLOP / (.5 peak) on a T4."""
    draft = Draft((64, 128, 128))
    draft.conv(-1, 256, 3)
    network = draft.finish()
    flop = 2 * 64 * 256 * 9 * 128 * 128
    assert predict(network, T4).ms == pytest.approx(.3 + .003 + flop / (.5 * 8.14e12) * 1e3)


def test_interval_is_wide_and_around_the_value():
    """The prediction does not claim to be a measurement: at least a factor of 1.9 either way."""
    found = predict(_chain(), T4)
    assert found.low * found.high == pytest.approx(found.ms**2)
    assert found.high / found.ms > 1.9


def test_more_work_is_never_faster():
    """Depth, width, batch and a slower device never lower the prediction."""
    ms = predict(_chain(), T4).ms
    assert predict(_chain(depth=4), T4).ms > ms
    assert predict(_chain(channels=256), T4).ms >= ms
    assert predict(_chain(), parse_target("t4@batch=256", False)).ms > ms
    assert predict(_chain(), parse_target("nano", False)).ms > ms
    assert predict(_chain(), parse_target("t4@runtime=cudagraph", False)).ms < ms


def test_depthwise_pays_more_per_flop():
    """Grouped convolutions reach a smaller share of the peak than dense ones."""
    dense, grouped = _chain(channels=512), _chain(channels=512, groups=512)
    target = parse_target("cpu", False)
    rate = [predict(network, target).ms / network.counts.macs for network in (dense, grouped)]
    assert rate[1] > 3 * rate[0]


def test_compiled_runs_fewer_kernels():
    """A compiler folds norms and activations and drops what a zero makes useless; eager runs it all."""
    network = _chain(zero=True)
    eager, compiled = kernels(network), kernels(network, "compiled")
    assert len(eager) == network.counts.layers
    assert [kernel.kind for kernel in compiled] == ["conv"] * 4 + ["light", "linear"]
    assert kernels(network, "onnx") == compiled


def test_breakdown_adds_up():
    """Shares per node and the start add up to the prediction."""
    network = cell_network("333123", cells=1)
    assert sum(breakdown(network, T4).values()) + .3 == pytest.approx(predict(network, T4).ms)


@pytest.mark.parametrize("spec", ["cpu", "gpu", "raspi4", "pixel3", "nano", "h100@dtype=fp16", "a100@dtype=tf32"])
def test_every_kind_of_target_and_network_is_predicted(spec):
    """Sequences, attention and every target give a positive figure."""
    draft = Draft((4, 64))
    x = draft.attention(draft.pointwise(draft.conv(-1, 16, 5), "gelu"), 4)
    draft.linear(draft.global_pool(draft.pool(x, "max_pool", 3, 2)), 5)
    for network in (draft.finish(), _chain()):
        found = predict(network, parse_target(spec, False))
        assert 0 < found.low < found.ms < found.high


@pytest.mark.skipif("LLMNAS_DATA" not in os.environ, reason="LLMNAS_DATA does not name the published tables")
@pytest.mark.parametrize(("spec", "column", "least"), [
    ("gtx_1080_ti", "help_1080ti_1_ms", .97), ("titan_rtx", "help_titan_rtx_1_ms", .97),
    ("titan_x", "help_titanx_1_ms", .97), ("titan_rtx@batch=256", "help_titan_rtx_256_ms", .9)])
def test_order_of_published_gpu_latencies(spec, column, least):
    """Without a single measurement 300 NAS-Bench-201 cells are ordered as HELP measured them."""
    folder = Path(os.environ["LLMNAS_DATA"]) / "nb201"
    cells = _rows(folder / "nb201.csv.gz")
    measured = _rows(folder / "latency.csv.gz")
    chosen = random.Random(1).sample(range(len(cells)), 300)
    target = parse_target(spec, False)
    found = [predict(cell_network(cells[index]["ops"]), target, TORCH_2020) for index in chosen]
    truth = [float(measured[index][column]) for index in chosen]
    assert spearmanr([each.ms for each in found], truth)[0] >= least
    assert sum(each.low <= ms <= each.high for each, ms in zip(found, truth, strict=True)) >= 270


def _rows(path):
    with gzip.open(path, "rt") as file:
        return list(csv.DictReader(file))
