"""The ranking bench: its figures where the answer is known, its pools, its command."""

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from llmnas.bench.pools import PUBLISHED, image_batch, nb201_pool, nbmacro_pool
from llmnas.bench.ranking import bench_ranking, figures, parse_sets
from llmnas.cli import bench
from llmnas.errors import InputError
from llmnas.proxies import score
from llmnas.space import Digits, load_space

RISING = np.arange(1.0, 21.0)  # accuracies of 20 architectures; the top tenth are the last two
needs_data = pytest.mark.skipif("LLMNAS_DATA" not in os.environ, reason="LLMNAS_DATA names no data folder")


def _swapped(*pairs):
    scores = RISING.copy()
    for left, right in pairs:
        scores[[left, right]] = scores[[right, left]]
    return scores


@pytest.mark.parametrize(("scores", "expected"), [
    (RISING, {"spearman": 1, "kendall": 1, "regret1": 0, "regret10": 0, "precision": 1, "spearman_top": 1}),
    (np.exp(RISING), {"spearman": 1, "kendall": 1, "regret1": 0, "regret10": 0, "precision": 1, "spearman_top": 1}),
    (-RISING, {"spearman": -1, "kendall": -1, "regret1": 19, "regret10": 10, "precision": 0, "spearman_top": -1}),
    # the best and the third best changed places: d² sums to 4 + 4, three of 190 pairs are the wrong way round
    (_swapped((19, 17)), {"spearman": 1 - 6 * 8 / (20 * 399), "kendall": 1 - 2 * 3 / 190, "regret1": 2, "regret10": 0,
                          "precision": 0.5, "spearman_top": -1}),
    # nothing is known: the order is that of the index, and there is no correlation
    (np.zeros(20), {"spearman": None, "kendall": None, "regret1": 19, "regret10": 10, "precision": 0,
                    "spearman_top": None})])
def test_figures_of_known_orders(scores, expected):
    """Perfect, transformed, reversed, slightly wrong and empty orders have the figures worked out by hand."""
    found = figures(scores, RISING)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value)), name


def test_ties_are_broken_by_index():
    """Of equal scores the earlier is ranked first, of equal accuracies the earlier is in the top."""
    accuracy = np.array([50.0] * 10 + [90.0] * 10)
    found = figures(np.ones(20), accuracy)
    assert (found["regret1"], found["regret10"], found["precision"]) == (40, 40, 0)
    found = figures(np.ones(20), accuracy[::-1])
    assert (found["regret1"], found["regret10"], found["precision"], found["spearman_top"]) == (0, 0, 1, None)


def test_parts_of_a_small_pool():
    """Fewer than ten: the top is one, the first ten are all."""
    found = figures(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0]))
    assert (found["regret1"], found["regret10"], found["precision"], found["spearman_top"]) == (2, 0, 0, None)


def test_sets_are_read():
    """Sets are separated by commas, their proxies by plus signs; nothing is no set."""
    assert parse_sets("jacov+params, nwot") == [("jacov", "params"), ("nwot",)]
    assert parse_sets("") == []
    for wrong in ("jacov++params", "+nwot", "nwot+nwot"):
        with pytest.raises(InputError, match="not a set"):
            parse_sets(wrong)


def _write(path, rows):
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def cells(tmp_path):
    """Twelve cells, the first dead in part; params order c10 perfectly and c100 backwards, jacov lacks one score."""
    rows = [{"index": i, "ops": f"0{i:02}333", "ops_effective": "000000" if i == 0 else f"0{i:02}333",
             "c10_test200": 80 + i, "c100_test200": 60 - i} for i in range(12)]
    scores = [{"index": i, **{f"c10_{name}": "" if i == 0 else i for name in PUBLISHED}} for i in reversed(range(12))]
    scores[0]["c10_jacov"] = "-100000000.0"  # index 11, the best of c10
    scores[1]["c10_jacov"] = ""
    _write(tmp_path / "nb201" / "nb201.csv.gz", rows)
    _write(tmp_path / "nb201" / "zerocost.csv.gz", scores)
    return tmp_path


