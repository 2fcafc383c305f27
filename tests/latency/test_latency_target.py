"""Devices and targets: what a person may type, and what the answer says about itself."""

import json
import subprocess
import sys

import pytest

from llmnas.errors import InputError
from llmnas.latency import Target, datasheet, datasheets, named, parse_target, parse_targets
from llmnas.latency.datasheet import FOLDER, read_datasheet, recognise


def test_importing_and_predicting_need_no_torch():
    """Targets, devices and predictions work without torch."""
    code = ("import sys\nfrom llmnas.latency import *\nfrom llmnas.network import Draft\nd = Draft((3, 8, 8))\n"
            "d.linear(d.global_pool(d.conv(-1, 4)), 2)\nl = latency(d.finish(), parse_target('gpu:t4', False))\n"
            "print(l.source, l.low < l.ms < l.high, 'torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["analytic", "True", "False"]


def test_every_device_has_sources_and_unique_names():
    """Every shipped device loads, has a rate, a source for every number, and no name twice."""
    names = [name for sheet in datasheets().values() for name in sheet.names]
    assert len(datasheets()) >= 45
    assert len(set(names)) == len(names)
    for path in FOLDER.glob("*.json"):
        numbers = [value for key, value in json.loads(path.read_text()).items()
                   if key not in {"key", "name", "kind", "aliases", "runtime"}]
        assert all(set(number) == {"value", "src"} for number in numbers)
        assert datasheet(path.stem).peak.value > 0


def test_device_files_are_read_strictly(tmp_path):
    """A number without a source, an unknown field, a missing rate and a wrong name are refused with the file's name."""
    good = json.loads((FOLDER / "t4.json").read_text())
    for change, says in [({"fp32_tflops": 8.14}, "fp32_tflops"), ({"colour": "green"}, "colour"),
                         ({"fp32_tflops": None}, "needs fp32_tflops"), ({"key": "t5"}, "expected key 't4'"),
                         ({"tdp_w": {"value": 70, "src": "trust me"}}, "tdp_w")]:
        path = tmp_path / "t4.json"
        path.write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=says):
            read_datasheet(path)


@pytest.mark.parametrize(("typed", "device"), [
    ("gpu:t4", "t4"), ("t4", "t4"), ("gpu:a100", "a100_40g"), ("gpu:4090", "rtx_4090"), ("RTX 4090", "rtx_4090"),
    ("gpu:v100", "v100_pcie"), ("h100", "h100_sxm"), ("gpu:1080ti", "gtx_1080_ti"), ("nano", "jetson_nano"),
    ("tx2", "jetson_tx2"), ("raspi4", "raspberry_pi_4"), ("pixel3", "pixel3"), ("cpu:i7_7820x", "i7_7820x")])
def test_short_names(typed, device):
    """The names people use lead to the device, which is not taken to be here."""
    target = parse_target(typed, False)
    assert target.device == device
    assert not target.measurable
    assert target.reason


def test_cpu_and_gpu_of_this_machine():
    """`cpu` is always here; `gpu` is here with CUDA and else a stated stand-in."""
    assert parse_target("cpu", False).measurable
    here = parse_target("gpu", True, "NVIDIA GeForce RTX 4090")
    assert (here.device, here.measurable) == ("rtx_4090", True)
    assert parse_target("gpu:4090", True, "NVIDIA GeForce RTX 4090").measurable
    assert not parse_target("gpu:t4", True, "NVIDIA GeForce RTX 4090").measurable
    assert (parse_target("gpu", True, "Quadro 9").device, parse_target("gpu", True).measurable) == ("cuda", True)
    stand_in = parse_target("gpu", False)
    assert (stand_in.device, stand_in.measurable) == ("t4", False)
    assert "no CUDA device here" in stand_in.reason


@pytest.mark.parametrize(("reported", "device"), [
    ("NVIDIA A100-SXM4-40GB", "a100_40g"), ("NVIDIA A100 80GB PCIe", "a100_80g_pcie"), ("Tesla T4", "t4"),
    ("NVIDIA H100 PCIe", "h100_pcie"), ("NVIDIA H100 80GB HBM3", "h100_sxm"), ("NVIDIA TITAN RTX", "titan_rtx"),
    ("NVIDIA A10G", "a10g"), ("NVIDIA GeForce RTX 2080", "rtx_2080"), ("NVIDIA GeForce RTX 2080 Ti", "rtx_2080_ti"),
    ("Quadro RTX 6000", "quadro_rtx_6000")])
