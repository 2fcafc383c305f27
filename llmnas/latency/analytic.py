"""Latency without a device: launches, arithmetic and memory traffic, added up kernel by kernel.

    t = c0 + sum over kernels of max(o, floor + max(FLOP / (e * peak), bytes / (b * bandwidth)))

Small networks in an eager framework wait for the host, so *o*, the cost of launching an operator, decides their
latency and not their FLOPs. *o* belongs to the host and the framework, not to the GPU: it is a setting of its own.

Checked against HELP's measurements of NAS-Bench-201 and FBNet at batch 1 (arXiv 2106.08630): the order of networks is
right (Spearman .93 to .99 on three GPUs), milliseconds are not better than a factor of about 1.5 either way. On CPUs
depth-wise convolutions are ordered badly (.47 to .75 for FBNet on Xeons).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from math import exp, sqrt
from typing import Final

from llmnas.latency.datasheet import Datasheet, datasheet
from llmnas.latency.features import Costs
from llmnas.latency.kernels import BUILT, Kernel, KernelClass, kernels
from llmnas.latency.launches import COMPILED_HOST, GRAPH, PRESENT, PRESENT_CPU, Host, launch_us
from llmnas.latency.target import Target
from llmnas.network import Network
from llmnas.records import Latency

Z90: Final = 1.645  # half width of a 90 % interval in standard deviations


# Fractions of the nominal peak and bandwidth. GPU: set on HELP's GTX 1080 Ti, batch 1; pooling at .3 because an average
# pool that leaves padding out runs far below the bandwidth on Pascal and Turing (batch 256). CPU: guesses for one
# thread.
GPU_FLOP: Final[Mapping[KernelClass, float]] = {"conv": .5, "grouped": .1, "linear": .5}
CPU_FLOP: Final[Mapping[KernelClass, float]] = {"conv": .5, "grouped": .05, "linear": .3, "pool": .02}
BANDWIDTH: Final = .7
POOL_BANDWIDTH: Final = .3
FLOOR_US: Final = {"gpu": 3.0, "cpu": 0.0}  # an empty kernel on the GPU
START_MS: Final = {"gpu": .3, "cpu": .02}  # c0: input, first launch, synchronisation

# Standard deviations of the logarithm: of rates, and of everything together. The last is larger on CPUs, whose vector
# units, caches and libraries differ more than those of GPUs.
SIGMA_RATE: Final = .35
SIGMA_SCALE: Final = {"gpu": .4, "cpu": .6}


def predict(network: Network, target: Target, host: Host | None = None) -> Latency:
    """Returns the expected latency with a 90 % interval, without running anything.

    Args:
        network: What to time.
        target: Where it would run.
        host: Launch costs; None takes the prior for the target's runtime with a present framework.

    Returns:
        Milliseconds per batch, ``source="analytic"``. Constrain by rank rather than by these milliseconds.
    """
    return predict_calls(kernels(network, target.runtime), target, host)


def predict_calls(calls: Sequence[Kernel], target: Target, host: Host | None = None) -> Latency:
    """Returns the expected latency of operator calls, as `predict` does for those of a network."""
    prior = costs(target, host)
    ms = prior.start_ms + sum(prior.expected(kernel) for kernel in calls)
    waiting = sum(prior.waiting(kernel) for kernel in calls)
    spread = exp(Z90 * deviation(target, host, waiting / ms, (ms - prior.start_ms - waiting) / ms))
    return Latency(ms=ms, low=ms / spread, high=ms * spread, device=target.key, batch=target.batch,
                   runtime=target.runtime, source="analytic")


def deviation(target: Target, host: Host | None, waiting: float, working: float) -> float:
    """Returns the standard deviation of the logarithm of a prediction without samples.

    First-order propagation: launch costs move together, and so do rates; both are independent of the overall scale.

    Args:
        target: Where the network would run.
        host: As of `predict`.
        waiting: Share of the latency that is waiting for launches.
        working: Share that is arithmetic and traffic.
    """
    return sqrt(SIGMA_SCALE[target.kind] ** 2 + (launch_sigma(target, host) * waiting) ** 2
                + (SIGMA_RATE * working) ** 2)


def launch_sigma(target: Target, host: Host | None = None) -> float:
    """Returns the standard deviation of the logarithm of launch costs, which move together."""
    return (host or _host(target)).sigma


def breakdown(network: Network, target: Target, host: Host | None = None) -> dict[str, float]:
    """Returns the expected milliseconds per graph node, all repeats of a cell included; the skeleton's is ``""``."""
    sheet, launch = datasheet(target.device), host or _host(target)
    shares: dict[str, float] = {}
    for kernel in kernels(network, target.runtime):
        node = network.layers[kernel.layer].node
        shares[node] = shares.get(node, 0.0) + max(_times(kernel, target, sheet, launch))
    return shares


