"""Comparing on a table: the same whatever the workers, gone on with after a kill, chosen by validation."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from llmnas.bench import comparing
from llmnas.bench.comparing import carry_out, compare_on_table, judge_all
from llmnas.bench.meter import Terms, search_once
from llmnas.bench.seeds import Place
from llmnas.bench.tabular import Benchmark
from llmnas.cli import compare as compare_cli
from llmnas.compare import parse_arms
from llmnas.compare.results import RESULTS, read_results
from llmnas.errors import InputError, ModelError, RunError
from llmnas.llm import CallFailed
from llmnas.llm.mock import MockModel

ARMS = parse_arms("random,evolution,agent,random")
TERMS = Terms("", 12, llm="mock")


@pytest.fixture
def place(tables):
    return Place(tables, "toy", "c10", "phone_ms")


def alive(pid):
    """Whether a process still runs; one that only waits to be buried does not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def plain(folder):
    """What a comparison has on disk, without what no two runs agree on."""
    return sorted(one.model_copy(update={"charges": one.charges.model_copy(update={"cpu_s": None})}).model_dump_json()
                   for one in read_results(folder / RESULTS))


@pytest.fixture
def invoke(tables):
    app = typer.Typer()
    compare_cli.register(app)
    app.command("other")(lambda: None)
    return lambda *arguments: CliRunner().invoke(app, ["compare", *arguments], env={"LLMNAS_DATA": str(tables)})


def test_workers_change_nothing(place, tmp_path):
    one = compare_on_table(place, ARMS, TERMS, 3, tmp_path / "one")
    two = compare_on_table(place, ARMS, TERMS, 3, tmp_path / "two", workers=2)
    assert plain(tmp_path / "one") == plain(tmp_path / "two")
    assert one["pairs"] == two["pairs"]
    assert one["curves"] == two["curves"]


def test_what_is_done_is_not_done_again(place, tmp_path, monkeypatch):
    compare_on_table(place, ARMS, TERMS, 2, tmp_path)
    asked = []
    monkeypatch.setattr(comparing, "carry_out", lambda entry: asked.append((entry.arm.label, entry.seed)) or carry_out(
        entry))
    compare_on_table(place, parse_arms("random,evolution,agent,random,prior"), TERMS, 3, tmp_path)
    assert sorted(asked) == [("agent", 2), ("evolution", 2), ("prior", 0), ("prior", 1), ("prior", 2), ("random", 2),
                             ("random#2", 2)]
    with pytest.raises(RunError, match="evals: 12 there, 13 asked for"):
        compare_on_table(place, ARMS, Terms("", 13, llm="mock"), 2, tmp_path)
    with pytest.raises(RunError, match="dataset"):
        compare_on_table(Place(place.folder, "toy", "bare", "phone_ms"), ARMS, TERMS, 2, tmp_path)


def test_a_torn_line_is_dropped_and_a_damaged_one_is_refused(place, tmp_path):
    compare_on_table(place, ARMS, TERMS, 2, tmp_path)
    whole, path = plain(tmp_path), tmp_path / RESULTS
    path.write_bytes(path.read_bytes()[:-40])
    compare_on_table(place, ARMS, TERMS, 2, tmp_path)
    assert plain(tmp_path) == whole
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(RunError, match="not a finished search"):
        compare_on_table(place, ARMS, TERMS, 2, tmp_path)


def test_killed_in_the_middle_it_goes_on(place, tables, tmp_path):
    """Killed with searches done and under way, its workers end too; the same command then ends like one left alone."""
    command = [sys.executable, "-m", "llmnas", "compare", "--bench", "toy", "--strategies",
               "random,evolution,agent,random", "--seeds", "10", "--evals", "12", "--llm", "mock", "--device",
               "phone_ms", "--workers", "2", "--out", str(tmp_path / "killed"), "--json"]
    environment = {**os.environ, "LLMNAS_DATA": str(tables)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = tmp_path / "killed" / RESULTS
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 5):
        time.sleep(0.005)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    assert len(workers) >= 2
    while any(map(alive, workers)):  # none goes on without its parent
        time.sleep(0.005)
    done = path.read_bytes().count(b"\n")
    assert 5 <= done < 40
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"{done} of 40 searches are in" in again.stderr
    compare_on_table(place, ARMS, TERMS, 10, tmp_path / "alone")
    assert plain(tmp_path / "killed") == plain(tmp_path / "alone")
    assert json.loads(again.stdout)["schema"] == "llmnas.compare/1"


