"""The list of a run's model calls, and what came of each."""

from __future__ import annotations

from typing import Any, Final

from llmnas.report import conversation, facts
from llmnas.report import format as say
from llmnas.report.tally import outcome_json
from llmnas.store import RunState

CALLS: Final = "llmnas.calls/1"
HEADS: Final = ("call", "step", "role", "model", "status", "finish", "tokens in + out", "money", "took", "came of it")
NUMERIC: Final = (1, 6, 7, 8)


def rows(state: RunState) -> list[tuple[str, ...]]:
    """Returns a row for every call of a run, in order; its heads are `HEADS`."""
    return [_row(came) for came in conversation.came_of(state)]


def _row(came: conversation.Came) -> tuple[str, ...]:
    call, used = came.call, came.call.usage
    return (say.one_line(call.call, 40), str(call.step), say.one_line(call.role, 20), say.one_line(call.model, 40),
            say.one_line(call.status, 20), say.one_line(call.finish, 20) if call.finish else "–",
            f"{say.whole(used.input_tokens)} + {say.whole(used.output_tokens)}", say.priced(used.usd),
            say.duration(used.seconds), came_words(came))


def came_words(came: conversation.Came) -> str:
    """Returns what came of a call: ``3 novel (1 repaired), 1 duplicate, 1 invalid; 1 on the front``."""
    if came.call.status != "ok":
        return "no reply" + (f": {say.one_line(came.call.message, 120)}" if came.call.message else "")
    if came.rules is not None:
        return say.plural(came.rules, "rule")
    found = came.outcome
    if not found.proposals:
        return "none ended here" if came.call.role != "reflect" else "no rule"
    parts = [f"{n} {what}" for n, what in ((found.novel, "novel"), (found.duplicate, "duplicate"),
                                           (found.invalid, "invalid")) if n]
    return ", ".join(parts) + (f" ({found.repaired} repaired)" if found.repaired else "") + (
        f"; {found.on_front} on the front" if found.on_front else "")


def calls_json(state: RunState) -> dict[str, Any]:
    """Returns the list of a run's calls as JSON values; unknown is null. Schema ``llmnas.calls/1``."""
    return {"schema": CALLS, "run": state.started.run if state.started else None, "offline": facts.offline(state),
            "calls": [{**came.call.model_dump(mode="json"), "outcome": outcome_json(came.outcome),
                       "rules": came.rules} for came in conversation.came_of(state)]}
