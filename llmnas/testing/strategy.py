"""The contract of a `Strategy`, as a test class: subclass it and give `make`.

    class TestMine(StrategyContract):
        def make(self, setup):
            return Mine(setup)

Set `space_name` to try it on another space. See docs/plugins.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
    """Returns the trial of a valid proposal; trained for its share when there is a score, else screened out."""
    graph = proposal.graph
    if graph is None or proposal.issues:
        return Trial(n=n, proposal=proposal, status="invalid")
    counts = space.network(graph).counts
    if score is None:
        return Trial(n=n, proposal=proposal, status="screened", key=graph.key(), counts=counts, rank=1)
    return trained(Trial(n=n, proposal=proposal, status="pending", key=graph.key(), counts=counts, rank=1), score,
                   proposal.share)


def trained(trial: Trial, score: float, share: float = 1.0) -> Trial:
    """Returns a trial with the result of a further short training, at a share of its epochs."""
    found = Trained(metric="accuracy", val_score=score, val_loss=1 - score, epochs=share, seconds=1, seed=0,
                    share=share)
    return trial.model_copy(update={"status": "trained", **(
        {"trained": {"short": found}} if share == 1 else {"partial": (*trial.partial, found)})})


@dataclass
class Play:
    """Some steps of a search without machines.

    Attributes:
        trials: Every trial as it is now, in order.
        told: What the strategy was told, in order and as it was then.
        asked: What it answered, by step.
        marks: How much it had been told of before each step.
    """

    trials: list[Trial] = field(default_factory=list)
    told: list[Trial] = field(default_factory=list)
    asked: list[list[Proposal]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)


class StrategyContract:
    """What the loop relies on. Override `make`; every test then runs over the strategy."""

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

    def play(self, setup: Setup, steps: int, seed: int = 0, n: int = 4) -> Play:
        """Plays some steps with scores that depend on the architecture and the share alone.

        Of the new proposals of a step the fourth is screened out, fails or runs into its deadline, in turn.
        """
        settings = setup.settings.model_copy(update={"seed": seed})
        strategy, play = self.make(replace(setup, settings=settings)), Play()
        for step in range(steps):
            asked = strategy.ask(n, np.random.default_rng([seed, step]), context(step, play.trials))
            told = _outcomes(asked, play.trials, setup.space)
            for trial in told:
                play.trials[trial.n - 1:trial.n] = [trial]
            play.asked.append(list(asked))
            play.marks.append(len(play.told))
            play.told += told
            strategy.tell(told)
        return play

    def test_same_seed_same_proposals(self, setup_: Setup) -> None:
        """Two strategies with one seed and one history propose the same."""
        left, right = self.play(setup_, 5), self.play(setup_, 5)
        assert _graphs(left.asked) == _graphs(right.asked)

    def test_other_seed_other_proposals(self, setup_: Setup) -> None:
        """The seed matters."""
        assert _graphs(self.play(setup_, 4, 0).asked) != _graphs(self.play(setup_, 4, 1).asked)

    def test_never_more_than_asked(self, setup_: Setup) -> None:
        """An ask for n gives at most n, at first and later."""
        for n in (1, 7):
            assert all(len(asked) <= n for asked in self.play(setup_, 3, n=n).asked)

    def test_ask_changes_nothing(self, setup_: Setup) -> None:
        """Asking the same step again gives the same answer: a killed run asks again."""
        strategy = self.make(setup_)
        asked = [strategy.ask(4, np.random.default_rng(3), context(0)) for _ in range(2)]
        assert _graphs(asked[:1]) == _graphs(asked[1:])

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

    def test_asks_while_trainings_are_under_way(self, setup_: Setup) -> None:
        """With several workers it is asked before it was told of everything; nothing pending is trained again."""
        trials = self.play(setup_, 3).trials
        half = [trial.model_copy(update={"status": "pending", "trained": {}, "partial": ()}) if trial.n % 2 else trial
                for trial in trials]
        strategy = self.make(setup_)
        strategy.tell([trial for trial in half if trial.status != "pending"])
        asked = strategy.ask(3, np.random.default_rng(5), context(5, half))
        assert len(asked) <= 3
        assert all(half[one.promotes - 1].status in {"trained", "screened"} for one in asked
                   if one.promotes is not None)

    def test_rebuilt_by_telling(self, setup_: Setup) -> None:
        """At every step a strategy told the same history is the same strategy: resume is replay."""
        play = self.play(setup_, 5)
        for step, mark in enumerate(play.marks):
            strategy, known = self.make(setup_), list[Trial]()
            for trial in play.told[:mark]:
                known[trial.n - 1:trial.n] = [trial]
                strategy.tell([trial])
            again = strategy.ask(4, np.random.default_rng([0, step]), context(step, known))
            assert _graphs([again]) == _graphs([play.asked[step]])

    def test_valid_proposals(self, setup_: Setup) -> None:
        """What code proposes is legal; what is promoted was screened or trained, and for less."""
        for asked in self.play(setup_, 4).asked:
            for one in asked:
                assert one.issues or (one.graph is not None and not setup_.space.validate(one.graph))


def _graphs(asked: Sequence[Sequence[Proposal]]) -> list[tuple[object, ...]]:
    return [(one.graph, one.share, one.promotes) for answer in asked for one in answer]


def _outcomes(asked: Sequence[Proposal], trials: Sequence[Trial], space: Space) -> list[Trial]:
    """Returns what becomes of the proposals of a step."""
    found, n = list[Trial](), len(trials)
    for place, one in enumerate(asked):
        if one.promotes is not None:
            before = trials[one.promotes - 1]
            assert before.status in {"trained", "screened"}
            assert before.share < one.share
            found.append(trained(before, _toy_score(one), one.share))
            continue
        n += 1
        if one.share == 0:
            found.append(measured(n, one, None, space))
            continue
        trial = measured(n, one, None if place % 4 == 3 else _toy_score(one), space)
        ends = ("screened", "failed", "timeout")
        found.append(trial if trial.status != "screened" else trial.model_copy(update={"status": ends[n % 3]}))
    return found


def _toy_score(proposal: Proposal) -> float:
    """A score in (0, 1) that depends on the graph alone, and a little on the share."""
    if proposal.graph is None or proposal.issues:
        return 0.0
    return (int(proposal.graph.key()[3:9], 16) / 2**24) * (0.9 + 0.1 * proposal.share)