def test_a_folder_in_use_is_refused(place, tmp_path):
    from llmnas.compare.results import Agreed

    with Agreed(tmp_path, {}), pytest.raises(RunError, match="in use"):
        compare_on_table(place, ARMS, TERMS, 1, tmp_path)


def test_choice_by_validation_report_by_test(place, tables, tmp_path):
    compare_on_table(place, ARMS, TERMS, 2, tmp_path)
    one = next(iter(read_results(tmp_path / RESULTS)))
    assert one.measures == {}  # nothing of the test column is written while searches run
    bench = Benchmark(tables, "toy", "c10", "phone_ms")
    judged, box = judge_all(bench, [one])
    best = max(one.paid, key=lambda paid: paid.score)
    assert judged[0].measures["validation"] == best.score
    assert judged[0].measures["test"] == bench.close()[best.what] / 100
    assert box["reference"]["latency_ms"] == box["latency_ms"][1]
    assert 0 < judged[0].measures["hv_ratio"] <= 1.1
    with pytest.raises(RuntimeError, match="closed"):
        bench.validation(best.what)


def test_seconds_come_from_the_table(tables, place, tmp_path):
    found = compare_on_table(place, ARMS, TERMS, 2, tmp_path / "a")
    one = next(one for one in read_results(tmp_path / "a" / RESULTS) if one.arm == "random")
    assert one.paid[2].at_s == sum(10 + 5 * paid.what.count("2") for paid in one.paid[:3])
    assert one.charges.train_s == one.end_s == one.paid[-1].at_s
    assert list(found["curves"]["seconds"]["arms"]) == ["random", "evolution", "agent", "random#2"]
    bare = compare_on_table(Place(tables, "toy", "bare"), ARMS, TERMS, 2, tmp_path / "b")
    assert bare["curves"]["seconds"]["arms"] == {}
    assert "has no seconds of training" in bare["about"]["seconds"]
    assert bare["arms"][0]["charges"]["train_s"] is None


def test_a_streams_pair_is_an_a_a_pair(place, tmp_path):
    """Ten A/A pairs on a table, of three kinds of strategy: no more than one is decided."""
    words = []
    for strategy in ("random", "evolution", "nsga2"):
        arms = parse_arms(",".join([strategy] * (5 if strategy == "random" else 4)))
        found = compare_on_table(Place(place.folder, "toy", "c10"), arms, Terms("", 8), 12, tmp_path / strategy)
        words += [pair["verdict"] for pair in found["pairs"] if pair["measure"] == "test"]
        assert {pair["n"] for pair in found["pairs"]} == {12}
    assert len(words) == 10
    assert words.count("not decided") >= 9


def test_agent_on_a_table_is_charged(tables):
    bench = Benchmark(tables, "toy", "c10")
    found = search_once(bench, Terms("agent", 12, llm="mock:3"), 0)
    assert found.model == "mock:3"
    assert len(found.charged) == 12
    assert found.calls >= 12
    assert found.usage.input_tokens > 1000
    assert found.usage.usd == 0.0
    assert search_once(bench, Terms("agent", 12, llm="mock:3"), 0).charged == found.charged
    assert search_once(bench, Terms("agent", 12, llm="mock:4"), 0).charged != found.charged
    assert search_once(bench, Terms("random", 3), 0).model is None


def test_invalid_replies_are_counted(tables):
    found = search_once(Benchmark(tables, "toy", "c10"), Terms("agent", 12, llm="mock:1,invalid=0.7"), 0)
    assert found.counts["invalid"] + found.repaired > 0
    assert found.calls > 12


class Paid(MockModel):
    """A mock that says it costs something, so that its calls are kept; it may be lost."""

    offline = False
    asked = 0
    lost_after = 10**9

    def chat(self, messages, schema, seed, deadline=None):
        Paid.asked += 1
        if Paid.asked > Paid.lost_after:
            raise CallFailed("the key was refused", status="auth")
        reply = super().chat(messages, schema, seed, deadline)
        return reply.model_copy(update={"usage": reply.usage.model_copy(update={"seconds": 2.0})})


@pytest.fixture
def paid(monkeypatch):
    monkeypatch.setattr("llmnas.bench.answering.open_model", lambda spec, **_: Paid(0))
    monkeypatch.setattr(Paid, "asked", 0)
    monkeypatch.setattr(Paid, "lost_after", 10**9)