def costs(target: Target, host: Host | None = None) -> Costs:
    """Returns what the model expects of single kernels on a target.

    Args:
        target: Where they would run.
        host: Launch costs; None takes the prior for the target's runtime with a present framework.
    """
    sheet, launches = datasheet(target.device), host or _host(target)

    @cache
    def expected(kernel: Kernel) -> float:
        return max(_times(kernel, target, sheet, launches))

    def waiting(kernel: Kernel) -> float:
        launch, working = _times(kernel, target, sheet, launches)
        return launch if launch >= working else 0.0

    @cache
    def work(kernel: Kernel) -> float:
        return _work(kernel, target, sheet)

    return Costs(expected, waiting, work, START_MS[target.kind])


def _times(kernel: Kernel, target: Target, sheet: Datasheet, host: Host) -> tuple[float, float]:
    """Returns the milliseconds to launch a kernel and the milliseconds it works.

    On a GPU the host launches the next kernel while this one works, so the longer counts. A CPU does both itself.
    """
    scale = sheet.host_overhead.value if sheet.host_overhead else 1.0
    launch = scale * launch_us(host, kernel.kind) / 1e3
    work = FLOOR_US[target.kind] / 1e3 + _work(kernel, target, sheet)
    return (launch, work) if target.kind == "gpu" else _in_turn(launch, work)


def _work(kernel: Kernel, target: Target, sheet: Datasheet) -> float:
    """Returns the milliseconds of a kernel's arithmetic or traffic, whichever takes longer."""
    flop_ms = kernel.flops * target.batch / (_rate(kernel.kind, target, sheet) * 1e9)
    moved = target.value_bytes * (kernel.values * target.batch + kernel.weights)
    return max(flop_ms, moved / (_bandwidth(kernel.kind, sheet) * 1e6))


def _in_turn(launch: float, work: float) -> tuple[float, float]:
    return (launch + work, 0.0) if launch >= work else (0.0, launch + work)


def _rate(kind: KernelClass, target: Target, sheet: Datasheet) -> float:
    """Returns the expected rate in TFLOP/s."""
    if target.kind == "cpu":
        return CPU_FLOP.get(kind, .1) * sheet.peak.value / 1e3 * target.threads
    nominal = {"fp32": None, "tf32": sheet.tf32_tflops, "fp16": sheet.fp16_tflops}[target.dtype]
    peak = max(sheet.peak.value, nominal.value if nominal else 0.0)  # slow half precision falls back to fp32
    achieved = sheet.achieved_conv if kind == "conv" else None
    if kind in {"conv", "linear"} and achieved is None:
        achieved = sheet.achieved_linear  # tells of a low power limit
    usual = GPU_FLOP.get(kind, 1.0)
    if achieved is None:
        return usual * peak
    return (achieved.value if kind == "linear" else min(usual, achieved.value)) * peak


def _bandwidth(kind: KernelClass, sheet: Datasheet) -> float:
    """Returns the expected bandwidth in GB/s."""
    if kind == "pool":
        return POOL_BANDWIDTH * sheet.bandwidth_gbs.value
    return (sheet.achieved_bandwidth.value if sheet.achieved_bandwidth else BANDWIDTH) * sheet.bandwidth_gbs.value


def _host(target: Target) -> Host:
    if target.runtime in BUILT:
        return COMPILED_HOST
    if target.runtime == "cudagraph":
        return GRAPH
    return PRESENT if target.kind == "gpu" else PRESENT_CPU
