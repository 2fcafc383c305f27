"""The state a machine is timed in: clocks, temperature, power limit. What cannot be read is None. No torch."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from llmnas.latency.meters import NoCounter, nvml_device

CPUS: Final = Path("/sys/devices/system/cpu")
CPUINFO: Final = Path("/proc/cpuinfo")


def cpu_mhz(cpus: Path = CPUS, cpuinfo: Path = CPUINFO) -> float | None:
    """Returns the present clock of the cores this process may use, in MHz, their median; None when unknown.

    Args:
        cpus: Where Linux shows the frequency of each core, in kHz.
        cpuinfo: Where x86 kernels show it when there is no such folder; virtual machines show a constant there.
    """
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    khz = [value for core in sorted(cores) if (value := _number(cpus / f"cpu{core}" / "cpufreq" / "scaling_cur_freq"))]
    if khz:
        return median(khz) / 1e3
    try:
        listed = [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo.read_text("ascii", "replace"),
                                                   re.MULTILINE)]
    except OSError:
        return None
    return median(listed) if listed else None


def cpu_name(cpuinfo: Path = CPUINFO) -> str:
    """Returns what the processor calls itself; ``unknown`` when nothing tells.

    Args:
        cpuinfo: Where Linux says it; not on every kind of processor.
    """
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine() or "unknown"


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


class GpuState(NamedTuple):
    """What NVML tells of a GPU; None for what it does not.

    Attributes:
        mhz: Clock of the multiprocessors.
        memory_mhz: Clock of the memory.
        celsius: Temperature.
        limit_w: Power limit.
    """

    mhz: float | None = None
    memory_mhz: float | None = None
    celsius: float | None = None
    limit_w: float | None = None


def gpu_state(uuid: str | None = None, nvml: Any = None) -> GpuState:
    """Returns the state of an NVIDIA GPU; all None without the extra ``llmnas[energy]`` or a driver.

    Args:
        uuid: ``GPU-…``; None takes the first.
        nvml: Stands in for the module pynvml.
    """
    try:
        library, handle, _ = nvml_device(uuid, nvml)
    except NoCounter:
        return GpuState()

    def told(ask: Callable[[], float], scale: float = 1.0) -> float | None:
        try:
            return float(ask()) * scale
        except library.NVMLError:
            return None

    return GpuState(
        mhz=told(lambda: library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_SM)),
        memory_mhz=told(lambda: library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_MEM)),
        celsius=told(lambda: library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU)),
        limit_w=told(lambda: library.nvmlDeviceGetEnforcedPowerLimit(handle), 1e-3))
