"""What a run amounts to: the answer, its lineage, what was spent. Page, console, card and JSON all say it from here.

Nothing here raises on a run that has not started, has no trained model or was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from llmnas import front as pareto
from llmnas.records import Called, Latency, Trained, Trial
from llmnas.report import format as say
from llmnas.store import RunState


def name(state: RunState) -> str:
    """Returns the run's name."""
    return say.one_line(state.started.run, 120) if state.started else "unnamed run"


def offline(state: RunState) -> bool:
    """Whether the mock model alone made the proposals, now or in the run that is replayed."""
    if state.started is None:
        return False
    return state.offline or (any(map(by_mock, state.calls))
                             and all(by_mock(call) for call in state.calls if call.status == "ok"))


def by_mock(call: Called) -> bool:
    """Whether the mock answered a call; a replay of its replies is the mock too."""
    return call.model.startswith("mock") or call.mode == "mock"


def targets(state: RunState) -> tuple[str, ...]:
    """Returns the keys of the targets, the first one judged by; an older log does not name them, its latencies do."""
    if state.targets:
        return state.targets
    seen = dict.fromkeys(key for trial in state.trials for key in trial.latency)
    first = _first_of(seen, state.settings.target)
    return tuple(dict.fromkeys((first, *seen))) if first is not None else ()


def _first_of(seen: Collection[str], typed: Sequence[str]) -> str | None:
    """Returns the key of the first target as it was typed, else the first key that has a latency."""
    for target in typed[:1]:
        spec = target.rpartition(":")[2]
        names = (target, spec, spec.partition("@")[0])
        found = [key for name in names for key in seen if name in {key, key.partition("@")[0]}]
        if found:
            return found[0]
    return next(iter(seen), None)


def target(state: RunState) -> str | None:
    """Returns the key of the target that is judged by; None when the run has no latency at all."""
    return next(iter(targets(state)), None)


def latency(state: RunState, trial: Trial, on: str | None = None) -> Latency | None:
    """Returns the trial's latency on a target, by default the one that is judged by."""
    key = target(state) if on is None else on
    return trial.latency.get(key) if key is not None else None


def cost(state: RunState, trial: Trial, on: str | None = None) -> str:
    """Returns the trial's latency on a target in words, with its energy where that is known."""
    key = target(state) if on is None else on
    return say.cost_text(latency(state, trial, key), trial.energy.get(key or ""))


def reward(state: RunState, trial: Trial) -> str | None:
    """Returns the trial's reward in words; None when the run aims at no latency, so that there is none."""
    if state.settings.aim_latency_ms is None:
        return None
    value = state.merit(trial)
    return say.UNKNOWN if value is None else f"{value:.4f}"


def find(state: RunState, n: int) -> Trial | None:
    """Returns trial `n`, or None when there is none."""
    return state.trials[n - 1] if 1 <= n <= len(state.trials) else None


def answer(state: RunState) -> Trial | None:
    """Returns the selected trial, else the best so far, else the best that breaks a constraint, else None."""
    if state.selected is not None and (chosen := find(state, state.selected.n)) is not None:
        return chosen
    if state.best is not None:
        return find(state, state.best.n) or state.best
    return max((trial for trial in state.trials if trial.best_rung), key=_merit, default=None)


def _merit(trial: Trial) -> tuple[bool, float, float]:
    """A score of a whole training goes before one that a deadline cut, and a longer training before a shorter one."""
    found = trial.best_rung
    value = found.val_score if found and math.isfinite(found.val_score) else -math.inf
    return trial.score_at(trial.share) is not None, trial.share, value


def front(state: RunState, on: str | None = None) -> list[Trial]:
    """Returns the front on a target, by default the first, cheapest first; in MACs when no latency is known."""
    trials = [trial for trial in state.trained() if say.finite(trial.score)]
    return pareto.front(trials, target(state) if on is None else on)


def choices(state: RunState) -> dict[str, Trial]:
    """Returns the best trial on every target after the first, by target key; as selected, else as it stands now."""
    keys = targets(state)
    numbers = state.selected.choices if state.selected else pareto.choices(state.trials, state.settings, keys)
    return {key: trial for key in keys[1:] if (trial := find(state, numbers.get(key, 0))) is not None}


