"""What a run with several targets shows: how the order of networks differs between them, and what to take on each."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Final

from llmnas.proxies.validity import interval
from llmnas.records import Trial
from llmnas.report import facts
from llmnas.report import format as say
from llmnas.report.plots import spearman
from llmnas.store import RunState

ORDER_HEADS: Final = ("targets", "n", "Spearman", "95 % interval", "sources")
NOTE: Final = (
    "Spearman compares the order of the latencies of all networks that have one on both targets, trained or not: 1 is "
    "the same order, 0 none. The interval is a bootstrap over networks. Two analytic latencies come from one formula "
    "with other constants: their agreement is that of the formula, nobody has measured it.")
_MOST: Final = 20


def order_rows(state: RunState) -> list[tuple[str, ...]]:
    """Returns one row for every pair of targets; its heads are `ORDER_HEADS`."""
    return [_order(state, left, right) for left, right in combinations(facts.targets(state), 2)]


def _order(state: RunState, left: str, right: str) -> tuple[str, ...]:
    pairs = [(one.latency[left], one.latency[right]) for one in state.trials
             if left in one.latency and right in one.latency]
    pairs = [(a, b) for a, b in pairs if math.isfinite(a.ms) and math.isfinite(b.ms)]
    xs, ys = [a.ms for a, _ in pairs], [b.ms for _, b in pairs]
    found, (low, high) = spearman(xs, ys), interval(xs, ys)
    sources = [", ".join(sorted({pair[side].source for pair in pairs})) or say.UNKNOWN for side in (0, 1)]
    return (f"{left} and {right}", say.whole(len(pairs)), "too few" if found is None else f"{found:+.2f}",
            say.UNKNOWN if low is None or high is None else f"{low:+.2f} to {high:+.2f}", " / ".join(sources))


def apart_heads(state: RunState) -> tuple[str, ...]:
    """Returns the heads of `apart_rows`."""
    return ("trial", facts.metric(state), "on the front of", "not on that of",
            *(f"latency on {key}" for key in facts.targets(state)))


def apart_rows(state: RunState) -> list[tuple[str, ...]]:
    """Returns the designs that are on the front of one target and not on that of another, the best scores first."""
    keys = facts.targets(state)
    fronts = {key: {trial.n for trial in facts.front(state, key)} for key in keys}
    some, every = set().union(*fronts.values()), set.intersection(*fronts.values()) if fronts else set()
    apart = [trial for n in some - every if (trial := facts.find(state, n)) is not None]
    ordered = sorted(apart, key=lambda trial: (-(trial.score or 0.0), trial.n))
    return [_apart(state, trial, {key: trial.n in fronts[key] for key in keys}) for trial in ordered[:_MOST]]


def _apart(state: RunState, trial: Trial, on: dict[str, bool]) -> tuple[str, ...]:
    return (str(trial.n), say.score(trial.score, facts.metric(state)), ", ".join(key for key in on if on[key]),
            ", ".join(key for key in on if not on[key]), *(facts.cost(state, trial, key) for key in on))


def choice_rows(state: RunState) -> list[tuple[str, ...]]:
    """Returns target, trial, search score and cost of the best on every target, the answer first."""
    answer, keys, metric = facts.answer(state), facts.targets(state), facts.metric(state)
    best = ({keys[0]: answer} if answer is not None and keys else {}) | facts.choices(state)
    return [(key, str(trial.n), say.score(trial.score, metric), facts.cost(state, trial, key))
            for key, trial in best.items()]
