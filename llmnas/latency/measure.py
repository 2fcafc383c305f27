"""Timing networks on this machine. Torch is imported when something is timed."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from llmnas.errors import InputError
from llmnas.latency.memory import allocated_peak
from llmnas.latency.state import GpuState, cpu_mhz, cpu_name, gpu_state
from llmnas.latency.target import Target, need_runtime, parse_target
from llmnas.latency.timing import (
    Conditions,
    Measurement,
    Reading,
    Series,
    load_average,
    never,
    summarise,
    time_in_turn,
)
from llmnas.network import BYTES, Network, Shape
from llmnas.records import Latency

if TYPE_CHECKING:
    from torch import nn

MemoryFormat = Literal["contiguous", "channels_last"]
CPU_WARMUPS: Final = 4
CUDA_WARMUPS: Final = 10  # the search for the fastest convolution among them


def measure_cpu(network: Network | nn.Module, input_shape: Shape, batch: int = 1,
                memory_format: MemoryFormat = "contiguous", *, threads: int = 1, budget_s: float = 2.0,
                expired: Callable[[], bool] = never) -> Measurement:
    """Times inference on this CPU: CPU time of one thread, or wall time with several threads.

    Norms stay as trained (eager), inputs are random. The timing ends when the interquartile range is below 5 % of the
    median after at least 12 runs, or with the budget.

    Args:
        network: What to time; a module is copied, not changed.
        input_shape: Shape of one example.
        batch: Examples per call.
        memory_format: Layout of images.
        threads: Threads torch may use.
        budget_s: Wall seconds; a tenth of the default will do for screening.
        expired: Whether to end now.

    Raises:
        InputError: channels_last without images.
        TimeoutError: `expired` came true before three runs.
    """
    target = parse_target(f"cpu@batch={batch},memory_format={memory_format},threads={threads}", False)
    return _first(_measure([network], [input_shape], target, budget_s, expired))


def measure_cuda(network: Network | nn.Module, input_shape: Shape, batch: int = 1,
                 memory_format: MemoryFormat = "contiguous", *, dtype: Literal["fp32", "tf32", "fp16"] = "fp32",
                 budget_s: float = 2.0, expired: Callable[[], bool] = never) -> Measurement:
    """Times inference on the CUDA device of this machine: the larger of event time and wall time, one call at a time.

    Args:
        network: What to time; a module is copied, not changed.
        input_shape: Shape of one example.
        batch: Examples per call.
        memory_format: Layout of images.
        dtype: Precision; TF32 is off unless it is asked for.
        budget_s: Wall seconds.
        expired: Whether to end now.

    Raises:
        InputError: There is no CUDA device, or channels_last without images.
        TimeoutError: `expired` came true before three runs.
    """
    import torch

    if not torch.cuda.is_available():
        raise InputError("expected a CUDA device, found none", "use --target cpu, or gpu:NAME for a prediction")
    spec = f"gpu@batch={batch},memory_format={memory_format},dtype={dtype}"
    target = parse_target(spec, True, torch.cuda.get_device_name())
    return _first(_measure([network], [input_shape], target, budget_s, expired))


def interleaved(networks: Sequence[Network], target: Target, budget_s: float = 2.0,
                expired: Callable[[], bool] = never) -> list[Measurement | None]:
    """Times several networks in turn, so that their order can be trusted on a busy machine: for finalists.

    Args:
        networks: What to time; all are in memory at once.
        target: A measurable target.
        budget_s: Wall seconds per network.
        expired: Whether to end now.

    Returns:
        One measurement per network; None for one that was stopped before three runs.

    Raises:
        InputError: The target cannot be timed here.
    """
    if not target.measurable:
        raise InputError(f"target {target.key!r} cannot be timed here: {target.reason}", "use --target cpu, or predict")
    return _measure(networks, [network.input_shape for network in networks], target, budget_s, expired)


def _measure(networks: Sequence[Network | nn.Module], shapes: Sequence[Shape], target: Target, budget_s: float,
             expired: Callable[[], bool]) -> list[Measurement | None]:
    import torch

    if target.memory_format == "channels_last" and any(len(shape) != 3 for shape in shapes):
        raise InputError("channels_last needs images of shape (C, H, W), got " + str(list(shapes)),
                         "use memory_format=contiguous")
    with settings(target), torch.inference_mode():
        conditions = _conditions(target)
        ready = [prepare(network, shape, target) for network, shape in zip(networks, shapes, strict=True)]
        memory = [_memory(network, each, target) for network, each in zip(networks, ready, strict=True)]
        calls = [partial(clock_for(target), each.call) for each in ready]
        done = time_in_turn(calls, budget_s, CUDA_WARMUPS if target.kind == "gpu" else CPU_WARMUPS, expired)
    return [_summary(series, target, conditions, found) for series, found in zip(done, memory, strict=True)]


Memory = tuple[float | None, Literal["counted", "allocated"] | None]


def _summary(series: Series, target: Target, conditions: Conditions, memory: Memory) -> Measurement | None:
    def record(ms: float, low: float, high: float, runs: int) -> Latency:
        return Latency(ms=ms, low=low, high=high, device=target.key, batch=target.batch, runtime=target.runtime,
                       source="measured", n=runs)

    return summarise(series, record, *memory, conditions)


def _first(measured: list[Measurement | None]) -> Measurement:
    found = measured[0]
    if found is None:
        raise TimeoutError("the timing was stopped before three runs")
    return found


def clock_for(target: Target) -> Callable[[Callable[[], Any]], Reading]:
    """Returns the function that times a call on a measurable target."""
    return cuda_clock() if target.kind == "gpu" else cpu_clock(target.threads)


def cpu_clock(threads: int) -> Callable[[Callable[[], Any]], Reading]:
    """Returns a function that times a call: CPU time of this thread, or wall time when several threads work."""
    now = time.thread_time if threads == 1 else time.perf_counter

    def clock(call: Callable[[], Any]) -> Reading:
        start = now()
        call()
        return Reading((now() - start) * 1e3)

    return clock


def cuda_clock(cuda: Any = None) -> Callable[[Callable[[], Any]], Reading]:
    """Returns a function that times a call with events and with the host's clock, synchronised before and after.

    Args:
        cuda: Stands in for ``torch.cuda``.
    """
    if cuda is None:
        import torch

        cuda = torch.cuda
    begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)

    def clock(call: Callable[[], Any]) -> Reading:
        cuda.synchronize()
        start = time.perf_counter()
        begin.record()
        call()
        end.record()
        cuda.synchronize()
        host_ms = (time.perf_counter() - start) * 1e3
        return Reading(host_ms, float(begin.elapsed_time(end)))

    return clock


class Ready(NamedTuple):
    """A network that can be run.

    Attributes:
        call: One forward pass.
        resident: Bytes of weights, statistics and input, which are there before the call; None when a runtime other
            than torch holds them.
    """

    call: Callable[[], Any]
    resident: int | None


def prepare(network: Network | nn.Module, shape: Shape, target: Target) -> Ready:
    """Returns the network ready to run on random input, where and how the target says.

    Raises:
        MissingExtra: The target's runtime is not installed.
    """
    import torch

    from llmnas.build import build

    module = build(network, seed=0) if isinstance(network, Network) else copy.deepcopy(network)
    if target.runtime == "onnx":
        return Ready(_onnx_call(module.eval(), shape, target), None)
    device = "cuda" if target.kind == "gpu" else "cpu"
    dtype = torch.float16 if target.dtype == "fp16" else torch.float32
    module = module.eval().to(device=device, dtype=dtype)
    x = torch.randn((target.batch, *shape), generator=torch.Generator().manual_seed(0)).to(device, dtype)
    if target.memory_format == "channels_last":
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.to(memory_format=torch.channels_last)
    return Ready(lambda: module(x), sum(each.nbytes for each in (*module.parameters(), *module.buffers(), x)))


def _onnx_call(module: nn.Module, shape: Shape, target: Target) -> Callable[[], Any]:
    """Returns a call of the exported module in ONNX Runtime; with one thread it runs in the caller's."""
    need_runtime(target)
    import onnxruntime
    import torch

    from llmnas.build.onnx import INPUT, example, onnx_program

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = target.threads, 1
    options.log_severity_level = 3
    with torch.inference_mode(False):
        program = onnx_program(module, shape, target.batch)
        x = example(shape, target.batch).numpy()
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {INPUT: x})


