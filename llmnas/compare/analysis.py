"""From trajectories to a comparison: one JSON document that the console, the report and other programs read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean, median, stdev
from typing import Any, Final, Literal

import numpy as np

from llmnas.compare import curves
from llmnas.compare.paired import ALPHA, CONFIDENCE, POWER, Interval, Pair, Task, decide, interval
from llmnas.compare.rates import ANSWERS, RATES, answer_rates, ends, mean_charges, rates
from llmnas.compare.trajectory import Trajectory, by_arm
from llmnas.errors import InputError, nearest

MOCK: Final = ("proposals of this arm came from the mock, by code: designs and simple edits by rule. They say "
               "nothing about language models")


@dataclass(frozen=True)
class Measure:
    """A figure that arms are compared by.

    Attributes:
        name: Its key in `Trajectory.measures`.
        says: What it is.
        higher: Whether higher is better.
        percent: Whether it is a share that people read in percent.
    """

    name: str
    says: str
    higher: bool = True
    percent: bool = False


TEST: Final = Measure("test", "test score of the architecture that was chosen by validation", percent=True)
VALIDATION: Final = Measure("validation", "best validation score", percent=True)
ANYTIME: Final = Measure("anytime", "best validation score so far, averaged over all evaluations of the budget",
                         percent=True)


@dataclass(frozen=True)
class Question:
    """What is asked of the trajectories.

    Attributes:
        reference: Arm that the others are compared with; None takes ``random`` where there is one, else the first.
        pairs: ``reference``: every other arm against it; ``all``: every pair.
        by: Name of the measure that decides, chosen before looking; None takes the first that is known.
        target: Validation score for evaluations-to-target; None takes the median of the reference's last incumbents.
        evals: Length of the curves; None takes the longest search.
    """

    reference: str | None = None
    pairs: Literal["reference", "all"] = "reference"
    by: str | None = None
    target: float | None = None
    evals: int | None = None


def analyse(trajectories: Sequence[Trajectory], measures: Sequence[Measure],
            question: Question | None = None) -> dict[str, Any]:
    """Returns the comparison.

    Args:
        trajectories: One per arm and seed; the arms keep the order in which they first come.
        measures: What to compare by, the one that decides first. `ANYTIME` is worked out here.
        question: What is asked.

    Raises:
        InputError: Fewer than two arms, no common seed, or a reference that is no arm.
    """
    question = question or Question()
    arms = by_arm(trajectories)
    if len(arms) < 2:
        raise InputError(f"a comparison needs two arms, there is {', '.join(arms) or 'none'}",
                         "name two strategies, or random,random for an A/A pair")
    reference = reference_of(list(arms), question.reference)
    length = question.evals or max(one.length for one in trajectories)
    every = curves.by_evaluation(arms, length)
    values = {measure.name: _values(arms, measure, length) for measure in measures}
    known = [measure for measure in measures if _compared(values[measure.name])]
    by = _deciding(known, question.by)
    pairs = list(combinations(arms, 2)) if question.pairs == "all" else [
        (arm, reference) for arm in arms if arm != reference]
    target = _target(arms[reference], question.target)
    return {
        "reference": reference, "alpha": ALPHA, "confidence": CONFIDENCE, "power": POWER, "family": question.pairs,
        "by": by,
        "measures": [asdict(measure) for measure in known],
        "undefined": [measure.name for measure in measures if measure not in known],
        "arms": [_arm(arm, own, {m.name: values[m.name][arm] for m in known}, target, length)
                 for arm, own in arms.items()],
        "pairs": [_plain(pair) for pair in _decided(known, by, values, pairs)],
        "matrix": {measure.name: _matrix(values[measure.name], measure.higher) for measure in known},
        "target": target, "evals": length,
        "curves": {"evaluations": every, "seconds": curves.by_second(arms)},
        "mock": any(one.mock for one in trajectories), "rates": RATES, "answers": ANSWERS,
        "notes": [*_notes(arms, length), *_unmeasured([one for one in measures if one not in known])],
    }


def reference_of(arms: Sequence[str], wanted: str | None) -> str:
    """Returns the arm that the others are compared with.

    Raises:
        InputError: The wanted one is no arm.
    """
    if wanted is not None and wanted not in arms:
        raise InputError(f"--reference {wanted!r} is none of the arms", nearest(wanted, list(arms)))
    return wanted or ("random" if "random" in arms else arms[0])


def _deciding(known: Sequence[Measure], wanted: str | None) -> str:
    names = [measure.name for measure in known]
    if not names:
        raise InputError("fewer than two arms have any result: there is nothing to compare",
                         "see why their searches ended")
    if wanted is not None and wanted not in names:
        raise InputError(f"--by {wanted!r} is no measure that two arms have a value of", nearest(wanted, names))
    return wanted or names[0]


def _decided(measures: Sequence[Measure], by: str, values: Mapping[str, dict[str, dict[int, float | None]]],
             pairs: Sequence[tuple[str, str]]) -> list[Pair]:
    """Returns the pairs, those on the deciding measure first: they are one family, all others together another."""
    def tasks(chosen: Sequence[Measure]) -> list[Task]:
        return [Task(measure.name, arm, other, values[measure.name][arm], values[measure.name][other], measure.higher)
                for measure in chosen for arm, other in pairs]

    return [*decide(tasks([one for one in measures if one.name == by])),
            *decide(tasks([one for one in measures if one.name != by]))]


def _compared(values: Mapping[str, Mapping[int, float | None]]) -> bool:
    """Returns whether at least two arms have a value of this measure."""
    return sum(any(value is not None for value in own.values()) for own in values.values()) > 1


def _values(arms: Mapping[str, list[Trajectory]], measure: Measure, length: int) -> dict[str, dict[int, float | None]]:
    if measure is ANYTIME:
        return _areas(arms, length)
    return {arm: {one.seed: one.measures.get(measure.name) for one in own} for arm, own in arms.items()}


def _areas(arms: Mapping[str, list[Trajectory]], length: int) -> dict[str, dict[int, float | None]]:
    """Returns the mean height of every curve, from where all of them are defined; None where one never is."""
    found = {arm: {one.seed: curves.incumbents(one, length) for one in own} for arm, own in arms.items()}
    whole = ~np.isnan([curve for own in found.values() for curve in own.values()]).any(axis=0)
    if not whole.any():
        return {arm: dict.fromkeys(own) for arm, own in found.items()}
    return {arm: {seed: float(curve[whole].mean()) for seed, curve in own.items()} for arm, own in found.items()}


def _arm(arm: str, own: list[Trajectory], values: Mapping[str, Mapping[int, float | None]], target: float | None,
         length: int) -> dict[str, Any]:
    model = next((one.model for one in own if one.model is not None), None)
    mock = any(one.mock for one in own)
    return {"arm": arm, "strategy": own[0].strategy, "model": model, "mock": mock, "seeds": [one.seed for one in own],
            "measures": {name: _described(list(found.values())) for name, found in values.items()},
            "target": None if target is None else _until(own, target),
            "evaluations": fmean(one.charges.evaluations for one in own),
            "short": sum(one.length < length for one in own),
            "prompt": next((one.prompt for one in own if one.prompt is not None), None),
            "rates": rates(own), "answers": answer_rates(own),
            "charges": mean_charges(own), "stopped": ends(own), "note": MOCK if mock else ""}


def _described(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    found = interval(known)
    return {"n": len(known), "missing": len(values) - len(known), "mean": fmean(known) if known else None,
            "sd": stdev(known) if len(known) > 1 else None, **_ends(found),
            "median": median(known) if known else None, "values": list(values)}


def _ends(found: Interval | None) -> dict[str, Any]:
    return {"low": found.low if found else None, "high": found.high if found else None,
            "interval": found.method if found else None}


def _until(own: Sequence[Trajectory], target: float) -> dict[str, Any]:
    from llmnas.compare.rates import rate

    found = curves.until(own, target)
    return {**found, **{name: rate(found["reached"], found["of"])[name] for name in ("rate", "low", "high")}}


def _target(reference: Sequence[Trajectory], wanted: float | None) -> float | None:
    if wanted is not None:
        return wanted
    scores = [best.score for one in reference if (best := one.best()) is not None and best.score is not None]
    return median(scores) if scores else None


def _plain(pair: Pair) -> dict[str, Any]:
    row = asdict(pair)
    row.pop("interval")
    return {**row, **_ends(pair.interval)}


def _matrix(values: Mapping[str, Mapping[int, float | None]], higher: bool) -> list[dict[str, Any]]:
    """Returns wins, ties and losses of every arm against every other one, seed by seed."""
    found = []
    for arm in values:
        for other in values:
            if arm == other:
                continue
            gains = [(a - b) * (1 if higher else -1) for seed in values[arm].keys() & values[other].keys()
                     if (a := values[arm][seed]) is not None and (b := values[other][seed]) is not None]
            wins, losses = sum(round(one, 10) > 0 for one in gains), sum(round(one, 10) < 0 for one in gains)
            found.append({"arm": arm, "against": other, "wins": wins, "ties": len(gains) - wins - losses,
                          "losses": losses})
    return found


def _unmeasured(measures: Sequence[Measure]) -> list[str]:
    names = ", ".join(measure.name for measure in measures)
    return [f"Not compared, because fewer than two arms have any value: {names}."] if names else []


def _notes(arms: Mapping[str, list[Trajectory]], length: int) -> list[str]:
    """Returns what a reader must know before believing a figure."""
    notes = []
    for arm, own in arms.items():
        if any(one.mock for one in own):
            notes.append(f"{arm}: {MOCK}.")
        short = [one.length for one in own if one.length < length]
        if short:
            reasons = ", ".join(f"{reason} {n}" for reason, n in ends(own).items())
            notes.append(f"{arm}: {len(short)} of {len(own)} searches ended before {length} evaluations, after "
                         f"{fmean(short):.0f} on average ({reasons}). Its curve goes on level from there.")
    if len({tuple(sorted(ends(own))) for own in arms.values()}) > 1:
        notes.append("The arms did not all end for the same reason: " + "; ".join(
            f"{arm} {', '.join(ends(own))}" for arm, own in arms.items()) + ".")
    seeds = {arm: {one.seed for one in own} for arm, own in arms.items()}
    common = set.intersection(*seeds.values())
    if not common:
        raise InputError("no seed was run by every arm: nothing can be paired", "run the same seeds for every arm")
    if any(own != common for own in seeds.values()):
        notes.append(f"Not every arm has every seed; {len(common)} seeds are common to all. A pair uses the seeds that "
                     "both have.")
    return notes
