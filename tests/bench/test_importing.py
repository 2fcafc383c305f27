"""Publishers' files: read as data, written as tables, and never run."""

import bz2
import csv
import gzip
import io
import json
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from llmnas.bench.importing import cell_digits, import_hwnb, import_nats, import_table
from llmnas.bench.safe_pickle import read_pickle
from llmnas.bench.tabular import Benchmark
from llmnas.cli import bench as bench_cli
from llmnas.errors import InputError

DATA = os.environ.get("LLMNAS_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="LLMNAS_DATA is not set: no published tables here")


class _Runs:
    """A pickle that makes a file when it is read."""

    def __init__(self, call, *arguments):
        self._call, self._arguments = call, arguments

    def __reduce__(self):
        return self._call, self._arguments


def _write(path, value):
    content = value if isinstance(value, bytes) else pickle.dumps(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bz2.compress(content) if path.suffix == ".pbz2" else content)
    return path


def _rows(path):
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def _result(dataset, seed, **accuracies):
    return {(dataset, seed): {"epochs": 200, "params": np.float64(1.5), "flop": 20.25, "net_state_dict": None,
                              "eval_acc1es": {f"{split.replace('_', '-')}@199": value
                                              for split, value in accuracies.items()}}}


def _cell(arch="|none~0|+|skip_connect~0|none~1|+|nor_conv_3x3~0|none~1|avg_pool_3x3~2|"):
    results = {**_result("cifar10-valid", 777, x_valid=80.0, ori_test=1.0),
               **_result("cifar10-valid", 888, x_valid=82.0, ori_test=1.0), **_result("cifar10", 777, ori_test=84.5)}
    return OrderedDict({"200": {"arch_str": arch, "all_results": results}})


# -- hostile pickles


@pytest.mark.parametrize("call", [os.system, eval, exec, open, getattr, np.load, Path.touch, print])
def test_a_pickle_that_calls_something_is_refused_before_it_does(call, tmp_path):
    mark = tmp_path / "mark"
    path = _write(tmp_path / "x.pickle.pbz2", {"200": _Runs(call, f"touch {mark}")})
    with pytest.raises(InputError, match="refused: it wants to call"):
        read_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [
    b"cposix\nsystem\n(S'true'\ntR.", b"(S'true'\niposix\nsystem\n.", b"(cposix\nsystem\nS'true'\no.",
    b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", b"Pother\n.", b"\x82\x01.", b"\x80\x05\x97.", b"",
    b"no pickle", b"cnumpy\n_core.multiarray.scalar\n."])
def test_every_way_out_of_a_pickle_is_closed(content, tmp_path):
    with pytest.raises(InputError, match="refused"):
        read_pickle(_write(tmp_path / "x.pickle", content))


def test_numpy_objects_are_not_unpickled_in_turn(tmp_path):
    """Numpy's own scalar of type object would load the bytes inside as a pickle, unrestricted."""
    inner = pickle.dumps(_Runs(os.system, "true"))
    for name in ("O", "O8", "V8", "S4", "M8[ns]"):
        value = b"".join([b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n",
                          pickle.dumps(name, 2)[2:-1], b"K\x00K\x01\x87R", pickle.dumps(inner, 3)[2:-1], b"\x86R."])
        with pytest.raises(InputError, match="not a plain number"):
            read_pickle(_write(tmp_path / "x.pickle", value))


def test_a_bomb_is_not_unpacked(tmp_path):
    path = _write(tmp_path / "x.pickle.pbz2", b"\x00" * 5_000_000)
    assert path.stat().st_size < 1000
    with pytest.raises(InputError, match="more than 1,000,000 bytes"):
        read_pickle(path, most=1_000_000)


def test_plain_values_and_numbers_come_back(tmp_path):
    value = OrderedDict(a=[np.float64(1.5), np.float32(2.5), np.int64(-3), np.bool_(True)], b={"c": (None, 1, "x")})
    assert read_pickle(_write(tmp_path / "x.pickle", value)) == OrderedDict(
        a=[1.5, 2.5, -3, True], b={"c": (None, 1, "x")})
    assert {opcode.name for opcode, _, _ in pickletools.genops(io.BytesIO(pickle.dumps(value)))} & {"BUILD"}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_pickle(tmp_path / "none.pickle")


# -- NATS-Bench


def test_a_cell_string_is_its_digits():
    arch = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert cell_digits(arch) == "421211"
    for wrong in ("", "|none~0|", "|none~1|+|none~0|none~1|+|none~0|none~1|none~2|"):
        with pytest.raises(ValueError, match="not a cell"):
            cell_digits(wrong)


