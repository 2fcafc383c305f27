"""Timing: the loop and its statistics with a fake clock, then real runs without looking at their speed."""

import json
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median
from types import SimpleNamespace

import pytest
import torch
from nb201_cells import cell_network

from llmnas.build import build
from llmnas.errors import InputError, MissingExtra
from llmnas.latency import (
    interleaved,
    latency,
    measure_cpu,
    measure_cuda,
    measure_job,
    need_runtime,
    parse_target,
    predict,
)
from llmnas.latency.measure import cuda_clock, inference_memory_mb
from llmnas.latency.timing import Reading, median_interval, spread, time_in_turn
from llmnas.network import Draft
from llmnas.records import Latency
from llmnas.space import list_spaces, load_space

CPU = parse_target("cpu", False)


def _small(shape=(3, 8, 8)):
    draft = Draft(shape)
    draft.linear(draft.global_pool(draft.pointwise(draft.norm(draft.conv(-1, 8, 3)), "relu")), 4)
    return draft.finish()


class After:
    """A stop that comes true at the n-th question."""

    def __init__(self, n):
        self.n = n

    def expired(self):
        """Counts down."""
        self.n -= 1
        return self.n < 0


def _script(values):
    source = iter(values)
    return lambda: Reading(next(source))


def test_steady_subject_stops_after_twelve_runs():
    """Cold runs are warm-up; twelve steady runs are enough."""
    series = time_in_turn([_script([90.0, 30.0] + [1.0] * 100)], budget_s=100, warmups=4)[0]
    assert series.warmups == 5
    assert [reading.ms for reading in series.readings] == [1.0] * 12
    assert series.steady()


def test_unsteady_subject_stops_with_the_budget():
    """A noisy machine ends with the budget, after three runs at least, and says it is not steady."""
    series = time_in_turn([_script([1.0, 2.0] * 1000)], budget_s=0.0, warmups=4)[0]
    assert len(series.readings) == 3
    assert not series.steady()


def test_subjects_take_turns():
    """Several subjects alternate, each re-warmed when its turn comes, and the order alternates too."""
    seen = []

    def subject(name):
        def call():
            seen.append(name)
            return Reading(1.0)
        return call

    time_in_turn([subject("a"), subject("b")], budget_s=100, warmups=3)
    assert "".join(seen) == "aaabbb" + "aaaaabbbbb" + "bbbbbaaaaa" + "aaaaabbbbb"


def test_stop_ends_the_loop():
    """A stop between runs keeps what was read."""
    stop = After(9)
    series = time_in_turn([_script([1.0] * 100)], 100, 4, stop.expired)[0]
    assert 0 < len(series.readings) < 12


def test_interval_of_the_median():
    """Order statistics by hand: of 12 values the third and tenth bound the median with at least 90 %."""
    values = [float(v) for v in range(100, 112)]
    low, high = median_interval(values)
    assert 95 < low < 102  # widened by the deviation between rounds
    assert 109 < high < 119
    assert median_interval([5.0] * 12) == (pytest.approx(5.0 / 1.0768, rel=1e-3), pytest.approx(5.0 * 1.0768, rel=1e-3))
    assert spread([1.0, 2.0, 3.0]) == .5


def test_latency_of_a_gpu_call_is_the_larger_clock():
    """Events and wall clock are both read, with the device synchronised before and after."""
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append("record")

        def elapsed_time(self, other):
            return 250.0

    cuda = SimpleNamespace(Event=Event, synchronize=lambda: log.append("sync"))
    reading = cuda_clock(cuda)(lambda: log.append("call"))
    assert log == ["sync", "record", "call", "record", "sync"]
    assert reading.device_ms == reading.ms == 250.0
    assert Reading(3.0, 1.0).ms == 3.0


def test_cpu_measurement_says_how_it_was_made():
    """A real timing has an interval, quantiles, memory and conditions, and leaves torch's threads as they were."""
    before = torch.get_num_threads()
    found = measure_cpu(_small(), (3, 8, 8), batch=2, budget_s=.3)
    assert found.latency.source == "measured"
    assert (found.latency.device, found.latency.batch, found.latency.n) == ("cpu@batch=2", 2, found.runs)
    assert 0 < found.latency.low < found.latency.ms < found.latency.high
    assert found.p10 <= found.p50 <= found.p90
    assert (found.conditions.threads, found.conditions.clock) == (1, "thread_time")
    assert found.memory_source == "allocated"
    assert (found.conditions.runtime, found.conditions.runtime_version) == ("eager", version("torch"))
    assert (found.conditions.gpu_mhz, found.conditions.gpu_limit_w) == (None, None)
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()


def test_bigger_network_takes_longer():
    """The timing sees a difference of a factor of fifty in work."""
    small, large = interleaved([_small(), cell_network("333333", cells=1, size=16)], CPU, .3)
    assert large.p50 > small.p50
    assert large.latency.low > small.latency.high


def test_modules_sequences_and_layouts():
    """A module is timed on a copy, sequences work, channels_last is for images only."""
    module = build(_small(), seed=0).train()
    assert measure_cpu(module, (3, 8, 8), 1, "channels_last", budget_s=.05).memory_source == "allocated"
    assert module.training
    assert all(parameter.is_contiguous() for parameter in module.parameters())
    assert measure_cpu(_small((2, 16)), (2, 16), budget_s=.05).conditions.memory_format == "contiguous"
    assert measure_cpu(_small(), (3, 8, 8), threads=2, budget_s=.05).conditions.clock == "perf_counter"
    with pytest.raises(InputError, match="channels_last needs images"):
        measure_cpu(_small((2, 16)), (2, 16), 1, "channels_last")


