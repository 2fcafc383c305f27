"""The plots of a report, from the state of a run: fronts on every target, the anytime curve, ranks by proxies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmnas.front import costs, latency_limits
from llmnas.records import Event, Measured, Trial
from llmnas.report import facts, plots
from llmnas.store import RunState


def pictures(state: RunState, trial: Trial | None, events: Iterable[Event] | None) -> dict[str, Any]:
    """Returns ready pictures by name.

    Args:
        state: The run.
        trial: The answer, which is marked.
        events: The log, for the times of trainings; see `trainings`.
    """
    metric, keys = facts.metric(state), facts.targets(state)
    chosen = facts.choices(state)
    times, end, title = trainings(state, events)
    ranked = [(float(one.rank), one.score) for one in state.trained() if one.rank is not None and one.score is not None]
    return {"front": _front_plot(state, keys[0] if keys else None, trial, state.settings.aim_latency_ms),
            "others": [(key, _front_plot(state, key, chosen.get(key), None, f"best on {key}"))
                       for key in keys[1:]],
            "anytime": plots.anytime_plot(times, end, metric, title),
            "rank": plots.rank_plot(ranked, metric)}


def _front_plot(state: RunState, on: str | None, trial: Trial | None, aim: float | None,
                marked: str = "the answer") -> str:
    points, unit = front_points(state, on, trial)
    limit = latency_limits(state.settings, facts.targets(state)).get(on or "")
    if unit == "MACs":
        limit = aim = None
    return plots.front_plot(points, facts.metric(state), unit, limit, aim, marked)


def front_points(state: RunState, on: str | None, trial: Trial | None) -> tuple[list[plots.Point], str]:
    """Returns the points of a target's plot and the unit of their cost: ms when any latency is known, else MACs.

    Args:
        state: The run.
        on: Key of the target.
        trial: The one to mark.
    """
    best, trained = {one.n for one in facts.front(state, on)}, state.trained()
    price, points = costs(trained, on), []
    for one in trained:
        if one.score is None or one.n not in price:
            continue
        timed, cost = facts.latency(state, one, on), price[one.n]
        points.append(plots.Point(one.n, cost, one.score, (timed.low, timed.high) if timed else None,
                                  timed is not None and timed.source == "analytic", one.n in best,
                                  trial is not None and one.n == trial.n, not one.violates))
    timed_at_all = not trained or any(on in one.latency for one in trained)
    return points, f"ms on {on}" if on is not None and timed_at_all else "MACs"


def trainings(state: RunState,
              events: Iterable[Event] | None) -> tuple[list[tuple[float, float | None]], float, str]:
    """Returns when each short training ended and its score, where the time ends, and what the time is.

    Without events the times are not known; then the training time spent up to each trial stands in.
    """
    found: list[tuple[float, float | None]] = []
    for event in events or ():
        body = event.body
        if isinstance(body, Measured) and body.rung == "short" and (body.trained is None or body.trained.share == 1):
            trial = facts.find(state, body.n)
            counts = trial is not None and not trial.violates and body.trained is not None and not body.trained.cut
            found.append((event.t_s, body.trained.val_score if body.trained and counts else None))
    if found:
        return found, state.clock_s, "clock of the run"
    spent = 0.0
    for trial in state.trained():
        short = trial.trained.get("short")
        spent += short.seconds if short else 0.0
        found.append((spent, None if trial.violates else trial.score))
    return found, spent, "training time spent"