def test_a_folder_becomes_a_table_that_can_be_searched(tmp_path):
    _write(tmp_path / "in" / "000007.pickle.pbz2", _cell())
    _write(tmp_path / "in" / "meta.pickle.pbz2", {"meta_archs": []})
    path = import_nats(tmp_path / "in", tmp_path / "out")
    row, = _rows(path)
    assert (row["index"], row["ops"], row["ops_effective"]) == ("7", "010304", "010304")
    assert (row["c10_val200"], row["c10_test200"]) == ("81.000000", "84.500000")
    bench = Benchmark(tmp_path / "out")
    assert bench.validation("010304") == 81.0
    assert bench.close()["010304"] == 84.5
    with pytest.raises(InputError, match="is there already"):
        import_nats(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("value", [{}, [], {"200": {}}, {"200": {"arch_str": "|x~0|", "all_results": {}}}, {"x": 1}])
def test_a_file_laid_out_otherwise_is_said_to_be(value, tmp_path):
    _write(tmp_path / "in" / "000000.pickle.pbz2", value)
    with pytest.raises(InputError, match="not laid out as NATS-Bench"):
        import_nats(tmp_path / "in", tmp_path / "out")


def test_a_folder_without_architectures_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file like"):
        import_nats(tmp_path, tmp_path / "out")


@needs_data
def test_the_publishers_files_give_the_published_table(tmp_path):
    folder = Path(DATA)
    path = import_nats(next((folder / "nats_format").glob("NATS-tss*")), tmp_path)
    published = {row["index"]: row for row in _rows(folder / "nb201" / "nb201.csv.gz")}
    rows = _rows(path)
    assert [row["index"] for row in rows] == ["0", "11", "284"]
    for row in rows:
        known = published[row["index"]]
        shared = row.keys() & known.keys() - {"arch_str", "ops", "ops_effective"}
        assert len(shared) == 13
        assert (row["arch_str"], row["ops"], row["ops_effective"]) == (
            known["arch_str"], known["ops"], known["ops_effective"])
        assert all(float(row[name]) == pytest.approx(float(known[name]), abs=1e-5) for name in shared)
    sizes = _rows(import_nats(next((folder / "nats_format").glob("NATS-sss*")), tmp_path))
    assert sizes[0]["channels"] == "8:8:8:8:8"
    assert sizes[0]["c10_val90"] == "76.888000"


# -- HW-NAS-Bench


def test_the_pickle_of_hw_nas_bench_becomes_latencies(tmp_path):
    _write(tmp_path / "in" / "000000.pickle.pbz2", _cell())
    import_nats(tmp_path / "in", tmp_path / "out")
    metrics = {"edgegpu_latency": [5.5], "edgetpu_latency": [-1], "fpga_energy": [np.float64(2.5)],
               "config": [{"a": 1}], "average_hw_metric": [0]}
    path = import_hwnb(_write(tmp_path / "hw.pickle", {"nasbench201": {"cifar10": metrics}, "fbnet": {}}),
                       tmp_path / "out")
    assert _rows(path) == [{"index": "0", "hwnb_c10_edgegpu_latency": "5.5", "hwnb_c10_edgetpu_latency": "-1.0",
                            "hwnb_c10_fpga_energy": "2.5"}]
    assert Benchmark(tmp_path / "out", device="hwnb_c10_edgegpu_latency").latency("010304") == 5.5
    assert Benchmark(tmp_path / "out", device="hwnb_c10_edgetpu_latency").latency("010304") is None


@pytest.mark.parametrize("value", [{}, {"nasbench201": 1}, {"nasbench201": {"cifar10": {"a_latency": ["x"]}}}])
def test_another_pickle_is_said_to_be(value, tmp_path):
    with pytest.raises(InputError, match="not laid out as HW-NAS-Bench"):
        import_hwnb(_write(tmp_path / "hw.pickle", value), tmp_path / "out")


def test_columns_of_different_lengths_are_refused(tmp_path):
    metrics = {"a_latency": [1.0], "b_latency": [1.0, 2.0]}
    with pytest.raises(InputError, match="one length"):
        import_hwnb(_write(tmp_path / "hw.pickle", {"nasbench201": {"cifar10": metrics}}), tmp_path / "out")


def test_the_command_says_what_it_wrote(tmp_path):
    _write(tmp_path / "in" / "000000.pickle.pbz2", _cell())
    app = typer.Typer()
    bench_cli.register(app)
    app.command("other")(lambda: None)
    done = CliRunner().invoke(app, ["bench", "import", "nats", str(tmp_path / "in"), "--out", str(tmp_path), "--json"])
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["rows"]) == ("llmnas.bench.import/1", 1)
    with pytest.raises(InputError, match="unknown kind"):
        import_table("nuts", tmp_path, tmp_path)
