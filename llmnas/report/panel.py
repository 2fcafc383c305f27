"""The live panel as a rich renderable. Foreign text goes in as `Text`, never as markup."""

from __future__ import annotations

import math
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llmnas.records import Trial
from llmnas.report import facts
from llmnas.report import format as say
from llmnas.store import RunState

_LAST: Final = 8
_STYLE: Final = {"invalid": "red", "duplicate": "dim", "screened": "dim", "pending": "", "trained": "green",
                 "failed": "red", "timeout": "yellow"}


def panel(state: RunState, clock_s: float, activity: str) -> RenderableType:
    """Returns the panel of a run at a point on its clock."""
    parts: list[RenderableType] = [_budget(state, clock_s), _figures(state, activity), _trials(state)]
    if facts.offline(state):
        parts.insert(0, Text("proposals are made by the mock model", style="bold yellow"))
    return Panel(Group(*parts), title=Text(facts.name(state)), title_align="left", border_style="blue",
                 box=box.ROUNDED)


def _budget(state: RunState, clock_s: float) -> RenderableType:
    total = state.settings.budget_s
    clock_s = clock_s if math.isfinite(clock_s) else 0.0
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    row.add_row(ProgressBar(total=max(total, 1e-9), completed=min(max(clock_s, 0.0), total)),
                Text(f"{say.duration(clock_s)} of {say.duration(total)}"))
    return row


def _figures(state: RunState, activity: str) -> RenderableType:
    spent, metric, best = state.spent, facts.metric(state), facts.answer(state)
    rows = [("now", activity)]
    if best is not None and best.best_rung is not None:
        value = best.score if best.score is not None else best.best_rung.val_score
        rows.append(("best", f"trial {best.n}: {metric} {say.score(value, metric)}{facts.brief(best.best_rung)}, "
                             f"{_size(best)}, {facts.cost(state, best)}{_reward(state, best)}"))
    else:
        rows.append(("best", "nothing trained yet"))
    rows.append(("done", f"{say.plural(spent.proposals, 'proposal')} ({spent.invalid} invalid, {spent.duplicate} "
                         f"duplicate), {say.plural(spent.trainings, 'training')}, {len(state.pending)} waiting"))
    if spent.calls:
        rows.append(("model", f"{say.plural(spent.calls, 'call')}, {say.whole(spent.tokens)} tokens, "
                              f"{say.usd(spent.usage)}"))
    grid = Table.grid(padding=(0, 2))
    for name, text in rows:
        grid.add_row(Text(name, style="bold cyan"), Text(say.one_line(text)))
    return grid


def _trials(state: RunState) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head, justify in (("trial", "right"), ("operator", "left"), ("status", "left"), ("score", "right"),
                          ("params", "right"), ("latency", "left")):
        table.add_column(Text(head), justify="right" if justify == "right" else "left", no_wrap=True,
                         min_width=0 if head == "latency" else len(head) + 2)
    for trial in state.trials[-_LAST:]:
        table.add_row(Text(str(trial.n)), Text(say.one_line(trial.proposal.origin.operator, 24)),
                      Text(trial.status, style=_STYLE.get(trial.status, "")),
                      Text("–" if trial.score is None else say.score(trial.score, facts.metric(state))),
                      Text(_size(trial, short=True)),
                      Text(say.latency_text(found) if (found := facts.latency(state, trial)) else "–"))
    return table


def _reward(state: RunState, trial: Trial) -> str:
    gained = facts.reward(state, trial)
    return "" if gained is None else f", reward {gained}"


def _size(trial: Trial, short: bool = False) -> str:
    if trial.counts is None:
        return "–"
    return say.count(trial.counts.params) + ("" if short else " parameters")
