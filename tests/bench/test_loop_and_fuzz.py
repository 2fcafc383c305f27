"""The benches that need no training, small: the loop, broken documents, the table."""

import json
import random

import pytest

from llmnas.bench.fuzz import bench_fuzz
from llmnas.bench.loop import micro, run_case
from llmnas.bench.mangle import MANGLES, mangled
from llmnas.bench.table import agrees, bench_table
from llmnas.errors import InputError
from llmnas.space import load_space, read_proposals


@pytest.mark.parametrize(("space", "strategy"), [("nb201", "evolution"), ("convnet", "random")])
def test_the_loop_reaches_its_trials(space, strategy):
    """A case runs as many trials as asked for, trains some, and reads its log back."""
    row = run_case(space, strategy, 300)
    assert row["trials"] >= 300
    assert row["trained"] > 20
    assert row["stopped"] == "all trials done"
    assert max(row["ms_per_proposal"].values()) < 100
    assert row["read_events_per_s"] > 100
    assert "profile" not in row


def test_the_loop_can_be_profiled():
    """A profile names functions with their seconds, most first."""
    rows = run_case("nb201", "random", 60, profile=True)["profile"]
    assert rows == sorted(rows, key=lambda row: -row["own_s"])
    assert {"function", "calls", "own_s", "total_s"} <= rows[0].keys()


def test_single_verbs_are_timed():
    """Keys, checks and draws cost some microseconds."""
    row = micro(load_space("nb201"), n=30)
    assert all(0 < row[name] < 1e5 for name in ("key_us", "validate_us", "sample_us"))


def test_broken_documents_raise_nothing():
    """Two thousand documents give graphs and issues, and no exception."""
    result = bench_fuzz(2000)
    assert result["exceptions"] == 0, result["examples"]
    assert result["valid"] > 100
    assert {"json", "schema", "missing", "range", "cycle", "unknown_op"} <= result["issues"].keys()
    assert sum(result["documents"].values()) == 2000


def test_fuzz_repeats_itself():
    """A seed gives the same documents again."""
    one, two = bench_fuzz(200, 5), bench_fuzz(200, 5)
    assert [one[name] for name in ("documents", "valid", "issues")] == [
        two[name] for name in ("documents", "valid", "issues")]


def test_exceptions_are_found(monkeypatch):
    """An exception anywhere on the way is counted and kept with its document."""
    def broken(text):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("llmnas.bench.fuzz.read_object", broken)
    result = bench_fuzz(20)
    assert (result["exceptions"], result["ok"]) == (20, False)
    assert "planted" in result["examples"][0]["error"]


@pytest.mark.parametrize("how", sorted(set(MANGLES)))
def test_every_way_to_break_gives_text(how):
    """Each way gives a text from legal graphs; the whole ones are legal replies."""
    graphs = [graph.model_dump(mode="json", exclude_none=True) for graph in load_space("open").prior()[:3]]
    texts = [mangled(how, graphs, random.Random(seed)) for seed in range(20)]
    assert all(isinstance(text, str) for text in texts)
    if how == "values":
        assert all(isinstance(json.loads(text), dict) for text in texts)


def test_replies_are_legal_before_they_are_broken():
    """The documents start from legal proposals, else breaking them would prove nothing."""
    from llmnas.bench.mangle import reply

    space = load_space("nb201")
    graphs = [graph.model_dump(mode="json", exclude_none=True) for graph in space.prior()[:3]]
    for _, graph, issues, _ in read_proposals(reply(graphs, random.Random(0)), "nb201"):
        assert not issues
        assert not space.validate(graph)


def test_rows_of_the_table():
    """A right row agrees in both columns; a wrong last digit does not."""
    space = load_space("nb201")
    right = {"ops": "333333", "c10_params_M": "1.531546", "c10_flops_M": "220.11969"}
    assert agrees(space, right) == (True, True)
    assert agrees(space, right | {"c10_params_M": "1.531547"}) == (False, True)
    assert agrees(space, right | {"c10_flops_M": "220.11968"}) == (True, False)


def test_a_missing_table_is_bad_input(tmp_path):
    """Without the table there is one line with a fix."""
    with pytest.raises(InputError, match="data-dir"):
        bench_table(tmp_path)
