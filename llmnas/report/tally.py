"""Sums over model calls and over proposals: what a group of calls cost, what became of a group of proposals."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmnas.records import Called, Trial, Usage
from llmnas.store import Spent, total_usage


@dataclass(frozen=True)
class Cost:
    """What a group of calls cost.

    Attributes:
        calls: How many.
        failed: Of those, without a reply.
        usage: Their sum; a figure is None when any call did not say it.
        silent: Calls that did not say their tokens.
        said_tokens: Sum over the others.
        unpriced: Calls that did not say their price.
        said_usd: Sum over the others, in dollars.
    """

    calls: int
    failed: int
    usage: Usage
    silent: int
    said_tokens: int
    unpriced: int
    said_usd: float

    @property
    def tokens(self) -> int | None:
        """Input and output tokens together; None when any call did not say."""
        return None if self.silent else self.said_tokens


@dataclass(frozen=True)
class Outcome:
    """What became of a group of proposals.

    Attributes:
        proposals: How many.
        invalid: Of those, still invalid after all repairs.
        repaired: Valid, but only after repair.
        duplicate: Valid, but an architecture that the run had already.
        novel: Valid and new to the run; repaired ones included.
        trained: Of those, with a search score.
        best: Their best search score; None without any.
        on_front: Of those, on the front of the first target.
    """

    proposals: int
    invalid: int
    repaired: int
    duplicate: int
    novel: int
    trained: int
    best: float | None
    on_front: int

    @property
    def valid(self) -> int:
        """Proposals that can be built, repaired and duplicate ones included."""
        return self.proposals - self.invalid


def cost_of(calls: Sequence[Called]) -> Cost:
    """Returns what calls cost together."""
    tokens = [None if None in (used.input_tokens, used.output_tokens)
              else (used.input_tokens or 0) + (used.output_tokens or 0) for used in (call.usage for call in calls)]
    prices = [call.usage.usd for call in calls]
    return Cost(calls=len(calls), failed=sum(call.status != "ok" for call in calls),
                usage=functools.reduce(total_usage, (call.usage for call in calls), Spent().usage),
                silent=tokens.count(None), said_tokens=sum(one for one in tokens if one is not None),
                unpriced=prices.count(None), said_usd=sum(one for one in prices if one is not None))


def outcome_of(trials: Iterable[Trial], front: set[int]) -> Outcome:
    """Returns what became of proposals; `front` holds the numbers of the trials on it."""
    listed = list(trials)
    invalid, duplicate = (sum(trial.status == status for trial in listed) for status in ("invalid", "duplicate"))
    scores = [trial.score for trial in listed if trial.score is not None and math.isfinite(trial.score)]
    return Outcome(proposals=len(listed), invalid=invalid, duplicate=duplicate,
                   repaired=sum(trial.status != "invalid" and trial.proposal.origin.repairs > 0 for trial in listed),
                   novel=len(listed) - invalid - duplicate, trained=len(scores), best=max(scores, default=None),
                   on_front=sum(trial.n in front for trial in listed))


def outcome_json(found: Outcome) -> dict[str, Any]:
    """Returns an outcome as JSON values."""
    return {"proposals": found.proposals, "valid": found.valid, **{
        name: getattr(found, name) for name in ("invalid", "repaired", "duplicate", "novel", "trained", "best",
                                                "on_front")}}


def cost_json(found: Cost) -> dict[str, Any]:
    """Returns a cost as JSON values: ``tokens`` and ``usage`` are null where any call did not say."""
    return {"calls": found.calls, "failed": found.failed, "tokens": found.tokens, "usd": found.usage.usd,
            "seconds": found.usage.seconds, "usage": found.usage.model_dump(), "calls_without_tokens": found.silent,
            "tokens_of_the_others": found.said_tokens, "calls_without_price": found.unpriced,
            "usd_of_the_others": found.said_usd}
