"""What ``llmnas run`` and ``llmnas show`` answer: a run or one trial, as plain text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from llmnas.records import Trial
from llmnas.report import draw, facts
from llmnas.report import format as say
from llmnas.store import RunState

SHOW: Final = "llmnas.show/1"
TRIAL: Final = "llmnas.trial/1"
_FRONT: Final = 15


def summary(state: RunState) -> str:
    """Returns the verdict, the front, what was spent and what to do next, as plain text."""
    parts = [*mock_notice(state), "\n".join(facts.verdict(state)), _front(state), _spent(state), _warnings(state),
             _next(state)]
    return "\n\n".join(part for part in parts if part)


def mock_notice(state: RunState) -> list[str]:
    """Returns what every text about a run of the mock model begins with; nothing for other runs."""
    return ["NOTE: proposals were made by the mock model; no language model took part."] if facts.offline(state) else []


def _front(state: RunState) -> str:
    found, metric, chosen = facts.front(state), facts.metric(state), facts.answer(state)
    if not found:
        return "Front: empty, nothing has been trained within the constraints."
    shown = found[-_FRONT:]
    rows = [("trial", metric, "parameters", "MACs", "latency", "operator")]
    rows += [(("* " if chosen and trial.n == chosen.n else "  ") + str(trial.n), say.score(trial.score, metric),
              say.count(trial.counts.params) if trial.counts else say.UNKNOWN,
              say.count(trial.counts.macs) if trial.counts else say.UNKNOWN,
              say.latency_text(facts.latency(state, trial)), say.one_line(trial.proposal.origin.operator, 24))
             for trial in shown]
    more = f", the best {_FRONT} of {len(found)}" if len(found) > _FRONT else ""
    where = facts.device(state)
    head = f"Front (search score{f', latency on {where}' if where else ''}{more}; * is the answer)"
    return head + "\n" + table(rows, right=(0, 1, 2, 3))


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
        f"Model: {say.plural(spent.calls, 'call')}, {say.whole(spent.tokens)} tokens, {say.usd(spent.usage)}."
        if spent.calls else "Model: no calls."]
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
        "metric": state.settings.metric, "device": facts.device(state), "clock_s": state.clock_s,
        "budget_s": state.settings.budget_s, "selected": state.selected.model_dump() if state.selected else None,
        "answer": _brief(state, best) if best else None,
        "front": [_brief(state, trial) for trial in facts.front(state)], "trials": len(state.trials),
        "spent": {"proposals": spent.proposals, "invalid": spent.invalid, "duplicate": spent.duplicate,
                  "repaired": spent.repaired, "evaluations": spent.evaluations, "trainings": spent.trainings,
                  "train_s": spent.train_s, "screen_s": spent.screen_s, "calls": spent.calls, "tokens": spent.tokens,
                  "usage": spent.usage.model_dump(), "usd": spent.usage.usd},
        "invalid": dict(state.invalid), "rules": [rule.model_dump(mode="json") for rule in state.rules],
        "warnings": list(state.warnings), "files": dict(state.finished.files) if state.finished else {},
        "settings": state.settings.model_dump(mode="json"),
    }


def _brief(state: RunState, trial: Trial) -> dict[str, Any]:
    found, timed = trial.best_rung, facts.latency(state, trial)
    return {"n": trial.n, "key": trial.key, "score": trial.score, "val_score": found.val_score if found else None,
            "test_score": found.test_score if found else None,
            "counts": trial.counts.model_dump() if trial.counts else None,
            "latency": timed.model_dump() if timed else None, "violates": list(trial.violates),
            "operator": trial.proposal.origin.operator}


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
    rows += [(f"latency on {device}", f"{say.latency_text(timed)}, batch {timed.batch}, {timed.runtime}")
             for device, timed in trial.latency.items()]
    for rung, found in trial.trained.items():
        tested = f", test {say.score(found.test_score, found.metric)}" if found.test_score is not None else ""
        rows.append((f"{rung} training", f"{found.metric} {say.score(found.val_score, found.metric)}{tested} after "
                     f"{found.epochs:.3g} epochs in {say.duration(found.seconds)}{', cut' if found.cut else ''}"))
    if not trial.trained:
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
    return "\n".join(said) + "\n\n" + _drawing(trial)


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
            "drawing": draw.to_text(graph) if graph else None, "mermaid": draw.to_mermaid(graph) if graph else None}
