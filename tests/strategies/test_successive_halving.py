"""Successive halving: the rule, the loop's accounts of it, and searches on tables with learning curves."""

import json
from collections import defaultdict
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from llmnas.bench.importing import write_table
from llmnas.bench.meter import Terms, read_trace, search_once
from llmnas.bench.searching import bench_search, choose
from llmnas.bench.seeds import Place
from llmnas.bench.tabular import Benchmark
from llmnas.errors import InputError
from llmnas.front import choose as choose_trial
from llmnas.front import front
from llmnas.records import Settings
from llmnas.report.lines import words
from llmnas.report.show import trial_text
from llmnas.space import Digits, load_space
from llmnas.store import fold, read_events
from llmnas.strategies import Setup, load_strategy
from llmnas.strategies.base import promotion, proposal
from llmnas.strategies.successive_halving import SuccessiveHalving, levels
from llmnas.testing.strategy import context, measured, trained
from tests.search.loop import InstantEvaluator, open_search, toy_settings

NINTH, THIRD = levels(None)[:2]


def setup_on(space, shares=None):
    return Setup(space=space, settings=Settings(), shape=(1, 8, 8), classes=10, targets=("cpu",), shares=shares)


@pytest.mark.parametrize(("shares", "found"), [
    (None, (1 / 9, 1 / 3, 1.0)), ((0.06, 1.0), (0.06, 1.0)), ((0.25, 0.5, 0.75, 1.0), (0.25, 1.0)),
    ((0.01, 0.1, 0.3, 0.5, 1.0), (0.1, 0.3, 1.0)), ((0.5, 1.0), (1.0,)), ((1.0,), (1.0,))])
def test_levels_are_a_third_apart_at_least(shares, found):
    """Of what can be had the largest that keep the ratio, three at most."""
    assert levels(shares) == pytest.approx(found)


def test_whole_trainings_alone_are_refused():
    """Without scores after a part of a training the strategy says so."""
    with pytest.raises(InputError, match="after a part of a training"):
        SuccessiveHalving(setup_on(load_space("nb201"), (1.0,)))


def briefly(space, scores, share=NINTH):
    """Returns trials trained for a share, with these scores."""
    rng = np.random.default_rng(3)
    asked = [proposal("t", "random", 0, space.sample(rng)).model_copy(update={"share": share}) for _ in scores]
    return [measured(n, one, score, space) for n, (one, score) in enumerate(zip(asked, scores, strict=True), start=1)]


def ask(space, trials, n):
    strategy = SuccessiveHalving(setup_on(space))
    strategy.tell([trial for trial in trials if trial.status != "pending"])
    asked = strategy.ask(n, np.random.default_rng(0), context(1, trials))
    return [(one.promotes, one.share) for one in asked]


def test_the_best_third_is_promoted_and_the_largest_share_first():
    """ASHA's rule by hand: of seven results two go on; of three results after a third one goes to the end."""
    space = load_space("nb201")
    trials = briefly(space, [0.1, 0.7, 0.3, 0.9, 0.5, 0.6, 0.2])
    assert ask(space, trials, 2) == [(4, THIRD), (2, THIRD)]
    assert ask(space, trials[:2], 1) == [(None, NINTH)]
    assert ask(space, [trials[0].model_copy(update={"status": "failed", "partial": ()}), *trials[1:3]], 1) == [
        (None, NINTH)]
    strategy = SuccessiveHalving(setup_on(space))
    strategy.tell(trials[:3])
    half = [trials[0], trials[1].model_copy(update={"status": "pending"}), trials[2]]
    assert strategy.ask(1, np.random.default_rng(0), context(1, half))[0].promotes is None
    longer = [trained(one, score, THIRD) if score else one
              for one, score in zip(trials, (0, 0.4, 0, 0.3, 0, 0.8, 0), strict=True)]
    assert ask(space, longer, 1) == [(6, 1.0)]
    done = [trained(one, 0.5) if one.n == 6 else one for one in longer]
    assert ask(space, done, 1) == [(None, NINTH)]


def test_a_broken_constraint_is_never_promoted():
    """What breaks a constraint is no result."""
    space = load_space("nb201")
    trials = briefly(space, [0.9, 0.7, 0.3])
    assert ask(space, [trials[0].model_copy(update={"violates": ("slow",)}), *trials[1:]], 1) == [(None, NINTH)]


