"""The report of a run: one HTML file that needs nothing else, no script and no network.

Rationales, rules and whatever else a model wrote are hostile input: the template escapes all of it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from llmnas.errors import LlmnasError
from llmnas.front import weight_text
from llmnas.network import Network
from llmnas.records import Event, Trial
from llmnas.report import difference, draw, facts, fits, language, signals, targets
from llmnas.report import format as say
from llmnas.report.pictures import pictures
from llmnas.store import RunState, read_events

NAME: Final = "report.html"
_NODES: Final = 80
_ENVIRONMENT: Final = 40
_CONVERSATION: Final = 200_000
"""Characters of the conversation behind the answer; `llmnas show` has all of it."""


def write_report(state: RunState, directory: Path, network: Network | None = None,
                 extra: dict[str, Any] | None = None) -> Path:
    """Writes ``report.html`` into `directory` and returns its path.

    Args:
        state: The run, in any condition.
        directory: Where to write; when it holds the run's ``events.jsonl`` and ``calls``, the anytime curve takes its
            times and the conversation behind the answer its texts there.
        network: The answer's network, for shapes and parameters in its drawing.
        extra: ``events`` (instead of the log); anything else is listed under "More", values as text.
    """
    more = dict(extra or {})
    events = more.pop("events", None)
    page = render(state, network, _events(directory) if events is None else events, more, directory)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / NAME
    partial = path.with_suffix(".tmp")
    partial.write_text(page, encoding="utf-8", errors="replace")
    partial.replace(path)
    return path


def render(state: RunState, network: Network | None = None, events: Iterable[Event] | None = None,
           more: dict[str, Any] | None = None, directory: Path | None = None) -> str:
    """Returns the page as text; see `write_report`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("llmnas.report", "."), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("template.html.j2").render(**context(state, network, events, more or {}, directory))


def context(state: RunState, network: Network | None, events: Iterable[Event] | None,
            more: dict[str, Any], directory: Path | None = None) -> dict[str, Any]:
    """Returns everything the template shows, as text and ready pictures."""
    trial = facts.answer(state)
    first, second = facts.verdict(state)
    return {
        "name": facts.name(state), "status": facts.status(state), "offline": facts.offline(state),
        "verdict": (first, second), "why": say.one_line(state.selected.why, 400) if state.selected else "",
        "model": say.one_line(state.started.model) if state.started and state.started.model else "none",
        "cards": _cards(state, trial), "warnings": [say.one_line(text, 400) for text in state.warnings[:50]],
        "plots": pictures(state, trial, events), "answer": _answer(trial, network), "metric": facts.metric(state),
        "aim": _aim(state), "keys": facts.targets(state) or ("the target",),
        "top": [_row(state, one) for one in facts.top(state)], **_targets(state),
        "lineage": _lineage(state, trial), **language.context(state), "fits": fits.history_rows(state),
        "fit_notes": list(fits.lines(state)), "spent": facts.spent_rows(state),
        "invalid": [(code, say.whole(n), say.percent(n / max(1, state.spent.invalid)))
                    for code, n in state.invalid.most_common()],
        **_signals(state), "behind": _behind(state, trial, directory), "plan": facts.plan_rows(state),
        "environment": _environment(state),
        "command": _command(state), "settings": _pairs(_given(state)),
        "more": _pairs(more), "trials": say.whole(len(state.trials)),
    }


def _events(directory: Path) -> list[Event]:
    try:
        return list(read_events(directory / "events.jsonl"))
    except (OSError, LlmnasError):
        return []


def _cards(state: RunState, trial: Trial | None) -> list[tuple[str, str, str]]:
    """Returns the key figures: what, how much, a note."""
    found = trial.best_rung if trial else None
    tested = found.test_score if found else None
    interval = facts.test_interval(state, tested)
    near = f"95 % interval {100 * interval[0]:.1f}–{100 * interval[1]:.1f} %" if interval else "read once, at the end"
    metric = found.metric if found else facts.metric(state)
    cards = [
        (f"test {metric}", say.score(tested, metric) if tested is not None else "not yet",
         near if tested is not None else "read once, after the selection"),
        (f"validation {metric}" + (facts.brief(found) if found else ""),
         say.score(found.val_score, metric) if found else say.UNKNOWN,
         f"{found.epochs:.3g} epochs{', cut by the deadline' if found.cut else ''}" if found else "nothing trained"),
        *_costs(state, trial),
    ]
    if trial and (gained := facts.reward(state, trial)) is not None:
        cards.append(("reward", gained, _aim(state)))
    if trial and trial.counts:
        cards += [("parameters", say.count(trial.counts.params), f"{say.count(trial.counts.macs)} MACs"),
                  ("memory", say.megabytes(trial.counts.memory_mb), "peak, float32, batch 1")]
    share = state.clock_s / state.settings.budget_s if state.settings.budget_s > 0 else 0.0
    return [*cards, ("budget used", say.duration(state.clock_s),
                     f"{say.percent(share, 0)} of {say.duration(state.settings.budget_s)}")]


def _costs(state: RunState, trial: Trial | None) -> list[tuple[str, str, str]]:
    """Returns a card of latency for every target, and one of energy where that is known."""
    keys = facts.targets(state)
    found = []
    if trial is None:
        return [("latency", say.UNKNOWN, "no figure")]
    for key in keys:
        timed, used = facts.latency(state, trial, key), trial.energy.get(key)
        name, place = (f" on {key}", "") if len(keys) > 1 else ("", f"{key}, ")
        found.append(_card(f"latency{name}", say.latency_text(timed), f"{place}batch {timed.batch}" if timed else ""))
        if used is not None:
            found.append(_card(f"energy of a call{name}", say.energy_text(used), f"{place}batch {used.batch}"))
    return found or [("latency", say.UNKNOWN, "no figure")]