def top(state: RunState, n: int = 10) -> list[Trial]:
    """Returns the `n` trials with the best search scores, or rewards when a latency is aimed at."""
    def value(trial: Trial) -> float:
        found = state.merit(trial)
        return found if found is not None and math.isfinite(found) else -math.inf

    return sorted(state.trained(), key=lambda trial: (-value(trial), trial.n))[:n]


def metric(state: RunState) -> str:
    """Returns the name of the score."""
    return say.one_line(state.settings.metric, 40)


def test_interval(state: RunState, value: float | None) -> tuple[float, float] | None:
    """Returns the 95 % interval of a test accuracy (Wilson, JASA 22:209-212, 1927); None when it has none."""
    sizes = (state.started.task if state.started else {}).get("sizes")
    n = sizes.get("test") if isinstance(sizes, dict) else None
    if not isinstance(n, int) or n < 1 or metric(state) != "accuracy" or value is None or not 0 <= value <= 1:
        return None
    z = 1.96
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def test_score(state: RunState, trained: Trained | None) -> str | None:
    """Returns the test score with its interval; None when the test has not been read."""
    if trained is None or trained.test_score is None:
        return None
    text, interval = say.score(trained.test_score, trained.metric), test_interval(state, trained.test_score)
    if interval is None:
        return text
    return f"{text} ({100 * interval[0]:.1f}–{100 * interval[1]:.1f} %, 95 % interval)"


def status(state: RunState) -> str:
    """Returns where the run stands, in words."""
    if state.started is None:
        return "not started"
    if state.stopped is not None:
        return f"{state.stopped.reason}: {say.one_line(state.stopped.says)}".rstrip(": ")
    return "finished" if state.finished else "still going, or cut off"


def verdict(state: RunState) -> tuple[str, str]:
    """Returns the outcome in two sentences."""
    trial, spent = answer(state), state.spent
    used = (f"{say.duration(state.clock_s)} of a budget of {say.duration(state.settings.budget_s)}, "
            f"{say.plural(spent.proposals, 'proposal')} and {say.plural(spent.trainings, 'training')}")
    if trial is None or trial.best_rung is None:
        return "No architecture has been trained.", f"Used: {used}; the run is {status(state)}."
    found, data = trial.best_rung, say.one_line(state.settings.data, 60)
    tested = test_score(state, found)
    reached = (f"scores {tested} test {found.metric} on {data}" if tested else
               f"has a validation {found.metric} of {say.score(found.val_score, found.metric)} on {data}{brief(found)} "
               "(the test data have not been read)")
    timed, where = latency(state, trial), target(state)
    speed = f"; it takes {cost(state, trial)} on {where} at batch {timed.batch}" if timed else ""
    speed = speed or "; its latency is unknown"
    gained = reward(state, trial)
    speed += f"; its reward in the search is {gained}" if gained is not None else ""
    kind = "Trial" if state.selected else "So far the best, trial"
    broken = f", but breaks a constraint ({'; '.join(trial.violates)})" if trial.violates else ""
    return (f"{kind} {trial.n} {reached}{speed}{broken}.", f"It has {size(trial)}; found with {used}.")


def brief(found: Trained) -> str:
    """Returns what must be said beside a score that comes from less than a short training; nothing of others."""
    return "" if found.share == 1 else f" after {pareto.share_text(found.share)} of a short training"


def size(trial: Trial) -> str:
    """Returns a trial's size in words."""
    if trial.counts is None:
        return "an unknown size"
    counts = trial.counts
    return (f"{say.count(counts.params)} parameters, {say.count(counts.macs)} MACs and a peak of "
            f"{say.megabytes(counts.memory_mb)}")


@dataclass(frozen=True)
class Ancestor:
    """One step of a lineage.

    Attributes:
        depth: Generations before the trial asked about.
        key: Key of the architecture.
        trial: The trial that first had it; None when no trial of this run did.
    """

    depth: int
    key: str
    trial: Trial | None


