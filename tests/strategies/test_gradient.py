"""darts and one_shot: the contract, their options, the fit channel of the loop, and the two commands."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from llmnas.bench.meter import Terms, search_once
from llmnas.bench.tabular import Benchmark
from llmnas.errors import InputError
from llmnas.records import Settings
from llmnas.report.fits import agreement, history_rows, lines
from llmnas.report.show import summary, summary_json
from llmnas.space import load_space
from llmnas.store import fold, read_events
from llmnas.strategies import Setup, load_strategy
from llmnas.strategies.supernets import by_probability
from llmnas.testing.strategy import StrategyContract, context
from tests.search.loop import InstantEvaluator, open_search, toy_settings
from tests.supernet.tiny import Here, fit_here

SHAPE = (1, 8, 8)
DARTS = "darts:channels=2:epochs=1:guard=off"
ONE_SHOT = "one_shot:channels=2:epochs=2:population=6:generations=2:examples=32:recalibration=1"


def setup_on(space="nb201", shape=SHAPE, **settings):
    return Setup(space=load_space(space), settings=Settings(space=space, **settings), shape=shape, classes=10,
                 targets=("cpu",))


class Fitted(StrategyContract):
    """A fitted strategy; the seed of a play is that of its fit, as in a run."""

    strategy = DARTS

    def make(self, setup):
        setup = replace(setup, shape=SHAPE if len(setup.shape) == 3 else setup.shape)
        strategy = load_strategy(self.strategy)(setup)
        fit_here(strategy, setup.shape, setup.settings.seed)
        return strategy

    def play(self, setup, steps, seed=0, n=4):
        return super().play(replace(setup, settings=setup.settings.model_copy(update={"seed": seed})), steps, seed, n)


class TestDarts(Fitted):
    pass


class TestDartsConv1d(Fitted):
    space_name = "conv1d_cell"


class TestOneShot(Fitted):
    strategy = ONE_SHOT


class TestOneShotConv1d(TestOneShot):
    space_name = "conv1d_cell"


class Real(InstantEvaluator):
    """Trainings answer at once, fits are real."""

    def __init__(self, space, root):
        super().__init__(space)
        self.here = Here(SHAPE, root)

    def fit(self, *args):
        return self.here.fit(*args)


def searched(directory, name, *limits, evaluators=None):
    """Runs a search, stopped after each number of evaluations and resumed; returns its state."""
    for n, limit in enumerate(limits):
        evaluator = evaluators[n] if evaluators else Real(load_space("nb201"), directory)
        store, search = open_search(directory, toy_settings(strategy=name, budget_s=1e6), create=n == 0,
                                    evaluator=evaluator)
        search.interrupted = lambda state=store.state, limit=limit: state.spent.evaluations >= limit
        with store:
            search.run()
    return store.state


@pytest.mark.parametrize("name", [DARTS, ONE_SHOT])
def test_killed_and_resumed_is_the_same_search(name, tmp_path):
    """The fit is done once, is in the log before the first ask, and gives the same proposals after a resume."""
    second = Real(load_space("nb201"), tmp_path / "a")
    state = searched(tmp_path / "a", name, 2, 5, evaluators=[Real(load_space("nb201"), tmp_path / "a"), second])
    assert second.here.fits == []
    alone = searched(tmp_path / "b", name, 5)
    assert [trial.key for trial in state.trials] == [trial.key for trial in alone.trials]
    kinds = [event.body.kind for event in read_events(tmp_path / "b" / "events.jsonl")]
    assert kinds.index("checkpointed") < kinds.index("fitted") < kinds.index("asked")
    assert alone.spent.fit_s == len(alone.fits) > 0
    assert all(fit.nominal_s > 0 for fit in alone.fits.values())


def test_a_fit_that_was_killed_goes_on_from_its_checkpoint(tmp_path):
    """The last logged checkpoint is handed to the next process; one that is damaged is not, and the person is told."""
    from llmnas.fitting import FitEnded

    class Dying(Real):
        def fit(self, *args):
            handle = super().fit(*args)
            search.interrupted = lambda: True
            handle.future = type(handle.future)()  # never done
            return handle

    store, search = open_search(tmp_path / "a", toy_settings(strategy=DARTS, budget_s=1e6),
                                evaluator=Dying(load_space("nb201"), tmp_path / "a"))
    with store:
        assert search.run().reason == "interrupted"
        saved = store.state.checkpoints["supernet"].file
        assert "supernet" not in store.state.fits
        assert not store.state.trials
    again = Real(load_space("nb201"), tmp_path / "a")
    state = searched_on(tmp_path / "a", again)
    assert again.here.fits == [("supernet", "darts", saved)]
    assert state.trials[0].key == searched(tmp_path / "b", DARTS, 1).trials[0].key
    assert issubclass(FitEnded, Exception)


def searched_on(directory, evaluator):
    store, search = open_search(directory, toy_settings(strategy=DARTS, budget_s=1e6), create=False,
                                evaluator=evaluator)
    search.interrupted = lambda: store.state.spent.evaluations >= 1
    with store:
        search.run()
    return store.state


def test_a_damaged_checkpoint_is_not_used(tmp_path):
    from llmnas.fitting import Fitter

    searched(tmp_path / "a", DARTS, 1)
    store, search = open_search(tmp_path / "a", toy_settings(strategy=DARTS), create=False)
    with store:
        fitter = Fitter(search.journal, search.evaluator, 1.0, 1.0)
        file = store.state.checkpoints["supernet"].file
        assert fitter._checkpoint("supernet") == file
        (tmp_path / "a" / file).write_bytes(b"torn")
        assert fitter._checkpoint("supernet") is None
        assert "damaged" in store.state.warnings[-1]


@pytest.mark.parametrize("name", [DARTS, ONE_SHOT])
def test_a_fit_that_fails_ends_the_search_and_says_why(name, tmp_path):
    evaluator = Real(load_space("nb201"), tmp_path / "a")
    evaluator.here.fail = "diverged"
    store, search = open_search(tmp_path / "a", toy_settings(strategy=name), evaluator=evaluator)
    with store:
        stopped = search.run()
        assert (stopped.reason, store.state.trials) == ("fit_failed", [])
        assert "made to fail: diverged" in stopped.says
        assert store.state.fits["supernet"].failed == "diverged"
        assert any("diverged" in text for text in lines(store.state))


def test_shared_scores_have_a_name_of_their_own_and_are_checked(tmp_path):
    """`supernet` stands among the scores, beside the trained one; the report gives the agreement from three on."""
    state = searched(tmp_path / "a", ONE_SHOT, 6)
    scores = [trial.scores["supernet"] for trial in state.trials]
    assert scores == sorted(scores, reverse=True)
    assert all(trial.origin.operator == "supernet" for trial in (one.proposal for one in state.trials))
    found = agreement(state)
    assert found.n == len(state.scored) >= 3
    assert -1 <= found.spearman <= 1
    assert any("Kendall" in text for text in lines(state))
    assert len(history_rows(state)) == 3  # head, two epochs


def test_collapse_is_told(tmp_path):
    """What the guard saw is a warning in the log."""
    from llmnas.strategies.darts import _alarms

    found = {"cut": True, "epochs": 4, "planned": 9, "stopped": None, "skips": 5, "epoch": 4, "rises": [None, 1.7, 1.1]}
    told = list(_alarms(found, [("a", ())] * 6))
    assert ["4 of 9 epochs" in told[0], "collapsed: 5 of 6" in told[1], "first in epoch 2" in told[2]] == [True] * 3
    told = list(_alarms(found | {"stopped": "eigenvalue", "skips": 0, "cut": False, "epoch": 1}, [("a", ())] * 6))
    assert len(told) == 1
    assert "α is of epoch 1" in told[0]


def test_derived_first_then_drawn_ones():
    strategy = load_strategy(DARTS)(setup_on())
    fit_here(strategy, SHAPE)
    strategy.rows = [[0.0, 0.6, 0.1, 0.3, 0.0]] * 6
    first = strategy.ask(4, np.random.default_rng(0), context(0))
    assert [one.origin.operator for one in first] == ["derived"]
    assert {node.op for node in first[0].graph.nodes} == {"skip_connect", "add"}
    strategy.rows = [[0.9, 0.1, 0.0, 0.0, 0.0]] * 6  # none is the strongest, and never derived
    assert strategy.ask(1, np.random.default_rng(0), context(0))[0].graph.key() == first[0].graph.key()


def test_a_derived_architecture_that_is_illegal_is_marked(tmp_path):
    """conv1d_cell limits parameters: six convolutions of kernel 7 are over it."""
    strategy = load_strategy("darts:channels=2:epochs=1")(setup_on("conv1d_cell", (1, 40)))
    strategy.rows = [[0.1, 0.2, 0.6, 0.1]] * 6
    (found,) = strategy.ask(1, np.random.default_rng(0), context(0))
    assert found.origin.operator == "derived_legal"
    assert not strategy.setup.space.validate(found.graph)
    assert any("break a rule" in text for text in strategy._limits())


def test_by_probability_is_sorted_and_whole():
    rows = [[0.5, 0.3, 0.2], [0.0, 0.9, 0.1], [0.4, 0.6]]
    found = list(by_probability(rows))
    weights = [np.prod([row[n] for row, n in zip(rows, path, strict=True)]) for path in found]
    assert weights == pytest.approx(sorted(weights, reverse=True))
    assert len(found) == len(set(found)) == 3 * 2 * 2


def test_latency_costs_are_shares():
    """Each op's share of the dearest: slower ops cost more, in sum at most 1."""
    setup = replace(setup_on(), milliseconds=lambda graph: 1.0 + sum(
        {"nor_conv_3x3": 3.0, "nor_conv_1x1": 1.0}.get(node.op, 0.0) for node in graph.nodes))
    strategy = load_strategy("darts:latency=0.5")(setup)
    costs = strategy._costs()
    assert costs[0] == pytest.approx([0.0, 0.0, 1 / 18, 3 / 18, 0.0])
    assert sum(max(row) for row in costs) == pytest.approx(1.0)
    with pytest.raises(InputError, match="--target"):
        load_strategy("darts:latency=0.5")(setup_on())._costs()


