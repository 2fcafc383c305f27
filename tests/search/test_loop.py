"""The loop: limits, stop reasons, accounting, and equality after a kill at any event."""

import threading

import pytest

from llmnas.records import Energy, Latency, Origin, Proposal
from llmnas.search import STALL
from llmnas.space import load_space
from llmnas.store import fold, read_events
from tests.search.loop import InstantEvaluator, Time, open_search, toy_settings


def play(directory, **options):
    store, search = open_search(directory, toy_settings(**options))
    with store:
        stopped = search.run()
    return store, stopped, search


@pytest.mark.parametrize("strategy", ["random", "evolution", "prior"])
def test_max_evals_is_exact(tmp_path, strategy):
    """The search trains exactly as many architectures as it may, and says why it ended."""
    store, stopped, _ = play(tmp_path, strategy=strategy, max_evals=7)
    assert stopped.reason == "max_evals"
    assert store.state.spent.evaluations == store.state.spent.trainings == 7


def test_time_ends_the_search(tmp_path):
    """The search ends when its share of the budget is used, with what later steps need kept free."""
    time = Time()
    settings = toy_settings()
    evaluator = InstantEvaluator(load_space("nb201"), time.pass_)
    store, search = open_search(tmp_path, settings, time=time, evaluator=evaluator)
    with store:
        assert search.run().reason == "budget"
    assert 60 <= time.now <= 66


def test_patience(tmp_path):
    """Trainings in a row without a better score end the search when there is patience to lose."""
    store, stopped, _ = play(tmp_path, patience=5, budget_s=1000)
    assert stopped.reason == "patience"
    assert store.state.since_best == 5


def test_stop_file(tmp_path):
    """A file STOP in the run directory ends the search."""
    store, search = open_search(tmp_path, toy_settings())
    (tmp_path / "STOP").touch()
    with store:
        assert search.run().reason == "stop_file"


def test_exhausted_strategy(tmp_path):
    """A strategy with nothing left ends the search truthfully."""
    assert play(tmp_path, strategy="prior", budget_s=10_000)[1].reason == "space_exhausted"


class Broken:
    """Proposes nothing but faults."""

    name, waits = "broken", False

    def ask(self, n, rng, ctx):
        return [Proposal(raw="x", graph=None, origin=Origin(strategy="broken", operator="x", step=ctx.step))] * n

    def tell(self, trials):
        pass


def test_faults_never_loop_for_ever(tmp_path):
    """A strategy that only proposes faults stalls; every fault is a trial and is charged."""
    store, search = open_search(tmp_path, toy_settings(), strategy=Broken())
    with store:
        assert search.run().reason == "stalled"
    assert store.state.spent.invalid == store.state.spent.proposals >= STALL
    assert not store.state.spent.trainings


def test_duplicates_are_trials(tmp_path):
    """A known function is a duplicate trial that names the first one and is not trained again."""
    store, _, search = play(tmp_path, max_evals=40, budget_s=1000)
    duplicates = [trial for trial in store.state.trials if trial.status == "duplicate"]
    assert duplicates
    for trial in duplicates:
        assert store.state.trial(trial.duplicate_of).key == trial.key
    assert len(set(search.evaluator.started)) == len(search.evaluator.started)


def test_constraints_keep_proposals_from_training(tmp_path):
    """What breaks a constraint is screened, with the words, and not trained."""
    space = load_space("nb201")

    class Tight(InstantEvaluator):
        def screen(self, graphs, scored, limit_s):
            return [one.model_copy(update={"violates": ("too big",) if one.counts.params > 400_000 else ()})
                    for one in super().screen(graphs, scored, limit_s)]

    time = Time()
    store, search = open_search(tmp_path, toy_settings(max_evals=8), time=time, evaluator=Tight(space, time.pass_))
    with store:
        search.run()
    trained = [trial for trial in store.state.trials if trial.trained]
    assert trained
    assert all(trial.counts.params <= 400_000 for trial in trained)


def test_a_free_worker_goes_on_before_another_end_is_taken_in(tmp_path):
    """Trainings that end together are taken in one by one, so that a run and its replay have the same under way."""
    space, seen = load_space("nb201"), []

    class Noted(InstantEvaluator):
        def start(self, trial, rung, limit_s, share=1.0):
            seen.append(("start", trial.n))
            training = super().start(trial, rung, limit_s, share)
            result = training.result
            training.result = lambda: seen.append(("end", trial.n)) or result()
            return training

    mine = [Proposal(graph=graph, raw=None, origin=Origin(strategy="person", operator="start", step=0))
            for graph in space.prior()[:4]]
    store, search = open_search(tmp_path, toy_settings(workers=2, max_evals=4), evaluator=Noted(space), start=mine)
    with store:
        search.run()
    one, two, three, four = search.evaluator.started
    assert seen[:6] == [("start", one), ("start", two), ("end", one), ("start", three), ("end", two), ("start", four)]