def lineage(state: RunState, trial: Trial, limit: int = 40) -> list[Ancestor]:
    """Returns the trial and its ancestors, depth first, each architecture once."""
    found: list[Ancestor] = []
    seen: set[str] = set()
    stack = [Ancestor(0, trial.key or "", trial)]
    while stack and len(found) < limit:
        step = stack.pop()
        found.append(step)
        parents = step.trial.proposal.origin.parents if step.trial else ()
        fresh = [key for key in dict.fromkeys(parents) if key not in seen and key != trial.key]
        seen.update(fresh)
        stack += [Ancestor(step.depth + 1, key, find(state, state.first.get(key, 0))) for key in reversed(fresh)]
    return found


Row = tuple[str, str, str]  # what, how much, a note


def spent_rows(state: RunState) -> list[Row]:
    """Returns what was spent; tokens that a server does not report are unknown, unpriced money is unpriced."""
    spent, usage = state.spent, state.spent.usage
    failed = sum(call.status != "ok" for call in state.calls)
    rows: list[Row] = [
        ("proposals", say.whole(spent.proposals), "everything proposed"),
        ("invalid", say.whole(spent.invalid), _share(spent.invalid, spent.proposals)),
        ("duplicate", say.whole(spent.duplicate), _share(spent.duplicate, spent.proposals)),
        ("repaired", say.whole(spent.repaired), "valid only after repair"),
        ("evaluations", say.whole(spent.evaluations), "distinct architectures sent to training"),
        *([] if abs(spent.cost - spent.evaluations) < 1e-6 else [
            ("charged", f"{spent.cost:.4g}", "evaluations; a part of a short training counts as that part")]),
        ("trainings", say.whole(spent.trainings), "finished, failed ones included"),
        ("train time", say.duration(spent.train_s), "sum over all trainings"),
        *([("fitting time", say.duration(spent.fit_s), "training of supernets")] if state.fits else []),
        ("screening time", say.duration(spent.screen_s), "counting, proxies, latency"),
        ("model calls", say.whole(spent.calls), f"{failed} failed" if failed else "none failed" if spent.calls else ""),
        ("tokens", say.whole(spent.tokens), _tokens(state)),
        ("model time", say.duration(usage.seconds), f"{say.duration(usage.wait_s)} of it waiting"),
        ("money", say.usd(usage), "model calls" if spent.calls else "no model calls"),
    ]
    return rows


def _share(part: int, total: int) -> str:
    return f"{say.percent(part / total)} of proposals" if total else ""


def _tokens(state: RunState) -> str:
    usage = state.spent.usage
    if state.spent.tokens is None:
        silent = sum(None in (call.usage.input_tokens, call.usage.output_tokens) for call in state.calls)
        return ("the server does not report them" if silent == len(state.calls) else
                f"{silent} of {len(state.calls)} calls did not say")
    return f"{say.whole(usage.input_tokens)} in, {say.whole(usage.output_tokens)} out"


def plan_rows(state: RunState) -> list[Row]:
    """Returns plan against actual."""
    if state.started is None:
        return []
    plan, spent = state.plan, state.spent
    shorts = [trial.trained["short"].seconds for trial in state.trials if "short" in trial.trained]
    fulls = [trial.trained["full"].seconds for trial in state.trials if "full" in trial.trained]
    finals = [trial.trained["final"].seconds for trial in state.trials if "final" in trial.trained]
    finalists = f"{plan.finalists} in {say.duration(plan.full_s)}" if plan.finalists else "none"
    return [
        ("whole run", say.duration(state.settings.budget_s), say.duration(state.clock_s)),
        ("trainings of finalists", finalists,
         f"{len(fulls)} in {say.duration(sum(fulls))}" if fulls else "none"),
        ("final training", say.duration(plan.final_s), say.duration(sum(finals)) if finals else "none yet"),
        ("short trainings", say.whole(plan.trainings), say.whole(len(shorts))),
        ("one short training", say.duration(plan.short_s),
         say.duration(sum(shorts) / len(shorts)) + " on average" if shorts else "none yet"),
        ("proposals", say.whole(plan.proposals), say.whole(spent.proposals)),
        ("model calls", "none" if plan.calls is None else say.whole(plan.calls), say.whole(spent.calls)),
    ]
