"""The bench of latency on published tables, and its loaders."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from llmnas.bench.geometry import fbnet, gpt, ofa
from llmnas.bench.latency import LatencyBench, bench_latency, summary
from llmnas.bench.latency_tables import MISLABELLED, LatencyTable, find_column, target_of
from llmnas.errors import InputError

needs_data = pytest.mark.skipif("LLMNAS_DATA" not in os.environ,
                                reason="LLMNAS_DATA does not name the published tables")


def folder():
    return Path(os.environ["LLMNAS_DATA"])


@pytest.fixture
def small(tmp_path):
    """A folder with a table of FBNet's layout: 60 networks, one column, and a description of that column."""
    rng = np.random.default_rng(0)
    (tmp_path / "fbnet").mkdir()
    lines = ["index,ops,mine_ms,zc_flops"]
    for i in range(60):
        ops = [str(rng.integers(0, 9)) for _ in range(22)]
        kept = sum(op != "8" for op in ops)
        lines.append(f"{i},{'_'.join(ops)},{-1 if i == 7 else 2 + .5 * kept:.4f},1")
    with gzip.open(tmp_path / "fbnet" / "fbnet_latency.csv.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    (tmp_path / "columns.json").write_text(json.dumps({"mine_ms": {"device": "gtx_1080_ti", "batch": 1}}))
    return tmp_path


def test_somebody_elses_column_is_scored(small, tmp_path, monkeypatch):
    monkeypatch.setattr(LatencyBench, "launches", lambda self, besides: __import__(
        "llmnas.latency.launches", fromlist=["TORCH_2020"]).TORCH_2020)
    trace = tmp_path / "trace.jsonl"
    result = bench_latency(small, column="mine_ms", sizes=(0, 3, 10), draws=2, trace=trace)
    rows = [row for row in result["rows"] if not row["trimmed"]]
    assert [row["n_samples"] for row in rows] == [0, 3, 10]
    assert all(row["target"] == "gtx_1080_ti" and row["runtime_known"] for row in rows)
    assert rows[0]["networks"] == 59  # the unsupported one is left out
    assert rows[2]["spearman"] > .9
    assert rows[2]["mape"] < rows[1]["mape"] < rows[0]["mape"]
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    predicted = [line for line in lines if line["n_samples"] == 10 and line["seed"] == 0 and "row" in line]
    assert len(predicted) == 49
    assert {"ms", "predicted", "low", "high"} <= set(predicted[0])
    errors = [abs(line["predicted"] / line["ms"] - 1) for line in lines if line["n_samples"] == 10 and "row" in line]
    assert np.mean(errors) == pytest.approx(rows[2]["mape"], rel=1e-6)  # figures can be computed anew from the trace


def test_wrong_names_are_answered(small):
    with pytest.raises(InputError, match="no table below"):
        find_column("my_ms", small)
    with pytest.raises(InputError, match="unknown task 'few-help5'"):
        bench_latency(small, tasks=["few-help5"])
    with pytest.raises(InputError, match="cannot be read"):
        LatencyTable("hwgpt", small)
    (small / "columns.json").write_text('{"mine_ms": {"batch": 1}}')
    with pytest.raises(InputError, match="expected columns with device"):
        target_of("mine_ms", small)


def test_a_column_without_a_name_anybody_knows_has_no_target(tmp_path):
    assert target_of("mystery_ms", tmp_path) is None
    assert target_of("help_titan_rtx_256_ms", tmp_path) == "titan_rtx@batch=256"


def test_summary_pools_measured_calibrated_rows_only():
    row = {"task": "a", "trimmed": False, "n_samples": 10, "spearman": 1.0, "mape": 0.0, "coverage90": .9}
    found = summary([row, {**row, "coverage90": .5, "estimated": True}, {**row, "coverage90": 0.0, "n_samples": 0},
                     {**row, "coverage90": .1, "trimmed": True}])
    assert found["coverage90_pooled"] == pytest.approx(.9)
    assert found["coverage90_least"] == pytest.approx(.9)


def test_geometries_have_the_published_size():
    """Once-for-all's largest network at width 1 has 7.7 M parameters; FBNet skips what it is told to skip."""
    largest = ofa({"ks": ".".join(["7"] * 20), "e": ".".join(["6"] * 20), "d": "4.4.4.4.4", "r": "224"})
    assert largest.counts.params / 1e6 == pytest.approx(7.7, abs=1.2)
    assert largest.counts.macs / 1e6 == pytest.approx(420, rel=.4)
    skipped = fbnet({"ops": "_".join(["8"] * 22)})
    assert sum(layer.kind == "conv" and layer.groups > 1 for layer in skipped.layers) == 0
    small_gpt = gpt({"embed_dim": "192", "n_head": "4.4", "mlp_ratio": "2.3"})
    assert [layer.kind for layer in small_gpt.layers].count("attention") == 2


@needs_data
def test_published_columns_from_ten_samples():
    bench = LatencyBench(folder(), draws=3)
    rows = [row for row in bench.task("few-fbnet") if not row["trimmed"]]
    assert np.mean([row["spearman"] for row in rows]) >= .965
    assert np.mean([row["mape"] for row in rows]) <= .05
    assert all(row["coverage90"] >= .7 for row in rows)


@needs_data
def test_faults_of_the_published_tables_are_left_out():
    table = LatencyTable("nb201", folder())
    assert np.isnan(table.ms("hwnb_c10_edgetpu_latency")).sum() == 4699
    assert np.isnan(table.ms("hwnb_c10_raspi4_latency")).sum() == 341
    assert not MISLABELLED & set(table.columns)
    assert np.isfinite(table.ms("true_a76")).sum() == 1999


@needs_data
@pytest.mark.slow
def test_published_columns_without_samples():
    bench = LatencyBench(folder(), draws=3)
    least = {"zero-nb201-b1": .975, "zero-nb201-b256": .895, "zero-fbnet-b1": .965, "zero-ofa-b1": .88,
             "few-help6": .96, "few-nb201-gpu": .975, "few-phones": .98, "few-tx2": .89}
    found = {task: np.mean([row["spearman"] for row in bench.task(task) if not row["trimmed"]]) for task in least}
    assert all(found[task] >= least[task] for task in least), found