def test_failed_trainings_are_data(tmp_path):
    """A training that fails is a trial with a note; the search goes on."""
    store, _, _ = play(tmp_path, max_evals=30, budget_s=1000)
    failed = [trial for trial in store.state.trials if trial.status == "failed"]
    assert failed
    assert all(trial.note == "diverged" and trial.score is None for trial in failed)


@pytest.mark.parametrize("strategy", ["random", "evolution"])
def test_killed_anywhere_the_run_is_the_same(tmp_path, strategy):
    """Whatever event a run is killed after, resuming it gives the same trials and the same best."""
    whole, _, _ = play(tmp_path / "whole", strategy=strategy, max_evals=9, budget_s=1000)
    lines = (tmp_path / "whole" / "events.jsonl").read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines) - 1):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        torn = lines[cut][: len(lines[cut]) // 2]
        (folder / "events.jsonl").write_bytes(b"".join(lines[:cut]) + torn)
        store, search = open_search(folder, toy_settings(strategy=strategy, max_evals=9, budget_s=1000), create=False)
        with store:
            search.run()
        assert [t.model_dump() for t in store.state.trials] == [t.model_dump() for t in whole.state.trials], cut
        assert store.state.best == whole.state.best


def test_every_prefix_folds(tmp_path):
    """Any prefix of a log is a state, and counters only grow."""
    play(tmp_path, max_evals=12, budget_s=1000)
    events = list(read_events(tmp_path / "events.jsonl"))
    sizes = [len(fold(events[:k]).trials) for k in range(len(events) + 1)]
    assert sizes == sorted(sizes)


def test_start_graphs_come_first(tmp_path):
    """A person's own graphs are measured before the strategy is asked, all of them."""
    space = load_space("nb201")
    own = [Proposal(graph=graph, origin=Origin(strategy="person", operator="start", step=0))
           for graph in space.prior()[:3]]
    store, search = open_search(tmp_path, toy_settings(strategy="none"), start=own)
    with store:
        assert search.run().reason == "space_exhausted"
    assert [trial.status for trial in store.state.trials] == ["trained"] * 3


def test_energy_reaches_the_trial(tmp_path):
    """Latency and energy of a screened proposal are in the log, by target key."""
    space = load_space("nb201")
    timed = Latency(ms=2.0, low=1.0, high=4.0, device="t4", source="analytic")
    used = Energy(mj=9.0, low=3.0, high=20.0, device="t4", source="prior")

    class Metered(InstantEvaluator):
        def screen(self, graphs, scored, limit_s):
            return [one.model_copy(update={"latency": {"t4": timed}, "energy": {"t4": used}})
                    for one in super().screen(graphs, scored, limit_s)]

    store, search = open_search(tmp_path, toy_settings(max_evals=2), evaluator=Metered(space))
    with store:
        search.run()
    state = fold(read_events(tmp_path / "events.jsonl"))
    screened = [trial for trial in state.trials if trial.counts]
    assert screened
    assert all((trial.latency, trial.energy) == ({"t4": timed}, {"t4": used}) for trial in screened)


class Slow(Broken):
    """Answers never, as a server can."""

    waits = True

    def __init__(self, time):
        self.time, self.asked = time, threading.Event()

    def ask(self, n, rng, ctx):
        self.asked.set()
        threading.Event().wait(60)


def test_an_answer_that_never_comes_is_dropped_at_the_deadline(tmp_path):
    """A model that never answers does not hold the loop: the search ends with its time, truthfully."""
    time = Time()
    slow = Slow(time)
    store, search = open_search(tmp_path, toy_settings(), time=time, strategy=slow)
    search.journal.tick = lambda activity: time.pass_(30)
    with store:
        assert search.run().reason == "budget"
    assert slow.asked.is_set()


def test_known_good_designs_stand_in_when_nothing_was_proposed(tmp_path):
    """A run whose model never answered in time has candidates for its final training all the same, marked as such."""
    time = Time()
    store, search = open_search(tmp_path, toy_settings(), time=time, strategy=Slow(time))
    search.journal.tick = lambda activity: time.pass_(30)
    with store:
        search.run()
    ranked = [trial for trial in store.state.trials if trial.rank is not None]
    assert {trial.proposal.origin.operator for trial in ranked} == {"stand_in"}
    assert not store.state.pending
    assert any("stand in" in warning for warning in store.state.warnings)
