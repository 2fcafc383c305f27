"""The model card that goes with an exported model, and the other texts a run is answered with."""

from __future__ import annotations

import re

from llmnas.records import Trial
from llmnas.report import draw, facts
from llmnas.report import format as say
from llmnas.report.show import summary, summary_json, trial_json, trial_text
from llmnas.store import RunState

__all__ = ["model_card", "summary", "summary_json", "trial_json", "trial_text"]


def model_card(state: RunState, trial: Trial | None = None, files: dict[str, str] | None = None) -> str:
    """Returns the card of an exported model, as Markdown ending in a newline.

    Args:
        state: The run it comes from.
        trial: The exported trial; the run's answer when None.
        files: Exported files by kind (``weights``, ``model``, ``onnx`` …); what loading is explained with.
    """
    trial = trial or facts.answer(state)
    if trial is None:
        return f"# {_safe(facts.name(state))}\n\nNothing was trained in this run, so there is no model to describe.\n"
    parts = [f"# {_safe(facts.name(state))}, trial {trial.n}", _notice(state), _what(state, trial),
             "## Figures\n\n" + _figures(state, trial), "## How it was found\n\n" + _found(state, trial),
             "## Architecture\n\n" + _architecture(trial), "## Limits\n\n" + _limits(state, trial),
             "## How to load it\n\n" + _loading(files or {})]
    return "\n\n".join(part for part in parts if part) + "\n"


def _safe(text: object, limit: int = 300) -> str:
    """Returns foreign text that cannot break out of a line of Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!~&])", r"\\\1", say.one_line(text, limit))


def _notice(state: RunState) -> str:
    return ("> **Proposals were made by the mock model.** No language model took part in this search."
            if facts.offline(state) else "")


def _task(state: RunState) -> dict[str, object]:
    return dict(state.started.task) if state.started else {}


def _what(state: RunState, trial: Trial) -> str:
    task = _task(state)
    shape, classes = task.get("shape"), task.get("classes")
    takes = f" It takes inputs of shape {say.shape(shape)}" if isinstance(shape, (tuple, list)) and shape else ""
    gives = f" and gives the logits of {classes} classes" if isinstance(classes, int) else ""
    space = trial.proposal.graph.space if trial.proposal.graph else state.settings.space
    return (f"A classifier for the data set {_safe(state.settings.data)}, found by architecture search in the space "
            f"{_safe(space)}." + (f"{takes}{gives}." if takes else ""))


def _figures(state: RunState, trial: Trial) -> str:
    found = trial.best_rung
    rows = [("what", "value"), ("---", "---")]
    if found is not None:
        tested = facts.test_score(state, found)
        rows += [(f"test {found.metric}", tested or "not read"),
                 (f"validation {found.metric}{facts.brief(found)}", say.score(found.val_score, found.metric)),
                 ("training", f"{found.epochs:.3g} epochs in {say.duration(found.seconds)}, seed {found.seed}")]
    if trial.counts is not None:
        rows += [("parameters", f"{say.count(trial.counts.params)} ({trial.counts.params:,})"),
                 ("MACs of one example", f"{say.count(trial.counts.macs)} ({trial.counts.macs:,})"),
                 ("peak memory, float32, batch 1", say.megabytes(trial.counts.memory_mb))]
    rows += [(f"latency on {key}, batch {timed.batch}, {timed.runtime}", say.latency_text(timed))
             for key, timed in trial.latency.items()] or [("latency", say.UNKNOWN)]
    rows += [(f"energy of one call on {key}", say.energy_text(trial.energy.get(key))) for key in trial.latency]
    rows += [("reward", gained)] if (gained := facts.reward(state, trial)) is not None else []
    return "\n".join("| " + " | ".join(cell if cell == "---" else _safe(cell) for cell in row) + " |" for row in rows)


def _found(state: RunState, trial: Trial) -> str:
    spent, settings, origin = state.spent, state.settings, trial.proposal.origin
    model = state.started.model if state.started else None
    lines = [
        f"- Strategy {_safe(settings.strategy)}, model {_safe(model or 'none')}, seed {settings.seed}.",
        f"- {say.duration(state.clock_s)} of a budget of {say.duration(settings.budget_s)}: "
        f"{say.plural(spent.proposals, 'proposal')}, {say.plural(spent.trainings, 'training')}, "
        f"{say.plural(spent.calls, 'model call')}, {say.whole(spent.tokens)} tokens, {say.usd(spent.usage)}.",
        f"- Made by the operator {_safe(origin.operator)} in step {origin.step}, "
        f"{len(facts.lineage(state, trial)) - 1} ancestors.",
        f"- Key `{re.sub(r'[^0-9a-zA-Z:.]', '', trial.key or '') or say.UNKNOWN}`."]
    if state.selected is not None and state.selected.n == trial.n:
        lines.append(f"- Chosen because it has: {_safe(state.selected.why)}.")
    if trial.proposal.rationale:
        lines.append(f"- The proposer's reason: {_safe(trial.proposal.rationale, 600)}")
    return "\n".join(lines)


def _architecture(trial: Trial) -> str:
    graph = trial.proposal.graph
    return "The graph was not recorded." if graph is None else f"```mermaid\n{draw.to_mermaid(graph)}\n```"


def _limits(state: RunState, trial: Trial) -> str:
    found = trial.best_rung
    lines = ["- Trained once with a fixed recipe; another seed gives another score.",
             "- The score holds for data like those it was tested on; nothing was checked beyond them.",
             "- A latency holds for its device, batch and runtime."]
    if found is None or found.test_score is None:
        lines.append("- The test data have not been read for this model: the validation score is optimistic, because "
                     "the search chose by it.")
    if any(timed.source == "analytic" for timed in trial.latency.values()):
        lines.append("- An analytic latency is computed, not measured; its interval says how far it may be off.")
    if any(used.source == "prior" for used in trial.energy.values()):
        lines.append("- An energy marked prior is a guessed power times the latency: no meter has seen it.")
    if found is not None and found.cut:
        lines.append("- Its training was cut by a deadline.")
    lines += [f"- It breaks a constraint: {_safe(broken)}." for broken in trial.violates]
    lines += [f"- Warning of the run: {_safe(text)}." for text in state.warnings[:5]]
    return "\n".join(lines)


def _loading(files: dict[str, str]) -> str:
    module = re.sub(r"\W", "", files.get("model", "model.py").rpartition("/")[2].removesuffix(".py"))
    weights = files.get("weights", "model.safetensors").rpartition("/")[2]
    listed = "".join(f"- {_safe(kind)}: {_safe(path)}\n" for kind, path in sorted(files.items()))
    return (f"`{module}.py` needs torch and safetensors only.\n\n```python\nfrom {module} import load, predict\n\n"
            f"model = load()  # reads {weights} beside it\npredict(images)  # [(class name, probability), ...]\n```"
            + (f"\n\nFiles:\n\n{listed}".rstrip() if listed else ""))
