"""Energy counters of this machine: NVML of NVIDIA GPUs, RAPL of x86 CPUs. No torch.

A counter that cannot be read has a reason and no value: nothing here returns 0 for "unknown". Both count everything
that runs on the device, also of other programs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from llmnas.graph import Frozen

POWERCAP: Final = Path("/sys/class/powercap")
NVML_WINDOW_S: Final = 10.0  # the sensor of an A100 or H100 samples a quarter of the time (SC'24): seconds even it out
RAPL_WINDOW_S: Final = 1.0  # the counter moves about every millisecond (from memory)


class Meter(Protocol):
    """A counter of the energy of one device."""

    @property
    def name(self) -> str:
        """``nvml`` or ``rapl``."""

    @property
    def covers(self) -> str:
        """What its joules are spent by."""

    @property
    def window_s(self) -> float:
        """Shortest window in seconds that gives a figure to be trusted."""

    def start(self) -> Callable[[], float]:
        """Returns a function that gives the millijoules spent since this call."""


class NoCounter(Exception):
    """There is no counter here that can be read; its text is the reason and, where there is one, the way out."""


class MeterState(Frozen):
    """Whether a counter can be read here.

    Attributes:
        name: ``nvml`` or ``rapl``.
        kind: The kind of target it serves.
        available: Whether it can be read.
        says: What it covers, or why it cannot be read.
    """

    name: str
    kind: Literal["gpu", "cpu"]
    available: bool
    says: str


def available_meters(powercap: Path = POWERCAP, nvml: Any = None) -> tuple[MeterState, ...]:
    """Returns what counters there are here, and of the others why not.

    Args:
        powercap: Where Linux shows RAPL.
        nvml: Stands in for the module pynvml.
    """
    return (_state("nvml", "gpu", lambda: open_nvml(nvml=nvml)), _state("rapl", "cpu", lambda: open_rapl(powercap)))


def _state(name: str, kind: Literal["gpu", "cpu"], open_meter: Callable[[], Meter]) -> MeterState:
    try:
        return MeterState(name=name, kind=kind, available=True, says=open_meter().covers)
    except NoCounter as fault:
        return MeterState(name=name, kind=kind, available=False, says=str(fault))


@dataclass(frozen=True)
class Zone:
    """One energy counter of RAPL.

    Attributes:
        path: Its folder.
        name: ``package-0``, ``dram`` …
        range_uj: Where the counter starts again at 0, in µJ.
    """

    path: Path
    name: str
    range_uj: int

    def read(self) -> int:
        """Returns the counter in µJ.

        Raises:
            NoCounter: It cannot be read.
        """
        return int(_text(self.path / "energy_uj"))


def spent_uj(before: int, after: int, range_uj: int) -> int:
    """Returns the µJ between two readings less than one turn of the counter apart: 262 kJ, 40 minutes at 100 W."""
    return after - before if after >= before else after + range_uj - before


@dataclass(frozen=True)
class RaplMeter:
    """The packages of this machine's x86 CPUs, and their memory where it has a counter (Linux, Intel or AMD)."""

    zones: tuple[Zone, ...]
    name: str = "rapl"
    window_s: float = RAPL_WINDOW_S

    @property
    def covers(self) -> str:
        """The zones added up."""
        return " + ".join(zone.name for zone in self.zones)

    def start(self) -> Callable[[], float]:
        """Returns a function that gives the millijoules of all zones since this call."""
        before = [zone.read() for zone in self.zones]

        def spent() -> float:
            return sum(spent_uj(start, zone.read(), zone.range_uj)
                       for start, zone in zip(before, self.zones, strict=True)) / 1e3

        return spent


def open_rapl(powercap: Path = POWERCAP) -> RaplMeter:
    """Returns the counter of this machine's CPUs.

    Packages and their memory are added up. ``core`` and ``uncore`` lie within the package, ``psys`` around it, and
    ``intel-rapl-mmio`` is the same package once more.

    Raises:
        NoCounter: There is none, or it may not be read.
    """
    folders = sorted(powercap.glob("intel-rapl:*")) if powercap.is_dir() else []
    named = [(path, _text(path / "name")) for path in folders]
    wanted = [(path, name) for path, name in named if name.startswith("package") or name == "dram"]
    if not any(name.startswith("package") for _, name in wanted):
        raise NoCounter(f"no RAPL package in {powercap}: a virtual machine, no x86 CPU, or no Linux")
    zones = tuple(Zone(path, name, int(_text(path / "max_energy_range_uj"))) for path, name in wanted)
    for zone in zones:
        zone.read()
    return RaplMeter(zones)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except PermissionError as fault:  # root only since Linux 5.10, CVE-2020-8694
        raise NoCounter(f"{path}: permission denied; as root: chmod a+r {path} (until the next start)") from fault
    except (OSError, ValueError) as fault:
        raise NoCounter(f"{path}: {fault}") from fault


@dataclass(frozen=True)
class NvmlMeter:
    """The total energy counter of one NVIDIA GPU, board included, in whole millijoules since the driver started."""

    nvml: Any
    handle: Any
    covers: str
    name: str = "nvml"
    window_s: float = NVML_WINDOW_S

    def start(self) -> Callable[[], float]:
        """Returns a function that gives the millijoules since this call."""
        before = self._read()
        return lambda: float(self._read() - before)

    def _read(self) -> int:
        try:
            return int(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle))
        except self.nvml.NVMLError as fault:
            raise NoCounter(f"{self.covers}: no total energy counter ({fault}); NVIDIA has it from Volta on") from fault


def open_nvml(uuid: str | None = None, nvml: Any = None) -> NvmlMeter:
    """Returns the counter of an NVIDIA GPU.

    GPUs before Volta have no energy counter; adding up their power readings, which lag and leave gaps, is not done.

    Args:
        uuid: ``GPU-…``; None takes the first.
        nvml: Stands in for the module pynvml.

    Raises:
        NoCounter: There is none.
    """
    library, handle, name = nvml_device(uuid, nvml)
    meter = NvmlMeter(library, handle, name)
    meter.start()
    return meter


def nvml_device(uuid: str | None = None, nvml: Any = None) -> tuple[Any, Any, str]:
    """Returns the NVML library, its handle of a GPU and the GPU's name.

    Raises:
        NoCounter: The library, a driver or the GPU is missing.
    """
    library = nvml or _pynvml()
    try:
        library.nvmlInit()
        handle = library.nvmlDeviceGetHandleByUUID(uuid) if uuid else library.nvmlDeviceGetHandleByIndex(0)
        name = library.nvmlDeviceGetName(handle)
    except library.NVMLError as fault:
        raise NoCounter(f"no NVIDIA GPU: {fault}") from fault
    return library, handle, name.decode() if isinstance(name, bytes) else str(name)


def _pynvml() -> Any:
    try:
        import pynvml
    except ImportError as fault:
        raise NoCounter("nvidia-ml-py is not installed: pip install 'llmnas[energy]'") from fault
    return pynvml
