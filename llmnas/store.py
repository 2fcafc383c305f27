"""The run on disk and the state folded from it.

``events.jsonl`` is the truth: one `Event` a line, appended and flushed. `RunState` is only ever rebuilt by folding
events, so resume, show, watch, report and the tests read the same thing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from bisect import insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from pydantic import ValidationError

from llmnas.errors import RunError
from llmnas.front import merit, violations
from llmnas.records import (
    EVENT,
    PERSON_ENDED,
    Asked,
    Body,
    Called,
    Checkpointed,
    Disguised,
    Event,
    Finished,
    Fitted,
    Measured,
    Plan,
    Pooled,
    Reflected,
    Resumed,
    Rule,
    Rung,
    RunStarted,
    Selected,
    Settings,
    Stopped,
    Told,
    Trained,
    Trial,
    Usage,
    Warned,
    is_mock,
)

PAID: Final = (RunStarted, Called, Fitted, Measured, Selected, Stopped, Finished)
"""On the disk itself before anything else."""


@dataclass
class Spent:
    """Everything charged so far. Tokens and dollars are None once any call did not say.

    Attributes:
        proposals: Proposals asked for, invalid and duplicate ones included.
        invalid: Of those, invalid.
        duplicate: Of those, duplicates.
        repaired: Of those, valid only after repair.
        evaluations: Distinct architectures whose trained score was asked for.
        cost: What their trainings cost, in evaluations: a short training of all its epochs is 1, of a share of them
            that share. ``max_evals`` limits this.
        trainings: Trainings finished, failed ones included.
        train_s: Seconds of training.
        screen_s: Seconds of counting, proxies and latency.
        fit_s: Seconds of trainings by which strategies learnt (supernets); not in `train_s`.
        calls: Model calls, failed ones included.
        usage: Sum over all calls.
        least_usd: Sum over the calls whose price is known: limits hold on it when one is not.
        least_tokens: Likewise of tokens.
    """

    proposals: int = 0
    invalid: int = 0
    duplicate: int = 0
    repaired: int = 0
    evaluations: int = 0
    cost: float = 0.0
    trainings: int = 0
    train_s: float = 0.0
    screen_s: float = 0.0
    fit_s: float = 0.0
    calls: int = 0
    usage: Usage = field(default_factory=lambda: Usage(input_tokens=0, cached_tokens=0, output_tokens=0,
                                                       reasoning_tokens=0, usd=0.0))
    least_usd: float = 0.0
    least_tokens: int = 0

    @property
    def tokens(self) -> int | None:
        """Input and output tokens together; None when unknown."""
        given, made = self.usage.input_tokens, self.usage.output_tokens
        return None if given is None or made is None else given + made


@dataclass
class RunState:
    """A run, folded from its events.

    Attributes:
        started: The first event's body.
        settings: The settings in force: a resume may extend the budget.
        trials: Every trial in order; trial ``n`` is ``trials[n - 1]``.
        first: Number of the first trial with a key.
        scored: Numbers of the trials with a search score, in order.
        asked: The last ask, or None.
        pending: Numbers of trials that wait for their training, in order.
        shares: Share of the short rung that a pending training is given, by number of the trial, where it is not 1.
        unpaid: Whether a training did not fit into ``max_evals`` any more.
        told: The trials a strategy was told of, in that order and as they were then.
        told_step: Last step whose proposals were screened; -1 before the first.
        pools: What strategies had screened beside their proposals, by step: of a step asked twice, the last.
        weights: What every proxy counted when a trial was ordered, by its number; trials of one step share one object.
        calls: Model calls in order.
        rules: The knowledge base.
        disguise: True name → code, where the prompts hide names.
        warnings: In order.
        selected: The choice, once made.
        stopped: The stop reason, once known.
        finished: Where the artefacts are, once written.
        checkpoints: Files of learnt state by name.
        fits: What strategies learnt by trainings of their own, by name, in order.
        invalid: How often each issue code occurred.
        spent: Everything charged.
        since_best: Evaluations since the best score last rose.
        stalled: Proposals in a row that brought nothing new.
        clock_s: Seconds on the run's clock at the last event.
        events: Events folded.
    """

    started: RunStarted | None = None
    settings: Settings = field(default_factory=Settings)
    trials: list[Trial] = field(default_factory=list)
    first: dict[str, int] = field(default_factory=dict)
    scored: list[int] = field(default_factory=list)
    asked: Asked | None = None
    pending: list[int] = field(default_factory=list)
    told_step: int = -1
    pools: dict[int, Pooled] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)
    unpaid: bool = False
    told: list[Trial] = field(default_factory=list)
    weights: dict[int, dict[str, float]] = field(default_factory=dict)
    calls: list[Called] = field(default_factory=list)
    rules: tuple[Rule, ...] = ()
    reflections: list[Reflected] = field(default_factory=list)
    disguise: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    selected: Selected | None = None
    stopped: Stopped | None = None
    finished: Finished | None = None
    checkpoints: dict[str, Checkpointed] = field(default_factory=dict)
    fits: dict[str, Fitted] = field(default_factory=dict)
    invalid: Counter[str] = field(default_factory=Counter)
    spent: Spent = field(default_factory=Spent)
    best: Trial | None = None
    since_best: int = 0
    stalled: int = 0
    clock_s: float = 0.0
    events: int = 0

    @property
    def plan(self) -> Plan:
        """How the budget is divided."""
        return self.begun.plan

    @property
    def begun(self) -> RunStarted:
        """The first event's body.

        Raises:
            RunError: The log does not start with it.
        """
        if self.started is None:
            raise RunError("this run has no start event", "its directory is empty or damaged; start a new run")
        return self.started

    @property
    def targets(self) -> tuple[str, ...]:
        """Keys of the targets, the first one judged by; empty when the log does not say."""
        return self.started.targets if self.started else ()

    def merit(self, trial: Trial) -> float | None:
        """Returns what this run maximises: the search score, or the reward on the first target."""
        return merit(trial, self.settings, next(iter(self.targets), None))

    @property
    def ended_by_person(self) -> bool:
        """Whether a person ended the search before its time: its choice has had no final training and no test."""
        return self.stopped is not None and self.stopped.reason in PERSON_ENDED

    @property
    def offline(self) -> bool:
        """Whether proposals came from the mock model, so that results must say so."""
        return is_mock(self.begun.model)

    def trial(self, n: int) -> Trial:
        """Returns trial number `n`.

        Raises:
            RunError: There is no such trial.
        """
        if not 1 <= n <= len(self.trials):
            raise RunError(f"there is no trial {n}; this run has {len(self.trials)}", "see `llmnas show RUN`")
        return self.trials[n - 1]

    def trained(self) -> list[Trial]:
        """Returns the trials with a search score, in order."""
        return [self.trials[n - 1] for n in self.scored]

    def apply(self, event: Event) -> None:  # noqa: PLR0912  # one case for every kind of event
        """Takes one event in."""
        self.clock_s, self.events = event.t_s, self.events + 1
        match event.body:
            case RunStarted() as body:
                self.started, self.settings = body, body.settings
            case Resumed() as body:
                if self.ended_by_person:  # its choice was for the report; the search that goes on makes its own
                    self.selected = self.finished = None
                self.unpaid &= body.settings.max_evals == self.settings.max_evals
                self.settings, self.stopped = body.settings, None
            case Asked() as body:
                self.asked = body
            case Called() as body:
                self._called(body)
            case Told() as body:
                self._told(body)
            case Pooled() as body:
                self.pools[body.step] = body
                self.spent.screen_s += body.seconds
            case Measured() as body:
                self._measured(body)
            case Reflected() as body:
                self.rules = body.rules
                self.reflections.append(body)
            case Disguised() as body:
                self.disguise = body.names
            case Checkpointed() as body:
                self.checkpoints[body.what] = body
            case Fitted() as body:
                self.fits[body.what] = body
                self.spent.fit_s += body.seconds
            case Warned() as body:
                self.warnings.append(body.message)
            case Selected() as body:
                self.selected = body
            case Stopped() as body:
                self.stopped = body
            case Finished() as body:
                self.finished = body

    def _called(self, body: Called) -> None:
        self.calls.append(body)
        self.spent.calls += 1
        self.spent.usage = total_usage(self.spent.usage, body.usage)
        self.spent.least_usd += body.usage.usd or 0.0
        self.spent.least_tokens += (body.usage.input_tokens or 0) + (body.usage.output_tokens or 0)

    def _told(self, body: Told) -> None:
        self.told_step = body.step
        self.spent.screen_s += body.seconds
        new = {trial.n for trial in body.trials}
        self.spent.evaluations += sum(n in new or self.trials[n - 1].status == "screened" for n in body.promoted)
        self.spent.cost += len(body.promoted) if body.cost is None else body.cost
        self.shares |= body.shares
        self.unpaid |= body.unpaid
        for trial in body.trials:
            self.trials.append(trial)
            self.spent.proposals += 1
            self.spent.repaired += trial.status != "invalid" and trial.proposal.origin.repairs > 0
            self.stalled += 1
            match trial.status:
                case "invalid":
                    self.spent.invalid += 1
                    self.invalid.update({issue.code for issue in trial.proposal.issues})
                case "duplicate":
                    self.spent.duplicate += 1
                case _:
                    self.stalled = 0
                    if trial.key is not None:
                        self.first.setdefault(trial.key, trial.n)
        if body.weights is not None:
            self.weights |= dict.fromkeys((trial.n for trial in body.trials), body.weights)
        for n in body.promoted:
            if n not in new:
                self.trials[n - 1] = self.trials[n - 1].model_copy(update={"status": "pending"})
        self.pending += body.promoted
        self.told += [trial for trial in body.trials if trial.n not in body.promoted]

    def _measured(self, body: Measured) -> None:
        trial = self.trial(body.n)
        update: dict[str, object] = {"spent_s": trial.spent_s + body.seconds}
        if body.latency is not None:
            update["latency"] = {**trial.latency, body.latency.device: body.latency}
        if body.energy is not None:
            update["energy"] = {**trial.energy, body.energy.device: body.energy}
        if body.rung is not None:
            self.spent.trainings += 1
            self.spent.train_s += body.seconds
            update["note"] = body.note
            if body.trained is not None:
                update |= {**_with_result(trial, body.rung, body.trained), "status": body.failed or "trained"}
            elif body.rung == "short":
                update["status"] = body.failed or "failed"
        changed = self._judged_anew(trial, trial.model_copy(update=update))
        self.trials[body.n - 1] = changed
        if body.rung == "short":
            self._ended(changed)
        elif body.rung is None and self.told and self.told[-1].n == body.n:
            self.told[-1] = changed  # timed anew before the strategy was told

    def _ended(self, trial: Trial) -> None:
        """Takes the end of a short training in. One of a smaller share says nothing of the best score."""
        share = self.shares.pop(trial.n, 1.0)
        self.pending = [n for n in self.pending if n != trial.n]
        self.told.append(trial)
        if share == 1:
            if trial.score is not None:
                insort(self.scored, trial.n)
            self._progress(trial)

    def _judged_anew(self, before: Trial, after: Trial) -> Trial:
        """Returns the trial with the constraints that it breaks by its new latency or energy."""
        if before.counts is None or (before.latency, before.energy) == (after.latency, after.energy):
            return after
        old, new = (violations(self.settings, self.targets, before.counts, one.latency, one.energy)
                    for one in (before, after))
        return after.model_copy(update={"violates": (*(one for one in before.violates if one not in old), *new)})

    def _progress(self, trial: Trial) -> None:
        value, before = self.merit(trial), self.merit(self.best) if self.best else None
        if value is not None and not trial.violates and (before is None or value > before):
            self.best, self.since_best = trial, 0
        else:
            self.since_best += 1


def _with_result(trial: Trial, rung: Rung, found: Trained) -> dict[str, object]:
    """Returns what a result changes in a trial."""
    if found.share == 1:
        return {"trained": {**trial.trained, rung: found}}
    return {"partial": tuple(sorted((*trial.partial, found), key=lambda one: one.share))}


def total_usage(left: Usage, right: Usage) -> Usage:
    """Returns the sum; a figure that either side does not know is not known."""
    def known(name: str) -> int | float | None:
        mine, other = getattr(left, name), getattr(right, name)
        return None if mine is None or other is None else mine + other

    return Usage(**{name: known(name) for name in Usage.model_fields})


def fold(events: Iterator[Event] | list[Event]) -> RunState:
    """Returns the state after `events`."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state


