"""What the language model did in a run, what it cost and what came of it: figures from the folded state alone.

A proposal belongs to the call that last answered for it: to the repair when it was repaired. What a server did not say
is None and stays None in every sum that it is part of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from llmnas.records import Called, Rule, Trial
from llmnas.report import facts
from llmnas.report.tally import Cost, Outcome, cost_json, cost_of, outcome_json, outcome_of
from llmnas.store import RunState

CUT: Final = ("length", "context", "refusal", "content_filter")
"""Finish reasons of replies that came but are not whole answers."""
PER_CALL: Final = ("proposals", "valid", "repaired", "duplicate", "novel", "invalid")
"""Outcomes that are given per call that asked for proposals."""
_NO_PROPOSALS: Final = ("repair", "reflect")
"""Roles of calls that ask for nothing new."""
T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True)
class Came:
    """One call and what came of it.

    Attributes:
        call: The call.
        outcome: Its proposals.
        rules: Rules that it left in the knowledge base; None when it wrote none.
    """

    call: Called
    outcome: Outcome
    rules: int | None


@dataclass(frozen=True)
class Payer:
    """The calls of one role and prompt, or of all, of one model."""

    model: str
    role: str
    prompt: str
    cost: Cost


@dataclass(frozen=True)
class Maker:
    """What one operator made with one model.

    Attributes:
        operator: Name of the operator.
        model: Name of the model; None when code made the proposals.
        outcome: What became of them.
        share: Their share of the front, from 0 to 1; None when the front is empty.
    """

    operator: str
    model: str | None
    outcome: Outcome
    share: float | None


@dataclass(frozen=True)
class Yield:
    """What one model brought for what it cost.

    Attributes:
        model: Name of the model.
        cost: All its calls, repairs, looks back and failed ones included.
        asked: Of those, calls that asked for proposals.
        outcome: What became of its proposals.
        share: Their share of the front, from 0 to 1; None when the front is empty.
    """

    model: str
    cost: Cost
    asked: int
    outcome: Outcome
    share: float | None

    def per_call(self, count: int) -> float | None:
        """Returns a count of proposals per call that asked for some; None when none did."""
        return count / self.asked if self.asked else None

    def per_point(self, spent: float | None) -> float | None:
        """Returns an expense per point of the front; None when it is unknown, or there is no such point."""
        return None if spent is None or not self.outcome.on_front else spent / self.outcome.on_front


@dataclass(frozen=True)
class Ending:
    """How a group of calls ended.

    Attributes:
        status: ``ok`` or the kind of failure.
        finish: The server's finish reason; None when there was no reply or it did not say.
        model: Name of the model.
        calls: How many.
        message: The error of the last one.
    """

    status: str
    finish: str | None
    model: str
    calls: int
    message: str

    @property
    def whole(self) -> bool:
        """Whether a whole answer came."""
        return self.status == "ok" and self.finish not in CUT


@dataclass(frozen=True)
class Conversation:
    """Everything a run says of its language model.

    Attributes:
        mocks: Names of the models among `yields` that are code; figures of theirs say nothing of language models.
        total: All calls together.
        outcome: All proposals of models together.
        front: Points on the front of the first target.
        yields: By model, in order of their first call.
        makers: By operator and model, most proposals first; proposals by code included.
        roles: By model and role.
        payers: By model, role and prompt.
        endings: How calls ended, whole answers first, then the most frequent first.
        rules: The knowledge base.
    """

    mocks: tuple[str, ...]
    total: Cost
    outcome: Outcome
    front: int
    yields: tuple[Yield, ...]
    makers: tuple[Maker, ...]
    roles: tuple[Payer, ...]
    payers: tuple[Payer, ...]
    endings: tuple[Ending, ...]
    rules: tuple[Rule, ...]


def conversation(state: RunState) -> Conversation:
    """Returns what the model did in a run; the figures of a run without a model are empty."""
    front = {trial.n for trial in facts.front(state)}
    models = {call.call: call.model for call in state.calls}
    asked = _grouped(state.calls, lambda call: call.model)
    made = _grouped(state.trials, lambda trial: models.get(trial.proposal.origin.call or ""))
    yields = [(model, calls, outcome_of(made.get(model, []), front)) for model, calls in asked.items()]
    return Conversation(
        mocks=tuple(dict.fromkeys(call.model for call in state.calls if facts.by_mock(call))),
        total=cost_of(state.calls), front=len(front),
        outcome=outcome_of([trial for trial in state.trials if trial.proposal.origin.call in models], front),
        yields=tuple(Yield(model, cost_of(calls), sum(call.role not in _NO_PROPOSALS for call in calls), found,
                           _share(found, front)) for model, calls, found in yields),
        makers=_makers(state.trials, models, front),
        roles=tuple(Payer(model, role, "", cost_of(calls)) for (model, role), calls in _grouped(
            state.calls, lambda call: (call.model, call.role)).items()),
        payers=tuple(Payer(*key, cost_of(calls)) for key, calls in _grouped(
            state.calls, lambda call: (call.model, call.role, call.prompt)).items()),
        endings=_endings(state.calls), rules=state.rules)


def came_of(state: RunState) -> list[Came]:
    """Returns every call in order, with what came of it."""
    front = {trial.n for trial in facts.front(state)}
    made = _grouped(state.trials, lambda trial: trial.proposal.origin.call)
    kept = {body.call: len(body.rules) for body in state.reflections}
    return [Came(call, outcome_of(made.get(call.call, []), front), kept.get(call.call)) for call in state.calls]


def as_json(found: Conversation) -> dict[str, Any]:
    """Returns everything as JSON values; unknown is null."""
    return {
        "mocks": list(found.mocks), "cost": cost_json(found.total), "outcome": outcome_json(found.outcome),
        "front": found.front,
        "models": [{"model": one.model, "cost": cost_json(one.cost), "outcome": outcome_json(one.outcome),
                    "calls_for_proposals": one.asked,
                    "per_call": {name: one.per_call(getattr(one.outcome, name)) for name in PER_CALL},
                    "share_of_front": one.share,
                    "per_front_point": {"tokens": one.per_point(one.cost.tokens),
                                        "usd": one.per_point(one.cost.usage.usd),
                                        "seconds": one.per_point(one.cost.usage.seconds)}} for one in found.yields],
        "operators": [{"operator": one.operator, "model": one.model, "outcome": outcome_json(one.outcome),
                       "share_of_front": one.share} for one in found.makers],
        "roles": [{"model": one.model, "role": one.role, "cost": cost_json(one.cost)} for one in found.roles],
        "prompts": [{"model": one.model, "role": one.role, "prompt": one.prompt, "cost": cost_json(one.cost)}
                    for one in found.payers],
        "endings": [{"status": one.status, "finish": one.finish, "model": one.model, "calls": one.calls,
                     "whole": one.whole, "message": one.message} for one in found.endings],
        "rules": [rule.model_dump(mode="json") for rule in found.rules]}


def _makers(trials: Sequence[Trial], models: dict[str, str], front: set[int]) -> tuple[Maker, ...]:
    groups = _grouped(trials, lambda trial: (trial.proposal.origin.operator,
                                             models.get(trial.proposal.origin.call or "")))
    made = [(operator, model, outcome_of(listed, front)) for (operator, model), listed in groups.items()]
    return tuple(sorted((Maker(operator, model, found, _share(found, front)) for operator, model, found in made),
                        key=lambda one: (-one.outcome.proposals, one.operator, one.model or "")))


def _endings(calls: Sequence[Called]) -> tuple[Ending, ...]:
    groups = _grouped(calls, lambda call: (call.status, call.finish, call.model))
    found = [Ending(*key, len(listed), listed[-1].message) for key, listed in groups.items()]
    return tuple(sorted(found, key=lambda one: (not one.whole, -one.calls)))


def _share(found: Outcome, front: set[int]) -> float | None:
    return found.on_front / len(front) if front else None


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Returns items by key, keys in the order of their first item."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
