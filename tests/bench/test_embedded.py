"""Our own table: how it is built, and that what is shipped is whole."""

import json
from itertools import product
from pathlib import Path

import pytest

from llmnas.bench.building import SEEDS, bench_build, functions, read_lines, spread
from llmnas.bench.columns import read_header, read_texts
from llmnas.bench.meter import Terms, search_once
from llmnas.bench.packing import pack
from llmnas.bench.tabular import EMBEDDED, Benchmark
from llmnas.errors import InputError
from llmnas.space import Digits, load_space

NOWHERE = Path("no/such/folder")


@pytest.fixture(scope="module")
def bench():
    """The table, without a data folder."""
    return Benchmark(NOWHERE, "conv1d", "mnist1d", "cpu_ms")


def test_a_build_goes_on_where_it_stopped(tmp_path):
    """Trainings are kept, a torn line is trained again, and nothing is packed before all are there."""
    first = bench_build(tmp_path, limit=2)
    assert (first["trainings"], first["complete"], first["ratio"]) == (2, False, None)
    lines = list(read_lines(tmp_path))
    path = tmp_path / "trainings.jsonl"
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    again = bench_build(tmp_path, limit=2)
    assert again["trainings"] == 3
    found = list(read_lines(tmp_path))
    assert found[0] == lines[0]
    assert found[1].model_copy(update={"cpu_s": 0.0}) == lines[1].model_copy(update={"cpu_s": 0.0})
    assert {line.seed for line in found} == set(range(SEEDS))
    assert len({line.ops for line in found}) == 1
    with pytest.raises(InputError, match="trainings are missing"):
        pack(tmp_path)


def test_spread_takes_the_seeds_out_of_the_means(tmp_path):
    """Two cells whose seeds differ as much as they do: what the seeds contribute is not called theirs."""
    scores = {"000000": (0.5, 0.6, 0.7), "000001": (0.6, 0.7, 0.8)}
    rows = [{"ops": ops, "seed": seed, "curve": [score], "loss": 1.0, "test": score, "cpu_s": 1.0}
            for ops, found in scores.items() for seed, score in enumerate(found)]
    (tmp_path / "trainings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = spread(tmp_path)
    assert found["seed_sd"] == pytest.approx(0.1)
    assert found["between_sd"] == pytest.approx((0.005 - 0.01 / 3) ** 0.5)


def test_every_function_of_the_space_has_one_row(bench):
    """What is legal has a row, and graphs share one exactly when they compute the same."""
    space, digits = load_space("conv1d_cell"), Digits(load_space("conv1d_cell"))
    rows = {}
    for places in product("0123", repeat=6):
        graph = digits.graph("".join(places))
        if not space.validate(graph):
            assert bench.listed(bench.name(graph))
            assert rows.setdefault(graph.key(), bench.name(graph)) == bench.name(graph)
    assert len(rows) == len(set(rows.values())) == len(functions(space)) >= 2_000


def test_the_card_says_what_the_table_is():
    """Small enough to ship, and architectures differ more than seeds do."""
    folder = EMBEDDED / "conv1d"
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    header = read_header(folder / "conv1d.csv.gz")
    rows = read_texts(folder / "conv1d.csv.gz", ("ops", "val_s0", "test_s2", "params", "mnist1d_train_s"))
    assert card["functions"] == len(rows) >= 2_000
    assert all(all(row) for row in rows)
    assert {f"test_s{n}" for n in range(card["seeds"])} <= set(header)
    assert card["validation"]["ratio"] >= 2.5
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2**20


def test_sizes_are_those_of_the_space():
    """Parameters and multiply-accumulates are ours."""
    space = load_space("conv1d_cell")
    for ops, params, macs in read_texts(EMBEDDED / "conv1d" / "conv1d.csv.gz", ("ops", "params", "macs"))[::400]:
        counts = space.network(Digits(space).graph(ops)).counts
        assert (str(counts.params), str(counts.macs)) == (params, macs)


@pytest.mark.parametrize("strategy", ["random", "local_search", "evolution", "nsga2", "reinforce", "bayesian", "prior",
                                      "successive_halving"])
def test_strategies_search_it_without_a_folder(bench, strategy):
    """Every one pays for what it may, and no more."""
    outcome = search_once(bench, Terms(strategy, 12, screen=40), 0)
    assert outcome.cost <= 12 + 1e-9
    assert outcome.charged or strategy == "successive_halving"
    assert len(set(outcome.charged)) == len(outcome.charged)


def test_bayesian_spends_its_screening_around_the_best():
    """Under a tight cap it pays for no cell beyond it, looks at no more proxies than it may, and beats random draws."""
    bench = Benchmark(NOWHERE, "conv1d", "mnist1d", "cpu_ms")
    cap = bench.quantile_ms(0.1)
    found = {}
    for name in ("bayesian", "random"):
        outcomes = [search_once(bench, Terms(name, 15, screen=100, prior=False, cap_ms=cap), seed) for seed in range(4)]
        found[name] = sum(max(map(bench.validation, one.charged)) for one in outcomes)
        assert all((bench.latency(row) or 0) <= cap for one in outcomes for row in one.charged)
        assert all(one.proxied <= 100 for one in outcomes)
        if name == "bayesian":
            assert all(one.counts["refused"] == 0 for one in outcomes)
            assert search_once(bench, Terms(name, 15, screen=100, prior=False, cap_ms=cap), 0).charged == (
                outcomes[0].charged)
    assert found["bayesian"] > found["random"]
