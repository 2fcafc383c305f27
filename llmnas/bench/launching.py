"""Arms compared on real trainings: one child ``llmnas run`` per arm and seed; what is finished or half done is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Final

from llmnas.bench.answering import prompts_of
from llmnas.bench.process import Say, llmnas
from llmnas.budget import format_duration
from llmnas.compare import Arm
from llmnas.compare.analysis import Question
from llmnas.compare.of_runs import compared
from llmnas.compare.results import Agreed
from llmnas.compare.runs import SPOILT, check_alike, differences, read_runs
from llmnas.errors import InputError, LlmnasError, ModelError, NoModelFound, RunError
from llmnas.store import read_run

_HANG_S: Final = 120.0  # over the budget; a run that keeps its budget never needs it
_SAYS: Final = {3: InputError, 4: ModelError, 6: RunError}


@dataclass(frozen=True)
class Task:
    """What every run has in common.

    Attributes:
        data: As ``--data`` of a run.
        space: As ``--space``.
        budget_s: Wall seconds of a run.
        evals: Most architectures trained; None for as many as the budget allows.
        target: As ``--target``.
        screen: Most architectures scored by proxies; None for no limit.
        prior: Whether known-good designs may be used.
        llm: As ``--llm``, one or several.
        prompt: As ``--prompt``.
    """

    data: str
    space: str = "auto"
    budget_s: float = 1800.0
    evals: int | None = None
    target: str = "cpu"
    screen: int | None = None
    prior: bool = True
    llm: str | tuple[str, ...] = "auto"
    prompt: str = "base"


@dataclass(frozen=True)
class Launch:
    """One run that is wanted."""

    task: Task
    arm: Arm
    seed: int
    directory: Path

    def arguments(self) -> list[str]:
        """Returns what follows ``llmnas`` on the command line: a new run, or going on with what is there."""
        if begun(self.directory):
            return ["resume", str(self.directory), "--progress", "quiet"]
        task = self.task
        options = {"data": task.data, "space": task.space, "budget": format_duration(task.budget_s),
                   "target": task.target, "strategy": self.arm.strategy, "seed": str(self.arm.seed(self.seed)),
                   "max-evals": task.evals, "screen": task.screen, "prompt": self.arm.prompt or task.prompt,
                   "progress": "quiet", "out": str(self.directory)}
        given = [part for name, value in options.items() if value is not None for part in (f"--{name}", str(value))]
        models = [task.llm] if isinstance(task.llm, str) else task.llm
        given += [part for model in models for part in ("--llm", model)]
        return ["run", *given, *([] if task.prior else ["--no-prior"])]


def begun(directory: Path) -> bool:
    """Returns whether there is a run with at least its first event."""
    log = directory / "events.jsonl"
    return log.is_file() and log.stat().st_size > 0


def finished(directory: Path) -> bool:
    """Returns whether a run is over.

    Raises:
        RunError: It is, but by a person or because its model was lost, so that it cannot be gone on with.
    """
    state = read_run(directory) if begun(directory) else None
    if state is None or state.finished is None or state.stopped is None:
        return False
    if state.stopped.reason in SPOILT:
        raise RunError(f"{directory} ended before its budget was used: {state.stopped.says}",
                       "delete this folder, and the same command runs it anew")
    return True


def compare_on_data(task: Task, arms: Sequence[Arm], seeds: int, folder: Path, question: Question | None = None,
                    workers: int = 1, say: Say = lambda _: None) -> dict[str, Any]:
    """Returns the comparison of arms on real trainings. Runs in the folder are kept; half-finished ones go on.

    Args:
        task: What every run has in common.
        arms: What is compared.
        seeds: How many, from 0.
        folder: Gets the runs, below ``runs/``.
        question: What is asked.
        workers: Runs at once. More than one on one machine take time from each other.
        say: Gets progress.

    Raises:
        InputError: A run refused its settings.
        ModelError: The language model was lost.
        RunError: The folder holds a comparison on other terms, or a run in it is in use.
    """
    prompts_of(arms, task.prompt)  # what cannot be read is said before anything runs
    launches = [Launch(task, arm, seed, folder / "runs" / f"{arm.file}-{seed}") for seed in range(seeds)
                for arm in arms]
    with Agreed(folder, asdict(task)):
        left = [one for one in launches if not finished(one.directory)]
        if len(left) < len(launches):
            say(f"{len(launches) - len(left)} of {len(launches)} runs in {folder} are finished already")
        for done, launch in enumerate(_launched(left, folder, workers), start=1):
            say(f"{launch.arm.label}, seed {launch.seed}: done ({done} of {len(left)})")
        runs = {arm.label: {one.seed: read_runs([one.directory])[0] for one in launches if one.arm == arm}
                for arm in arms}
    notes = [*_unpaired(arms), *([f"{workers} runs at a time shared one machine: seconds are longer than alone, and a "
                                  "budget in time bought less."] if workers > 1 else [])]
    firsts = {arm.label: list(runs[arm.label].values()) for arm in arms if arm.stream == 1}
    notes += check_alike(differences(firsts), unlike=True) if firsts else []
    asked = question or Question()
    document = compared(runs, replace(asked, evals=task.evals or asked.evals), notes)
    return {**document, "source": "training", "terms": document["terms"] | asdict(task) | {"workers": workers}}


def _unpaired(arms: Sequence[Arm]) -> list[str]:
    return [f"{arm.label} draws its seeds anew, so its runs have splits and weights of their own: its pairs share "
            "nothing, and its differences scatter more than those of other arms." for arm in arms if arm.stream > 1]


def _launched(left: Sequence[Launch], folder: Path, workers: int) -> Iterator[Launch]:
    """Yields the runs as they end; when one fails or a person interrupts, the others are killed, to go on later."""
    halt = Event()
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(_launch, one, folder, halt): one for one in left}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BaseException:
            halt.set()
            pool.shutdown(cancel_futures=True)
            raise


def _launch(launch: Launch, folder: Path, halt: Event) -> None:
    log = folder / "logs" / f"{launch.arm.file}-{launch.seed}.log"
    ended = llmnas(launch.arguments(), log, limit_s=launch.task.budget_s + _HANG_S, own_environment=True, halt=halt)
    if halt.is_set() and ended.code < 0:
        return
    if ended.code not in (0, NoModelFound.exit_code):  # that nothing was found is a result
        kind = _SAYS.get(ended.code, LlmnasError)
        raise kind(f"the run of {launch.arm.label}, seed {launch.seed}, ended with code {ended.code}: {ended.says}",
                   f"its output is in {log}")
