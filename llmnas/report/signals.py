"""Were the proxies right in this run? One account for ``llmnas proxies validate`` and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from llmnas.proxies import PROXIES, SIZES, default_weights, labelled_pool
from llmnas.proxies.combine import Directions, Pool
from llmnas.proxies.validity import Validity, combined, judge, validate
from llmnas.records import SUPERNET
from llmnas.report import facts
from llmnas.report import format as say
from llmnas.report.show import mock_notice, table
from llmnas.store import RunState

SCHEMA: Final = "llmnas.proxies.validate/1"
CAVEAT: Final = ("Trained candidates were chosen by screening, so these figures are about what was trained, not about "
                 "the space: choosing narrows the range, which lowers correlations.")
LEGEND: Final = (
    "Spearman: positive when the signal was right. Better half: the same among the better half by trained score. Top k "
    "right: of the quarter that the signal puts first, how many belong to the best quarter. Regret: what the "
    "best of them lacks to the best of all. helps, misleads: the interval excludes 0. A dash is unknown. The order in "
    "use judges each candidate by the weights in force when it was chosen. Of many intervals, one in twenty misses by "
    "chance.")
HEADS: Final = ("signal", "in words", "n", "Spearman", "95 % interval", "better half", "top k right", "regret")
NUMERIC: Final = (2, 3, 4, 5, 6, 7)
_MOST: Final = 40
_WORDS: Final = {"combined": "order in use", "default": "default order"}


@dataclass(frozen=True)
class Signals:
    """What every signal of a run was worth.

    Attributes:
        rows: The order in use, the label-free default, the sizes, then the other proxies. The order in use judges each
            candidate by the weights that were in force when it was chosen.
        kinds: ``combined``, ``default``, ``baseline`` or ``proxy``, one per row.
        weights: What every proxy counted in the last order; the default where the log does not say.
        default: The label-free weights.
        unknown: Proxies that this version does not know, taken as higher is better.
    """

    rows: tuple[Validity, ...]
    kinds: tuple[str, ...]
    weights: Mapping[str, float]
    default: Mapping[str, float]
    unknown: tuple[str, ...] = ()


def signals(state: RunState) -> Signals:
    """Returns the judgements of a run in any condition."""
    trials = [trial for trial in state.trained() if say.finite(trial.score)]
    pool, labels = labelled_pool(trials)
    names = [*SIZES, *sorted({name for member in pool for name in member} - set(SIZES))][:_MOST]
    unknown = tuple(name for name in names if name not in PROXIES and name != SUPERNET)
    directions: dict[str, Literal[1, -1]] = {name: _direction(name) for name in names}
    default = _default(state)
    used = [state.weights.get(trial.n, default) for trial in trials]
    rows = (*_orders(pool, labels, used, default), *validate(pool, labels, directions))
    kinds = ("combined", "default", *("baseline" if name in SIZES else "proxy" for name in names))
    return Signals(rows, kinds, state.weights.get(len(state.trials), default), default, unknown)


def _orders(pool: Pool, labels: Sequence[float], used: Sequence[Mapping[str, float]],
            default: Mapping[str, float]) -> list[Validity]:
    names = {name for shares in (*used, default) for name in _counted(shares)}
    directions: Directions = {name: _direction(name) for name in sorted(names)}
    each = {"combined": combined(pool, directions, used), "default": combined(pool, directions, [default] * len(pool))}
    return [judge(name, order, labels) for name, order in each.items()]


def _default(state: RunState) -> dict[str, float]:
    proxies = state.plan.proxies if state.started else ()
    return default_weights(state.settings.space, dict.fromkeys((*proxies, *SIZES)))


def _direction(name: str) -> Literal[1, -1]:
    return PROXIES[name].direction if name in PROXIES else 1


def weighed(found: Signals) -> str:
    """Returns the weights in use in words, the largest first."""
    shares = sorted(_counted(found.weights).items(), key=lambda pair: -pair[1])
    said = ", ".join(f"{say.one_line(name, 40)} {share:.2f}" for name, share in shares)
    learned = _counted(found.weights) != _counted(found.default)
    return f"{said} ({'learned from trained candidates' if learned else 'label-free default'})"


def _counted(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: share for name, share in shares.items() if share > 0}


def rows(found: Signals, metric: str) -> list[tuple[str, ...]]:
    """Returns the table in words; its heads are `HEADS`."""
    return [(_name(row, kind), row.verdict, say.whole(row.n), _signed(row.spearman), _interval(row),
             _signed(row.spearman_top), _right(row), _regret(row.regret, metric))
            for row, kind in zip(found.rows, found.kinds, strict=True)]


def _name(row: Validity, kind: str) -> str:
    name = _WORDS.get(kind, say.one_line(row.name, 40))
    return f"{name} (baseline)" if kind == "baseline" else name


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def _interval(row: Validity) -> str:
    return "–" if row.low is None or row.high is None else f"{row.low:+.2f} to {row.high:+.2f}"


def _right(row: Validity) -> str:
    return "–" if row.precision is None or row.k is None else f"{round(row.precision * row.k)} of {row.k}"


def _regret(value: float | None, metric: str) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} points" if say.is_percent(metric) else f"{value:.4g}"


def validate_text(state: RunState) -> str:
    """Returns the account as plain text."""
    found = signals(state)
    head = f"Were the proxies right? {facts.name(state)}: {say.plural(_trained(found), 'trained candidate')}"
    parts = [*mock_notice(state), f"{head}, {facts.metric(state)} of the short training. {CAVEAT}",
             table([HEADS, *rows(found, facts.metric(state))], right=NUMERIC), f"Weights in use: {weighed(found)}.",
             LEGEND]
    if found.unknown:
        named = ", ".join(say.one_line(name, 40) for name in found.unknown)
        parts.append(f"Not known to this version, taken as higher is better: {named}.")
    return "\n\n".join(parts)


def _trained(found: Signals) -> int:
    return found.rows[0].n


def validate_json(state: RunState) -> dict[str, Any]:
    """Returns the account as JSON values; unknown is null. Schema ``llmnas.proxies.validate/1``."""
    found = signals(state)
    return {"schema": SCHEMA, "run": state.started.run if state.started else None, "offline": facts.offline(state),
            "notice": "; ".join(mock_notice(state)) or None, "metric": state.settings.metric, "rung": "short",
            "trained": _trained(found), "caveat": CAVEAT, "weights": dict(found.weights),
            "default_weights": dict(found.default), "unknown_proxies": list(found.unknown),
            "rows": [{"kind": kind, **asdict(row)} for row, kind in zip(found.rows, found.kinds, strict=True)]}