def test_published_scores_of_made_up_cells(cells):
    """Dead cells are left out, rows are joined by index, the sentinel and empty fields are no score."""
    pool = nb201_pool(cells, ["params"])
    assert list(pool.accuracy["c10"]) == list(range(81, 92))
    assert [row["params"] for row in pool.scores] == list(range(1, 12))
    assert [row["jacov"] for row in pool.scores] == [*range(1, 10), None, None]


def test_every_ranker_is_judged_on_every_data_set(cells):
    """The default comes first, then sets, then single proxies, per data set; a set listed twice is one."""
    result = bench_ranking("nb201", cells, [("nwot", "params"), ("jacov", "params")], 30, 0)
    rankers = ["jacov+params", "nwot+params", *PUBLISHED]
    assert [(row["dataset"], row["ranker"]) for row in result["rows"]] == [
        (dataset, ranker) for dataset in ("c10", "c100") for ranker in rankers]
    assert [row["ranker"] for row in result["rows"] if row["default"]] == ["jacov+params"] * 2
    by = {(row["dataset"], row["ranker"]): row for row in result["rows"]}
    assert by["c10", "params"]["spearman"] == pytest.approx(1)
    assert by["c100", "params"]["regret1"] == 10
    assert by["c10", "jacov"]["regret1"] == 2  # cells without a score come last, the best of all among them


def test_what_is_wrong_is_named(cells, tmp_path):
    """Unknown proxies, missing columns, rows and files, and fields that are no numbers are bad input."""
    with pytest.raises(InputError, match="did you mean 'jacov'"):
        nb201_pool(cells, ["jakov"])
    with pytest.raises(InputError, match="did you mean 'nwot'"):
        nbmacro_pool(tmp_path, ["nwott"], 1, 0)
    with pytest.raises(InputError, match="data-dir"):
        nbmacro_pool(tmp_path, ["nwot"], 1, 0)
    good = {"index": 1, "ops": "0", "ops_effective": "0", "c10_test200": 1, "c100_test200": 1}
    for row, says in ((good | {"index": 77}, "index 77"), (good | {"c10_test200": "x"}, "c10_test200"),
                      (good | {"c10_test200": ""}, "c10_test200"), ({"index": 1}, "'ops'")):
        _write(cells / "nb201" / "nb201.csv.gz", [row])
        with pytest.raises(InputError, match=says):
            nb201_pool(cells, ["params"])


@pytest.fixture
def nets(tmp_path):
    """Four rows of three nets (two only move an identity), and random images."""
    _write(tmp_path / "nbmacro" / "nb_macro.csv.gz", [
        {"arch": digits, "mean_acc": accuracy} for digits, accuracy in (
            ("00000000", 45), ("00010000", 80), ("00001000", 80), ("10000000", 57))])
    rng = np.random.default_rng(0)
    (tmp_path / "cifar10").mkdir()
    np.savez(tmp_path / "cifar10" / "cifar10_10k_2k.npz", x_train=rng.integers(256, size=(200, 32, 32, 3)).astype("u1"),
             y_train=np.arange(200) % 10)
    return tmp_path


def test_the_batch_is_normalised_and_shuffled(nets):
    """64 images of mean 0 and deviation 1; a seed gives the same again, another seed others."""
    path = nets / "cifar10" / "cifar10_10k_2k.npz"
    x, y = image_batch(path, 0)
    assert (x.shape, x.dtype, y.shape) == ((64, 3, 32, 32), np.float32, (64,))
    assert np.abs(x.mean(axis=(0, 2, 3))).max() < 0.05
    assert np.abs(x.std(axis=(0, 2, 3)) - 1).max() < 0.05
    assert np.array_equal(x, image_batch(path, 0)[0])
    assert not np.array_equal(x, image_batch(path, 1)[0])