def read_events(path: Path) -> Iterator[Event]:
    """Yields the events of a log. A torn last line, as a crash leaves it, is ignored.

    Raises:
        RunError: A line that is not the last is damaged, or events are missing.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if not line.endswith(b"\n"):
                return
            try:
                event = EVENT.validate_json(line)
            except ValidationError as error:
                raise RunError(f"{path}:{number + 1}: not an event: {error.errors()[0]['msg']}",
                               "the log is damaged, or written by another version of llmnas") from None
            if event.seq != number:
                raise RunError(f"{path}:{number + 1}: expected event {number}, got {event.seq}", "the log is damaged")
            yield event


class MemoryStore:
    """A run that is kept nowhere: for searches on tables, which take less time than the disk would.

    Attributes:
        directory: None; there is none.
        state: The state so far.
    """

    directory: None = None

    def __init__(self) -> None:
        self.state = RunState()

    def emit(self, body: Body, t_s: float) -> Event:
        """Folds an event and returns it."""
        event = Event(seq=self.state.events, t_s=round(t_s, 3), body=body)
        self.state.apply(event)
        return event


class RunStore:
    """A run directory, opened for writing by exactly one process.

    Args:
        directory: The run's folder.
        create: Whether it is a new run; an existing one is opened otherwise.

    Raises:
        RunError: It exists already (create), does not exist, or another process holds it.
    """

    def __init__(self, directory: Path, create: bool) -> None:
        self.directory = directory
        log = directory / "events.jsonl"
        if create:
            if _holds_something(directory):
                raise RunError(f"{directory} already exists and is not empty",
                               f"continue it with `llmnas resume {directory}`, or choose another --out")
            directory.mkdir(parents=True, exist_ok=True)
        elif not log.is_file():
            raise RunError(f"{directory} is not a run: it has no events.jsonl", "`llmnas runs list` shows the runs")
        self._lock = _locked(directory / ".lock", directory)
        self.state = RunState()
        if not create:
            for event in read_events(log):
                self.state.apply(event)
            _drop_torn_line(log)
        self._file: IO[bytes] = log.open("ab")

    def emit(self, body: Body, t_s: float) -> Event:
        """Appends an event, folds it and returns it. What was paid for is synced to the disk first."""
        event = Event(seq=self.state.events, t_s=round(t_s, 3), body=body)
        self._file.write(event.model_dump_json(exclude_defaults=False).encode() + b"\n")
        self._file.flush()
        if isinstance(body, PAID):
            os.fsync(self._file.fileno())
        self.state.apply(event)
        return event

    def path(self, *parts: str) -> Path:
        """Returns a path below the run directory, its folder made."""
        path = self.directory.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def close(self) -> None:
        """Closes the log and frees the lock."""
        self._file.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def _holds_something(directory: Path) -> bool:
    """Returns whether a folder has content of worth; what a run leaves that died before its first event has none."""
    if not directory.exists() or not any(directory.iterdir()):
        return False
    log = directory / "events.jsonl"
    return not ((directory / ".lock").exists() and (not log.exists() or log.stat().st_size == 0))


def _locked(path: Path, directory: Path) -> IO[str]:
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise RunError(f"{directory} is in use by another process",
                       "wait for it, or stop it with `touch STOP` in the run directory") from None
    return lock


def _drop_torn_line(log: Path) -> None:
    content = log.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with log.open("r+b") as file:
            file.truncate(whole)


def new_run_name(target: str, strategy: str) -> str:
    """Returns a name that no other run has: time, target, strategy and four random hex digits."""
    plain = re.sub(r"[^a-z0-9]+", "-", f"{target}-{strategy}".lower()).strip("-")
    return f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-{plain}-{os.urandom(2).hex()}"


def find_run(name: str, root: Path = Path("runs")) -> Path:
    """Returns the directory of a run given by path, by name below `root`, by a unique part of it, or as ``latest``.

    Raises:
        RunError: There is none, or several fit.
    """
    direct = Path(name)
    for candidate in (direct, root / name):
        if (candidate / "events.jsonl").is_file():
            return candidate.resolve()
    fitting = [path for path in list_runs(root) if name in path.name]
    if len(fitting) == 1:
        return fitting[0]
    if len(fitting) > 1:
        raise RunError(f"{len(fitting)} runs fit {name!r}", "one of: " + ", ".join(p.name for p in fitting[-5:]))
    raise RunError(f"there is no run {name!r}", f"`llmnas runs list` shows the runs below {root}")


def list_runs(root: Path = Path("runs")) -> list[Path]:
    """Returns the run directories below `root`, oldest first."""
    return sorted(path.parent for path in root.glob("*/events.jsonl") if not path.parent.is_symlink())


def read_run(directory: Path) -> RunState:
    """Returns the state of a run without locking it, so that a running one can be looked at."""
    return fold(read_events(directory / "events.jsonl"))


def point_latest(directory: Path) -> None:
    """Makes ``latest`` beside the run point at it."""
    link = directory.parent / "latest"
    if link.is_symlink() or not link.exists():
        fresh = link.with_name(f".latest-{os.getpid()}")
        fresh.symlink_to(directory.name)
        fresh.replace(link)


def to_json_file(path: Path, value: object) -> None:
    """Writes JSON so that a reader never sees half a file."""
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
    partial.replace(path)
