"""Searching on published tables: what is served, what is charged, what is printed."""

import csv
import gzip
import json
import os
import shutil
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from llmnas.bench.columns import read_texts
from llmnas.bench.fronts import Judge, bench_pareto, found_by, judge, volume
from llmnas.bench.importing import write_table
from llmnas.bench.meter import Terms, read_trace, search_once
from llmnas.bench.searching import bench_search
from llmnas.bench.seeds import Place
from llmnas.bench.stages import Surrogate
from llmnas.bench.tabular import Benchmark, Reported
from llmnas.cli import bench as bench_cli
from llmnas.errors import InputError
from llmnas.space import Digits, load_space
from llmnas.space.lowering import dead_free_string
from tests.bench.toy import SPACE

DATA = os.environ.get("LLMNAS_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="LLMNAS_DATA is not set: no published tables here")

CELLS = ["".join(ops) for ops in product("012", repeat=6)]


def _rows(space):
    rng = np.random.default_rng(0)
    digits, edges = Digits(space), [slot.id for slot in space.spec.slots()]
    codes = {"none": "0", "skip_connect": "1", "nor_conv_3x3": "2"}
    for index, ops in enumerate(CELLS):
        live = "".join(codes[op] for op in dead_free_string(digits.graph(ops), edges))
        val = 50 + 8 * live.count("2") * (live != "000000") + 2 * rng.random()
        yield {"index": str(index), "ops": ops, "ops_effective": live, "c10_val200": f"{val:.6f}",
               "c10_test200": f"{val + rng.normal():.6f}", "new_val200": f"{90 - val / 2:.6f}",
               "new_test200": f"{90 - val / 2:.6f}", "half_val200": "1.0"}


def _ms(row):
    """Skips are slow here, so that the best cells are not the slowest."""
    return 1 + row["ops"].count("2") + 2 * row["ops"].count("1") + int(row["index"]) / 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder with a table of 729 cells, latencies and proxies."""
    root = tmp_path_factory.mktemp("tables")
    (root / "toy").mkdir()
    (root / "toy" / "toy.yaml").write_text(SPACE)
    (root / "toy" / "bench.json").write_text('{"space": "toy.yaml", "about": "made up"}')
    rows = list(_rows(load_space(str(root / "toy" / "toy.yaml"))))
    write_table(root / "toy" / "toy.csv.gz", rows)
    write_table(root / "toy" / "latency.csv.gz", [
        {"index": row["index"], "phone_ms": f"{_ms(row):.3f}", "phone_energy": "1",
         "odd_ms": "-1" if row["ops"][5] == "2" else "2.5"} for row in rows])
    write_table(root / "toy" / "zerocost.csv.gz", [
        {"index": row["index"], **{f"c10_{name}": value for name, value in (
            ("epe_nas", "1"), ("nwot", str(row["ops"].count("2"))), ("params", str(row["ops"].count("2"))))}}
        if row["ops"] == row["ops_effective"] else {"index": row["index"]} for row in rows])
    return root


def _toy(folder, **options):
    return Benchmark(folder, "toy", **options)


@pytest.fixture
def call():
    """Calls the group as the command line does."""
    app = typer.Typer()
    bench_cli.register(app)
    app.command("other")(lambda: None)

    def invoke(*arguments):
        done = CliRunner().invoke(app, ["bench", *map(str, arguments)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return invoke


def _table(folder, name="toy"):
    with gzip.open(folder / "toy" / f"{name}.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


# -- what is served


def test_a_closed_table_serves_no_more_and_only_it_has_tests(folder):
    bench = _toy(folder)
    name = bench.competitors[0]
    assert 0 < bench.validation(name) < 100
    assert not any("test" in attribute for attribute in vars(bench))
    tested = bench.close()
    row = next(row for row in _table(folder) if row["ops"] == name)
    assert tested[name] == float(row["c10_test200"])
    with pytest.raises(RuntimeError, match="serves no more"):
        bench.validation(name)
    with pytest.raises(RuntimeError):
        search_once(bench, Terms("random", 3), 0)


def test_the_test_column_is_not_read_before_closing(folder, tmp_path):
    """Without it a search runs to its end; only the judge misses it."""
    rows = [{key: value for key, value in row.items() if key != "c10_test200"} | {"c10_test200": "secret"}
            for row in _table(folder)]
    write_table(tmp_path / "toy" / "toy.csv.gz", rows)
    for name in ("bench.json", "toy.yaml"):
        shutil.copy(folder / "toy" / name, tmp_path / "toy")
    bench = _toy(tmp_path)
    assert len(search_once(bench, Terms("evolution", 20), 0).charged) == 20
    with pytest.raises(InputError, match="c10_test200"):
        bench.close()


def test_any_data_set_with_both_columns_is_taken(folder):
    assert _toy(folder, dataset="new").best() > 0
    with pytest.raises(InputError, match="no data set 'half'"):
        _toy(folder, dataset="half")


def test_unknown_names_are_answered_with_known_ones(folder):
    with pytest.raises(InputError, match="phone_ms"):
        _toy(folder, device="phone")
    with pytest.raises(InputError, match="no benchmark 'mine'"):
        Benchmark(folder, "mine")
    with pytest.raises(InputError, match="hwgpt cannot be searched"):
        Benchmark(folder, "hwgpt")


def test_an_own_table_is_a_folder_of_its_name(folder, tmp_path):
    """Without a word beside it, it is one of NAS-Bench-201."""
    write_table(tmp_path / "mine" / "mine.csv.gz", _table(folder)[:20])
    assert Benchmark(tmp_path, "mine").space.name == "nb201"
    (tmp_path / "mine" / "bench.json").write_text('{"space": 3}')
    with pytest.raises(InputError, match="expected texts"):
        Benchmark(tmp_path, "mine")


def test_what_is_not_listed_is_refused_without_charge(folder, tmp_path):
    write_table(tmp_path / "toy" / "toy.csv.gz", _table(folder)[::2])
    for name in ("bench.json", "toy.yaml"):
        shutil.copy(folder / "toy" / name, tmp_path / "toy")
    outcome = search_once(_toy(tmp_path), Terms("random", 20), 0)
    assert all(CELLS.index(name) % 2 == 0 for name in outcome.charged)
    assert outcome.counts["refused"] > 5


def test_dead_edges_take_the_scores_of_the_cell_without_them(folder):
    proxies, rows = _toy(folder).proxies, _table(folder)
    pairs = [(row["ops"], row["ops_effective"]) for row in rows
             if row["ops"] != row["ops_effective"] and row["ops_effective"] in proxies]
    assert pairs
    assert all(proxies[ops] == proxies[live] for ops, live in pairs)


# -- the published tables


@needs_data
def test_the_published_cells_give_the_published_box():
    """Least and greatest of the connected cells, and the best of the table."""
    bench = Benchmark(Path(DATA), device="hwnb_c10_raspi4_latency")
    assert (len(bench.competitors), round(bench.best(), 3)) == (15_284, 91.607)
    assert (bench.target, bench.estimated) == ("raspberry_pi_4@runtime=exported", False)
    found = judge(bench)
    assert found.box["accuracy"] == pytest.approx([46.25, 94.37], abs=0.005)
    assert found.box["latency_ms"] == pytest.approx([2.529, 98.888], abs=0.0005)
    assert found.figures(list(found.members))["hv_ratio"] == pytest.approx(1)


@needs_data
def test_the_known_good_designs_score_as_published():
    """HV ratio and high part, mean over four devices, of the 24 designs that became 20 functions: .982 and .863."""
    figures = []
    for device in ("raspi4", "fpga", "pixel3", "eyeriss"):
        bench = Benchmark(Path(DATA), device=f"hwnb_c10_{device}_latency")
        found = found_by(bench, search_once(bench, Terms("prior", 120), 0))
        figures.append(judge(bench).figures(found))
    assert fmean(one["hv_ratio"] for one in figures) == pytest.approx(0.982, abs=0.0006)
    assert fmean(one["hv_high"] for one in figures) == pytest.approx(0.863, abs=0.0006)


@needs_data
def test_an_estimated_device_says_so_and_an_unsupported_cell_does_not_compete():
    bench = Benchmark(Path(DATA), dataset="c100", device="hwnb_c10_fpga_latency")
    assert bench.estimated
    assert len(Benchmark(Path(DATA), device="hwnb_c10_edgetpu_latency").competitors) == 15_625 - 4_699


@needs_data
def test_nas_bench_macro_is_chosen_by_one_seed_and_reported_by_the_others():
    bench = Benchmark(Path(DATA), "nbmacro")
    outcome = search_once(bench, Terms("evolution", 60), 0)
    assert len(set(outcome.charged)) == 60
    assert bench.validation("02012100") == 89.47
    assert bench.close()["02012100"] == pytest.approx((89.17 + 88.95) / 2)


@needs_data
def test_accel_nasbench_lists_some_and_predicts_others_and_says_which(tmp_path):
    bench, path = Benchmark(Path(DATA), "accel_nasbench", "imagenet"), tmp_path / "t.jsonl"
    listed = bench.competitors
    assert len(listed) == 4_106
    assert bench.validation("6466611-3535533-1233222-0000000") == 59.368
    assert bench.name(bench.graph(listed[5])) == listed[5]
    rows = read_texts(bench.path, ("e", "k", "l", "se", "params"))
    for *parts, params in (row for row in rows[:40] if row[3] == "0000000"):
        counts = bench.space.network(bench.graph("-".join(parts))).counts
        assert counts.params == pytest.approx(1e6 * float(params), abs=5)
    with path.open("w") as file:
        outcome = search_once(bench, Terms("evolution", 15), 0, file)
    lines = [line for line in read_trace(path) if line["charged"]]
    assert outcome.predicted == sum(line["surrogate"] for line in lines) > 10
    assert 40 < bench.validation(outcome.charged[0]) < 70
    assert not bench.close().scores
    place = Place(Path(DATA), "accel_nasbench", "imagenet")
    row, = bench_search([place], ["random"], Terms("", 5), 2)["rows"]
    assert (row["test_mean"], row["predicted"]) == (None, 5)


def test_a_surrogate_finds_pairs_of_choices_again():
    names = ["".join(one) + "-" + "".join(two) for one in product("146", repeat=3) for two in product("35", repeat=3)]
    truth = {name: 50 + int(name[0]) + 3 * (name[0] == "6" and name[4] == "5") for name in names}
    seen = {name: value for i, (name, value) in enumerate(truth.items()) if i % 4}
    predicted = Surrogate(seen)
    unseen = [name for name in names if name not in seen]
    assert np.corrcoef([predicted(name) for name in unseen], [truth[name] for name in unseen])[0, 1] > 0.97


# -- what is charged


def test_distinct_rows_are_paid_once_and_repeats_are_counted(folder):
    bench = _toy(folder, device="phone_ms")
    outcome = search_once(bench, Terms("evolution", 60), 1)
    assert len(outcome.charged) == len(set(outcome.charged)) == 60
    again = search_once(bench, Terms("evolution", 60, "all"), 1)
    assert len(again.charged) == 60 > len(set(again.charged))
    assert again.counts["repeats"] == 0


def test_what_breaks_the_cap_costs_nothing(folder):
    bench = _toy(folder, device="phone_ms")
    cap = bench.quantile_ms(0.25)
    outcome = search_once(bench, Terms("random", 20, cap_ms=cap), 0)
    assert len(outcome.charged) == 20
    assert all(bench.latency(name) <= cap for name in outcome.charged)
    assert outcome.counts["refused"] > 20


def test_a_device_that_does_not_support_a_cell_never_gets_it(folder):
    bench = _toy(folder, device="odd_ms")
    assert not any(name[5] == "2" for name in bench.competitors)
    assert not any(name[5] == "2" for name in search_once(bench, Terms("random", 20), 0).charged)


def test_a_search_that_finds_nothing_ends(folder):
    outcome = search_once(_toy(folder, device="phone_ms"), Terms("random", 1, cap_ms=0.1), 0)
    assert (outcome.charged, outcome.stopped) == ([], "attempts")


def test_proxies_are_counted_and_capped(folder):
    bench = _toy(folder)
    assert search_once(bench, Terms("random", 20, screen=50), 0).proxied == 0  # one proposal at once: nothing to choose
    assert 0 < search_once(bench, Terms("random", 20, screen=5, batch=4), 0).proxied <= 5
    many = search_once(bench, Terms("random", 20, screen=500, batch=4), 0)
    assert 5 < many.proxied <= 500
    few = [fmean(name.count("2") for name in search_once(bench, Terms("random", 20, "distinct", screen, 4), 0).charged)
           for screen in (0, 500)]
    assert few[1] > few[0]


# -- what is printed


def test_every_figure_of_a_search_is_in_the_trace_and_the_tables(folder, tmp_path):
    trace = tmp_path / "trace.jsonl"
    places = [Place(folder, "toy", "c10", "phone_ms")]
    result = bench_search(places, ["random", "evolution"], Terms("", 15, screen=40, batch=2), 12, 0.5, trace=trace)
    lines, table = read_trace(trace), {row["ops"]: row for row in _table(folder)}
    live = [row for row in table.values() if row["ops_effective"] != "000000"]
    by_index = {row["index"]: float(row["phone_ms"]) for row in _table(folder, "latency")}
    cap = float(np.quantile([by_index[row["index"]] for row in live], 0.5))
    best = max(float(row["c10_val200"]) for row in live if by_index[row["index"]] <= cap)
    for row in result["rows"]:
        own = [line for line in lines if line["strategy"] == row["strategy"]]
        chosen = []
        for seed in range(12):
            paid = [line["ops"] for line in own if line["seed"] == seed and line["charged"]]
            assert len(paid) == len(set(paid)) == row["evals"]
            chosen.append(max(paid, key=lambda ops: float(table[ops]["c10_val200"])))
        val, test = ([float(table[ops][f"c10_{which}200"]) for ops in chosen] for which in ("val", "test"))
        assert row["val_mean"] == pytest.approx(fmean(val))
        assert row["val_sd"] == pytest.approx(stdev(val))
        assert row["test_mean"] == pytest.approx(fmean(test))
        assert row["test_sd"] == pytest.approx(stdev(test))
        assert row["regret_mean"] == pytest.approx(best - fmean(val))
        assert row["max_latency_ms"] == pytest.approx(cap)
        proxied = [max(line["proxied"] for line in own if line["seed"] == seed) for seed in range(12)]
        assert row["proxies_charged"] == fmean(proxied)
        free = sum(not line["charged"] for line in own) / 12
        assert free == pytest.approx(row["repeats"] + row["invalid"] + row["refused"] + row["passed_over"])


def test_a_trace_says_who_made_what_from_what(folder, tmp_path):
    trace = tmp_path / "trace.jsonl"
    bench_search([Place(folder, "toy", "c10")], ["evolution"], Terms("", 30), 2, trace=trace)
    lines = read_trace(trace)
    assert {"seed", "n", "ops", "charged", "operator", "parents", "proxied"} <= lines[0].keys()
    numbers = [line["n"] for line in lines if line["seed"] == 1]
    assert numbers == list(range(1, 1 + len(numbers)))
    mutated = [line for line in lines if line["operator"] == "mutate"]
    assert mutated
    assert all(sum(a != b for a, b in zip(line["ops"], line["parents"][0], strict=True)) <= 6 for line in mutated)


def test_the_line_is_written_before_the_value_is_read(folder, tmp_path, monkeypatch):
    path, bench = tmp_path / "trace.jsonl", _toy(folder)
    seen, real = [], bench.validation

    def validation(name, share):
        seen.append(read_trace(path)[-1]["ops"] == name)
        return real(name, share)

    monkeypatch.setattr(bench, "validation", validation)
    with path.open("w") as file:
        search_once(bench, Terms("random", 10), 0, file)
    assert seen == [True] * 10


def test_workers_change_nothing(folder, tmp_path):
    places = [Place(folder, "toy", "c10")]
    found = []
    for workers in (1, 2):
        trace = tmp_path / f"{workers}.jsonl"
        result = bench_search(places, ["random", "evolution"], Terms("", 10), 21, workers=workers, trace=trace)
        found.append((result, trace.read_text()))
    assert found[0] == found[1]
    assert not list(tmp_path.glob("*.parts"))


def test_search_answers_in_json_and_words(call, folder):
    base = ("search", "--bench", "toy", "--data-dir", folder, "--strategy", "random,prior", "--evals", 5, "--seeds", 2,
            "--workers", 1)
    answer = json.loads(call(*base, "--json").stdout)
    assert answer["schema"] == "llmnas.bench.search/1"
    assert {"dataset", "strategy", "evals", "seeds", "val_mean", "val_sd", "test_mean", "test_sd", "charge",
            "proxies_charged", "prior", "regret_mean"} <= answer["rows"][0].keys()
    assert "regret" in call(*base).stdout
    assert not json.loads(call(*base, "--json", "--no-prior").stdout)["rows"][0]["prior"]
    with pytest.raises(InputError, match="needs a device"):
        call(*base, "--max-latency-quantile", 0.5)


# -- fronts


def test_the_volume_of_known_points():
    assert volume(np.array([[0.5, 0.5]])) == pytest.approx(0.25)
    assert volume(np.array([[0.25, 0.5], [0.5, 0.25]])) == pytest.approx(0.75 * 0.5 + 0.5 * 0.25)
    assert volume(np.array([[0.05, 0.5], [0.2, 0.1]]), 0.9) == pytest.approx(0.05 * 0.5)
    assert volume(np.array([[0.5, 0.5]]), 0.9) == 0


def test_the_true_front_scores_full_marks():
    tested = Reported({"a": 90.0, "b": 80.0, "c": 50.0, "d": 70.0})
    found = Judge(["a", "b", "c", "d"], {"a": 10.0, "b": 4.0, "c": 1.0, "d": 5.0}, tested)
    assert found.members == {"a", "b", "c"}
    assert found.box["accuracy"] == [50.0, 90.0]
    assert found.box["reference"] == {"accuracy": 50.0, "latency_ms": 10.0}
    whole = found.figures(["a", "b", "c", "d"])
    assert (whole["hv_ratio"], whole["igd_plus"], whole["igd"], whole["coverage"]) == (1.0, 0.0, 0.0, 1.0)
    assert whole["hv_high"] is None  # of the true front only the reference point lies there
    part = found.figures(["d"])
    assert part["hv_ratio"] == pytest.approx((0.5 * 5 / 9) / (0.75 * 6 / 9))
    assert part["coverage"] == 0


def test_every_figure_of_a_front_is_in_the_trace_and_the_tables(folder, tmp_path):
    trace = tmp_path / "trace.jsonl"
    place = Place(folder, "toy", "c10", "phone_ms")
    result = bench_pareto([place], ["random"], Terms("", 20), 3, trace=trace)
    lines, bench = read_trace(trace), place.open()
    table = {row["ops"]: row for row in _table(folder)}
    sets = []
    for seed in range(3):
        paid = [line["ops"] for line in lines if line["seed"] == seed and line["charged"]]
        points = {ops: (-float(table[ops]["c10_val200"]), bench.latency(ops)) for ops in paid}
        sets.append([ops for ops, (a, b) in points.items()
                     if not any((c <= a and d <= b and (c, d) != (a, b)) for c, d in points.values())])
    own = judge(bench)
    figures = [own.figures(found) for found in sets]
    for name in ("hv_ratio", "hv_high", "igd_plus", "igd", "coverage"):
        assert result["rows"][0][name] == pytest.approx(fmean(one[name] for one in figures))
    assert result["mean"][0]["hv_ratio"] == result["rows"][0]["hv_ratio"]
    assert "scaled accuracy" in result["about"]["protocol"]


def test_a_found_set_is_chosen_by_validation(folder):
    bench = _toy(folder, device="phone_ms")
    outcome = search_once(bench, Terms("random", 30), 0)
    found = found_by(bench, outcome)
    best = max(outcome.charged, key=bench.validation)
    assert best in found
    assert min(outcome.charged, key=bench.latency) in found


def test_pareto_answers_in_json_and_words(call, folder):
    base = ("pareto", "--bench", "toy", "--data-dir", folder, "--device", "phone_ms", "--evals", 8, "--seeds", 2,
            "--workers", 1)
    answer = json.loads(call(*base, "--json").stdout)
    assert answer["schema"] == "llmnas.bench.pareto/1"
    assert {"dataset", "strategy", "evals", "seeds", "device", "hv_ratio", "hv_high", "igd_plus"
            } <= answer["rows"][0].keys()
    assert "IGD+" in call(*base).stdout