def _card(what: str, text: str, where: str) -> tuple[str, str, str]:
    """Returns a card of a figure in words: the figure large, its interval and source below with the place."""
    much, _, rest = text.partition(" (")
    return what, much, f"({rest} {where}" if rest else "no figure"


def _aim(state: RunState) -> str:
    """Returns what the reward is, in words; empty when there is none."""
    aim, keys = state.settings.aim_latency_ms, facts.targets(state)
    if aim is None:
        return ""
    where = keys[0] if keys else "the target"
    return f"score · (latency on {where} / {aim:g} ms)^w, w = {weight_text(state.settings)}"


def _targets(state: RunState) -> dict[str, Any]:
    """Returns what there is to say of several targets: nothing when there is one."""
    if len(facts.targets(state)) < 2:
        return {"orders": [], "apart": [], "choices": [], "apart_heads": (), "order_heads": (), "order_note": ""}
    return {"orders": targets.order_rows(state), "order_heads": targets.ORDER_HEADS, "order_note": targets.NOTE,
            "apart": targets.apart_rows(state), "apart_heads": targets.apart_heads(state),
            "choices": targets.choice_rows(state)}


def _answer(trial: Trial | None, network: Network | None) -> dict[str, Any] | None:
    graph = trial.proposal.graph if trial else None
    if trial is None or graph is None:
        return None
    labels = draw.labels_of(network)
    total = sum(params for _, params, _ in labels.values())
    nodes, live = draw.drawn(graph)
    rows = [(node.id, node.op, draw.attributes(node), ", ".join(node.inputs),
             say.shape(labels[node.id][0]) if node.id in labels else "–",
             say.percent(labels[node.id][1] / total) if node.id in labels and total else "–", node.id in live)
            for node in nodes[:_NODES]]
    picture = draw.to_svg(graph, labels, f"Architecture of trial {trial.n}")
    return {"n": trial.n, "picture": picture, "nodes": rows, "key": trial.key or say.UNKNOWN, "space": graph.space,
            "rationale": say.clean(trial.proposal.rationale, 1200), "json": graph.to_json(indent=1)[:20000]}


def _row(state: RunState, trial: Trial) -> dict[str, Any]:
    chosen = state.selected is not None and state.selected.n == trial.n
    return {"n": str(trial.n), "score": say.score(trial.score, facts.metric(state)), "chosen": "yes" if chosen else "",
            "params": say.count(trial.counts.params) if trial.counts else say.UNKNOWN,
            "macs": say.count(trial.counts.macs) if trial.counts else say.UNKNOWN,
            "costs": [facts.cost(state, trial, key) for key in facts.targets(state)] or [say.UNKNOWN],
            "reward": facts.reward(state, trial) or "", "operator": _operator(trial),
            "violates": say.one_line("; ".join(trial.violates)),
            "rationale": say.one_line(trial.proposal.rationale, 240)}


def _operator(trial: Trial) -> str:
    return say.one_line(trial.proposal.origin.operator, 40).replace("_", " ")


def _lineage(state: RunState, trial: Trial | None) -> list[dict[str, Any]]:
    found = facts.lineage(state, trial) if trial else []
    return [{"depth": min(step.depth, 8), "key": say.one_line(step.key, 12) or "–",
             "n": step.trial.n if step.trial else None,
             "operator": _operator(step.trial) if step.trial else "from outside this run",
             "score": say.score(step.trial.score, facts.metric(state)) if step.trial and step.trial.score is not None
             else "not trained", "rationale": say.one_line(step.trial.proposal.rationale, 160) if step.trial else "",
             "changes": difference.to_parents(state, step.trial) if step.trial else []}
            for step in found]


def _behind(state: RunState, trial: Trial | None, directory: Path | None) -> str:
    """Returns the conversation behind the answer; empty when code made it or its files are not at hand."""
    if trial is None or trial.proposal.origin.call is None or directory is None:
        return ""
    from llmnas.report import said

    return say.clean(said.behind_text(state, trial, directory), _CONVERSATION)


def _signals(state: RunState) -> dict[str, Any]:
    """Returns what ``llmnas proxies validate`` says; no rows when nothing was trained."""
    found = signals.signals(state)
    trained = found.rows[0].n > 0
    return {"signals": signals.rows(found, facts.metric(state)) if trained else [], "signal_heads": signals.HEADS,
            "signal_numeric": signals.NUMERIC, "weighed": signals.weighed(found), "caveat": signals.CAVEAT,
            "signal_legend": signals.LEGEND}


def _environment(state: RunState) -> list[tuple[str, str]]:
    return _pairs({**state.started.environment, **{f"data {key}": value for key, value in state.started.task.items()}}
                  if state.started else {})


def _given(state: RunState) -> dict[str, Any]:
    """Returns the settings that say something: the exponents of a reward only where there is one."""
    unused = {"aim_weight"} if state.settings.aim_latency_ms is None else set()
    return {key: value for key, value in state.settings.model_dump(exclude_none=True, exclude=unused).items()
            if value != {}}


def _pairs(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(say.one_line(key, 60), say.one_line(value if isinstance(value, str) else json.dumps(
        value, default=str, ensure_ascii=False), 300)) for key, value in list(values.items())[:_ENVIRONMENT]]


def _command(state: RunState) -> str:
    argv = state.started.argv if state.started else ()
    return say.one_line(shlex.join(argv) if argv else "unknown: the run did not record its command", 2000)
