"""Operators that make proposals, and the bandit that shares an ask among them by what they brought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from llmnas.front import front
from llmnas.records import Called, Trial
from llmnas.strategies.base import Rng, Setup

MODEL_OPERATORS: Final = ("llm_fresh", "llm_mutate", "llm_cross")
CODE_OPERATORS: Final = ("one_edit", "crossover", "random")
TOKENS: Final = 2_000
"""Tokens that cost as much as screening one graph, on the nominal clock: a guess, some seconds of either."""
PLATEAU: Final = 12
"""Trainings in a row without a gain after which returns count as diminishing."""


@dataclass(frozen=True)
class Earned:
    """What an operator brought.

    Attributes:
        made: Proposals, invalid and repeated ones too.
        gains: Those that improved the best merit, or the front where one is asked for, when they were trained.
        cost: Of one proposal, in screenings of a graph.
    """

    made: int
    gains: int
    cost: float


def gainful(trials: Sequence[Trial], setup: Setup) -> list[Trial]:
    """Returns the trials that brought something new when they were trained, in order: a better best, or a front member.

    The order of trials stands for that of their trainings.
    """
    found: list[Trial] = []
    best: float | None = None
    for trial in trials:
        merit = setup.merit(trial)
        if merit is None or trial.violates:
            continue
        if setup.front:
            if any(one.n == trial.n for one in front([*found, trial], setup.target)):
                found.append(trial)
        elif best is None or merit > best:
            found.append(trial)
            best = merit
    return found


def on_plateau(trials: Sequence[Trial], setup: Setup) -> bool:
    """Returns whether the last `PLATEAU` trainings brought nothing: diminishing returns."""
    trained = [trial.n for trial in trials if setup.merit(trial) is not None]
    gains = gainful(trials, setup)
    return len(trained) > PLATEAU and not any(trial.n in trained[-PLATEAU:] for trial in gains)


def earned(names: Iterable[str], trials: Sequence[Trial], calls: Sequence[Called], setup: Setup) -> dict[str, Earned]:
    """Returns what each operator brought so far."""
    made = Counter(trial.proposal.origin.operator for trial in trials)
    gains = Counter(trial.proposal.origin.operator for trial in gainful(trials, setup))
    asked = sum(made[name] for name in MODEL_OPERATORS)
    tokens = sum((call.usage.input_tokens or 0) + (call.usage.output_tokens or 0) for call in calls)
    model = 1 + tokens / max(1, asked) / TOKENS
    return {name: Earned(made[name], gains[name], model if name in MODEL_OPERATORS else 1.0) for name in names}


def shares(n: int, found: Mapping[str, Earned], rng: Rng, wide: bool = False) -> Counter[str]:
    """Returns how many of `n` proposals each operator makes: Thompson sampling of gains per cost.

    Chances are Beta-distributed after the gains and the proposals without one (Thompson 1933; Chapelle and Li 2011).
    One call of a model makes all its proposals of an ask, so what its operators get goes to the one with the most.

    Args:
        n: Proposals.
        found: What each operator brought.
        rng: Chance.
        wide: Whether returns diminish; then what was earned does not count, and all explore alike.
    """
    names = list(found)
    counts: Counter[str] = Counter()
    for _ in range(n):
        draws = [rng.random() if wide else rng.beta(1 + one.gains, 1 + max(0, one.made - one.gains)) / one.cost
                 for one in found.values()]
        counts[names[max(range(len(names)), key=draws.__getitem__)]] += 1
    asked = {name: counts.pop(name) for name in MODEL_OPERATORS if counts[name]}
    if asked:
        counts[max(asked, key=asked.__getitem__)] = sum(asked.values())
    return counts