def test_drawn_nets_are_really_scored(nets):
    """Different nets only, each with the scores that scoring it alone gives."""
    pool = nbmacro_pool(nets, ["nwot", "params"], 3, 0)
    assert sorted(pool.accuracy["c10"]) == [45, 57, 80]
    space, path = load_space("nbmacro"), nets / "cifar10" / "cifar10_10k_2k.npz"
    worst = space.network(Digits(space).graph("00000000"))
    alone = score(worst, *image_batch(path, 0), ["nwot", "params"])
    assert pool.scores[int(pool.accuracy["c10"].argmin())] == {name: one.value for name, one in alone.items()}
    assert "no validation accuracy" in pool.about["accuracy"]
    with pytest.raises(InputError, match="3 different nets"):
        nbmacro_pool(nets, ["params"], 4, 0)


def test_the_draw_depends_on_the_seed_only(nets):
    """A seed draws the same nets again."""
    drawn = [tuple(nbmacro_pool(nets, ["params"], 2, seed).accuracy["c10"]) for seed in (*range(8), *range(8))]
    assert drawn[:8] == drawn[8:]
    assert len(set(drawn)) > 1


@pytest.fixture
def call():
    """Calls the command as the command line does."""
    app = typer.Typer()
    bench.register(app)
    app.command("other")(lambda: None)
    return lambda *arguments, **options: CliRunner().invoke(app, ["bench", "ranking", *arguments], **options)


def test_the_command_answers_both_ways(call, cells):
    """JSON with its schema, or a table with the default marked."""
    done = call("--data-dir", str(cells), "--sets", "zen+params", "--json")
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["schema"]) == (0, "llmnas.bench.ranking/1")
    assert {"bench", "dataset", "ranker", "n", "spearman", "kendall", "regret1", "regret10", "precision",
            "spearman_top"} <= answer["rows"][0].keys()
    assert "zen+params" in {row["ranker"] for row in answer["rows"]}
    done = call("--data-dir", str(cells))
    assert done.exit_code == 0
    assert "jacov+params *" in done.stdout
    assert "-1.000" in done.stdout


def test_the_command_needs_its_tables(call):
    """Without a folder, or with a table that does not exist, nothing is computed."""
    assert call(env={"LLMNAS_DATA": ""}).exit_code == 2
    assert call("--bench", "nb101").exit_code == 2


@needs_data
def test_figures_on_the_published_cells():
    """The figures of the default pair and of its rival on the 9,445 live cells."""
    result = bench_ranking("nb201", Path(os.environ["LLMNAS_DATA"]), [("nwot", "params")], 0, 0)
    by = {(row["dataset"], row["ranker"]): row for row in result["rows"]}
    assert {row["n"] for row in result["rows"]} == {9445}
    found = by["c10", "jacov+params"]
    assert found["default"]
    assert found["spearman"] == pytest.approx(0.928, abs=5e-4)
    assert found["kendall"] == pytest.approx(0.764, abs=5e-4)
    assert (round(found["regret1"], 2), round(found["regret10"], 2)) == (1.13, 0.03)
    assert by["c10", "nwot+params"]["spearman"] == pytest.approx(0.871, abs=5e-4)
    assert by["c100", "jacov+params"]["spearman"] == pytest.approx(0.915, abs=5e-4)


@needs_data
def test_figures_on_published_nets():
    """Drawn nets of the real table are scored on real images; size alone costs nothing to check."""
    result = bench_ranking("nbmacro", Path(os.environ["LLMNAS_DATA"]), [], 4, 0)
    assert [row["ranker"] for row in result["rows"]] == ["nwot+params", "nwot", "params"]
    assert all(row["n"] == 4 and row["regret10"] == 0 for row in result["rows"])
    assert result["about"]["best_in_table"] == pytest.approx(93.127, abs=1e-3)
