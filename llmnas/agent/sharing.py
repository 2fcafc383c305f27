"""Which of several models is asked next: a bandit on what their calls brought, per nominal cost.

Everything it looks at is in the log, so a resumed or replayed run chooses alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Final

from llmnas.front import costs
from llmnas.llm.base import PERMANENT
from llmnas.records import Called, Trial, Usage

BREAKER: Final = 5
"""Failed calls of a model in a row after which it counts as lost."""
EXPLORE: Final = 0.5
"""Weight of the confidence bound: rewards lie between 0 and 1, and the usual 2 would still try at random after a
hundred calls."""
SECOND_USD: Final = 1e-4
"""What a nominal second of waiting is worth, so that models with and without a price compare; a guess."""
INPUT_S, OUTPUT_S = 1e-3, 2e-2
"""Nominal seconds for reading and for writing one token."""
TYPICAL: Final = Usage(input_tokens=2000, output_tokens=400)
"""Taken for a call that does not say its tokens."""


@dataclass
class Credit:
    """What one model has brought.

    Attributes:
        calls: Its calls that were to bring proposals.
        reward: The sum of their rewards, each from 0 to 1 (`rewards`).
        cost: The sum of their nominal costs, in US dollars (`nominal_usd`).
        failures: How many of its calls failed in a row, the last ones.
        refused: Whether its last call was refused for good.
    """

    calls: int = 0
    reward: float = 0.0
    cost: float = 0.0
    failures: int = 0
    refused: bool = False

    @property
    def lost(self) -> bool:
        """Whether it need not be asked again."""
        return self.refused or self.failures >= BREAKER

    def bound(self, all_calls: int) -> float:
        """Returns the upper bound of reward per cost (fractional KUBE, Tran-Thanh et al., AAAI 2012, equation 2)."""
        mean = self.reward / self.calls + sqrt(EXPLORE * log(all_calls) / self.calls)
        return mean / (self.cost / self.calls)


def credits(names: Sequence[str], calls: Sequence[Called], trials: Sequence[Trial],
            target: str | None = None) -> dict[str, Credit]:
    """Returns the credit of every model by name.

    Args:
        names: The models.
        calls: The calls of the run, in order.
        trials: Its trials, in order.
        target: Key of the target on which the front counts.
    """
    found = {name: Credit() for name in names}
    reward = rewards(trials, target) if len(names) > 1 else {}
    for call in calls:
        if (credit := found.get(call.model)) is None:
            continue
        credit.failures = 0 if call.status == "ok" else credit.failures + 1
        credit.refused = call.status in PERMANENT  # the last one counts: a person may have mended it
        if call.role != "reflect":  # it brings rules, and no proposals to be judged by
            credit.calls += 1
            credit.reward += reward.get(call.call, 0.0)
            credit.cost += nominal_usd(call.usage)
    return found


def choose(credit: dict[str, Credit]) -> str | None:
    """Returns the model to ask: the first that was never asked, else the one with the highest bound; None without any.

    Models that are lost are passed over.
    """
    left = {name: one for name, one in credit.items() if not one.lost}
    if untried := next((name for name, one in left.items() if not one.calls), None):
        return untried
    asked = sum(one.calls for one in left.values())
    return max(left, key=lambda name: left[name].bound(asked), default=None)


def rewards(trials: Sequence[Trial], target: str | None) -> dict[str, float]:
    """Returns the reward of every call that brought proposals, by its id.

    Half of it is the share of its proposals that are legal and new, the other half whether one of them was on the front
    of score and cost when its number came. What is not trained yet may still get there.
    """
    entered, shares = _entered(trials, target), dict[str, list[bool]]()
    front: set[str] = set()
    for trial in trials:
        call = trial.proposal.origin.call
        if call is not None:
            shares.setdefault(call, []).append(trial.status not in ("invalid", "duplicate"))
            if trial.n in entered:
                front.add(call)
    return {call: (sum(new) / len(new) + (call in front)) / 2 for call, new in shares.items()}


def nominal_usd(usage: Usage) -> float:
    """Returns the nominal cost of a call: its price, where that is known, and its nominal seconds."""
    given = TYPICAL.input_tokens if usage.input_tokens is None else usage.input_tokens
    made = TYPICAL.output_tokens if usage.output_tokens is None else usage.output_tokens
    return (usage.usd or 0.0) + SECOND_USD * (INPUT_S * (given or 0) + OUTPUT_S * (made or 0) + INPUT_S)


def _entered(trials: Sequence[Trial], target: str | None) -> set[int]:
    """Returns the numbers of the trials that no earlier one beat in score and cost together."""
    scored = [(trial, score) for trial in trials if (score := trial.score) is not None and not trial.violates]
    price = costs((trial for trial, _ in scored), target)
    found: set[int] = set()
    before: list[tuple[float, float]] = []
    for trial, score in scored:
        cost = price.get(trial.n)
        if cost is None:
            continue
        if not any(score <= theirs and cost >= their_cost for theirs, their_cost in before):
            found.add(trial.n)
        before.append((score, cost))
    return found
