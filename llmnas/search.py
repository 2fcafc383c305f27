"""The loop: ask, check, screen, train, tell. It drives every strategy and every evaluator.

It owns the clock, the disk, the random generator and the budget; strategies and evaluators own none of them. Nothing
concrete is imported here: strategies come by name (`llmnas.strategies.load_strategy`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np

from llmnas.budget import Clock
from llmnas.errors import InputError, ModelError
from llmnas.evaluate.base import Evaluator, Running, Screened
from llmnas.fitting import LIMIT, SHARE, FitEnded, Fitter
from llmnas.front import front
from llmnas.graph import ArchGraph
from llmnas.records import (
    Asked,
    Body,
    Candidate,
    Event,
    Measured,
    Plan,
    Pooled,
    Proposal,
    Rung,
    Settings,
    Stopped,
    StopReason,
    Told,
    Trial,
    Warned,
)
from llmnas.space import Space
from llmnas.store import MemoryStore, RunState, RunStore
from llmnas.strategies.base import Context, FitFailed, Fits, Strategy

STALL: Final = 200
"""Proposals in a row that bring nothing new after which the search ends: no loop may run for ever on duplicates."""
TICK_S: Final = 0.2
ROUNDING: Final = 1e-9
"""Evaluations: nine trainings of a ninth are one."""


class Observer(Protocol):
    """Looks on: it is told everything and decides nothing."""

    def event(self, event: Event, state: RunState) -> None:
        """Is told an event that is on disk."""

    def tick(self, state: RunState, clock_s: float, activity: str) -> None:
        """Is told a few times a second what is going on."""


@dataclass
class Journal:
    """Puts events on disk, then tells the observer. Safe to use from several threads.

    Attributes:
        store: The run.
        clock: The run's clock.
        observer: Who looks on.
    """

    store: RunStore | MemoryStore
    clock: Clock
    observer: Observer
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def state(self) -> RunState:
        """The state so far."""
        return self.store.state

    def emit(self, body: Body) -> Event:
        """Writes an event and returns it."""
        with self._lock:
            event = self.store.emit(body, self.clock.t())
            self.observer.event(event, self.store.state)
            return event

    def tick(self, activity: str) -> None:
        """Tells the observer what is going on."""
        with self._lock:
            self.observer.tick(self.store.state, self.clock.t(), activity)


@dataclass
class Purse:
    """What one ask may spend, in evaluations.

    Attributes:
        left: None without a limit.
        spent: So far.
        short: Whether something did not fit any more.
    """

    left: float | None
    spent: float = 0.0
    short: bool = False

    def pays(self, cost: float) -> bool:
        """Spends `cost` if that much is left; returns whether it was."""
        if self.left is not None and self.spent + cost > self.left + ROUNDING:
            self.short = True
            return False
        self.spent += cost
        return True


_STAND_IN: Final = .1  # of the final training's time, for screening designs that stand in


@dataclass(frozen=True)
class Model:
    """How an ask reaches its logged model calls; see `Context`."""

    reply: Callable[[str], Any | None] = lambda _: None
    save: Callable[[Any], str] = lambda _: ""


class Search:
    """One search, new or resumed: the journal's state says how far it is.

    Args:
        journal: The run.
        space: The search space.
        shape: Shape of one example.
        classes: Number of classes.
        strategy: Proposes.
        evaluator: Measures.
        start: Proposals of the person's own, measured before the strategy is asked.
        model: Access to logged model calls.
        interrupted: Says whether the person wants to stop.
        identity: What makes two proposals one, by a name; None when it is like no other. By default the function that
            is computed; a published table has rows of its own for some that are equal.
    """

    def __init__(self, journal: Journal, space: Space, shape: tuple[int, ...], classes: int, strategy: Strategy,
                 evaluator: Evaluator, start: Sequence[Proposal] = (), model: Model | None = None,
                 interrupted: Callable[[], bool] = lambda: False,
                 identity: Callable[[ArchGraph], str | None] = ArchGraph.key) -> None:
        self.journal, self.space, self.shape, self.classes = journal, space, shape, classes
        self.strategy, self.evaluator, self.start = strategy, evaluator, tuple(start)
        self.model, self.interrupted = model or Model(), interrupted
        self.running: list[Running] = []
        self._dry = False
        self._failed: ModelError | None = None
        self._unfit: FitFailed | None = None
        directory = journal.store.directory
        self._stop_file = None if directory is None else directory / "STOP"
        self.identity = identity
        self._first = self._known()

    @property
    def state(self) -> RunState:
        """The state so far."""
        return self.journal.state

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.state.settings

    @property
    def plan(self) -> Plan:
        """How the budget is divided."""
        return self.state.plan

    @property
    def end(self) -> float:
        """When the search must end, on the run's clock: what later steps need is kept free."""
        return self.settings.budget_s - self.plan.wrap_s - self.plan.final_s - self.plan.full_s

    # -- the loop

    def run(self) -> Stopped:
        """Searches until something ends it; returns the true reason, which is on disk by then."""
        self.strategy.tell(list(self.state.told))
        try:
            self._fit()
            while (reason := self._over()) is None:
                self._turn()
        finally:
            self._end_running()
        if reason[0] == "budget" and all(trial.rank is None for trial in self.state.trials):
            self._stand_in()
        stopped = Stopped(reason=reason[0], says=reason[1])
        self.journal.emit(stopped)
        return stopped

    def _turn(self) -> None:
        if not self._free():
            self._collect()
        elif waiting := self._waiting():
            self._train(waiting[0])
        elif not self._spent_up():
            self._ask()
        else:
            self._collect()

    def _free(self) -> bool:
        """Returns whether another training may run beside those that do."""
        return len(self.running) < self.settings.workers

    def _waiting(self) -> list[int]:
        """Returns the numbers of the trials whose training is due and not under way, in order."""
        busy = {running.n for running in self.running}
        return [n for n in self.state.pending if n not in busy]

    def _over(self) -> tuple[StopReason, str] | None:
        """Returns why the search is over, or None. Limits on work wait for what is under way; time does not."""
        state, settings = self.state, self.settings
        if self.interrupted():
            return "interrupted", "interrupted by the person"
        if self._told_to_stop():
            return "stop_file", "a file STOP appeared in the run directory"
        if self.journal.clock.t() >= self.end - (0.0 if self.running else self._too_short()):
            return "budget", f"the search's share of the budget is used: {self.end:.0f} s"
        if self._failed is not None:
            return "llm_failed", str(self._failed)
        if self._unfit is not None:
            return "fit_failed", f"the strategy could not learn, so it proposes nothing: {self._unfit}"
        if state.pending or self.running:
            return None
        if limit := self._limit():
            return limit
        if self._dry:
            return "space_exhausted", "the strategy has nothing left to propose"
        if state.stalled >= STALL:
            size = self.space.log_size()
            if size is not None and len(self._first) >= 0.99 * 10**size:
                return "space_exhausted", f"all {len(self._first):,} architectures of the space were seen"
            return "stalled", f"the last {state.stalled} proposals were invalid or known already"
        if settings.patience is not None and state.since_best >= settings.patience:
            return "patience", f"{state.since_best} trainings in a row brought no better score"
        return None

    def _told_to_stop(self) -> bool:
        return self._stop_file is not None and self._stop_file.exists()

    def _too_short(self) -> float:
        """Returns the seconds in which no further training is worth starting: half of what one took so far."""
        spent = self.state.spent
        return 0.5 * spent.train_s / spent.trainings if spent.trainings else 0.0

    def _limit(self) -> tuple[StopReason, str] | None:
        spent, settings = self.state.spent, self.settings
        if settings.max_evals is not None and (spent.cost > settings.max_evals - ROUNDING or self.state.unpaid):
            return "max_evals", (f"{spent.cost:.4g} of {settings.max_evals} evaluations are used"
                                 + (", the next training does not fit" if spent.cost < settings.max_evals - ROUNDING
                                    else ""))
        # A call that failed may not say what it cost: what is known must not go beyond the limit.
        if settings.max_tokens is not None and spent.least_tokens >= settings.max_tokens:
            return "max_tokens", f"{spent.least_tokens:,} of {settings.max_tokens:,} tokens are used"
        if settings.max_usd is not None and spent.least_usd >= settings.max_usd:
            return "max_usd", f"{spent.least_usd:.2f} of {settings.max_usd:.2f} US dollars are used"
        return None

    def _spent_up(self) -> bool:
        """Returns whether no further proposals may be asked for, though trainings are still under way."""
        return self._limit() is not None or self._dry

    # -- fitting

    def _fit(self) -> None:
        """Lets a strategy that learns by training do so; what an earlier process has paid for is not done again."""
        if not isinstance(self.strategy, Fits) or self._over() is not None:
            return
        now = self.journal.clock.t()
        fitter = Fitter(self.journal, self.evaluator, SHARE * self.plan.search_s, now + LIMIT * (self.end - now),
                        lambda: self._over() is not None)
        try:
            self.strategy.fit(fitter.channel())
        except FitFailed as error:
            self._unfit = error
        except FitEnded:
            return  # time or the person ended it; the loop sees the same

    # -- asking

    def _ask(self) -> None:
        state = self.state
        step = state.told_step + 1
        n = self.plan.batch
        if state.asked is None or state.asked.step != step:
            self.journal.emit(Asked(step=step, n=n, seen=state.events))
        if step == 0 and self.start:
            self._admit(step, self.start, most=len(self.start))
            return
        try:
            proposals = self._proposals(step, n)
        except ModelError as error:
            self._lose_model(step, error)
            return
        if proposals is None:
            return
        self._dry = not proposals
        if proposals:
            self._admit(step, proposals)

    def _proposals(self, step: int, n: int) -> Sequence[Proposal] | None:
        """Returns the strategy's answer; None when the search was over before it came."""
        earlier = [pool for pool in self.state.pools.values() if pool.step < step]
        room = max(self.plan.batch, self.plan.proposals // 4) - sum(pool.kept for pool in earlier)
        context = Context(step=step, trials=tuple(self.state.trials), rules=self.state.rules,
                          deadline=self.journal.clock.monotonic(self.end), emit=self.journal.emit,
                          reply=self.model.reply, save=self.model.save, calls=lambda: tuple(self.state.calls),
                          trains=self.plan.promote,
                          screen=self._pool(step, max(0, room), self._proxies_left(earlier)), room=max(0, room),
                          pool=tuple(one for pool in earlier for one in pool.candidates))
        rng = np.random.default_rng([self.settings.seed, step])
        if not self.strategy.waits:
            return self.strategy.ask(n, rng, context)
        future = _beside(lambda: self.strategy.ask(n, rng, context))
        while self._over() is None:
            try:
                return future.result(timeout=TICK_S)
            except NotYet:
                if future.done():  # it raised a timeout of its own
                    raise
                self.journal.tick("waiting for the language model")
        return None

    def _pool(self, step: int, room: int, cap: int | None) -> Callable[[Sequence[ArchGraph]], Sequence[Candidate]]:
        """Returns what screens graphs for this ask, once: in all asks a quarter of the proposals the plan expects.

        Graphs that break a limit are screened beside that: they are no candidates, and no proxy is spent on them.

        What was screened for this step before the run was killed is charged again, but not held against it.
        """
        def screen(graphs: Sequence[ArchGraph]) -> Sequence[Candidate]:
            nonlocal room
            taken, room = list(graphs[:room]), 0
            if not taken:
                return ()
            started = self.journal.clock.t()
            self.journal.tick(f"screening {len(taken)} graphs")
            screened = self.evaluator.screen(taken, cap, self.end - started)
            candidates = tuple(Candidate(graph=graph, counts=one.counts, scores=one.scores, latency=one.latency,
                                         violates=one.violates) for graph, one in zip(taken, screened, strict=True))
            self.journal.emit(Pooled(step=step, graphs=len(taken), scored=sum(len(one.scores) > 2 for one in screened),
                                     candidates=candidates, seconds=self.journal.clock.t() - started))
            return candidates

        return screen

    def _proxies_left(self, pools: Collection[Pooled]) -> int | None:
        """Returns how many graphs may still be scored by proxies; None when the person set no limit."""
        if self.settings.screen is None:
            return None
        done = sum(len(trial.scores) > 2 for trial in self.state.trials) + sum(pool.scored for pool in pools)
        return max(0, self.settings.screen - done)

    def _lose_model(self, step: int, error: ModelError) -> None:
        if self.settings.on_llm_failure == "stop":
            self._failed = error
            return
        self.journal.emit(Warned(message=f"step {step}: the language model failed ({error}); "
                                         "random proposals stand in, marked as such"))
        from llmnas.strategies.base import proposal

        rng = np.random.default_rng([self.settings.seed, step])
        self._admit(step, [proposal(self.strategy.name, "random_after_failure", step, self.space.sample(rng))
                           for _ in range(self.plan.batch)])

    def _stand_in(self) -> None:
        """Screens known-good designs when no legal proposal came in time: a run that was paid for ends with a model.

        They are marked as what they are, so that nobody takes them for the strategy's.
        """
        from llmnas.strategies.base import proposal

        step, known = self.state.told_step + 1, [graph for graph in self.space.prior()
                                                 if not self.space.validate(graph, self.shape, self.classes)]
        if not known:
            return
        self.journal.emit(Warned(message="no legal proposal came in time; known-good designs of the space stand in, "
                                         "marked as such"))
        places = np.linspace(0, len(known) - 1, min(self.plan.batch, len(known))).round().astype(int)
        designs = [proposal(self.strategy.name, "stand_in", step, known[place]) for place in sorted(set(places))]
        self._admit(step, designs, most=0, limit_s=self.plan.final_s * _STAND_IN)

    # -- admitting

    def _admit(self, step: int, proposals: Sequence[Proposal], most: int | None = None,
               limit_s: float | None = None) -> None:
        """Checks, dedupes and screens proposals, and decides which are trained: one event for the whole step.

        Args:
            step: Its number.
            proposals: What was proposed.
            most: How many are trained at most, constraints or not; None trains as the plan has it.
            limit_s: Seconds for screening; None takes what the search has left.
        """
        started, limit = self.journal.clock.t(), self.settings.max_evals
        purse = Purse(None if limit is None else limit - self.state.spent.cost)
        again = self._trained_again([one for one in proposals if one.promotes is not None], purse)
        trials: list[Trial] = []
        for proposal in (one for one in proposals if one.promotes is None):
            trials.append(self._checked(proposal, len(self.state.trials) + len(trials) + 1))
        places = [i for i, trial in enumerate(trials) if trial.status == "screened"]
        screened = self._screened([trials[i] for i in places], limit_s)
        for i, one in zip(places, screened, strict=True):
            trials[i] = trials[i].model_copy(update={**dict(one), "scores": {**trials[i].scores, **one.scores}})
        ordered = self.evaluator.order(screened, self.state.trained())
        promoted = self._promoted(trials, [places[i] for i in ordered.places], most, purse)
        shares = again | {trial.n: trial.proposal.share for trial in trials if trial.n in promoted}
        seconds = self.journal.clock.t() - started
        self.journal.emit(Told(step=step, trials=tuple(trials), promoted=(*again, *promoted), seconds=seconds,
                               weights=ordered.weights, cost=purse.spent, unpaid=purse.short,
                               shares={n: share for n, share in shares.items() if share != 1}))
        self.strategy.tell([trial for trial in trials if trial.n not in promoted])

    def _trained_again(self, proposals: Sequence[Proposal], purse: Purse) -> dict[int, float]:
        """Returns the shares that earlier trials are to be trained for, by their numbers.

        Raises:
            InputError: A strategy promotes what was never screened, or to no larger share.
        """
        found: dict[int, float] = {}
        for proposal in proposals:
            n = proposal.promotes or 0
            trial = self.state.trials[n - 1] if 1 <= n <= len(self.state.trials) else None
            if trial is None or not _promotable(trial, proposal.share) or n in found:
                raise InputError(
                    f"strategy {self.strategy.name} promotes trial {n} to a share of {proposal.share:g}, but "
                    + ("there is no such trial" if trial is None else
                       f"it is {trial.status}, with a share of {trial.share:g}"),
                    "promote trials that keep the limits and were trained for less, or screened and no more; each once "
                    "in an ask")
            if purse.pays(self.evaluator.cost(trial, proposal.share)):
                found[n] = proposal.share
        return found

    def _known(self) -> dict[str, int]:
        """Returns the number of the first trial of every identity, in a run that goes on."""
        found: dict[str, int] = {}
        for trial in self.state.trials:
            graph = trial.proposal.graph
            if graph is not None and trial.status not in ("invalid", "duplicate"):
                name = self.identity(graph)
                if name is not None:
                    found.setdefault(name, trial.n)
        return found

    def _checked(self, proposal: Proposal, n: int) -> Trial:
        graph = proposal.graph
        if graph is None or proposal.issues:
            return Trial(n=n, proposal=proposal, status="invalid")
        if issues := self.space.validate(graph, self.shape, self.classes):
            return Trial(n=n, proposal=proposal.model_copy(update={"issues": tuple(issues)}), status="invalid")
        key, name = graph.key(), self.identity(graph)
        if name is not None and (earlier := self._first.setdefault(name, n)) != n:
            return Trial(n=n, proposal=proposal, status="duplicate", key=key, duplicate_of=earlier)
        return Trial(n=n, proposal=proposal, status="screened", key=key, scores=proposal.scores)

    def _screened(self, trials: Sequence[Trial], limit_s: float | None) -> list[Screened]:
        graphs: list[ArchGraph] = [trial.proposal.graph for trial in trials if trial.proposal.graph is not None]
        if not graphs:
            return []
        self.journal.tick(f"screening {len(graphs)} proposals")
        screened = self.evaluator.screen(graphs, self._proxies_left(self.state.pools.values()),
                                         self.end - self.journal.clock.t() if limit_s is None else limit_s)
        self._warn_of_blind_screening(screened)
        return screened

    def _warn_of_blind_screening(self, screened: Sequence[Screened]) -> None:
        """Says so, once, when screening as a whole failed: the search would go on blindly otherwise."""
        problem = next((one.unscored["screening"] for one in screened if "screening" in one.unscored), None)
        message = f"screening failed, so proposals were ordered by size alone: {problem}"
        if problem is not None and message not in self.state.warnings and self.journal.clock.t() < self.end:
            self.journal.emit(Warned(message=message))

    def _promoted(self, trials: list[Trial], places: list[int], most: int | None, purse: Purse) -> list[int]:
        """Returns the numbers of the trials to train; marks them, and ranks all at `places`, which come best first."""
        room = self.plan.promote if most is None else most
        promoted: list[int] = []
        for rank, i in enumerate(places, start=1):
            trial = trials[i]
            wanted = trial.proposal.share > 0 and (most is not None or not trial.violates)
            take = wanted and len(promoted) < room and purse.pays(self.evaluator.cost(trial, trial.proposal.share))
            trials[i] = trial.model_copy(update={"rank": rank, "status": "pending" if take else "screened"})
            if take:
                promoted.append(trial.n)
        return promoted

    # -- training

    def _train(self, n: int) -> None:
        limit = min(self.plan.train_deadline_s, max(0.5, self.end - self.journal.clock.t()))
        self.running.append(self.evaluator.start(self.state.trial(n), "short", limit,
                                                 share=self.state.shares.get(n, 1.0)))

    def _collect(self) -> None:
        """Waits a moment for trainings, and takes in those that ended."""
        wait([running.future for running in self.running], timeout=TICK_S, return_when=FIRST_COMPLETED)
        if not any(running.future.done() for running in self.running):
            names = ", ".join(f"trial {running.n}" for running in self.running)
            self.journal.tick(f"training {names}")
        while ended := [running for running in self.running if running.future.done()]:
            self._take(ended[0])
            # Before the next one is taken in: in a replay all that follow in the log have ended already.
            if self._free() and (waiting := self._waiting()) and self._over() is None:
                self._train(waiting[0])

    def _take(self, running: Running) -> None:
        self.running.remove(running)
        self.journal.emit(running.result())
        self._settle(self.state.trial(running.n))
        self._dry &= self.state.trial(running.n).share == 1  # what was trained briefly may be promoted now
        self.strategy.tell([self.state.trial(running.n)])

    def _settle(self, trial: Trial) -> None:
        """Has a trial timed on the targets whose front it has entered by a predicted latency."""
        entered = [target for target, found in trial.latency.items() if found.source == "calibrated"
                   and any(one.n == trial.n for one in front(self.state.trials, target))]
        left = self.end - self.journal.clock.t()
        if entered and trial.score is not None and left > 0:
            self.journal.tick(f"timing trial {trial.n}")
            for measured in self.evaluator.settle(trial, left, entered):
                self.journal.emit(measured)

    def _end_running(self) -> None:
        """Ends trainings that are still under way: time keeps what they have, a person's stop leaves them pending."""
        ended_by_person = self.interrupted() or self._told_to_stop()
        for running in self.running:
            running.cancel()
        for running in list(self.running):
            if ended_by_person:
                self.running.remove(running)
            else:
                self._take(running)


def _promotable(trial: Trial, share: float) -> bool:
    """Returns whether a trial can be trained for this share: it was trained for less, or screened and no more."""
    if trial.status == "screened":
        return share > 0 and not trial.violates
    return trial.status == "trained" and trial.share < share


def _beside(work: Callable[[], Sequence[Proposal]]) -> Future[Sequence[Proposal]]:
    """Runs `work` on a thread that no one waits for at exit: a server that never answers cannot hold the process."""
    future: Future[Sequence[Proposal]] = Future()

    def carry_out() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # handed to whoever takes the result
            future.set_exception(error)

    threading.Thread(target=carry_out, name="llmnas-ask", daemon=True).start()
    return future


def train_one(journal: Journal, evaluator: Evaluator, trial: Trial, rung: Rung, limit_s: float, activity: str,
              interrupted: Callable[[], bool] = lambda: False, nominal_s: float | None = None) -> Measured:
    """Trains one trial on a higher rung, logs the result and returns it."""
    running = evaluator.start(trial, rung, limit_s, nominal_s)
    while not running.future.done():
        wait([running.future], timeout=TICK_S)
        journal.tick(activity)
        if interrupted():
            running.cancel()
            break
    measured = running.result()
    journal.emit(measured)
    return measured