def test_driver_names_are_recognised(reported, device):
    """What drivers report finds the most specific device."""
    assert recognise(reported).key == device


@pytest.mark.parametrize("reported", [
    "NVIDIA GeForce RTX 3080 Ti", "NVIDIA GeForce RTX 4070 SUPER", "NVIDIA GeForce RTX 4090 Laptop GPU",
    "NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 2080 with Max-Q Design", "NVIDIA RTX 6000 Ada Generation"])
def test_another_chip_of_a_like_name_is_not_taken_for_it(reported):
    """A name that goes on is another chip, with other figures."""
    assert recognise(reported) is None


def test_options_become_part_of_the_key():
    """Options are typed, ordered, and left out of the key at their defaults; the key parses to the same target."""
    target = parse_target("gpu:t4@dtype=fp16, batch=32,runtime=eager", False)
    assert (target.key, target.batch, target.dtype) == ("t4@batch=32,dtype=fp16", 32, "fp16")
    assert parse_target(target.key, False) == target
    assert Target.model_validate_json(target.model_dump_json()) == target


def test_compiled_is_predicted_even_here():
    """What cannot be timed here is predicted, and the reason says so."""
    target = parse_target("cpu@runtime=compiled", False)
    assert not target.measurable
    assert "only eager and onnx can be timed" in target.reason
    assert not parse_target("gpu@runtime=onnx", True, "Tesla T4").measurable


def test_onnx_is_timed_on_the_cpu_and_predicted_elsewhere():
    """ONNX Runtime is a runtime of its own in the key; it lays images out itself."""
    target = parse_target("cpu@runtime=onnx", False)
    assert (target.key, target.runtime, target.measurable) == ("cpu@runtime=onnx", "onnx", True)
    assert not parse_target("pi5@runtime=onnx", False).measurable
    with pytest.raises(InputError, match="lays images out itself"):
        parse_target("cpu@runtime=onnx,memory_format=channels_last", False)


@pytest.mark.parametrize(("typed", "says"), [
    ("gpu:t44", "did you mean 't4'"), ("potato chip", "known: "), ("t4@batch=0", "batch"), ("t4@batch=x", "batch"),
    ("t4@bach=3", "did you mean 'batch'"), ("t4@batch", "expected option=value"), ("cpu@dtype=fp16", "a CPU runs fp32"),
    ("t4@threads=2", "option of CPUs"), ("gpu:pixel3", "is a cpu"), ("t4@runtime=warp", "runtime"), ("", "known: ")])
def test_wrong_targets_are_explained(typed, says):
    """Every mistake is a wrong input, exit code 3, that names what was expected."""
    with pytest.raises(InputError, match=says) as caught:
        parse_target(typed, False)
    assert caught.value.exit_code == 3


def test_targets_of_one_run_differ():
    """Two targets on one device are two; the same one typed in two ways is refused with both."""
    assert [target.key for target in parse_targets(["t4", "gpu:t4@batch=32"], False)] == ["t4", "t4@batch=32"]
    with pytest.raises(InputError, match=r"'gpu' and 't4' are the same: t4"):
        parse_targets(["gpu", "t4"], False)


@pytest.mark.parametrize(("name", "key"), [("t4", "t4"), ("gpu:t4@batch=32", "t4@batch=32"), ("gpu:v100", "v100_pcie"),
                                           ("V100", "v100_pcie"), ("gpu", "t4"), ("cpu", "cpu")])
def test_a_target_of_the_run_by_name(name, key):
    """A target is meant by its key, as it was typed, or by its device."""
    specs = ["cpu", "gpu", "t4@batch=32", "v100"]
    assert named(name, parse_targets(specs, False), specs).key == key


@pytest.mark.parametrize(("name", "says"), [("t4@bach=8", "did you mean 't4@batch=8'"),
                                            ("h100", "no target of this run"),
                                            ("tesla_t4", "may be any of t4@batch=8, t4@batch=32")])
def test_a_name_that_is_no_target_of_the_run(name, says):
    """An unknown name gets the nearest key; one that fits two targets gets both."""
    with pytest.raises(InputError, match=says):
        named(name, parse_targets(["cpu", "t4@batch=8", "t4@batch=32"], False))