def _memory(network: Network | nn.Module, ready: Ready, target: Target) -> Memory:
    """Returns the peak memory of inference in MB and how it was found; None if it was not."""
    ready.call()
    if target.kind == "gpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
        ready.call()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated()) / 2**20, "allocated"
    peak = None if ready.resident is None else allocated_peak(ready.call)
    if peak is not None and ready.resident is not None:
        return (ready.resident + peak) / 2**20, "allocated"
    return (inference_memory_mb(network, target.batch), "counted") if isinstance(network, Network) else (None, None)


def inference_memory_mb(network: Network, batch: int = 1) -> float:
    """Returns the peak of weights and live float32 activations in MB, counted from the network."""
    weights = network.counts.params * BYTES / 2**20
    return weights + (network.counts.memory_mb - weights) * batch


@contextmanager
def settings(target: Target) -> Iterator[None]:
    """Sets threads, the search for the fastest convolution and TF32 as the target has them, and puts them back."""
    import torch

    backends = torch.backends
    before = (torch.get_num_threads(), backends.cudnn.benchmark, backends.cudnn.allow_tf32,
              backends.cuda.matmul.allow_tf32)
    wide = target.dtype == "tf32"
    if target.kind == "cpu":
        torch.set_num_threads(target.threads)
    backends.cudnn.benchmark, backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32 = True, wide, wide
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        backends.cudnn.benchmark, backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32 = before[1:]


def cuda_uuid() -> str | None:
    """Returns what NVML calls the CUDA device in use; None when torch does not tell."""
    import torch

    found = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    return f"GPU-{found}" if found else None


def _conditions(target: Target) -> Conditions:
    import torch

    gpu = target.kind == "gpu"
    clock: Literal["thread_time", "perf_counter", "cuda"] = (
        "cuda" if gpu else "thread_time" if target.threads == 1 else "perf_counter")
    state = gpu_state(cuda_uuid()) if gpu else GpuState()
    return Conditions(device_name=torch.cuda.get_device_name() if gpu else cpu_name(),
                      clock=clock, threads=target.threads if target.runtime == "onnx" else torch.get_num_threads(),
                      cores=os.cpu_count() or 1, load_average=load_average(), torch=torch.__version__,
                      dtype=target.dtype, memory_format=target.memory_format, runtime=target.runtime,
                      runtime_version=_version(target), cpu_mhz=cpu_mhz(), gpu_mhz=state.mhz,
                      gpu_memory_mhz=state.memory_mhz, gpu_celsius=state.celsius, gpu_limit_w=state.limit_w)


def _version(target: Target) -> str | None:
    try:
        return version("onnxruntime" if target.runtime == "onnx" else "torch")
    except PackageNotFoundError:
        return None
