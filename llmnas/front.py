"""The front of a run on a target, what makes one trial better than another, and the one answer chosen by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Final

from llmnas.records import Counts, Energy, Latency, Settings, Trial

CONTENDERS: Final = 5
"""Trials of a front that are timed again before the choice."""


# -- better and cheaper


def reward(score: float, ms: float, settings: Settings) -> float:
    """Returns MnasNet's reward, score · (latency / aim)^w; higher is better (Tan et al., arXiv 1807.11626, eq. 2).

    w is the first exponent of ``aim_weight`` up to the aim and the second one above it: −0.07 on both sides is the
    paper's soft form, 0 and −1 its hard form.
    """
    if settings.aim_latency_ms is None:
        return score
    under, over = settings.aim_weight
    ratio = ms / settings.aim_latency_ms
    return float(score * ratio ** (under if ratio <= 1 else over))


def merit(trial: Trial, settings: Settings, target: str | None, score: float | None = None) -> float | None:
    """Returns what a search maximises: the search score, or the reward on `target` when a latency is aimed at.

    Args:
        trial: The trial.
        settings: What the person asked for.
        target: Key of the target.
        score: Taken instead of the search score.

    Returns:
        None when the trial has no score, or when a latency is aimed at and its own is unknown.
    """
    value = trial.score if score is None else score
    if value is None or settings.aim_latency_ms is None:
        return value
    found = trial.latency.get(target) if target is not None else None
    return None if found is None or found.ms <= 0 else reward(value, found.ms, settings)


def costs(trials: Iterable[Trial], target: str | None) -> dict[int, float]:
    """Returns what each trial costs to run, by its number; a trial whose cost is unknown is not in it.

    Milliseconds on `target`, or multiply-accumulates when no trial has a latency there: the two do not compare.
    """
    listed = list(trials)
    timed = {trial.n: trial.latency[target].ms for trial in listed if target is not None and target in trial.latency}
    return timed or {trial.n: float(trial.counts.macs) for trial in listed if trial.counts}


def front(trials: Iterable[Trial], target: str | None) -> list[Trial]:
    """Returns the trials that no other beats in search score and cost on `target` together, cheapest first.

    Trials that are not trained or break a constraint are left out. O(n log n).
    """
    scored = [(trial, score) for trial in trials if (score := trial.score) is not None and not trial.violates]
    price = costs((trial for trial, _ in scored), target)
    points = [(price[trial.n], -score, trial.n, trial) for trial, score in scored if trial.n in price]
    found: list[Trial] = []
    best = float("-inf")
    for _, negative, _, trial in sorted(points):
        if -negative > best:
            best = -negative
            found.append(trial)
    return found


# -- the choice


def choose(trials: Sequence[Trial], settings: Settings, target: str | None) -> tuple[Trial | None, str]:
    """Returns the answer on `target` among trained trials, and why it is the answer.

    With ``min_accuracy`` it is the least cost that reaches it (the highest score when none does); otherwise the
    highest merit within the constraints. Finalists are compared by their full training; of others only those that
    were trained furthest compete, and a training that a deadline cut counts only when there is no other. A tie goes to
    the cheaper one, then to the earlier one. When no trained trial keeps the constraints, the best of all is returned
    and the reason says so.
    """
    scored = _comparable(trials)
    if not scored:
        return None, "nothing was trained"
    what = ("search score" if settings.aim_latency_ms is None else "reward") + _brief(scored)
    legal = [trial for trial in scored if not trial.violates]
    best = _preferred(legal or scored, settings, target)[0]
    if not legal:
        return best, f"no trained architecture keeps the constraints; this is the highest {what} without them"
    if settings.min_accuracy is None:
        return best, f"the highest {what} within the constraints" + _aimed(settings, target)
    if (_reached(best) or 0.0) >= settings.min_accuracy:
        return best, f"the least latency among those with a {what} of at least {settings.min_accuracy:g}"
    return best, f"none reached {settings.min_accuracy:g}; this is the highest {what}"


def contenders(trials: Iterable[Trial], settings: Settings, target: str | None, most: int = CONTENDERS) -> list[Trial]:
    """Returns the at most `most` trials of the front on `target` that a choice would go for, the first one first."""
    return _preferred(front(trials, target), settings, target)[:most]


def choices(trials: Sequence[Trial], settings: Settings, targets: Sequence[str]) -> dict[str, int]:
    """Returns the number of the best trial on each target after the first, by target key.

    Every choice is made within the constraints of all targets.
    """
    found = {target: choose(trials, settings_on(target, settings, targets), target)[0] for target in targets[1:]}
    return {target: trial.n for target, trial in found.items() if trial is not None}


def settings_on(target: str, settings: Settings, targets: Sequence[str]) -> Settings:
    """Returns the settings as they hold on a target: the aim belongs to the first one, elsewhere the score decides."""
    return settings if target in targets[:1] else settings.model_copy(update={"aim_latency_ms": None})


def _comparable(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the trained trials that compete: the finalists, else those with a whole training.

    Else those trained for the largest share of one, and among them those that no deadline cut, if there are any.
    """
    scored = [trial for trial in trials if _reached(trial) is not None]
    if finalists := [trial for trial in scored if "full" in trial.trained]:
        return finalists
    whole = [trial for trial in scored if trial.score_at(trial.share) is not None] or scored
    furthest = max((trial.share for trial in whole), default=0.0)
    return [trial for trial in whole if trial.share == furthest]