@pytest.mark.parametrize(("name", "says"), [
    ("darts:ordr=2", "did you mean 'order'"), ("darts:order=3", "option order"),
    ("darts:order", "expected order=VALUE"),
    ("darts:order=2:paths=one", "use order=1"), ("darts:partial=0", "option partial"),
    ("one_shot:sampling=fare", "option sampling"), ("random:order=2", "takes no options"),
    ("drats:order=2", "unknown strategy")])
def test_options_that_do_not_fit(name, says):
    with pytest.raises(InputError, match=says):
        load_strategy(name)(setup_on())


def test_spaces_that_do_not_fit():
    with pytest.raises(InputError, match="has no supernet"):
        load_strategy("darts")(setup_on("convnet"))
    with pytest.raises(InputError, match="cannot be divided into 3"):
        load_strategy("darts:partial=3")(setup_on())
    load_strategy("one_shot")(setup_on("nbmacro", (3, 32, 32)))


def test_a_table_has_nothing_to_learn_from(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mine.csv").write_text("ops,c10_val200,c10_test200\n333333,90,90\n111111,50,50\n")
    import gzip

    (folder / "mine.csv.gz").write_bytes(gzip.compress((folder / "mine.csv").read_bytes()))
    with pytest.raises(InputError, match="bench gradient"):
        search_once(Benchmark(tmp_path, "mine"), Terms("darts", 5), 0)


def llmnas(*args, ok=True):
    done = subprocess.run([sys.executable, "-m", "llmnas", *map(str, args)], capture_output=True, text=True,
                          check=False, timeout=120)
    assert not ok or done.returncode == 0, done.stdout + done.stderr
    return done


def until(kind, *args):
    """Starts llmnas, and returns the process as soon as it has logged an event of a kind."""
    process = subprocess.Popen([sys.executable, "-m", "llmnas", *map(str, args), "--json"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    for line in process.stdout:
        if f'"kind":"{kind}"' in line.replace(" ", ""):
            return process
    raise AssertionError(f"ended with code {process.wait()} before any {kind}")


def test_a_run_that_is_killed_after_its_fit_goes_on(tmp_path):
    """In processes: fitted, killed, resumed: not fitted again, the derived cell is trained, the report has the fit."""
    run = tmp_path / "run"
    with until("fitted", "run", "--strategy", "darts:epochs=1:channels=2", "--space", "nb201", "--data", "digits",
               "--budget", "5min", "--out", run) as process:
        process.kill()
        process.stdout.close()
    with until("measured", "resume", run) as process:
        (run / "STOP").touch()
        process.stdout.read()
    events = list(read_events(run / "events.jsonl"))
    kinds = [event.body.kind for event in events]
    assert kinds.count("fitted") == kinds.count("resumed") == 1
    state = fold(events)
    shown = summary_json(state)
    assert shown["fits"]["supernet"]["result"]["epochs"] == 1
    assert shown["spent"]["fit_s"] > 0
    assert "epoch" in summary(state)
    assert state.trials[0].proposal.origin.operator == "derived"
    assert "Eigenvalue" in (run / "report.html").read_text()


def test_bench_gradient_gives_the_rank(tmp_path):
    """A table of three cells: the rank of what is derived, and the keys of the answer."""
    import gzip
    from itertools import islice

    from llmnas.space import Digits

    space, rng = load_space("nb201"), np.random.default_rng(0)
    cells = {Digits(space).digits(space.sample(rng)) for _ in range(50)}
    (tmp_path / "mine").mkdir()
    rows = "\n".join(f"{ops},{n},{n}" for n, ops in enumerate(islice(cells, 50)))
    (tmp_path / "mine" / "mine.csv.gz").write_bytes(gzip.compress(f"ops,c10_val200,c10_test200\n{rows}\n".encode()))
    found = json.loads(llmnas("bench", "gradient", "--data", "digits", "--space", "nb201", "--strategy",
                              "one_shot:channels=2:epochs=1:generations=1:population=4", "--seeds", "1", "--minutes",
                              "0.5", "--bench", "mine", "--data-dir", tmp_path, "--json").stdout)
    assert found["schema"] == "llmnas.bench.gradient/1"
    (row,) = found["rows"]
    assert row["failed"] is None
    assert row["epochs"] == 1
    assert len(row["proposals"]) == 4
    assert row["of"] == len(cells)
    assert set(row["agreement"]) == {"random", "all", "top"}
