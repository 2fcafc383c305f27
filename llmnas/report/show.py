"""What ``llmnas run`` and ``llmnas show`` answer: a run or one trial, as plain text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from llmnas.front import share_text
from llmnas.records import Trial
from llmnas.report import conversation, difference, draw, facts, fits, language
from llmnas.report import format as say
from llmnas.store import RunState

SHOW: Final = "llmnas.show/1"
TRIAL: Final = "llmnas.trial/1"
_FRONT: Final = 15
_OTHER_FRONT: Final = 6


def summary(state: RunState) -> str:
    """Returns the verdict, the front, what was spent and what to do next, as plain text."""
    parts = [*mock_notice(state), "\n".join(facts.verdict(state)), _choices(state), _fronts(state), _fits(state),
             _spent(state), _warnings(state), _next(state)]
    return "\n\n".join(part for part in parts if part)


def mock_notice(state: RunState) -> list[str]:
    """Returns what every text about a run of the mock model begins with; nothing for other runs."""
    return ["NOTE: proposals were made by the mock model; no language model took part."] if facts.offline(state) else []


def _fronts(state: RunState) -> str:
    """Returns the front on every target: the first one in full, the others as far as they help to choose."""
    keys = facts.targets(state)
    parts = [_front(state, keys[0] if keys else None, facts.answer(state), _FRONT)]
    choices = facts.choices(state)
    parts += [_front(state, key, choices.get(key), _OTHER_FRONT) for key in keys[1:] if facts.front(state, key)]
    return "\n\n".join(parts)


def _front(state: RunState, on: str | None, chosen: Trial | None, most: int) -> str:
    found, metric = facts.front(state, on), facts.metric(state)
    if not found:
        return "Front: empty, nothing has been trained within the constraints."
    aimed = state.settings.aim_latency_ms is not None and on == facts.target(state)
    rows = [("trial", metric, *(("reward",) if aimed else ()), "parameters", "MACs", "latency", "operator")]
    rows += [(("* " if chosen and trial.n == chosen.n else "  ") + str(trial.n), say.score(trial.score, metric),
              *((facts.reward(state, trial) or say.UNKNOWN,) if aimed else ()),
              say.count(trial.counts.params) if trial.counts else say.UNKNOWN,
              say.count(trial.counts.macs) if trial.counts else say.UNKNOWN,
              facts.cost(state, trial, on), say.one_line(trial.proposal.origin.operator, 24))
             for trial in found[-most:]]
    more = f", the best {most} of {len(found)}" if len(found) > most else ""
    mark = "the answer" if on == facts.target(state) else f"the best on {on}"
    head = f"Front (search score{f', latency on {on}' if on else ''}{more}; * is {mark})"
    return head + "\n" + table(rows, right=(0, 1, 2, 3, 4) if aimed else (0, 1, 2, 3))


def _fits(state: RunState) -> str:
    """Returns what a strategy learnt by trainings of its own, epoch by epoch."""
    rows = fits.history_rows(state)
    parts = ["Learnt before the first proposal\n" + table(rows, right=tuple(range(1, len(rows[0]))))] if rows else []
    return "\n".join([*parts, *fits.lines(state)])


def _choices(state: RunState) -> str:
    """Returns the best trial on every further target, one line each."""
    answer = facts.answer(state)
    return "\n".join(
        f"Best on {key}: " + ("the same, " if answer and trial.n == answer.n else "")
        + f"trial {trial.n}, {facts.metric(state)} {say.score(trial.score, facts.metric(state))} in the search, "
        + f"{facts.cost(state, trial, key)}." for key, trial in facts.choices(state).items())


def table(rows: Sequence[tuple[str, ...]], right: tuple[int, ...] = ()) -> str:
    """Returns rows as aligned columns, the first row a head."""
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  " + "  ".join(
        f"{cell:>{wide[column]}}" if column in right else f"{cell:<{wide[column]}}"
        for column, cell in enumerate(row)).rstrip() for row in rows)


def _spent(state: RunState) -> str:
    spent = state.spent
    lines = [
        f"Spent: {say.duration(state.clock_s)} of {say.duration(state.settings.budget_s)}; "
        f"{say.plural(spent.proposals, 'proposal')} ({spent.invalid} invalid, {spent.duplicate} duplicate, "
        f"{spent.repaired} repaired), {say.plural(spent.evaluations, 'evaluation')}, "
        f"{say.plural(spent.trainings, 'training')} of {say.duration(spent.train_s)} in all.",
        *language.summary_lines(state)]
    if state.invalid:
        lines.append("Invalid: " + ", ".join(f"{code} {n}" for code, n in state.invalid.most_common(8)) + ".")
    return "\n".join([*lines, f"Status: {facts.status(state)}."])


def _warnings(state: RunState) -> str:
    return "\n".join(f"Warning: {say.one_line(text, 300)}" for text in state.warnings[:10])


def _next(state: RunState) -> str:
    run, best = facts.name(state), facts.answer(state)
    commands = [f"llmnas show {run} {best.n}" if best else f"llmnas show {run}", f"llmnas report {run}"]
    commands.append(f"llmnas export {run}" if state.finished else f"llmnas resume {run}")
    return "Next:\n" + "\n".join(f"  {command}" for command in commands)


def summary_json(state: RunState) -> dict[str, Any]:
    """Returns the run as JSON values; unknown is null. Schema ``llmnas.show/1``."""
    best, spent = facts.answer(state), state.spent
    return {
        "schema": SHOW, "run": state.started.run if state.started else None, "status": facts.status(state),
        "stopped": state.stopped.reason if state.stopped else None, "offline": facts.offline(state),
        "model": state.started.model if state.started else None, "verdict": list(facts.verdict(state)),
        "metric": state.settings.metric, "device": facts.target(state), "targets": list(facts.targets(state)),
        "clock_s": state.clock_s, "budget_s": state.settings.budget_s,
        "selected": state.selected.model_dump() if state.selected else None,
        "answer": _brief(state, best) if best else None,
        "front": [_brief(state, trial) for trial in facts.front(state)],
        "fronts": {key: [trial.n for trial in facts.front(state, key)] for key in facts.targets(state)},
        "choices": {key: trial.n for key, trial in facts.choices(state).items()}, "trials": len(state.trials),
        "spent": {"proposals": spent.proposals, "invalid": spent.invalid, "duplicate": spent.duplicate,
                  "repaired": spent.repaired, "evaluations": spent.evaluations, "cost": spent.cost,
                  "trainings": spent.trainings, "train_s": spent.train_s, "fit_s": spent.fit_s,
                  "screen_s": spent.screen_s, "calls": spent.calls, "tokens": spent.tokens,
                  "usage": spent.usage.model_dump(), "usd": spent.usage.usd},
        **fits.as_json(state), "llm": conversation.as_json(conversation.conversation(state)),
        "invalid": dict(state.invalid), "rules": [rule.model_dump(mode="json") for rule in state.rules],
        "warnings": list(state.warnings), "files": dict(state.finished.files) if state.finished else {},
        "settings": state.settings.model_dump(mode="json"),
    }


def _brief(state: RunState, trial: Trial) -> dict[str, Any]:
    found, timed = trial.best_rung, facts.latency(state, trial)
    return {"n": trial.n, "key": trial.key, "score": trial.score, "val_score": found.val_score if found else None,
            "share": found.share if found else None,
            "test_score": found.test_score if found else None,
            "counts": trial.counts.model_dump() if trial.counts else None,
            "latency": timed.model_dump() if timed else None,
            "latencies": {key: one.model_dump() for key, one in trial.latency.items()},
            "energies": {key: one.model_dump() for key, one in trial.energy.items()},
            "reward": state.merit(trial) if state.settings.aim_latency_ms is not None else None,
            "violates": list(trial.violates), "operator": trial.proposal.origin.operator}


def trial_text(state: RunState, n: int) -> str:
    """Returns everything known of trial `n`, its drawing included.

    Raises:
        RunError: There is no such trial.
    """
    trial = state.trial(n)
    origin, metric = trial.proposal.origin, facts.metric(state)
    said = [f"Trial {n} of {facts.name(state)}: {trial.status}" + (
        f" of trial {trial.duplicate_of}" if trial.duplicate_of else "")]
    rows = [("key", trial.key or say.UNKNOWN), ("size", facts.size(trial))]
    rows += [(f"latency on {key}", f"{say.latency_text(timed)}, batch {timed.batch}, {timed.runtime}")
             for key, timed in trial.latency.items()]
    rows += [(f"energy on {key}", say.energy_text(trial.energy.get(key))) for key in trial.latency]
    rows += [("reward", gained)] if (gained := facts.reward(state, trial)) is not None else []
    for rung, found in trial.trained.items():
        tested = f", test {say.score(found.test_score, found.metric)}" if found.test_score is not None else ""
        rows.append((f"{rung} training", f"{found.metric} {say.score(found.val_score, found.metric)}{tested} after "
                     f"{found.epochs:.3g} epochs in {say.duration(found.seconds)}{', cut' if found.cut else ''}"))
    rows += [(f"{share_text(one.share)} of short", f"{one.metric} {say.score(one.val_score, one.metric)} after "
              f"{one.epochs:.3g} epochs in {say.duration(one.seconds)}{', cut' if one.cut else ''}")
             for one in trial.partial]
    if trial.best_rung is None:
        rows.append((metric, "not trained"))
    rows += [("proxies", ", ".join(f"{name} {value:.4g}" for name, value in trial.scores.items()) or "none")]
    rows += [(f"no {name}", why) for name, why in trial.unscored.items()]
    rows += [("made by", f"{origin.strategy}, {origin.operator}, step {origin.step}"
              + (f", {origin.repairs} repairs" if origin.repairs else "")),
             ("parents", _parents(state, trial)), ("breaks", "; ".join(trial.violates) or "no constraint"),
             ("note", trial.note), ("rationale", trial.proposal.rationale)]
    wide = max(len(name) for name, _ in rows)
    said += [f"  {name:<{wide}}  {say.one_line(text, 600)}" for name, text in rows if text]
    said += [f"  fault: {say.one_line(issue, 400)}" for issue in trial.proposal.issues]
    return "\n\n".join(["\n".join(said), *_changes(state, trial), _drawing(trial)])


def _changes(state: RunState, trial: Trial) -> list[str]:
    return [f"Changed against {parent}:\n" + "\n".join(f"  {line}" for line in lines)
            for parent, lines in difference.to_parents(state, trial)]


def _parents(state: RunState, trial: Trial) -> str:
    return ", ".join(f"trial {state.first[key]}" if key in state.first else key
                     for key in trial.proposal.origin.parents) or "none"


def _drawing(trial: Trial) -> str:
    if trial.proposal.graph is not None:
        return draw.to_text(trial.proposal.graph)
    raw = trial.proposal.raw
    return "No graph could be read from the reply" + (f":\n{say.clean(raw, 2000)}" if raw is not None else ".")


def trial_json(state: RunState, n: int) -> dict[str, Any]:
    """Returns trial `n` as JSON values, with its drawing as text and Mermaid. Schema ``llmnas.trial/1``.

    Raises:
        RunError: There is no such trial.
    """
    trial = state.trial(n)
    graph = trial.proposal.graph
    return {"schema": TRIAL, "run": state.started.run if state.started else None,
            "trial": trial.model_dump(mode="json"), "score": trial.score,
            "lineage": [{"depth": step.depth, "key": step.key, "n": step.trial.n if step.trial else None}
                        for step in facts.lineage(state, trial)],
            "parents": difference.parents_json(state, trial),
            "drawing": draw.to_text(graph) if graph else None, "mermaid": draw.to_mermaid(graph) if graph else None}