def test_memory_grows_with_the_batch():
    """Weights are counted once, activations once per example."""
    network = _small()
    one, two, three = (inference_memory_mb(network, batch) for batch in (1, 2, 3))
    assert one == network.counts.memory_mb
    assert three - two == pytest.approx(two - one)


def test_allocated_memory_of_one_layer_by_hand(capfd):
    """Weights, input and output of a linear layer, and nothing is said about it."""
    network = Draft((256,))
    network.linear(-1, 1000)
    found = measure_cpu(network.finish(), (256,), batch=4, budget_s=.05)
    assert found.memory_mb == pytest.approx(4 * (257 * 1000 + 4 * 256 + 4 * 1000) / 2**20, rel=.01)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("batch", [1, 8])
def test_allocated_memory_holds_the_count(batch):
    """What the allocator saw covers what was counted; workspaces of convolutions come on top, up to three times."""
    ratios = []
    for name in list_spaces():
        space = load_space(name)
        for graph in space.prior()[:3]:
            network = space.network(graph)
            found = measure_cpu(network, network.input_shape, batch, budget_s=.01)
            ratios.append(found.memory_mb / inference_memory_mb(network, batch))
    assert min(ratios) >= .99
    assert median(ratios) < 1.5
    assert max(ratios) < 4


def test_without_records_memory_is_counted(monkeypatch):
    """A torch that does not hand out what it allocated leaves the count, and nothing for a module."""
    monkeypatch.setattr("llmnas.latency.measure.allocated_peak", lambda call: None)
    network = _small()
    found = measure_cpu(network, (3, 8, 8), budget_s=.05)
    assert (found.memory_source, found.memory_mb) == ("counted", network.counts.memory_mb)
    assert measure_cpu(build(network, seed=0), (3, 8, 8), budget_s=.05).memory_mb is None


@pytest.mark.skipif(not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))),
                    reason="the extra llmnas[onnx] is not installed")
def test_onnx_runtime_is_timed(capfd):
    """The exported network is timed in ONNX Runtime, in this thread, and the record says so."""
    target = parse_target("cpu@runtime=onnx,batch=2", False)
    found = interleaved([_small()], target, .2)[0]
    assert found.latency.runtime == "onnx"
    assert found.latency.ms > 0
    assert found.conditions.clock == "thread_time"
    assert (found.conditions.runtime, found.conditions.runtime_version) == ("onnx", version("onnxruntime"))
    assert found.memory_source == "counted"
    assert capfd.readouterr() == ("", "")


def test_missing_onnx_runtime_is_named(monkeypatch):
    """Without the extra the way out is in the error."""
    monkeypatch.setattr("llmnas.errors.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"llmnas\[onnx\]"):
        need_runtime(parse_target("cpu@runtime=onnx", False))
    need_runtime(parse_target("pi5@runtime=onnx", False))  # predicted
    with pytest.raises(MissingExtra, match=r"llmnas\[onnx\]"):
        interleaved([_small()], parse_target("cpu@runtime=onnx", False), .1)


def test_latency_measures_here_and_predicts_elsewhere():
    """One call, two sources, and the record says which."""
    network = _small()
    assert latency(network, CPU, .05).source == "measured"
    away = parse_target("raspi4", False)
    assert latency(network, away) == predict(network, away)
    with pytest.raises(InputError, match="cannot be timed here"):
        interleaved([network], away)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_gpu_is_explained():
    """Timing on a GPU that is not there is a wrong input with the way out."""
    with pytest.raises(InputError, match="gpu:NAME"):
        measure_cuda(_small(), (3, 8, 8))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_gpu_measurement():
    """On a GPU the figure covers the events, and memory is what was allocated."""
    found = measure_cuda(_small(), (3, 8, 8), budget_s=.5)
    assert found.p50 >= found.device_ms > 0
    assert found.memory_source == "allocated"


def _payload(target, **more):
    data = {"networks": [_small().to_data()] * 2, "target": target.model_dump(mode="json"), "budget_s": .05,
            "threads": 1}
    return json.loads(json.dumps(data | more))


@pytest.mark.parametrize("interleave", [False, True])
def test_job_measures_and_speaks_json(interleave):
    """The job returns one record per network, measured one by one or in turn."""
    result = json.loads(json.dumps(measure_job(_payload(CPU, interleave=interleave))))
    assert [Latency.model_validate(each).source for each in result["latencies"]] == ["measured"] * 2
    assert result["measurements"][0]["conditions"]["threads"] == 1
    assert not result["stopped"]


def test_job_predicts_for_absent_devices():
    """With no device the same job predicts."""
    result = measure_job(_payload(parse_target("gpu:t4", False)))
    assert [each["source"] for each in result["latencies"]] == ["analytic"] * 2


def test_job_reports_a_bad_network_and_goes_on():
    """A network that cannot run is an error in its place."""
    broken = _small().to_data()
    broken["layers"][0][7] = 5  # groups that divide no channels
    good = _small().to_data()
    result = measure_job(_payload(CPU, networks=[broken, good]))
    assert "error" in result["latencies"][0]
    assert result["latencies"][1]["source"] == "measured"


def test_job_stops_when_told():
    """What is not measured when the stop comes is marked as stopped."""
    result = measure_job(_payload(CPU), After(0))
    assert result["latencies"] == [{"error": "stopped"}] * 2
    assert result["stopped"]