def test_calls_that_cost_are_kept_and_not_paid_twice(place, tmp_path, paid):
    found = compare_on_table(place, parse_arms("random,agent"), TERMS, 1, tmp_path)
    asked, charges = Paid.asked, found["arms"][1]["charges"]
    assert len(list((tmp_path / "calls" / "agent-0").glob("*.json"))) == asked == charges["calls"]
    assert charges["llm_s"] == 2.0 * asked
    one = next(one for one in read_results(tmp_path / RESULTS) if one.arm == "agent")
    assert one.end_s == pytest.approx(2.0 * asked + one.charges.train_s)
    kept = plain(tmp_path)
    (tmp_path / RESULTS).unlink()  # as if it had been killed before the search was written down
    compare_on_table(place, parse_arms("random,agent"), TERMS, 1, tmp_path)
    assert Paid.asked == asked
    assert [json.loads(line)["paid"][-1]["what"] for line in plain(tmp_path)] == [
        json.loads(line)["paid"][-1]["what"] for line in kept]


def test_a_lost_model_is_not_a_result(place, tmp_path, paid, monkeypatch):
    monkeypatch.setattr(Paid, "lost_after", 5)
    with pytest.raises(ModelError, match="the language model was lost"):
        compare_on_table(place, parse_arms("random,agent"), TERMS, 1, tmp_path)
    assert [one.arm for one in read_results(tmp_path / RESULTS)] == ["random"]


def test_command(invoke, tmp_path):
    common = ("--bench", "toy", "--seeds", "3", "--evals", "8", "--llm", "mock", "--workers", "1", "--out",
              str(tmp_path))
    done = invoke(*common, "--strategies", "random,agent")
    assert done.exit_code == 0, done.output
    assert "On test with 3 seeds, not decided: agent (mock)." in done.output
    assert (tmp_path / "compare.html").is_file()
    again = json.loads(invoke(*common, "--strategies", "random,agent", "--json").stdout)
    assert again == json.loads((tmp_path / "compare.json").read_text())
    assert again["terms"]["dataset"] == "c10"
    assert again["terms"]["seeds"] == 3


@pytest.mark.parametrize(("arguments", "says"), [
    ((), "none of them"), (("--bench", "toy", "--data", "digits"), "--bench and --data"),
    (("--bench", "toy", "--space", "nb201"), "--space and --budget are for --data"),
    (("--bench", "toy", "--strategies", "random,evolutoin"), "did you mean 'evolution'"),
    (("--bench", "toy", "--strategies", "random"), "needs two arms"),
    (("--bench", "toy", "--strategies", "random,prior", "--reference", "agent"), "none of the arms"),
    (("--bench", "toy", "--dataset", "c11"), "did you mean 'c10'"), (("--bench", "toi"), "no benchmark 'toi'")])
def test_refusals(invoke, tmp_path, arguments, says):
    done = invoke(*arguments, *(("--llm", "mock", "--seeds", "2", "--evals", "3", "--workers", "1", "--out",
                                 str(tmp_path)) if arguments else ()))
    assert isinstance(done.exception, InputError | RunError), done.output
    assert says in str(done.exception)


def test_reading_runs_imports_no_torch(tmp_path):
    code = ("import sys; from llmnas.compare.of_runs import compare_runs; from llmnas.compare import page, words; "
            "import llmnas.cli.compare; sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DATA = os.environ.get("LLMNAS_DATA")


@pytest.mark.skipif(not DATA, reason="LLMNAS_DATA is not set: no published tables here")
def test_on_a_published_table(tmp_path):
    """On NAS-Bench-201 local search is better than random with 12 seeds and 60 rows; random is not than itself."""
    found = compare_on_table(Place(Path(DATA or ""), "nb201", "c10"), parse_arms("random,local_search,random"),
                             Terms("", 60), 12, tmp_path)
    assert [pair["verdict"] for pair in found["pairs"] if pair["measure"] == "test"] == ["better", "not decided"]
    assert all(0.9 < arm["measures"]["test"]["mean"] < 0.9438 for arm in found["arms"])


def test_bench_search_asks_the_mock(tables):
    """`bench search --strategy agent --llm mock`: the row says who answered and what it cost."""
    from llmnas.cli import bench

    app = typer.Typer()
    bench.register(app)
    app.command("other")(lambda: None)
    common = ("bench", "search", "--bench", "toy", "--data-dir", str(tables), "--strategy", "agent,random", "--evals",
              "8", "--seeds", "2", "--llm", "mock:5", "--workers", "1")
    rows = json.loads(CliRunner().invoke(app, [*common, "--json"]).stdout)["rows"]
    assert (rows[0]["model"], rows[0]["mock"], rows[0]["usd"]) == ("mock:5", True, 0.0)
    assert rows[0]["calls"] >= 4
    assert "model" not in rows[1]
    assert "this says nothing about language models" in CliRunner().invoke(app, common).stdout
