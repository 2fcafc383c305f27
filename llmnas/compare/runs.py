"""Finished run directories as trajectories: which arm each belongs to, and whether they may be compared at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmnas.compare.rates import answers
from llmnas.compare.trajectory import Charges, Paid, Trajectory
from llmnas.errors import InputError
from llmnas.records import Event, Measured, Stopped, Trial
from llmnas.store import RunState, fold, read_events

ARM: Final = ("strategy", "prompt", "temperature", "structured", "prior", "screen", "start", "on_llm_failure")
"""Settings that make an arm, beside the model."""
SEEDED: Final = ("seed", "llm", "base_url")
"""Settings that may differ: the seed pairs, and the model counts by the name it answered under."""
ONE_SCORE: Final = ("data", "metric", "split")
"""What must be equal for two scores to mean the same."""
SPOILT: Final = ("interrupted", "stop_file", "llm_failed")
"""Ends of a run that say nothing about its arm."""
_SHOWN: Final = 3


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        name: Its directory's name.
        state: Folded from its log.
        events: The log.
        label: Label of its arm, when several arms are told apart.
    """

    name: str
    state: RunState
    events: tuple[Event, ...]

    @property
    def seed(self) -> int:
        """The seed that pairs it."""
        return self.state.settings.seed

    @property
    def signature(self) -> dict[str, Any]:
        """What makes its arm."""
        own = self.state.settings.model_dump(mode="json", include=set(ARM))
        if self.state.started is None or self.state.started.model is None:
            own.update(prompt=None, temperature=None, structured=None, on_llm_failure=None)  # nobody was asked
            return own
        called = next((call.prompt for call in self.state.calls), own["prompt"])
        return own | {"model": self.state.started.model, "prompt": called}

    @property
    def terms(self) -> dict[str, Any]:
        """What must be alike for a comparison: task, limits, recipe, machine."""
        begun, plan = self.state.begun, self.state.plan
        settings = self.state.settings.model_dump(mode="json", exclude={*ARM, *SEEDED})
        task = begun.task
        return {**settings, "target": list(begun.targets) or settings["target"],
                "data": [task.get("name"), task.get("shape"), task.get("classes"), task.get("sizes")],
                "recipe": [plan.train_batch, plan.train_steps, plan.short_s, plan.full_s, plan.final_s],
                "proxies": list(plan.proxies),
                "machine": [begun.environment.get(name) for name in ("cpu", "cores", "gpus", "torch")]}


def read_runs(directories: Sequence[Path]) -> list[Run]:
    """Returns finished runs.

    Raises:
        InputError: One is not finished.
        RunError: One is damaged or no run.
    """
    found = []
    for directory in directories:
        events = tuple(read_events(directory / "events.jsonl"))
        run = Run(directory.name, fold(list(events)), events)
        if run.state.finished is None or run.state.stopped is None:
            raise InputError(f"{directory} is not finished: half a search cannot be compared with a whole one",
                             f"go on with it: llmnas resume {directory}, or leave it out")
        if run.state.stopped.reason in SPOILT:
            raise InputError(f"{directory} ended before its budget was used: {run.state.stopped.says}",
                             "leave it out, or run it anew")
        found.append(run)
    return found


def grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Returns the runs of every arm: those that differ in nothing but the seed. Labels say what differs, and no more.

    Raises:
        InputError: Two runs of one arm have the same seed.
    """
    signatures: list[dict[str, Any]] = []
    for run in runs:
        if run.signature not in signatures:
            signatures.append(run.signature)
    arms = {_label(one, signatures): [run for run in runs if run.signature == one] for one in signatures}
    for label, own in arms.items():
        seeds: dict[int, Run] = {}
        for run in own:
            if run.seed in seeds:
                raise InputError(f"two runs of {label} have seed {run.seed}: {seeds[run.seed].name} and {run.name}",
                                 "leave one out")
            seeds[run.seed] = run
    return arms


def _label(own: Mapping[str, Any], signatures: Sequence[Mapping[str, Any]]) -> str:
    alike = [one for one in signatures if one["strategy"] == own["strategy"]]
    differing = [name for name in ("model", *ARM) if len({repr(one.get(name)) for one in alike}) > 1]
    return " ".join([str(own["strategy"]), *(f"{name}={own.get(name)}" for name in differing)])


def differences(arms: Mapping[str, Sequence[Run]]) -> dict[str, list[str]]:
    """Returns what is not alike among the runs: by term, its values, each with a run that has it."""
    runs = [run for own in arms.values() for run in own]
    found: dict[str, list[str]] = {}
    for name in runs[0].terms:
        values: dict[str, str] = {}
        for run in runs:
            values.setdefault(str(run.terms.get(name)), run.name)
        if len(values) > 1:
            found[name] = [f"{value} ({run})" for value, run in values.items()]
    if apart := _splits_apart(runs):
        found["split"] = apart
    return found


def _splits_apart(runs: Sequence[Run]) -> list[str]:
    """Returns the seeds whose runs did not see the same examples."""
    digests: dict[int, dict[str, str]] = {}
    for run in runs:
        digests.setdefault(run.seed, {}).setdefault(str(run.state.begun.task.get("digests")), run.name)
    return [f"seed {seed}: {' and '.join(own.values())}" for seed, own in digests.items() if len(own) > 1]


def check_alike(found: Mapping[str, Sequence[str]], unlike: bool) -> list[str]:
    """Returns a note for everything that is not alike.

    Args:
        found: As `differences` has it.
        unlike: Whether the person wants the comparison in spite of it.

    Raises:
        InputError: Scores that do not mean the same, or anything at all that was not allowed to differ.
    """
    texts = [f"{name}: {', '.join(values[:_SHOWN])}" + (f" and {len(values) - _SHOWN} more"
             if len(values) > _SHOWN else "") for name, values in found.items()]
    if hard := [text for name, text in zip(found, texts, strict=True) if name in ONE_SCORE]:
        raise InputError(f"the scores of these runs do not mean the same. Differing {'; '.join(hard)}",
                         "compare runs on the same data, split and metric")
    if texts and not unlike:
        raise InputError(f"these runs are not alike. Differing {'; '.join(texts)}",
                         "leave some out, or compare them all the same with --unlike: the report says what differs")
    return [f"The runs are not alike, and no difference can be put down to the arms alone. Differing {text}."
            for text in texts]


def trajectory(run: Run, arm: str, seed: int | None = None) -> Trajectory:
    """Returns what a run did, with its measures.

    Args:
        run: A finished run.
        arm: Label of its arm.
        seed: The seed that pairs it; None takes the run's own.
    """
    state = run.state
    target = next(iter(state.targets), None)
    paid = tuple(_all_paid(run, target))
    ended = next((event.t_s for event in run.events if isinstance(event.body, Stopped)), None)
    final = state.trial(state.selected.n).trained.get("final") if state.selected else None
    found = Trajectory(arm=arm, strategy=state.settings.strategy, seed=run.seed if seed is None else seed, paid=paid,
                       charges=_charges(state), stopped=state.stopped.reason if state.stopped else "unknown",
                       model=state.begun.model, end_s=ended, prompt=run.signature.get("prompt"),
                       answers=answers(state.trials) if state.begun.model else None)
    best = found.best()
    return found.model_copy(update={"measures": {"test": final.test_score if final else None,
                                                 "validation": best.score if best else None}})


def _all_paid(run: Run, target: str | None) -> Iterator[Paid]:
    """Yields the whole short trainings; what parts of others cost is in the count."""
    cost = 0.0
    for event in run.events:
        if isinstance(event.body, Measured) and event.body.rung == "short":
            share = event.body.trained.share if event.body.trained else 1.0
            cost += share
            if share == 1:
                yield _paid(run.state.trial(event.body.n), cost, event.t_s, target)


def _paid(trial: Trial, at: float, at_s: float, target: str | None) -> Paid:
    timed = trial.latency.get(target or "")
    return Paid(what=trial.key or str(trial.n), score=None if trial.violates else trial.score, at=at, at_s=at_s,
                latency_ms=timed.ms if timed else None)


def _charges(state: RunState) -> Charges:
    spent, screened = state.spent, [trial for trial in state.trials if trial.status == "screened"]
    refused = sum(bool(trial.violates) for trial in screened)
    proxied = sum(len(trial.scores) > 2 for trial in state.trials) + sum(one.scored for one in state.pools.values())
    return Charges(proposals=spent.proposals, invalid=spent.invalid, duplicate=spent.duplicate, refused=refused,
                   passed_over=len(screened) - refused, repaired=spent.repaired, evaluations=spent.cost,
                   proxies=proxied, calls=spent.calls, input_tokens=spent.usage.input_tokens,
                   output_tokens=spent.usage.output_tokens, usd=spent.usage.usd, llm_s=spent.usage.seconds,
                   proxy_s=spent.screen_s, train_s=spent.train_s)
