"""The main job inside one clock: plan, search, final training, test once, export, report. Also the Python API.

>>> import llmnas
>>> result = llmnas.run(data="digits", budget="2min", target="gpu", strategy="evolution")
>>> print(result.test_score, result.directory)
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any, Final

from llmnas.artefacts import export_trial
from llmnas.budget import Clock, make_plan, most_macs, parse_duration
from llmnas.data import DataRef, load, materialise, reopen, split
from llmnas.errors import InputError, LlmnasError, ModelError, NoModelFound, RunError, nearest
from llmnas.evaluate import Rungs, kept
from llmnas.evaluate.replayed import Replayed
from llmnas.executors import Executor, Job, LocalExecutor
from llmnas.front import choices, choose, contenders, energy_limits, front, latency_limits, settings_on
from llmnas.graph import ArchGraph
from llmnas.latency import Target, estimate_energy, named, need_runtime, parse_targets, predict
from llmnas.latency.calibrate import Calibration
from llmnas.network import Network
from llmnas.recording import RecordedClock, Recording
from llmnas.records import (
    JOIN,
    PERSON_ENDED,
    Finished,
    Measured,
    Origin,
    Plan,
    Proposal,
    Resumed,
    RunStarted,
    Selected,
    Settings,
    Stopped,
    Trial,
    Warned,
)
from llmnas.replaying import Following, recording_of
from llmnas.report.console import open_console
from llmnas.report.html import write_report
from llmnas.search import Journal, Model, Search, train_one
from llmnas.space import Space, load_space, parse_graph
from llmnas.space.loading import default_space
from llmnas.store import RunState, RunStore, new_run_name, point_latest, to_json_file
from llmnas.strategies import Setup, load_strategy
from llmnas.train import METRICS, recipe_for

PROBE_S: Final = 60.0
METERING: Final = .1
"""Of the final training's time, for reading the energy of the chosen network; less than `METER_LEAST_S` is no use."""
METER_LEAST_S: Final = 7.5
REACH_S: Final = 6.0


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        directory: The run's folder.
        state: The run, folded from its log.
    """

    directory: Path
    state: RunState

    @property
    def chosen(self) -> Trial | None:
        """The chosen trial, or None."""
        return self.state.trial(self.state.selected.n) if self.state.selected else None

    @property
    def test_score(self) -> float | None:
        """Score on the test part, read once, after selection; None when there was no final training."""
        final = self.chosen.trained.get("final") if self.chosen else None
        return final.test_score if final else None

    @property
    def exit_code(self) -> int:
        """The exit code of the command line."""
        if self.state.stopped and self.state.stopped.reason == "interrupted":
            return 130
        ended_by_person = self.state.ended_by_person
        if self.chosen is None or ("final" not in self.chosen.trained and not ended_by_person):
            return ModelError.exit_code if self._lost_model else NoModelFound.exit_code
        return ModelError.exit_code if self._lost_model else 0

    @property
    def _lost_model(self) -> bool:
        return bool(self.state.stopped and self.state.stopped.reason == "llm_failed")


class Interrupts:
    """Ctrl-C: the first asks to finish and report, the second leaves at once (`KeyboardInterrupt`)."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        """Returns whether the person has asked to stop."""
        return self._asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes SIGINT and SIGTERM over while the job runs, where that is possible (the main thread)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._heard) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, *_: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print("\nstopping: finishing the report. Once more to leave now.", file=sys.stderr)  # noqa: T201


def run(*, out: str | Path | None = None, progress: str = "quiet", budget: str | float | None = None,
        target: str | tuple[str, ...] | list[str] | None = None, executor: Executor | str = "local",
        argv: tuple[str, ...] = (), started_at: float | None = None, **options: Any) -> Result:
    """Runs the main job and returns its result.

    Args:
        out: Run directory; a fresh one below ``runs/`` by default.
        progress: ``live``, ``plain``, ``quiet``, ``json`` or ``auto``.
        budget: A duration (``"30min"``) or seconds.
        target: One or more targets.
        executor: Runs the jobs: a name as on the command line, or an executor of your own.
        argv: The command to record.
        started_at: When the command began, on `time.monotonic`: the budget counts from there.
        **options: The other fields of `Settings`, named as there.

    Raises:
        LlmnasError: Bad input, or a broken system; nothing that was paid for is lost.
    """
    if budget is not None:
        options["budget_s"] = parse_duration(budget) if isinstance(budget, str) else float(budget)
    if target is not None:
        options["target"] = (target,) if isinstance(target, str) else tuple(target)
    if options.get("metric", METRICS[0]) not in METRICS:
        raise InputError(f"unknown metric {options['metric']!r}", nearest(options["metric"], list(METRICS)))
    if isinstance(executor, str) and executor != "local":
        raise InputError(f"unknown executor {executor!r}", "known: local")
    if options.get("aim_latency_ms") is not None and options.get("min_accuracy") is not None:
        raise InputError("--aim-latency trades score for latency, --min-accuracy takes the least latency",
                         "give one of them")
    settings = Settings(**options, executor=executor if isinstance(executor, str) else type(executor).__name__)
    if getattr(load_strategy(settings.strategy), "uses_model", False):
        _load_prompt(settings.prompt)
    if settings.space != "auto":
        load_space(settings.space)
    directory = Path(out) if out else Path("runs") / new_run_name(settings.target[0], settings.strategy)
    clock = Clock(settings.budget_s, used_s=monotonic() - started_at if started_at is not None else 0.0)
    with RunStore(directory, create=True) as store:
        try:
            job = _MainJob(store, settings, clock, progress, None if isinstance(executor, str) else executor)
            return job.begin(argv)
        finally:
            if store.state.started is None:  # refused before anything was paid for: leave nothing behind
                shutil.rmtree(directory, ignore_errors=True)


def _load_prompt(name: str) -> Any:
    from llmnas.prompts import load_prompt

    return load_prompt(name)


def resume(directory: str | Path, *, progress: str = "quiet", executor: Executor | None = None,
           budget: str | float | None = None, **changes: Any) -> Result:
    """Continues a run where it stopped: same plan, counters, clock and random state.

    Args:
        directory: The run's folder.
        progress: As in `run`.
        executor: As in `run`.
        budget: A new budget for the whole run; it may only grow.
        **changes: Settings that may change: ``max_evals``, ``max_usd``, ``max_tokens``, ``patience``.

    Raises:
        RunError: Not a run, in use, damaged, or a change that is not allowed.
    """
    with RunStore(Path(directory), create=False) as store:
        settings = _changed(store.state, budget, changes)
        if store.state.finished is not None and settings == store.state.settings and not store.state.ended_by_person:
            return Result(store.directory, store.state)
        clock = Clock(settings.budget_s, store.state.clock_s)
        return _MainJob(store, settings, clock, progress, executor).proceed()


def _changed(state: RunState, budget: str | float | None, changes: dict[str, Any]) -> Settings:
    settings = state.settings
    allowed = {"max_evals", "max_usd", "max_tokens", "patience"}
    if foreign := sorted(set(changes) - allowed):
        raise RunError(f"a resumed run cannot change {', '.join(foreign)}",
                       f"it may change budget, {', '.join(sorted(allowed))}")
    update = {name: value for name, value in changes.items() if value is not None}
    if budget is not None:
        seconds = parse_duration(budget) if isinstance(budget, str) else float(budget)
        if seconds < settings.budget_s:
            raise RunError(f"the budget may grow, not shrink: it is {settings.budget_s:g} s, asked for {seconds:g} s")
        update["budget_s"] = seconds
    return settings.model_copy(update=update)


class _MainJob:
    """One run of the main job."""

    def __init__(self, store: RunStore, settings: Settings, clock: Clock, progress: str,
                 executor: Executor | None) -> None:
        self.store, self.settings = store, settings
        self.recording, self.unlike = recording_of(store.state.begun.settings if store.state.started else settings)
        self.clock = clock if self.recording is None else RecordedClock(self.recording, lambda: store.state.events)
        self.console = open_console(progress)
        self.interrupts = Interrupts()
        self.following = None if self.recording is None else Following(self.console, self.recording, self.interrupts)
        self.journal = Journal(store, self.clock, self.following or self.console)
        self._unused: dict[str, str] = {}  # why a kept calibration is not used, by target key
        self._asked_again: set[str] = set()  # calls by whose failure the model was lost, before it was mended
        self._tried: set[int] = set()  # trials whose final training failed
        self._metered: set[int] = set()  # trials whose energy was asked for
        self.exits = ExitStack()
        self.executor = executor or self.exits.enter_context(LocalExecutor(logs=store.directory / "jobs"))

    @property
    def state(self) -> RunState:
        return self.store.state

    # -- the two ways in

    def begin(self, argv: tuple[str, ...]) -> Result:
        """Prepares a new run and carries it out."""
        with self.exits, self.interrupts.listening():
            dataset = load(self.settings.data)
            self.data = materialise(dataset, split(dataset, self.settings.seed), self.store.directory / "data")
            if self.recording is None:
                self._prepare()
            else:
                self._take_over(self.recording)
            self.journal.emit(RunStarted(
                run=self.store.directory.name, settings=self.settings, plan=self._plan(), task=self._task(),
                environment=self.machine, model=self.model.name if self.model else None, argv=argv,
                targets=self.keys))
            point_latest(self.store.directory)
            self._announce()
            return self._carry_out()

    def _prepare(self) -> None:
        """Settles the space, the limits and the calibrations of a new run."""
        self.settings = self.settings.model_copy(update={"space": self._space_name()})
        self.settings = self._limited()
        self._unused = kept.copy_calibrations(self.targets, self.machine, self.data.shape, self.store.directory)
        self._unused |= kept.calibrate_here(self.targets, self.space, self.data, self.executor,
                                            self.settings.budget_s, self.settings.seed, self.store.directory)

    def _take_over(self, recording: Recording) -> None:
        """Settles a replay as its recording was settled: what it measures with, and how it is planned.

        Raises:
            RunError: The data are others.
        """
        if self._task() != recording.begun.task:
            raise RunError(f"the data {self.settings.data!r} changed since {recording.directory} was recorded",
                           "restore them")
        self.settings = recording.begun.settings.model_copy(update={"llm": f"replay:{recording.directory}"})
        if (recording.directory / kept.FOLDER).is_dir():
            shutil.copytree(recording.directory / kept.FOLDER, self.store.directory / kept.FOLDER)

    def proceed(self) -> Result:
        """Opens a run that was stopped and carries on."""
        if self.recording is not None:
            raise RunError("a replay is not gone on with: it only shows what was recorded", "start it again")
        with self.exits, self.interrupts.listening():
            self.data = self._reopened()
            (self.store.directory / "STOP").unlink(missing_ok=True)
            if self.state.stopped is not None and self.state.stopped.reason == "llm_failed" and self.state.calls:
                self._asked_again.add(self.state.calls[-1].call)
            self.journal.emit(Resumed(settings=self.settings, lost_s=0.0))
            self.console.started(self.state)
            return self._carry_out()

    def _reopened(self) -> DataRef:
        folder = self.store.directory / "data"
        if (folder / "train_x.npy").exists():
            return reopen(folder)
        dataset = load(self.settings.data)
        data = materialise(dataset, split(dataset, self.settings.seed), folder)
        if data.digests != self.state.begun.task["digests"]:
            raise RunError(f"the data {self.settings.data!r} changed since this run started",
                           "restore them, or start a new run")
        return data

    def _announce(self) -> None:
        self.console.started(self.state)
        for message in self._warnings():
            self.journal.emit(Warned(message=message))

    def _warnings(self) -> Iterator[str]:
        if self.recording is not None:
            yield from self.recording.opening
            return
        if self.unlike:
            yield f"only the replies are replayed, and networks are trained: {self.unlike}"
        if self.state.plan.warning:
            yield self.state.plan.warning
        if self.model is not None and self.model.offline:
            yield ("no language model is configured: the mock answers in its place, by code. Its results say nothing "
                   "about language models.")
        if self.model is not None:
            yield from self.model.take_notices()
        for target in self.targets:
            if says := kept.sentence(target, self.calibrations.get(target.key), self._unused.get(target.key, "")):
                yield says

    # -- preparation

    @cached_property
    def machine(self) -> dict[str, Any]:
        """What the machine has; in a replay, what the recording's had: nothing is measured here."""
        if self.recording is not None:
            return self.recording.begun.environment
        outcome = self.executor.submit(Job(kind="probe", deadline_s=PROBE_S)).future.result()
        if outcome.status != "ok" or outcome.result is None:
            raise LlmnasError(f"torch cannot be started: {outcome.error}", "run `llmnas doctor`")
        return outcome.result

    @cached_property
    def space(self) -> Space:
        """The search space; it must fit the data."""
        space = load_space(self.settings.space)
        wanted = "sequence" if len(self.data.shape) == 2 else "image"
        if space.spec.input != wanted:
            raise InputError(f"space {space.name!r} is for {space.spec.input} data; {self.data.name!r} has shape "
                             f"{list(self.data.shape)}", f"use --space {default_space(self.data.shape)}")
        return space

    def _space_name(self) -> str:
        return default_space(self.data.shape) if self.settings.space == "auto" else self.settings.space

    @cached_property
    def targets(self) -> list[Target]:
        """The targets, of a resumed run those it began with; the first is judged by."""
        gpus = self.machine["gpus"]
        named = self.recording.begun.targets if self.recording is not None else self.state.targets
        targets = parse_targets(named or self.settings.target, bool(gpus), gpus[0] if gpus else "")
        for target in targets:
            need_runtime(target)
        return targets

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the targets."""
        return tuple(target.key for target in self.targets)

    @cached_property
    def calibrations(self) -> dict[str, Calibration]:
        """The calibrations that this run began with, by target key."""
        return kept.calibrations(self.targets, self.store.directory)

    def _limited(self) -> Settings:
        """Returns the settings with every limit under the key of its target.

        Raises:
            InputError: A limit names no target, comes twice, or is on an energy that nothing is known of.
        """
        settings = self.settings
        latency, on_latency = self._by_key("--max-latency", settings.max_latency_ms, settings.max_latency_on)
        energy, on_energy = self._by_key("--max-energy", settings.max_energy_mj, settings.max_energy_on)
        settings = settings.model_copy(update={"max_latency_ms": latency, "max_latency_on": on_latency,
                                               "max_energy_mj": energy, "max_energy_on": on_energy})
        self._check_energy(energy_limits(settings, self.keys))
        return settings

    def _by_key(self, option: str, first: float | None,
                others: dict[str, float]) -> tuple[float | None, dict[str, float]]:
        """Returns the limit on the first target, and those on the others by key."""
        found = {} if first is None else {self.keys[0]: first}
        for name, most in others.items():
            key = named(name, self.targets, self.settings.target).key
            if key in found:
                raise InputError(f"{option} is given twice for target {key}: {found[key]:g} and {most:g}", "give one")
            found[key] = most
        return found.pop(self.keys[0], None), found

    def _check_energy(self, limited: dict[str, float]) -> None:
        """Refuses a limit on an energy that is unknown: it could not be kept."""
        example = self._designs()[0]
        for target in self.targets:
            if target.key in limited and estimate_energy(predict(example, target), target) is None:
                raise InputError(f"--max-energy cannot be kept on {target.key}: its power is unknown, hence its energy",
                                 "name a device with a power figure, as in --target t4 --max-energy t4=50mJ, or use "
                                 "--max-latency")

    @cached_property
    def model(self) -> Any:
        """The language model, when the strategy uses one."""
        if not getattr(load_strategy(self.settings.strategy), "uses_model", False):
            return None
        from llmnas.llm import members_of, open_model
        from llmnas.llm.replay import ReplayModel

        if self.recording is not None:
            replay = ReplayModel(self.recording.directory, exact=True, waits=self.recording.stopped.reason == "budget",
                                 names=(self.recording.begun.model or "").rpartition(" of ")[2].split(JOIN))
            self.exits.callback(replay.close)
            return replay
        model = open_model(self.settings.llm, base_url=self.settings.base_url, structured=self.settings.structured,
                           temperature=self.settings.temperature, run_dir=self.store.directory,
                           memory=self.store.directory / "endpoints.json", prior=self.settings.prior)
        self.exits.callback(model.close)
        for member in members_of(model):
            _check_reachable(member)
        unpriced = [member.name for member in members_of(model) if not member.priced]
        if self.settings.max_usd is not None and unpriced:
            raise InputError(f"--max-usd cannot be kept: the price of {' and '.join(unpriced)} is unknown",
                             "give a price table in $LLMNAS_PRICES, or use --max-tokens")
        return model

    def _plan(self) -> Plan:
        if self.recording is not None:
            return self.recording.begun.plan
        batch = recipe_for(self.data, self.data.sizes["train"]).batch
        return make_plan(self.settings, self._designs(), self.data.sizes["train"], batch, self._device_kind(),
                         self.machine["cores"], kept.timings(self.targets, self.calibrations, latency_limits(
                             self.settings, self.keys)), self.model is not None)

    def _device_kind(self) -> str:
        if self.settings.device == "auto":
            return "cuda" if self.machine["gpus"] else "cpu"
        return "cpu" if self.settings.device == "cpu" else "cuda"

    def _task(self) -> dict[str, Any]:
        data = self.data
        return {"name": data.name, "shape": list(data.shape), "classes": data.classes, "sizes": data.sizes,
                "digests": data.digests, "split_seed": data.seed, "metric": self.settings.metric}

    # -- carrying out

    def _carry_out(self) -> Result:
        evaluator = self._evaluator()
        stopped = self.state.stopped or self._search(evaluator)
        if stopped.reason not in PERSON_ENDED:
            self._conclude(evaluator, stopped)
        else:
            self._select(evaluator)
        files = self._artefacts(evaluator)
        self.journal.emit(Finished(files=files, seconds=self.clock.t()))
        write_report(self.state, self.store.directory, self._chosen_network(evaluator))
        self.console.close(self.state)
        return Result(self.store.directory, self.state)

    def _evaluator(self) -> Rungs:
        kind = Rungs if self.recording is None else Replayed
        made = kind(self.executor, self.space, self.data, self.settings, self.state.plan, self.targets,
                    max(1, self.machine["cores"] // self.settings.workers), self.store.directory.resolve(),
                    kept.predictors(self.targets, self.store.directory))
        if self.recording is not None and self.following is not None and isinstance(made, Replayed):
            self.following.evaluator = made.play(self.recording)
            made.advance(self.state.events)
        return made

    def _search(self, evaluator: Rungs) -> Stopped:
        setup = Setup(space=self.space, settings=self.settings, shape=self.data.shape, classes=self.data.classes,
                      targets=self.keys, max_macs=self._max_macs(), keeps=evaluator.keeps,
                      milliseconds=evaluator.milliseconds, task=self._task(),
                      model=self.model, prompts=self._prompts())
        strategy = load_strategy(self.settings.strategy)(setup)
        return Search(self.journal, self.space, self.data.shape, self.data.classes, strategy, evaluator,
                      start=self._start(), model=self._calls(), interrupted=self.interrupts).run()

    def _max_macs(self) -> int | None:
        """Returns the MACs of the dearest known-good design that can be trained in the time; None when all can."""
        return most_macs(self.state.plan, self._designs())

    def _designs(self) -> list[Network]:
        return [self.space.network(graph, self.data.shape, self.data.classes) for graph in self.space.prior()]

    def _prompts(self) -> Any:
        if self.model is None:
            return None
        return _load_prompt(self.settings.prompt)

    def _calls(self) -> Model:
        from llmnas.llm.cassette import CallRecord

        def path(call: str) -> Path:
            return self.store.path("calls", f"{call}.json")

        def reply(call: str) -> Any | None:
            known = path(call).is_file() and call not in self._asked_again
            return CallRecord.read(path(call)) if known else None

        def save(record: CallRecord) -> str:
            record.write(path(record.call))
            return f"calls/{record.call}.json"

        return Model(reply=reply, save=save)

    def _start(self) -> list[Proposal]:
        return [Proposal(graph=graph, raw=None, origin=Origin(strategy="person", operator="start", step=0))
                for graph in start_graphs(self.settings.start, self.space, self.data)]

    def _conclude(self, evaluator: Rungs, stopped: Stopped) -> None:
        self._full_rung(evaluator)
        chosen = self._select(evaluator)
        self._meter(evaluator, chosen)
        limited = stopped.reason != "budget" and self.settings.max_evals is not None
        while chosen is not None and "final" not in chosen.trained and not self.interrupts():
            left = self.settings.budget_s - self.state.plan.wrap_s - self.clock.t()
            if limited:
                left = min(left, self.state.plan.final_s)
            measured = train_one(self.journal, evaluator, chosen, "final", max(1.0, left),
                                 f"final training of trial {chosen.n}", self.interrupts)
            if measured.trained is not None:
                return
            chosen = self._second_choice(chosen, measured.note)

    def _meter(self, evaluator: Rungs, chosen: Trial | None) -> None:
        """Reads the energy of the chosen network where there is a counter, in a tenth of the final training's time."""
        limit_s = METERING * self.state.plan.final_s
        if chosen is None or limit_s < METER_LEAST_S or "final" in chosen.trained or chosen.n in self._metered:
            return
        self._metered.add(chosen.n)
        for measured in evaluator.meter(chosen, limit_s):
            self.journal.emit(measured)

    def _second_choice(self, failed: Trial, note: str) -> Trial | None:
        """Returns the cheapest architecture that was not tried yet, after a final training failed, while time is left.

        Cheapest, because what failed at this point failed for want of time or memory.
        """
        self._tried.add(failed.n)
        valid = [trial for trial in self.state.trials if trial.counts is not None and trial.n not in self._tried]
        if not valid or self.settings.budget_s - self.state.plan.wrap_s - self.clock.t() < 1.0:
            self.journal.emit(Warned(message=f"the final training of trial {failed.n} failed: {note}"))
            return None
        chosen = min(valid, key=lambda trial: (trial.counts.macs if trial.counts else 0, trial.n))
        before = self.state.selected or Selected(n=chosen.n, why="", front=())
        self.journal.emit(before.model_copy(update={"n": chosen.n, "why": (
            f"the final training of trial {failed.n} failed ({note}); this is the cheapest architecture seen")}))
        return chosen

    def _full_rung(self, evaluator: Rungs) -> None:
        """Trains the best few longer, each by the same rule, so that the choice rests on more than a short training."""
        plan = self.state.plan
        ranked = sorted((trial for trial in self.state.trained() if not trial.violates),
                        key=lambda trial: (-(self.state.merit(trial) or 0.0), trial.n))[:plan.finalists]
        end = self.settings.budget_s - plan.wrap_s - plan.final_s
        for trial, share in zip(ranked, evaluator.shares(ranked), strict=True):
            left = end - self.clock.t()
            if len(ranked) > 1 and "full" not in trial.trained and left > plan.full_s / 10 and not self.interrupts():
                train_one(self.journal, evaluator, trial, "full", left, f"full training of finalist {trial.n}",
                          self.interrupts, share * plan.full_s)

    def _select(self, evaluator: Rungs) -> Trial | None:
        """Times the fronts anew, chooses by the first target, and writes the choice down with every front."""
        if self.state.selected is not None:
            return self.state.trial(self.state.selected.n)
        self._time_again(evaluator, self._contenders())
        chosen, why = choose(self.state.trials, self.settings, self.keys[0])
        if chosen is None:
            chosen, why = self._untrained_choice()
        if chosen is None:
            return None
        fronts = {key: tuple(trial.n for trial in front(self.state.trials, key)) for key in self.keys}
        self.journal.emit(Selected(n=chosen.n, why=why, front=fronts[self.keys[0]], fronts=fronts,
                                   choices=choices(self.state.trials, self.settings, self.keys)))
        return chosen

    def _contenders(self) -> list[Trial]:
        """Returns the best few of the front of every target that can be timed, each once."""
        found: dict[int, Trial] = {}
        for target in self.targets:
            if target.measurable:
                settings = settings_on(target.key, self.settings, self.keys)
                found |= {trial.n: trial for trial in contenders(self.state.trials, settings, target.key)}
        return list(found.values())

    def _untrained_choice(self) -> tuple[Trial | None, str]:
        """Returns the best-ranked valid trial when no training gave a score in time."""
        valid = [trial for trial in self.state.trials if trial.rank is not None]
        if not valid:
            return None, ""
        return min(valid, key=lambda trial: (bool(trial.violates), trial.rank or 0, trial.n)), (
            "no training gave a score in time; this is the best by proxies")

    def _time_again(self, evaluator: Rungs, trials: list[Trial]) -> None:
        """Measures finalists longer and in turn: choosing by quick timings selects their errors."""
        graphs = [trial.proposal.graph for trial in trials if trial.proposal.graph is not None]
        self.journal.tick("timing the finalists")
        limit_s = self.state.plan.wrap_s + self.state.plan.final_s / 4
        for latencies in evaluator.time_finalists(graphs, limit_s).values():
            for trial, found in zip(trials, latencies, strict=True):
                if found is not None:
                    self.journal.emit(Measured(n=trial.n, latency=found, energy=evaluator.energy(found)))

    def _chosen_network(self, evaluator: Rungs) -> Any:
        graph = self._chosen_graph()
        return evaluator.network(graph) if graph is not None else None

    def _chosen_graph(self) -> ArchGraph | None:
        return self.state.trial(self.state.selected.n).proposal.graph if self.state.selected else None

    # -- artefacts

    def _trained_weights(self) -> str | None:
        """Returns the weights file of the chosen trial; None when it has none: untrained weights are not a model."""
        chosen = self.state.trial(self.state.selected.n) if self.state.selected else None
        final = chosen.trained.get("final") if chosen else None
        return final.weights if final else None

    def _artefacts(self, evaluator: Rungs) -> dict[str, str]:
        """Writes graph, code, weights, model card and split ids; clears the copied data."""
        files = {"report": "report.html", "events": "events.jsonl"}
        graph = self._chosen_graph()
        if graph is not None and self._trained_weights() is not None:
            files |= export_trial(self.executor, self.store.directory, self.state, self.data, evaluator, ("torch",))
        chosen = self.state.selected.model_dump(mode="json") if self.state.selected else None
        to_json_file(self.store.directory / "run.json",
                     self.state.begun.model_dump(mode="json") | {"selected": chosen})
        if not self.state.ended_by_person:
            for part in (self.store.directory / "data").glob("**/*.npy"):
                part.unlink()
        return files


