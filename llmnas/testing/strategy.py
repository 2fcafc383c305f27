"""The contract of a `Strategy`, as a test class: subclass it and give `make`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from llmnas.records import Counts, Origin, Proposal, Settings, Trained, Trial
from llmnas.space import Space, load_space
from llmnas.strategies.base import Context, Setup, Strategy


def context(step: int, trials: Sequence[Trial] = ()) -> Context:
    """Returns the context of an ask with no model, no deadline and no log."""
    return Context(step=step, trials=tuple(trials), rules=(), deadline=float("inf"), emit=lambda body: body,
                   reply=lambda call: None, save=lambda record: "")


def measured(n: int, proposal: Proposal, score: float | None, space: Space) -> Trial:
    """Returns the trial of a valid proposal; trained when there is a score, else screened out."""
    graph = proposal.graph
    if graph is None or proposal.issues:
        return Trial(n=n, proposal=proposal, status="invalid")
    counts = space.network(graph).counts
    if score is None:
        return Trial(n=n, proposal=proposal, status="screened", key=graph.key(), counts=counts, rank=1)
    trained = Trained(metric="accuracy", val_score=score, val_loss=1 - score, epochs=1, seconds=1, seed=0)
    return Trial(n=n, proposal=proposal, status="trained", key=graph.key(), counts=counts, rank=1,
                 trained={"short": trained})


class StrategyContract:
    """What the loop relies on. Override `make`; every test then runs over the strategy.

    >>> class TestMine(StrategyContract):
    ...     def make(self, setup): return Mine(setup)
    """

    space_name = "nb201"

    def make(self, setup: Setup) -> Strategy:
        """Returns a fresh strategy."""
        raise AssertionError("override make")

    @pytest.fixture
    def setup_(self) -> Setup:
        """The space and settings the strategy is made from."""
        space = load_space(self.space_name)
        return Setup(space=space, settings=Settings(space=space.name), shape=space.spec.shape,
                     classes=space.spec.classes, targets=("cpu",),
                     task={"name": "toy", "shape": list(space.spec.shape), "classes": 10, "metric": "accuracy",
                           "sizes": {"train": 100, "val": 20, "test": 20}})

    def play(self, setup: Setup, steps: int, seed: int = 0) -> list[Trial]:
        """Plays some steps with scores that depend on the architecture alone; returns the trials."""
        strategy, trials = self.make(setup), list[Trial]()
        for step in range(steps):
            asked = strategy.ask(4, np.random.default_rng([seed, step]), context(step, trials))
            told = [measured(len(trials) + i + 1, one, _toy_score(one, i), setup.space)
                    for i, one in enumerate(asked)]
            trials += told
            strategy.tell(told)
        return trials

    def test_same_seed_same_proposals(self, setup_: Setup) -> None:
        """Two strategies with one seed and one history propose the same."""
        left, right = self.play(setup_, 6), self.play(setup_, 6)
        assert [trial.key for trial in left] == [trial.key for trial in right]

    def test_other_seed_other_proposals(self, setup_: Setup) -> None:
        """The seed matters."""
        assert [t.key for t in self.play(setup_, 4, 0)] != [t.key for t in self.play(setup_, 4, 1)]

    def test_never_more_than_asked(self, setup_: Setup) -> None:
        """An ask for n gives at most n."""
        strategy = self.make(setup_)
        for n in (1, 2, 7):
            assert len(strategy.ask(n, np.random.default_rng(n), context(0))) <= n

    def test_ask_changes_nothing(self, setup_: Setup) -> None:
        """Asking the same step again gives the same answer: a killed run asks again."""
        strategy = self.make(setup_)
        asked = [strategy.ask(4, np.random.default_rng(3), context(0)) for _ in range(2)]
        assert [one.graph for one in asked[0]] == [one.graph for one in asked[1]]

    def test_survives_everything_told(self, setup_: Setup) -> None:
        """Invalid, duplicate, failed and timed-out trials do not break it."""
        strategy = self.make(setup_)
        good = Proposal(graph=setup_.space.sample(np.random.default_rng(0)),
                        origin=Origin(strategy="test", operator="random", step=0))
        trials = [Trial(n=1, proposal=good.model_copy(update={"graph": None}), status="invalid")]
        for n, status in enumerate(("duplicate", "failed", "timeout", "screened"), start=2):
            trials.append(Trial.model_validate({
                "n": n, "proposal": good, "status": status, "key": good.graph.key() if good.graph else None,
                "counts": Counts(params=1, macs=1, memory_mb=1, layers=1)}))
        strategy.tell(trials)
        strategy.ask(2, np.random.default_rng(1), context(1, trials))

    def test_rebuilt_by_telling(self, setup_: Setup) -> None:
        """A strategy told the same history is the same strategy: resume is replay."""
        trials = self.play(setup_, 5)
        strategy = self.make(setup_)
        for trial in trials:
            strategy.tell([trial])
        again = strategy.ask(4, np.random.default_rng([0, 5]), context(5, trials))
        longer = self.play(setup_, 6)
        assert [one.graph for one in again] == [trial.proposal.graph for trial in longer[len(trials):]]

    def test_valid_proposals(self, setup_: Setup) -> None:
        """What code proposes is legal."""
        for trial in self.play(setup_, 4):
            graph = trial.proposal.graph
            assert trial.proposal.issues or (graph is not None and not setup_.space.validate(graph))


def _toy_score(proposal: Proposal, place: int) -> float | None:
    """A score in (0, 1) that depends on the graph alone; every fourth proposal is not trained."""
    if proposal.graph is None or proposal.issues or place % 4 == 3:
        return None
    return int(proposal.graph.key()[3:9], 16) / 2**24
