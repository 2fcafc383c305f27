"""`llmnas latency`: predictions in words and numbers, files of samples with faults in every line, what a check says."""

import csv
import json
from contextlib import nullcontext

import pytest
from typer.testing import CliRunner

from llmnas.cli import here
from llmnas.cli.app import app
from llmnas.cli.samples import Reading, drawn, read_samples
from llmnas.errors import CheckFailed, InputError
from llmnas.latency.kernels import EAGER, executed
from llmnas.latency.microbench import operators
from llmnas.space import Digits, load_space
from tests.cli.test_cli import llmnas

RUNNER = CliRunner()
SPACE = load_space("nb201")
CODEC = Digits(SPACE)
CELLS = [a + b + c for a in ("12", "31", "40", "23", "34") for b in ("13", "42", "24") for c in ("31", "13")]


def ms_of(digits):
    """A made-up device: milliseconds by calls and arithmetic."""
    network = SPACE.network(CODEC.graph(digits), raw=True)
    return .4 + sum(.03 + kernel.flops / 2e9 for kernel in executed(network, EAGER))


def write(path, rows, head=("architecture", "ms")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Nothing is kept, and the machine is one without a GPU; nothing of torch is started."""
    monkeypatch.setenv("LLMNAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(here, "probe", lambda executor: {"gpus": [], "cpu": "a processor", "torch": "2.13.0"})
    for module in ("predicting", "calibrating", "checking"):
        monkeypatch.setattr(f"llmnas.cli.{module}.probe", here.probe)
        monkeypatch.setattr(f"llmnas.cli.{module}.LocalExecutor", nullcontext)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(*arguments):
    """Runs a command in this process; what it raises is raised."""
    done = RUNNER.invoke(app, ["latency", *map(str, arguments)], catch_exceptions=False, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.stdout


def graphs(home, n=3):
    files = []
    for place, digits in enumerate(CELLS[:n]):
        files.append(home / f"{place}.json")
        files[-1].write_text(CODEC.graph(digits).to_json(), encoding="utf-8")
    return files


def calibrated(home, n=18):
    file = write(home / "samples.csv", [(digits, ms_of(digits)) for digits in CELLS[:n]])
    return ask("calibrate", "--target", "t4", "--space", "nb201", "--samples", file)


# -- predict


def test_a_latency_never_stands_alone(home):
    """Interval and source with every figure, unknown energy says so, and which is faster with what probability."""
    said = ask("predict", *graphs(home), "--target", "t4", "--target", "cpu", "--explain")
    figures = [line for line in said.splitlines() if " ms" in line]
    assert len(figures) == 6
    assert all("analytic)" in line and "–" in line for line in figures)
    assert said.count("energy unknown") == 3
    assert "mJ" in said
    assert "P(row is faster than column)" in said
    assert "% skeleton" in said
    assert "P(1 is faster than 2)" in ask("predict", *graphs(home, 2), "--target", "t4")


def test_predictions_rest_on_the_kept_calibration(home):
    """Source and number of samples, a share outside the calibration, and probabilities, in the JSON document."""
    calibrated(home)
    mobile = home / "mobile.json"
    mobile.write_text(load_space("mbconv").prior()[0].to_json(), encoding="utf-8")
    found = json.loads(ask("predict", *graphs(home, 2), mobile, "--target", "t4", "--json"))
    assert found["schema"] == "llmnas.latency.predict/1"
    rows = found["targets"]["t4"]["rows"]
    assert {(row["latency"]["source"], row["latency"]["n"]) for row in rows} == {("calibrated", 18)}
    assert [row["outside"] > 0 for row in rows] == [False, False, True]
    assert all(row["energy"]["source"] == "prior" for row in rows)
    assert [len(row) for row in found["targets"]["t4"]["faster"]] == [3, 3, 3]
    said = ask("predict", mobile, "--target", "t4")
    assert "calibrated on 18 networks, samples of" in said
    assert "operators that no sample has" in said


def test_a_module_is_predicted_beside_graphs(home):
    (home / "mine.py").write_text("from torch import nn\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 8, 3),"
                                  " nn.ReLU())\ndef wrong():\n    return 3\n", encoding="utf-8")
    said = ask("predict", *graphs(home, 1), "--module", "mine:net", "--shape", "3,32,32", "--target", "t4")
    assert "mine:net" in said
    for arguments, says in ((("--module", "mine:net"), "give --shape"),
                            (("--module", "mine:wrong", "--shape", "3x32x32"), "got int"),
                            (("--module", "mine:none", "--shape", "3x32x32"), "AttributeError"),
                            ((), "nothing to predict")):
        with pytest.raises(InputError) as fault:
            ask("predict", *arguments)
        assert says in str(fault.value)


def test_another_calibration_must_be_of_the_target(home):
    calibrated(home)
    file = home / "home" / "latency" / "t4.json"
    said = ask("predict", *graphs(home, 1), "--target", "t4", "--calibration", file)
    assert "calibrated on 18" in said
    with pytest.raises(InputError, match="it is for t4"):
        ask("predict", *graphs(home, 1), "--target", "cpu", "--calibration", file)


# -- calibrate


@pytest.mark.parametrize(("n", "says"), [(1, "its error cannot be told"), (5, "from 6 samples on"),
                                         (8, "from 15 samples on"), (18, "regressions on the work")])
def test_calibrating_says_what_samples_are_enough_for(home, n, says):
    said = calibrated(home, n)
    assert says in said
    assert f"{n} network" in said
    assert "kept in" in said


def test_calibrating_with_another_device(home):
    calibrated(home)
    other = write(home / "other.csv", [(digits, 3 * ms_of(digits)) for digits in CELLS])
    found = json.loads(ask("calibrate", "--target", "t4", "--space", "nb201", "--samples", home / "samples.csv",
                           "--proxy", f"v100_pcie={other}", "--out", home / "out.json", "--json"))
    assert found["schema"] == "llmnas.latency.calibrate/1"
    assert found["proxy"].startswith("30 networks, samples of")
    kept = json.loads((home / "out.json").read_text(encoding="utf-8"))
    assert kept["proxy"]["target"] == "v100_pcie"
    assert len(kept["samples"][0]["choices"]) == 6


def test_a_target_elsewhere_needs_samples(home):
    with pytest.raises(InputError, match="--samples"):
        ask("calibrate", "--target", "t4")


def test_architectures_are_files_json_or_digits(home):
    """The three forms are one network when they mean the same, but for the dead branches of a table."""
    file, = graphs(home, 1)
    path = write(home / "s.csv", [(CELLS[1], 1.0), (file.name, 2.0), (CODEC.graph(CELLS[2]).to_json(), 3.0)])
    samples, notes = read_samples(path, Reading("nb201"))
    assert [sample.ms for sample in samples] == [1, 2, 3]
    assert not notes
    assert all(len(sample.choices) == 6 for sample in samples)


@pytest.mark.parametrize(("lines", "says"), [
    (["architecture,ms,speed", "123431,1.0,2"], "line 1: unknown column 'speed'"),
    (["architecture", "123431"], "line 1: there is no column 'ms'"),
    (["architecture,ms", "123431,1.0", "12343,2.0"], "line 3: expected 6 digits"),
    (["architecture,ms", "123431,1.0", "923431,2.0"], "line 3: '923431' has '9'"),
    (["architecture,ms", "123431,fast"], "line 2: ms 'fast' is not a positive number"),
    (["architecture,ms", "123431,-1"], "line 2: ms '-1' is not a positive number"),
    (["architecture,ms", "123431,nan"], "line 2: ms 'nan' is not a positive number"),
    (["architecture,ms", "123431,"], "line 2: no ms"),
    (["architecture,ms", "123431,1,2"], "line 2: expected 2 values"),
    (["architecture,ms", "123431"], "line 2: expected 2 values"),
    (["architecture,ms", "000000,1.0"], "line 2: output: no path leads"),
    (["architecture,ms", "missing.json,1.0"], "missing.json: cannot be read"),
    (["architecture,ms", '"{""space"": 3}",1.0'], "line 2:"),
    (["architecture,ms", '"{not json}",1.0'], "line 2: not JSON"),
    (["architecture,ms,low,high", "123431,1.0,1.1,1.2"], "line 2: 1 ms is not between"),
    (["architecture,ms"], "no samples"),
    (["architecture,ms", "123431,1.0", "123413,2.0", "123431,1.2"], "lines 2 and 4 measure the same network"),
])
def test_a_faulty_file_names_the_line(tmp_path, lines, says):
    path = tmp_path / "s.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as fault:
        read_samples(path, Reading("nb201"))
    assert says in str(fault.value)


def test_digits_need_a_space_and_repeats_a_word(tmp_path):
    path = write(tmp_path / "s.csv", [(CELLS[0], 1.0), (CELLS[0], 3.0)])
    with pytest.raises(InputError, match="--space nb201"):
        read_samples(path, Reading())
    samples, notes = read_samples(path, Reading("nb201"), average=True)
    assert [sample.ms for sample in samples] == [2.0]
    assert "lines 2 and 3" in notes[0]


def test_drawn_networks_are_of_every_space_and_shape():
    found = drawn((), ((1, 8, 8), (3, 16, 16)), 10, 12, 0)
    assert {one.name.split()[0] for one in found} == {"nb201", "convnet"}
    assert {one.network.input_shape for one in found} == {(1, 8, 8), (3, 16, 16)}
    assert {one.name.split()[0] for one in drawn((), ((1, 40),), None, 3, 0)} == {"conv1d"}
    assert operators([one.network for one in found], lambda kernel: kernel.flops)
    with pytest.raises(InputError, match="for image data"):
        drawn(("nb201",), ((1, 40),), None, 3, 0)


# -- check


def held_out(home, factor=1.0):
    return write(home / "held.csv", [(digits, factor * ms_of(digits)) for digits in CELLS[10:]])


def test_checking_leaves_out_what_it_was_made_from(home):
    calibrated(home)
    found = json.loads(ask("check", "--target", "t4", "--space", "nb201", "--samples", held_out(home), "--json"))
    assert found["n"] == 12
    assert found["order"] == "right"
    assert found["mape"] < .1
    said = ask("check", "--target", "t4", "--space", "nb201", "--samples", held_out(home))
    assert "of 12 hold" in said
    with pytest.raises(InputError, match="every one of these"):
        ask("check", "--target", "t4", "--space", "nb201", "--samples", home / "samples.csv")


def test_a_limit_on_the_error_fails_the_check(home):
    calibrated(home)
    arguments = ("check", "--target", "t4", "--space", "nb201", "--samples", held_out(home, 2.0), "--max-mape")
    assert "too narrow" in ask(*arguments, "0.9")
    with pytest.raises(CheckFailed) as fault:
        ask(*arguments, "0.1")
    assert fault.value.exit_code == 7


def test_nothing_to_check(home):
    with pytest.raises(InputError, match="there is no calibration of t4"):
        ask("check", "--target", "t4")


# -- this machine, really


def test_this_machine_in_a_moment(tmp_path):
    """Calibrated, predicted, scored, checked by doctor: the real commands on a tiny budget."""
    home = {"LLMNAS_HOME": str(tmp_path / "home")}
    done = llmnas("latency", "calibrate", "-n", "2", "--budget", "2s", "--space", "nb201", "--shape", "1x8x8",
                  cwd=tmp_path, **home)
    assert done.returncode == 0, done.stderr
    assert "cpu: " in done.stdout
    graph = tmp_path / "g.json"
    graph.write_text(CODEC.graph(CELLS[0]).to_json(), encoding="utf-8")
    done = llmnas("latency", "predict", "g.json", "--shape", "1x8x8", cwd=tmp_path, **home)
    assert "calibrated on " in done.stdout, done.stderr
    done = llmnas("latency", "check", "-n", "2", "--budget", "2s", "--space", "nb201", "--shape", "1x8x8",
                  cwd=tmp_path, **home)
    assert "not decided" in done.stdout, done.stderr
    done = llmnas("doctor", "--llm", "mock", cwd=tmp_path, **home)
    assert "calibration of cpu: calibrated on" in done.stdout
