"""Energy of networks that run on this machine, read from a counter. Torch is imported when something runs.

A window of seconds is filled with calls and its energy divided by them. Idle power is not subtracted: a device that is
kept on for a network spends it on that network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

from llmnas.graph import Frozen
from llmnas.latency.estimate import Never, Stop
from llmnas.latency.measure import CPU_WARMUPS, CUDA_WARMUPS, cuda_uuid, prepare, settings
from llmnas.latency.meters import Meter, NoCounter, open_nvml, open_rapl
from llmnas.latency.target import Target
from llmnas.latency.timing import load_average, median_interval, never
from llmnas.network import Network
from llmnas.records import Energy

_SPARE: Final = 1.5  # over the windows: preparation, power at rest
WINDOWS: Final = 5  # the least number whose extremes bound the median with 90 %


class Window(NamedTuple):
    """One window of equal calls.

    Attributes:
        mj: Energy of the window.
        seconds: Its length.
        runs: Calls in it.
    """

    mj: float
    seconds: float
    runs: int


class EnergyMeasurement(Frozen):
    """An energy read from a counter, with what it was read under.

    Attributes:
        energy: The median over windows with its interval. The sensor's own error is not in it.
        watts: Median power during the calls.
        idle_w: Power of the device before them; not subtracted. None when it was not read.
        meter: ``nvml`` or ``rapl``.
        covers: What the counter counts.
        windows: How many.
        runs: Calls in all windows together.
        seconds: Length of a window.
        load_average: Of the machine over one minute; RAPL counts the work of other programs too.
    """

    energy: Energy
    watts: float
    idle_w: float | None
    meter: str
    covers: str
    windows: int
    runs: int
    seconds: float
    load_average: float | None


def find_meter(target: Target) -> Meter:
    """Returns the counter of a target's device.

    Raises:
        NoCounter: It is not here, or has none that can be read.
    """
    if not target.measurable:
        raise NoCounter(f"target {target.key!r} is not here: {target.reason}")
    if target.kind == "cpu":
        return open_rapl()
    return open_nvml(cuda_uuid())


def measure_energy(network: Network, target: Target, seconds: float | None = None,
                   expired: Callable[[], bool] = never) -> Energy | None:
    """Returns the energy of one call, read from the counter of the target's device.

    Args:
        network: What to run.
        target: Where.
        seconds: Length of each of the five windows; None takes the counter's own, 10 s for NVIDIA and 1 s for RAPL.
        expired: Whether to end now.

    Returns:
        The median over windows, ``source="measured"``, idle power included; None when there is no counter that can
        be read (`available_meters` tells why) or it was stopped before three windows.
    """
    try:
        found = meter_network(network, target, find_meter(target), seconds, expired=expired)
    except NoCounter:
        return None
    return None if found is None else found.energy


def meter_network(network: Network, target: Target, meter: Meter, seconds: float | None = None,
                  windows: int = WINDOWS, *, expired: Callable[[], bool] = never,
                  clock: Callable[[], float] = time.perf_counter,
                  pause: Callable[[float], None] = time.sleep) -> EnergyMeasurement | None:
    """Returns the energy of one call with everything that was read.

    Calls are made one after the other, each finished before the next, as they are timed.

    Args:
        network: What to run.
        target: Where.
        meter: The counter.
        seconds: Length of a window; None takes the counter's own.
        windows: How many.
        expired: Whether to end now.
        clock: Wall seconds.
        pause: Waits, for the power at rest.

    Raises:
        NoCounter: The counter cannot be read any more, or stands still.
    """
    import torch

    length = seconds or meter.window_s
    with settings(target), torch.inference_mode():
        call = _finished(prepare(network, network.input_shape, target).call, target)
        for _ in range(CUDA_WARMUPS if target.kind == "gpu" else CPU_WARMUPS):
            call()
        idle = _window(lambda: pause(length / 2), meter, 0.0, clock)
        found: list[Window] = []
        while len(found) < windows and not expired():
            found.append(_window(call, meter, length, clock))
    return None if len(found) < 3 else _summary(found, idle, meter, target, length)


def _finished(call: Callable[[], Any], target: Target) -> Callable[[], Any]:
    """Returns a call that waits until the device is done."""
    if target.kind == "cpu":
        return call
    import torch

    def synchronised() -> None:
        call()
        torch.cuda.synchronize()

    return synchronised


def _window(call: Callable[[], Any], meter: Meter, seconds: float, clock: Callable[[], float]) -> Window:
    """Returns the energy and number of the calls that fill a window; one at least."""
    spent, started, runs = meter.start(), clock(), 0
    while True:
        call()
        runs += 1
        if clock() - started >= seconds:
            break
    took = clock() - started
    return Window(spent(), took, runs)


def _summary(found: Sequence[Window], idle: Window, meter: Meter, target: Target,
             length: float) -> EnergyMeasurement:
    if any(window.mj <= 0 for window in found):
        raise NoCounter(f"{meter.covers}: the counter stands still over {length} s")
    per_call = [window.mj / window.runs for window in found]
    low, high = median_interval(per_call)
    energy = Energy(mj=median(per_call), low=low, high=high, device=target.key, batch=target.batch,
                    runtime=target.runtime, source="measured", n=len(found))
    return EnergyMeasurement(
        energy=energy, watts=median(window.mj / 1e3 / window.seconds for window in found),
        idle_w=idle.mj / 1e3 / idle.seconds if idle.mj > 0 and idle.seconds > 0 else None, meter=meter.name,
        covers=meter.covers, windows=len(found), runs=sum(window.runs for window in found), seconds=length,
        load_average=load_average())


def meter_job(payload: dict[str, Any], stop: Stop | None = None) -> dict[str, Any]:
    """Reads the energy of a network in a child process.

    Args:
        payload: ``network`` (`Network.to_data`), ``target`` (a dumped `Target`) and ``limit_s``: wall seconds; a
            counter whose windows do not fit is not read.
        stop: Asked between windows whether to end.

    Returns:
        ``energy``: a dumped `Energy` or None, and ``why`` there is none.
    """
    target = Target.model_validate(payload["target"])
    try:
        meter = find_meter(target)
        if meter.window_s * WINDOWS * _SPARE > payload["limit_s"]:
            raise NoCounter(f"{WINDOWS} windows of {meter.window_s:g} s do not fit into {payload['limit_s']:.0f} s")
        found = meter_network(Network.from_data(payload["network"]), target, meter, expired=(stop or Never()).expired)
    except NoCounter as none:
        return {"energy": None, "why": str(none)}
    return {"energy": None if found is None else found.energy.model_dump(mode="json"),
            "why": "" if found else "it was stopped before three windows"}