# -- in the loop


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns (folder, state, started) of a search of 8 evaluations."""
    folder = tmp_path_factory.mktemp("halving")
    settings = toy_settings(strategy="successive_halving", max_evals=8, budget_s=1e6)
    store, search = open_search(folder, settings, evaluator=InstantEvaluator(load_space("nb201"), fail=False))
    with store:
        search.run()
    return folder, store.state, search.evaluator.started


def test_what_is_charged_is_the_sum_of_the_shares(run):
    """Trainings cost their share, never more than may be spent, and about as much for each share."""
    _, state, started = run
    cost = defaultdict(float)
    for trial in state.trials:
        for one in (*trial.partial, *trial.trained.values()):
            cost[one.share] += one.share
    assert sum(cost.values()) == pytest.approx(state.spent.cost)
    assert state.spent.cost <= 8 < state.spent.cost + 1
    assert state.spent.trainings == len(started) > state.spent.evaluations == len(set(started))
    assert sorted(cost) == pytest.approx([1 / 9, 1 / 3, 1])
    assert all(2 < one < 4 for one in cost.values())


def test_the_log_gives_the_same_state(run):
    """Every result of every share is rebuilt, in the order the strategy was told."""
    folder, state, _ = run
    again = fold(read_events(folder / "events.jsonl"))
    assert again.trials == state.trials
    assert again.told == state.told
    assert again.spent == state.spent
    assert not again.pending
    assert not again.shares
    assert len({trial.n for trial in again.told}) < len(again.told)


def test_only_whole_trainings_compete(run):
    """The best, the front and the choice have seen every epoch; a brief score is no search score."""
    _, state, _ = run
    whole = {trial.n for trial in state.trials if "short" in trial.trained}
    assert {trial.n for trial in state.trained()} == whole
    assert state.best is not None
    assert {state.best.n, *(trial.n for trial in front(state.trials, None))} <= whole
    assert choose_trial(state.trials, state.settings, None)[0].n in whole
    brief = next(trial for trial in state.trials if trial.partial and not trial.trained)
    assert brief.score is None
    assert brief.best_rung.share == brief.share < 1


def test_without_a_whole_training_the_longest_compete():
    """A lower score after more epochs goes before a higher one after fewer, and the reason names the share."""
    space = load_space("nb201")
    trials = briefly(space, [0.9, 0.2, 0.3])
    trials[1:] = [trained(trials[1], 0.4, THIRD), trained(trials[2], 0.5, THIRD)]
    chosen, why = choose_trial(trials, Settings(), None)
    assert chosen.n == 3
    assert "after 1/3 of a short training" in why


def test_the_views_name_the_share(run):
    """Lines and the page of a trial say after what part of a training a score was taken."""
    folder, state, _ = run
    said = "\n".join(words(event, fold([])) if event.body.kind == "told" else words(event, state)
                     for event in read_events(folder / "events.jsonl") if event.body.kind in ("told", "measured"))
    assert "(for 1/9)" in said
    assert "1/3 of a short training, accuracy" in said
    promoted = next(trial for trial in state.trials if "short" in trial.trained)
    assert "1/9 of short" in trial_text(state, promoted.n)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_anywhere_the_run_is_the_same(tmp_path, workers):
    """Promotions under way survive a kill after any event; failed trainings are in it."""
    settings = toy_settings(strategy="successive_halving", max_evals=3, budget_s=1e6, workers=workers)
    store, search = open_search(tmp_path / "whole", settings)
    with store:
        search.run()
    lines = (tmp_path / "whole" / "events.jsonl").read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines) - 1, 1 if workers == 1 else 5):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        (folder / "events.jsonl").write_bytes(b"".join(lines[:cut]))
        again, search = open_search(folder, settings, create=False)
        with again:
            search.run()
        assert again.state.spent.cost <= 3
        if workers == 1:
            assert [t.model_dump() for t in again.state.trials] == [t.model_dump() for t in store.state.trials], cut
            assert again.state.best == store.state.best


class Promoter:
    """Promotes what it is told to."""

    name, waits = "promoter", False

    def __init__(self, n, share):
        self.n, self.share = n, share

    def ask(self, n, rng, ctx):
        if not ctx.trials:
            return [proposal("promoter", "random", 0, load_space("nb201").sample(rng))]
        return [promotion("promoter", ctx.step, ctx.trials[0], self.share).model_copy(update={"promotes": self.n})]

    def tell(self, trials):
        pass


@pytest.mark.parametrize(("n", "says"), [(1, "with a share of 1"), (7, "no such trial"), (0, "no such trial")])
def test_a_promotion_that_makes_no_sense_is_an_error(tmp_path, n, says):
    """A trial that is not there or has seen as much cannot be promoted; the error says what was expected."""
    store, search = open_search(tmp_path, toy_settings(), strategy=Promoter(n, 1.0))
    with store, pytest.raises(InputError, match=says):
        search.run()


# -- on tables


def table(root, continued, columns=("val_25", "val_50", "val_75")):
    """Writes a table of NAS-Bench-201 cells with learning curves; brief scores are noisier."""
    (root / "curves").mkdir(exist_ok=True)
    digits, rng = Digits(load_space("nb201")), np.random.default_rng(0)
    cells = sorted({digits.digits(load_space("nb201").sample(rng)) for _ in range(1500)})
    rows = []
    for index, ops in enumerate(cells):
        good = 50 + 40 * rng.random()
        rows.append({"index": str(index), "ops": ops, "c10_val200": f"{good:.4f}", "c10_test200": f"{good:.4f}", **{
            column: f"{good * (0.7 + int(column[4:]) / 400) + rng.normal() * 2:.4f}" for column in columns}})
    write_table(root / "curves" / "curves.csv.gz", rows)
    said = {"partial": {"0.25": "val_25", "0.5": "val_50", "0.75": "val_75"}, "continued": continued}
    (root / "curves" / "bench.json").write_text(json.dumps(said))
    return Benchmark(root, "curves")


@pytest.mark.parametrize("continued", [True, False])
def test_every_figure_follows_from_the_trace(tmp_path, continued):
    """Shares and costs stand in the trace: what goes on pays the rest, what begins anew pays the whole."""
    bench = table(tmp_path, continued)
    assert bench.shares == (0.25, 0.5, 0.75, 1.0)
    with (tmp_path / "trace.jsonl").open("w") as file:
        outcome = search_once(bench, Terms("successive_halving", 20), 0, file)
    paid = [line for line in read_trace(tmp_path / "trace.jsonl") if line["charged"]]
    assert sum(line.get("cost", 1.0) for line in paid) == pytest.approx(outcome.cost)
    assert 19 < outcome.cost <= 20
    assert outcome.charged == [line["ops"] for line in paid if line.get("share", 1.0) == 1]
    assert outcome.brief == [(line["ops"], line["share"]) for line in paid if line.get("share", 1.0) < 1]
    assert {line["share"]: line["cost"] for line in paid if "cost" in line} == (
        {0.25: 0.25, 1.0: 0.75} if continued else {0.25: 0.25})
    assert {name for name, _ in outcome.brief} > set(outcome.charged)


def test_halving_beats_random_where_brief_scores_tell(tmp_path):
    """At an equal cost of training it finds better rows than independent draws, over six seeds."""
    table(tmp_path, True)
    rows = bench_search([Place(tmp_path, "curves", "c10")], ["random", "successive_halving"], Terms("", 24), 6)["rows"]
    random, halving = rows
    assert halving["cost"] <= random["cost"] == 24
    assert halving["regret_mean"] < 0.6 * random["regret_mean"]


def test_a_row_trained_in_part_never_shows_its_whole_score(tmp_path, monkeypatch):
    """The whole score is asked for those that paid for it alone; without any, the longest part decides."""
    bench = table(tmp_path, True)
    asked, real = [], bench.validation

    def validation(name, share=1.0):
        asked.append((name, share))
        return real(name, share)

    monkeypatch.setattr(bench, "validation", validation)
    outcome = search_once(bench, Terms("successive_halving", 6), 0)
    chosen = choose(bench, outcome)
    assert {name for name, share in asked if share == 1} == set(outcome.charged)
    assert chosen == max(outcome.charged, key=real)
    outcome.charged.clear()
    assert choose(bench, outcome) == max((name for name, _ in outcome.brief), key=lambda name: real(name, 0.25))


def test_tables_without_curves_are_refused(tmp_path):
    """A table of final scores only, a share it has not, and a wrong bench.json give one clear error each."""
    bench = table(tmp_path, True, columns=())
    assert bench.shares == (1.0,)
    with pytest.raises(InputError, match="only those of whole ones"):
        search_once(bench, Terms("successive_halving", 5), 0)
    with pytest.raises(InputError, match=r"no scores after 0\.25"):
        bench.validation(bench.competitors[0], 0.25)
    (tmp_path / "curves" / "bench.json").write_text('{"partial": {"2": "x"}}')
    with pytest.raises(InputError, match="shares between 0 and 1"):
        Benchmark(tmp_path, "curves")


def test_full_strategies_do_not_change_on_a_table_with_curves(tmp_path):
    """Whoever asks for whole trainings pays one evaluation a row, as before."""
    bench = table(tmp_path, True)
    outcome = search_once(bench, Terms("evolution", 15), 1)
    assert (len(outcome.charged), outcome.cost, outcome.brief) == (15, 15.0, [])
    assert fmean(map(bench.validation, outcome.charged)) > 50


def test_proposals_are_new_and_few(tmp_path):
    """A batch is cut to a third: screening is meant for whole trainings, and a brief one is not worth as much."""
    space = load_space("nb201")
    strategy = load_strategy("successive_halving")(replace(setup_on(space)))
    asked = strategy.ask(9, np.random.default_rng(0), context(0))
    assert len(asked) == 3
    assert len({one.graph.key() for one in asked}) == 3
    assert {one.share for one in asked} == {NINTH}
