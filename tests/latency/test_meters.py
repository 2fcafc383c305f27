"""Counters with fake devices: RAPL trees, an NVML module, and the loop that fills windows with calls."""

import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmnas.latency import NoCounter, available_meters, find_meter, measure_energy, meter_network, parse_target
from llmnas.latency.metering import meter_job
from llmnas.latency.meters import RaplMeter, Zone, open_nvml, open_rapl, spent_uj
from llmnas.latency.state import GpuState, cpu_mhz, gpu_state
from llmnas.network import Draft

CPU = parse_target("cpu", False)


def _rapl(folder, **zones):
    """Writes a tree: name of the folder → (name, µJ)."""
    for key, (name, uj) in zones.items():
        zone = folder / key.replace("_", ":", 2).replace("intel:rapl", "intel-rapl")
        zone.mkdir(parents=True)
        (zone / "name").write_text(name + "\n")
        (zone / "energy_uj").write_text(f"{uj}\n")
        (zone / "max_energy_range_uj").write_text("1000000\n")
    return folder


class Nvml:
    """Stands in for pynvml: a GPU that draws 50 W while a clock runs."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    class NVMLError(Exception):
        """What every NVML call raises."""

    def __init__(self, counter=True, driver=True, now=lambda: 0.0):
        self.counter, self.driver, self.now = counter, driver, now

    def nvmlInit(self):  # noqa: N802
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid != "GPU-1":
            raise self.NVMLError("Not Found")
        return 1

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return b"Tesla T4"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        if not self.counter:
            raise self.NVMLError("Not Supported")
        return int(50_000 * self.now())

    def nvmlDeviceGetClockInfo(self, handle, which):  # noqa: N802
        return 1590 if which == self.NVML_CLOCK_SM else 5000

    def nvmlDeviceGetTemperature(self, handle, sensor):  # noqa: N802
        raise self.NVMLError("Not Supported")

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):  # noqa: N802
        return 70_000


class Clock:
    """Seconds that pass only when something takes them."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        self.seconds += 1 / 128
        return self.seconds

    def pause(self, seconds):
        self.seconds += seconds


@given(st.integers(1, 10**12), st.data())
def test_wrap_around(turn, data):
    """Whatever is spent within one turn of the counter is found, wherever it starts."""
    before, spent = data.draw(st.integers(0, turn - 1)), data.draw(st.integers(0, turn - 1))
    assert spent_uj(before, (before + spent) % turn, turn) == spent


def test_rapl_adds_packages_and_memory(tmp_path):
    """Packages and dram count; what lies within a package, around it or twice does not."""
    folder = _rapl(tmp_path, intel_rapl_0=("package-0", 999_000), intel_rapl_1=("package-1", 10),
                   intel_rapl_2=("psys", 5), intel_rapl_3=("core", 5), intel_rapl_4=("dram", 0))
    (folder / "intel-rapl").mkdir()
    meter = open_rapl(folder)
    assert meter.covers == "package-0 + package-1 + dram"
    spent = meter.start()
    (folder / "intel-rapl:0" / "energy_uj").write_text("1000")  # went past its range
    (folder / "intel-rapl:1" / "energy_uj").write_text("510")
    (folder / "intel-rapl:4" / "energy_uj").write_text("7500")
    assert spent() == pytest.approx((2000 + 500 + 7500) / 1e3)


def test_missing_rapl_has_a_reason(tmp_path):
    """No folder and a folder without packages are explained."""
    for folder in (tmp_path / "none", _rapl(tmp_path, intel_rapl_0=("psys", 5))):
        with pytest.raises(NoCounter, match="no RAPL package"):
            open_rapl(folder)


def test_forbidden_rapl_says_who_may(tmp_path, monkeypatch):
    """Root only is the rule since Linux 5.10: a reason with the way out, and never 0."""
    folder, read = _rapl(tmp_path, intel_rapl_0=("package-0", 5)), type(tmp_path).read_text

    def forbidden(path, *args, **named):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *args, **named)

    monkeypatch.setattr(type(tmp_path), "read_text", forbidden)
    state = available_meters(folder, Nvml(driver=False))[1]
    assert not state.available
    assert "permission denied; as root: chmod a+r" in state.says


def test_available_meters(tmp_path):
    """Both counters with what they cover, or why not."""
    gpu, cpu = available_meters(_rapl(tmp_path, intel_rapl_0=("package-0", 5)), Nvml())
    assert (gpu.name, gpu.kind, gpu.available, gpu.says) == ("nvml", "gpu", True, "Tesla T4")
    assert (cpu.name, cpu.kind, cpu.available, cpu.says) == ("rapl", "cpu", True, "package-0")
    for nvml, says in [(Nvml(driver=False), "no NVIDIA GPU: Driver Not Loaded"),
                       (Nvml(counter=False), "from Volta on")]:
        gpu = available_meters(tmp_path / "none", nvml)[0]
        assert not gpu.available
        assert says in gpu.says
    with pytest.raises(NoCounter, match="Not Found"):
        open_nvml("GPU-2", Nvml())