def _check_reachable(model: Any) -> None:
    """Asks an endpoint for its models, so that a wrong address or key is known before anything is spent.

    Raises:
        ModelError: Nothing answers, or the key is refused. An endpoint without such a list passes.
    """
    from llmnas.llm import CallFailed

    if not hasattr(model, "models"):
        return
    try:
        model.models(monotonic() + REACH_S)
    except CallFailed as error:
        if error.status in ("unreachable", "timeout", "out_of_time", "auth"):
            raise ModelError(f"{model.name}: {error.message}", error.hint or "see `llmnas doctor`") from error


def start_graphs(file: str | None, space: Space, data: DataRef) -> list[ArchGraph]:
    """Returns the person's own graphs in a JSON file: one graph or a list of them.

    Raises:
        InputError: The file cannot be read, or a graph is not legal; every issue is named.
    """
    if file is None:
        return []
    import json

    try:
        value = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not a JSON file of graphs: {error}", "see docs/graphs.md for the form") from None
    graphs = []
    for item in value if isinstance(value, list) else [value]:
        body = {key: part for key, part in item.items() if key != "meta"} if isinstance(item, dict) else item
        graph, issues = parse_graph(body, space.name)
        issues = issues or (space.validate(graph, data.shape, data.classes) if graph else [])
        if graph is None or issues:
            raise InputError(f"{file}: " + "; ".join(map(str, issues)))
        graphs.append(graph)
    return graphs
