"""The language model in words: the rows and cards of the report's section on it, and the lines of the summary."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from llmnas.report import calls, conversation, facts, outcomes
from llmnas.report import format as say
from llmnas.report.conversation import Conversation, Yield
from llmnas.report.tally import Cost
from llmnas.store import RunState

MOST_CALLS: Final = 200
_RULES: Final = 40
MODEL_HEADS: Final = ("model", "calls", "for proposals", "proposals", "valid", "repaired", "duplicate", "novel",
                      "trained", "on the front", "share of the front")
CALL_HEADS: Final = ("model", "calls for proposals", *conversation.PER_CALL)
POINT_HEADS: Final = ("model", "points on the front", "tokens a point", "money a point", "seconds a point")
PAYER_HEADS: Final = ("role", "prompt", "model", "calls", "failed", "tokens in", "tokens out", "money", "took",
                      "of it waiting")
ENDING_HEADS: Final = ("ended as", "finish reason", "model", "calls", "last error")
MAKER_HEADS: Final = ("operator", "model", "proposals", "valid", "novel", "trained", "best", "on the front",
                      "share of the front")


def summary_lines(state: RunState) -> list[str]:
    """Returns what the summary says of the model: cost, outcomes, share of the front; one line without calls."""
    found = conversation.conversation(state)
    if not state.calls:
        return ["Model: no calls."]
    cost, made = found.total, found.outcome
    by_role: dict[str, int] = {}
    for one in found.roles:
        by_role[one.role] = by_role.get(one.role, 0) + one.cost.calls
    roles = ", ".join(f"{n} {say.one_line(role, 20)}" for role, n in by_role.items())
    lines = [f"Model: {say.plural(cost.calls, 'call')} ({roles}), {_tokens(cost)}, {_money(cost)}, "
             f"{say.duration(cost.usage.seconds)}."]
    if bad := [one for one in found.endings if not one.whole]:
        lines.append("No whole reply: " + ", ".join(f"{_ended(one)} {one.calls}" for one in bad) + ".")
    lines.append(f"Its proposals: {made.proposals}, {made.valid} valid ({made.repaired} after repair), "
                 f"{made.duplicate} duplicate, {made.novel} novel; {made.on_front} of {found.front} on the front.")
    return lines + [f"A point of the front {'by ' + one.model + ' ' if len(found.yields) > 1 else ''}cost "
                    f"{_point_words(one)}, "
                    f"{say.duration(one.per_point(one.cost.usage.seconds))} of model time."
                    for one in found.yields if one.outcome.on_front]


def _point_words(one: Yield) -> str:
    tokens, usd = one.per_point(one.cost.tokens), one.per_point(one.cost.usage.usd)
    return (f"{_of_count(tokens)} tokens, " if tokens is not None else "tokens unknown, ") + (
        say.dollars(usd) if usd is not None else "price unknown")


def context(state: RunState) -> dict[str, Any]:
    """Returns what the template shows of the model and of the operators, as text and ready pictures."""
    found, metric = conversation.conversation(state), facts.metric(state)
    listed = calls.rows(state)
    return {
        "mocks": [say.one_line(name, 60) for name in found.mocks], "llm_cards": _cards(found) if state.calls else [],
        "llm_models": [_model(one) for one in found.yields], "model_heads": MODEL_HEADS,
        "llm_rates": [_per_call(one) for one in found.yields], "rate_heads": CALL_HEADS,
        "llm_points": [_point(one) for one in found.yields], "point_heads": POINT_HEADS,
        "payers": [(say.one_line(one.role, 20), say.one_line(one.prompt, 60), say.one_line(one.model, 60),
                    *_paid(one.cost)) for one in found.payers], "payer_heads": PAYER_HEADS,
        "endings": [(say.one_line(one.status, 30), say.one_line(one.finish, 30) if one.finish else "–",
                     say.one_line(one.model, 60), say.whole(one.calls), say.one_line(one.message, 200) or "–")
                    for one in found.endings], "ending_heads": ENDING_HEADS,
        "makers": _makers(found, metric), "maker_heads": MAKER_HEADS,
        "rules": [(say.clean(rule.text, 500), say.whole(len(rule.supports)), numbers(rule.supports),
                   say.whole(len(rule.contradicts)), numbers(rule.contradicts), str(rule.step))
                  for rule in found.rules[:_RULES]],
        "calls": listed[:MOST_CALLS], "call_heads": calls.HEADS, "call_numeric": calls.NUMERIC,
        "calls_left": len(listed[MOST_CALLS:]),
        "steps_plot": outcomes.steps_plot(_steps(state)),
        "makers_plot": outcomes.makers_plot([(_name(one, found), one.outcome, one.share) for one in found.makers]),
    }


def _cards(found: Conversation) -> list[tuple[str, str, str]]:
    cost, made = found.total, found.outcome
    return [
        ("calls", say.whole(cost.calls), f"{cost.failed} without a reply"),
        ("valid proposals", _of(made.valid, made.proposals),
         f"{made.valid} of {made.proposals}, {made.repaired} after repair"),
        ("novel proposals", _of(made.novel, made.proposals),
         f"{made.novel} of {made.proposals}, {made.duplicate} duplicate"),
        ("of the front", _of(made.on_front, found.front),
         f"{made.on_front} of {say.plural(found.front, 'point')}"),
        ("tokens", say.whole(cost.tokens), _rest(cost, cost.silent, say.whole(cost.said_tokens))
         or f"{say.whole(cost.usage.input_tokens)} in, {say.whole(cost.usage.output_tokens)} out"),
        ("money", say.priced(cost.usage.usd), _rest(cost, cost.unpriced, say.dollars(cost.said_usd))
         or "all calls"),
        ("model time", say.duration(cost.usage.seconds), f"{say.duration(cost.usage.wait_s)} of it waiting"),
    ]


def _of(n: int, total: int) -> str:
    return say.percent(n / total if total else None)


def _rest(cost: Cost, silent: int, others: str) -> str:
    """Returns how many calls did not say a figure, and what the others come to; empty when all did."""
    if not silent:
        return ""
    return f"{silent} of {cost.calls} did not say" + (f"; {others} by the others" if silent < cost.calls else "")


def _model(one: Yield) -> tuple[str, ...]:
    made = one.outcome
    return (say.one_line(one.model, 60), say.whole(one.cost.calls), say.whole(one.asked), say.whole(made.proposals),
            *(_part(n, made.proposals) for n in (made.valid, made.repaired, made.duplicate, made.novel)),
            say.whole(made.trained), say.whole(made.on_front), say.percent(one.share))


def _per_call(one: Yield) -> tuple[str, ...]:
    rates = [one.per_call(getattr(one.outcome, name)) for name in conversation.PER_CALL]
    return (say.one_line(one.model, 60), say.whole(one.asked),
            *("none asked" if rate is None else f"{rate:.2f}" for rate in rates))


def _part(n: int, of: int) -> str:
    return f"{n} ({say.percent(n / of, 0)})" if of else "0"


def _point(one: Yield) -> tuple[str, ...]:
    points = say.whole(one.outcome.on_front)
    if not one.outcome.on_front:
        return say.one_line(one.model, 60), points, "no point", "no point", "no point"
    return (say.one_line(one.model, 60), points, _of_count(one.per_point(one.cost.tokens)),
            say.priced(one.per_point(one.cost.usage.usd)), say.duration(one.per_point(one.cost.usage.seconds)))


def _of_count(value: float | None) -> str:
    return say.UNKNOWN if value is None else say.whole(round(value))


def _paid(cost: Cost) -> tuple[str, ...]:
    used = cost.usage
    return (say.whole(cost.calls), say.whole(cost.failed), say.whole(used.input_tokens), say.whole(used.output_tokens),
            say.priced(used.usd), say.duration(used.seconds), say.duration(used.wait_s))


def _tokens(cost: Cost) -> str:
    return _sum(f"{say.whole(cost.tokens)} tokens", "tokens", cost, cost.silent, say.whole(cost.said_tokens))


def _money(cost: Cost) -> str:
    return _sum(say.priced(cost.usage.usd), "price", cost, cost.unpriced, say.dollars(cost.said_usd))


def _sum(value: str, what: str, cost: Cost, silent: int, others: str) -> str:
    """Returns a sum over calls in words: unknown when any did not say it, and what the others come to."""
    rest = _rest(cost, silent, others)
    return f"{what} unknown ({rest})" if rest else value


def _ended(one: conversation.Ending) -> str:
    return say.one_line(one.status if one.status != "ok" else f"ok but {one.finish}", 40)


def _makers(found: Conversation, metric: str) -> list[tuple[str, ...]]:
    return [(say.one_line(one.operator, 40).replace("_", " "),
             say.one_line(one.model, 60) if one.model else "none: code",
             say.whole(one.outcome.proposals), say.whole(one.outcome.valid), say.whole(one.outcome.novel),
             say.whole(one.outcome.trained),
             say.score(one.outcome.best, metric) if one.outcome.best is not None else "–",
             say.whole(one.outcome.on_front), say.percent(one.share)) for one in found.makers[:30]]


def _name(one: conversation.Maker, found: Conversation) -> str:
    return one.operator.replace("_", " ") + (f", {one.model}" if one.model and len(found.yields) > 1 else "")


def _steps(state: RunState) -> list[outcomes.Step]:
    """Returns what the models' proposals became in every step that called one."""
    counts = {call.step: [0, 0, 0, 0] for call in state.calls}
    failed = Counter(call.step for call in state.calls if call.status != "ok")
    for trial in state.trials:
        origin = trial.proposal.origin
        if origin.call is not None and origin.step in counts:
            kind = {"invalid": 3, "duplicate": 2}.get(trial.status, 1 if origin.repairs else 0)
            counts[origin.step][kind] += 1
    return [outcomes.Step(step, step, (one[0], one[1], one[2], one[3]), failed[step])
            for step, one in sorted(counts.items())]


def numbers(trials: tuple[int, ...]) -> str:
    """Returns numbers of trials, at most twelve."""
    shown = ", ".join(map(str, trials[:12]))
    return (shown + (f" and {len(trials) - 12} more" if len(trials) > 12 else "")) or "none"
