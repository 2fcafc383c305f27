"""What proposals were worth and what everything cost: rates with Wilson intervals, charges on average a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Final

from llmnas.compare.paired import CONFIDENCE
from llmnas.compare.trajectory import Answers, Charges, Trajectory
from llmnas.records import Trial

RATES: Final = {"valid": "an architecture of the space", "duplicate": "seen before in the same search",
                "refused": "beyond a constraint, not supported or not listed"}

ANSWERS: Final = {"valid at once": "legal as it came", "valid": "legal in the end, repairs included",
                  "duplicate": "legal, and seen before in the same search"}


def answers(trials: Sequence[Trial]) -> Answers:
    """Returns what the proposals that came from a model's replies were worth."""
    own = [trial for trial in trials if trial.proposal.origin.call is not None]
    valid = [trial for trial in own if trial.status != "invalid"]
    return Answers(proposals=len(own), invalid=len(own) - len(valid),
                   repaired=sum(trial.proposal.origin.repairs > 0 for trial in valid),
                   duplicate=sum(trial.status == "duplicate" for trial in valid))


def answer_rates(trajectories: Sequence[Trajectory]) -> dict[str, dict[str, Any]] | None:
    """Returns the rates of a model's own proposals over all seeds; None where there are none or nobody counted."""
    found = [one.answers for one in trajectories if one.answers is not None]
    if len(found) < len(trajectories):
        return None
    proposals, invalid = sum(one.proposals for one in found), sum(one.invalid for one in found)
    return {"valid at once": rate(proposals - invalid - sum(one.repaired for one in found), proposals),
            "valid": rate(proposals - invalid, proposals),
            "duplicate": rate(sum(one.duplicate for one in found), proposals)}


def rate(count: int, of: int) -> dict[str, Any]:
    """Returns a share with its Wilson interval, as if proposals were independent; None for none of none."""
    from scipy.stats import binomtest

    if not of:
        return {"count": count, "of": of, "rate": None, "low": None, "high": None}
    found = binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return {"count": count, "of": of, "rate": count / of, "low": float(found.low), "high": float(found.high)}


def rates(trajectories: Sequence[Trajectory]) -> dict[str, dict[str, Any]]:
    """Returns the rates of an arm over all its seeds."""
    charges = [one.charges for one in trajectories]
    proposals = sum(one.proposals for one in charges)
    return {"valid": rate(proposals - sum(one.invalid for one in charges), proposals),
            "duplicate": rate(sum(one.duplicate for one in charges), proposals),
            "refused": rate(sum(one.refused for one in charges), proposals)}


def mean_charges(trajectories: Sequence[Trajectory]) -> dict[str, float | None]:
    """Returns every charge on average a seed; None once any seed does not know it."""
    found: dict[str, float | None] = {}
    for name in Charges.model_fields:
        values = [getattr(one.charges, name) for one in trajectories]
        found[name] = None if None in values else fmean(values)
    return found


def ends(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    """Returns how many seeds ended for which reason."""
    return dict(Counter(one.stopped for one in trajectories))