def _brief(compared: Sequence[Trial]) -> str:
    """Returns what must be said of scores that come from less than a short training; nothing of others."""
    share = compared[0].share
    return "" if share == 1 or "full" in compared[0].trained else f" after {share_text(share)} of a short training"


def share_text(share: float) -> str:
    """Returns a share of a training as people write it: ``1/9``."""
    return str(Fraction(share).limit_denominator(100))


def _preferred(trials: Sequence[Trial], settings: Settings, target: str | None) -> list[Trial]:
    """Returns trained trials, the best first; one whose merit is unknown comes after all others, by its score."""
    price = costs(trials, target)

    def order(trial: Trial) -> tuple[int, float, float, int]:
        score, paid = _reached(trial) or 0.0, price.get(trial.n, float("inf"))
        if settings.min_accuracy is not None and score >= settings.min_accuracy:
            return 0, paid, 0.0, trial.n
        value = merit(trial, settings, target, score)
        return (2, -score, paid, trial.n) if value is None else (1, -value, paid, trial.n)

    return sorted(trials, key=order)


def _reached(trial: Trial) -> float | None:
    """Returns the validation score a choice goes by: of the full rung, else of the longest short training."""
    found = trial.trained.get("full") or trial.trained.get("short") or (trial.partial[-1] if trial.partial else None)
    return None if found is None else found.val_score


def _aimed(settings: Settings, target: str | None) -> str:
    if settings.aim_latency_ms is None:
        return ""
    return f": score · (latency on {target} / {settings.aim_latency_ms:g} ms)^w, w = {weight_text(settings)}"


def weight_text(settings: Settings) -> str:
    """Returns the exponents of the reward in words: ``-0.07``, or ``0 up to the aim, -1 above``."""
    under, over = settings.aim_weight
    return f"{under:g}" if under == over else f"{under:g} up to the aim, {over:g} above"


# -- constraints


def latency_limits(settings: Settings, targets: Sequence[str]) -> dict[str, float]:
    """Returns the most latency allowed in ms, by target key."""
    return _limits(settings.max_latency_ms, settings.max_latency_on, targets)


def energy_limits(settings: Settings, targets: Sequence[str]) -> dict[str, float]:
    """Returns the most energy allowed in mJ, by target key."""
    return _limits(settings.max_energy_mj, settings.max_energy_on, targets)


def _limits(first: float | None, others: Mapping[str, float], targets: Sequence[str]) -> dict[str, float]:
    return ({targets[0]: first} if targets and first is not None else {}) | dict(others)


def violations(settings: Settings, targets: Sequence[str], counts: Counts, latency: Mapping[str, Latency],
               energy: Mapping[str, Energy]) -> tuple[str, ...]:
    """Returns the constraints that are broken, in words; a constraint on an unknown figure is not broken.

    Args:
        settings: The constraints.
        targets: Keys of the targets, the first one first.
        counts: Size of the network.
        latency: By target key.
        energy: By target key.
    """
    found = []
    if settings.max_params is not None and counts.params > settings.max_params:
        found.append(f"{counts.params:,} parameters exceed {settings.max_params:,}")
    if settings.max_memory_mb is not None and counts.memory_mb > settings.max_memory_mb:
        found.append(f"{counts.memory_mb:.2f} MB exceed {settings.max_memory_mb:g} MB")
    for target, most in latency_limits(settings, targets).items():
        if (timed := latency.get(target)) is not None and timed.ms > most:
            found.append(f"{timed.ms:.3g} ms ({timed.source}) exceed {most:g} ms on {target}")
    for target, most in energy_limits(settings, targets).items():
        if (used := energy.get(target)) is not None and used.mj > most:
            found.append(f"{used.mj:.3g} mJ ({used.source}) exceed {most:g} mJ on {target}")
    return tuple(found)


def excess(trial: Trial, settings: Settings, targets: Sequence[str]) -> float:
    """Returns how far a trial breaks its constraints: the sum of the relative amounts above the limits, 0 when legal.

    A constraint that is broken but has no figure here, as when a network is too slow to be trained, counts 1.
    """
    counts = trial.counts
    used = [] if counts is None else [(counts.params, settings.max_params), (counts.memory_mb, settings.max_memory_mb)]
    used += [(trial.latency[key].ms, most) for key, most in latency_limits(settings, targets).items()
             if key in trial.latency]
    used += [(trial.energy[key].mj, most) for key, most in energy_limits(settings, targets).items()
             if key in trial.energy]
    above = sum(max(0.0, value / most - 1) for value, most in used if most is not None)
    return above if above > 0 or not trial.violates else 1.0