def test_missing_library_names_the_extra(monkeypatch):
    """Without nvidia-ml-py the reason names the extra, and the state of the GPU is unknown."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "llmnas[energy]" in available_meters()[0].says
    assert gpu_state() == GpuState()


def test_state_of_a_gpu():
    """Clocks, temperature and limit as far as NVML tells them."""
    assert gpu_state("GPU-1", Nvml()) == GpuState(1590.0, 5000.0, None, 70.0)


def test_clock_of_the_cpu(tmp_path):
    """The cores' frequency in kHz, else the kernel's list, else unknown."""
    missing = tmp_path / "none"
    assert cpu_mhz(missing, missing) is None
    (tmp_path / "cpuinfo").write_text("processor : 0\ncpu MHz\t\t: 2600.0\nprocessor : 1\ncpu MHz\t\t: 2800.0\n")
    assert cpu_mhz(missing, tmp_path / "cpuinfo") == 2700.0
    for core in range(256):
        (tmp_path / f"cpu{core}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{core}" / "cpufreq" / "scaling_cur_freq").write_text("3100000\n")
    assert cpu_mhz(tmp_path, missing) == 3100.0


def _small():
    draft = Draft((3, 8, 8))
    draft.linear(draft.global_pool(draft.conv(-1, 4)), 2)
    return draft.finish()


def test_windows_are_filled_and_idle_power_is_kept():
    """At a constant 50 W every call costs 50 W times its time, and idle power is recorded, not subtracted."""
    clock = Clock()
    meter = open_nvml(nvml=Nvml(now=lambda: clock.seconds))
    found = meter_network(_small(), CPU, meter, 1.0, clock=clock, pause=clock.pause)
    assert (found.meter, found.covers, found.windows, found.seconds) == ("nvml", "Tesla T4", 5, 1.0)
    assert found.runs == 5 * 128  # reading the clock takes 1/128 s
    assert found.energy.mj == pytest.approx(50e3 / 128, rel=.03)
    assert found.watts == pytest.approx(50, rel=.03)
    assert found.idle_w == pytest.approx(50, rel=.1)
    assert found.energy.low < found.energy.mj < found.energy.high
    assert (found.energy.source, found.energy.n, found.energy.device) == ("measured", 5, "cpu")


def test_counter_that_stands_still_is_no_energy():
    """Virtual machines show counters that never move: that is no reading, not 0."""
    clock = Clock()
    with pytest.raises(NoCounter, match="stands still"):
        meter_network(_small(), CPU, open_nvml(nvml=Nvml()), .1, clock=clock, pause=clock.pause)


def test_stop_ends_before_three_windows():
    """A stop leaves nothing rather than a figure from one window."""
    clock = Clock()
    meter = open_nvml(nvml=Nvml(now=lambda: clock.seconds))
    assert meter_network(_small(), CPU, meter, .1, expired=lambda: True, clock=clock, pause=clock.pause) is None


def test_measuring_without_a_counter_is_none(tmp_path, monkeypatch):
    """No counter is None with the reason to be had; a device that is not here has none."""
    monkeypatch.setattr("llmnas.latency.metering.open_rapl", lambda: open_rapl(tmp_path))
    assert measure_energy(_small(), CPU) is None
    with pytest.raises(NoCounter, match="'t4' is not here"):
        find_meter(parse_target("gpu:t4", False))


def test_measuring_reads_the_counter_of_the_target(tmp_path, monkeypatch):
    """On the CPU the packages are read; the whole way is one call."""
    counter = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(Zone, "read", lambda self: next(counter))
    monkeypatch.setattr("llmnas.latency.metering.open_rapl", lambda: RaplMeter((Zone(tmp_path, "package-0", 10**9),)))
    found = measure_energy(_small(), CPU, .001)
    assert found.source == "measured"
    assert found.mj > 0


def test_gpu_counter_is_that_of_the_device_in_use(monkeypatch):
    """CUDA's device is found in NVML by its UUID, whatever CUDA_VISIBLE_DEVICES hides."""
    asked = []
    monkeypatch.setattr("llmnas.latency.metering.cuda_uuid", lambda: "GPU-1")
    monkeypatch.setattr("llmnas.latency.metering.open_nvml", lambda uuid: asked.append(uuid) or SimpleNamespace())
    find_meter(parse_target("gpu", True, "Tesla T4"))
    assert asked == ["GPU-1"]


def test_a_job_says_why_there_is_no_energy(monkeypatch):
    """A child process answers with the reason, never with 0; a counter whose windows do not fit is not read."""
    payload = {"network": _small().to_data(), "target": CPU.model_dump(mode="json"), "limit_s": 60.0}
    monkeypatch.setattr("llmnas.latency.metering.find_meter", _none)
    assert meter_job(payload) == {"energy": None, "why": "nothing here"}
    monkeypatch.setattr("llmnas.latency.metering.find_meter", lambda target: open_nvml(nvml=Nvml()))
    short = meter_job({**payload, "limit_s": 5.0})
    assert short["energy"] is None
    assert "do not fit" in short["why"]


def _none(target):
    raise NoCounter("nothing here")
