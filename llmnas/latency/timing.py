"""The timing loop and its statistics: what is called and how a call is timed are the caller's. No torch.

Medians of CPU time survive a busy machine: at a load of nine on two cores their deviation from round to round was
3.6 %, that of wall time 20 %.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import comb, exp, hypot, log
from statistics import median, quantiles
from typing import Final, Literal, NamedTuple

from llmnas.graph import Frozen
from llmnas.records import Latency

MIN_RUNS: Final = 12
TURN_RUNS: Final = 4  # runs of one network before the next one has its turn
STEADY: Final = .05  # interquartile range over median
BETWEEN_ROUNDS: Final = .045  # deviation of log medians between rounds; .026 to .057 seen on two-core x86
Z90: Final = 1.645


class Reading(NamedTuple):
    """The time of one call.

    Attributes:
        host_ms: CPU or wall time as the caller sees it.
        device_ms: Time between events on the device; None on CPUs.
    """

    host_ms: float
    device_ms: float | None = None

    @property
    def ms(self) -> float:
        """The latency: the larger of the two."""
        return max(self.host_ms, self.device_ms or 0.0)


class Conditions(Frozen):
    """What a timing was made under.

    Attributes:
        device_name: What the hardware calls itself.
        clock: ``thread_time`` (CPU time of the one thread), ``perf_counter`` (wall) or ``cuda`` (events and wall).
        threads: CPU threads torch used.
        cores: Cores of the machine.
        load_average: Over one minute, at the start; None where the system has none.
        torch: Its version.
        dtype: Precision.
        memory_format: Layout.
        runtime: What ran the network: ``eager`` (torch) or ``onnx`` (ONNX Runtime).
        runtime_version: Its version; None in records from before it was kept.
        cpu_mhz: Clock of the CPU at the start; virtual machines tell a constant.
        gpu_mhz: Clock of the GPU's multiprocessors at the start.
        gpu_memory_mhz: Clock of its memory.
        gpu_celsius: Its temperature.
        gpu_limit_w: Its power limit.
    """

    device_name: str
    clock: Literal["thread_time", "perf_counter", "cuda"]
    threads: int
    cores: int
    load_average: float | None
    torch: str
    dtype: str
    memory_format: str
    runtime: str = "eager"
    runtime_version: str | None = None
    cpu_mhz: float | None = None
    gpu_mhz: float | None = None
    gpu_memory_mhz: float | None = None
    gpu_celsius: float | None = None
    gpu_limit_w: float | None = None


class Measurement(Frozen):
    """A timing with its spread.

    Attributes:
        latency: The median with the 90 % interval of `median_interval`.
        p10: Fast end of single runs, in ms.
        p50: Median, in ms.
        p90: Slow end of single runs, in ms.
        runs: Runs that count.
        warmups: Runs before them.
        steady: Whether the interquartile range came below 5 % of the median; else the budget ended the timing.
        device_ms: Median of the time on the device alone; far below p50 for a network that waits for the host. None
            on CPUs.
        memory_mb: Peak of weights and activations, in MB of 2**20 bytes.
        memory_source: ``allocated`` as the device's allocator saw it, or ``counted`` from the network, which knows
            nothing of workspaces.
        conditions: What it was made under.
    """

    latency: Latency
    p10: float
    p50: float
    p90: float
    runs: int
    warmups: int
    steady: bool
    device_ms: float | None
    memory_mb: float | None
    memory_source: Literal["counted", "allocated"] | None
    conditions: Conditions


@dataclass
class Series:
    """The readings of one subject while it is timed.

    Attributes:
        call: Makes and times one call.
        readings: What counted.
        warmups: Calls that did not.
        seconds: Wall time spent on it.
    """

    call: Callable[[], Reading]
    readings: list[Reading] = field(default_factory=list)
    warmups: int = 0
    seconds: float = 0.0

    def steady(self) -> bool:
        """Returns whether there are enough runs and their quartiles lie within 5 % of the median."""
        return len(self.readings) >= MIN_RUNS and spread([reading.ms for reading in self.readings]) < STEADY


def never() -> bool:
    """Returns False: nothing stops the timing."""
    return False


def time_in_turn(calls: Sequence[Callable[[], Reading]], budget_s: float, warmups: int,
                 expired: Callable[[], bool] = never) -> list[Series]:
    """Times several subjects in turn, so that a slow minute of the machine falls on all of them.

    Args:
        calls: One function per subject that makes and times one call.
        budget_s: Wall seconds per subject, warm-up included; a call in progress is finished and three runs are made.
        warmups: Calls at least made before any counts; half the budget cuts them short, one is always made.
        expired: Whether to end now.
    """
    listed = [Series(call) for call in calls]
    for series in listed:
        _warm_up(series, budget_s / 2, warmups, expired)
    waiting = list(listed)
    while waiting and not expired():
        for series in waiting:
            _take_turn(series, len(listed) > 1, budget_s, expired)
        waiting = [series for series in reversed(waiting) if not _done(series, budget_s)]  # order alternates
    return listed


def _warm_up(series: Series, limit_s: float, least: int, expired: Callable[[], bool]) -> None:
    """Calls until three calls in a row agree within 10 %, at least `least` and at most four times as often."""
    seen: list[float] = []
    started = time.perf_counter()
    while not expired() and len(seen) < 4 * least:
        seen.append(series.call().ms)
        settled = len(seen) >= max(least, 3) and max(seen[-3:]) <= 1.1 * min(seen[-3:])
        if settled or time.perf_counter() - started > limit_s:
            break
    series.warmups += len(seen)
    series.seconds += time.perf_counter() - started


def _take_turn(series: Series, others: bool, budget_s: float, expired: Callable[[], bool]) -> None:
    started = time.perf_counter()
    if others:  # the caches hold another network
        series.call()
        series.warmups += 1
    for _ in range(TURN_RUNS):
        if expired() or (len(series.readings) >= 3 and series.seconds + time.perf_counter() - started > budget_s):
            break
        series.readings.append(series.call())
    series.seconds += time.perf_counter() - started


def _done(series: Series, budget_s: float) -> bool:
    return series.steady() or (len(series.readings) >= 3 and series.seconds > budget_s)


def spread(values: Sequence[float]) -> float:
    """Returns the interquartile range over the median."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / middle if middle > 0 else float("inf")


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns where the median over many rounds lies with 90 % probability.

    Two parts are added in quadrature on the log scale: the distribution-free interval of the median from order
    statistics (binomial), and the deviation between rounds that runs within one round cannot show.
    """
    ordered = sorted(values)
    middle, edge = median(ordered), _edge(len(ordered))
    drift = Z90 * BETWEEN_ROUNDS
    below, above = (hypot(log(middle / ordered[edge]), drift), hypot(log(ordered[-1 - edge] / middle), drift))
    return middle * exp(-below), middle * exp(above)


def _edge(n: int) -> int:
    """Returns the largest index k with P(fewer than k + 1 of n values lie below the median) <= 5 %, at least 0."""
    tail, k = 0.0, 0
    while k < n // 2:
        tail += comb(n, k) / 2**n
        if tail > .05:
            break
        k += 1
    return max(k - 1, 0)


def summarise(series: Series, latency: Callable[[float, float, float, int], Latency], memory_mb: float | None,
              memory_source: Literal["counted", "allocated"] | None, conditions: Conditions) -> Measurement | None:
    """Returns the measurement a series amounts to; None when it was stopped before three runs.

    Args:
        series: What was timed.
        latency: Makes the record from median, low, high and the number of runs.
        memory_mb: Peak memory.
        memory_source: How it was found.
        conditions: What the timing was made under.
    """
    if len(series.readings) < 3:
        return None
    values = [max(reading.ms, 1e-6) for reading in series.readings]
    deciles = quantiles(values, n=10, method="inclusive")
    device = [reading.device_ms for reading in series.readings if reading.device_ms is not None]
    return Measurement(latency=latency(median(values), *median_interval(values), len(values)), p10=deciles[0],
                       p50=median(values), p90=deciles[-1], runs=len(values), warmups=series.warmups,
                       steady=series.steady(), device_ms=median(device) if device else None, memory_mb=memory_mb,
                       memory_source=memory_source, conditions=conditions)


def load_average() -> float | None:
    """Returns the one-minute load average; None where the system has none."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None
