"""Proposals that are screened and wait for their promotion (share 0)."""

import numpy as np
import pytest

from llmnas.errors import InputError
from llmnas.space import load_space
from llmnas.store import RunStore
from llmnas.strategies.base import promotion, proposal
from tests.search.loop import InstantEvaluator, open_search, toy_settings

SPACE = load_space("nb201")


class Patient:
    """Has three designs screened in every ask, and trains the first that waits."""

    name, waits = "patient", False

    def __init__(self):
        self.heard = []

    def ask(self, n, rng, ctx):
        waiting = [trial for trial in ctx.trials if trial.status == "screened" and not trial.violates]
        return [*(promotion(self.name, ctx.step, trial, 1.0) for trial in waiting[:1]),
                *(proposal(self.name, "random", ctx.step, SPACE.sample(rng)).model_copy(update={"share": 0.0})
                  for _ in range(3))]

    def tell(self, trials):
        self.heard += [(trial.n, trial.status) for trial in trials]


def search_with(folder, strategy, **settings):
    return open_search(folder, toy_settings(budget_s=1e6, **settings), strategy=strategy,
                       evaluator=InstantEvaluator(SPACE, fail=False))


def test_nothing_is_trained_before_it_is_promoted(tmp_path):
    """Three trainings in four asks: the first trials, in order; each is charged once, and counts as an evaluation."""
    strategy = Patient()
    store, search = search_with(tmp_path, strategy, max_evals=3)
    with store:
        search.run()
    state = store.state
    assert search.evaluator.started == [1, 2, 3]
    assert (state.spent.evaluations, state.spent.cost, state.spent.trainings) == (3, 3, 3)
    assert state.told_step == 3
    assert {trial.status for trial in state.trials[3:]} <= {"screened", "duplicate"}
    assert [one for one in strategy.heard if one[0] == 1] == [(1, "screened"), (1, "trained")]


def test_the_log_rebuilds_it(tmp_path):
    """A strategy that is told the log heard what the first one heard."""
    strategy = Patient()
    store, search = search_with(tmp_path, strategy, max_evals=3)
    with store:
        search.run()
    with RunStore(tmp_path, create=False) as again:
        assert [(trial.n, trial.status) for trial in again.state.told] == strategy.heard
        assert again.state.spent == store.state.spent


class Refused(Patient):
    """Promotes what breaks a limit."""

    def ask(self, n, rng, ctx):
        if not ctx.trials:
            return super().ask(n, rng, ctx)
        return [promotion(self.name, ctx.step, ctx.trials[0], 1.0)]


def test_what_breaks_a_limit_stays_untrained(tmp_path):
    """Its promotion is an error of the strategy, and says what can be promoted."""
    store, search = search_with(tmp_path, Refused(), max_params=1)
    with store, pytest.raises(InputError, match="promotes trial 1") as error:
        search.run()
    assert "keep the limits" in error.value.hint


def test_nothing_of_share_0_is_promoted_to_share_0(tmp_path):
    """A promotion asks for some training."""

    class Zero(Patient):
        def ask(self, n, rng, ctx):
            made = super().ask(n, np.random.default_rng(0), ctx)
            return [one.model_copy(update={"share": 0.0}) for one in made]

    store, search = search_with(tmp_path, Zero())
    with store, pytest.raises(InputError, match="promotes trial 1"):
        search.run()
