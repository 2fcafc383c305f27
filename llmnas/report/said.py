"""Model calls in full, as text and JSON: the list, one call, and the conversation behind a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from llmnas.errors import RunError
from llmnas.llm import CallRecord
from llmnas.records import Called, Trial
from llmnas.report import calls, conversation, facts, show
from llmnas.report import format as say
from llmnas.report.transcript import Transcript, Turn, as_sent, call_json, records_in, transcript
from llmnas.report.transcript import as_json as transcript_json
from llmnas.store import RunState

CALL: Final = "llmnas.call/1"


def calls_text(state: RunState) -> str:
    """Returns the list of a run's calls, with what the columns mean."""
    if not state.calls:
        return "No model was called."
    listed = show.table([calls.HEADS, *calls.rows(state)], right=calls.NUMERIC)
    return "\n\n".join([
        *show.mock_notice(state), f"Model calls of {facts.name(state)}\n{listed}",
        "Novel: valid and new to this run. A proposal counts with the call that answered for it last, so one that was\n"
        "repaired counts with its repair; of a call whose answers were all sent back, none ended here. On the front:\n"
        "of the first target, as it stands now.",
        f"Next:\n  llmnas show {facts.name(state)} --call {say.one_line(state.calls[0].call, 40)}"])


def find(state: RunState, name: str) -> Called:
    """Returns a call by its id.

    Raises:
        RunError: There is no such call.
    """
    found = next((call for call in state.calls if call.call == name), None)
    if found is None:
        raise RunError(f"there is no call {name!r}; this run has {len(state.calls)}", "see `llmnas show RUN --calls`")
    return found


def call_text(state: RunState, name: str, directory: Path) -> str:
    """Returns one call whole: the messages as sent, the reply as it came.

    Raises:
        RunError: There is no such call.
    """
    call = find(state, name)
    came = next(one for one in conversation.came_of(state) if one.call is call)
    return "\n\n".join([*show.mock_notice(state), _whole(call, records_in(directory)(call), ""),
                        f"What came of it: {calls.came_words(came)}."])


def one_json(state: RunState, name: str, directory: Path) -> dict[str, Any]:
    """Returns one call whole as JSON values. Schema ``llmnas.call/1``.

    Raises:
        RunError: There is no such call.
    """
    call = find(state, name)
    return {"schema": CALL, "run": state.started.run if state.started else None, "offline": facts.offline(state),
            **call_json(call, records_in(directory)(call))}


def behind_text(state: RunState, trial: Trial, directory: Path) -> str:
    """Returns every call behind a trial, in order: what the model saw and said, and the faults each time."""
    return transcript_text(transcript(state, trial, records_in(directory)), trial)


def behind_json(state: RunState, trial: Trial, directory: Path) -> dict[str, Any]:
    """Returns the same as JSON values; see `transcript.as_json`."""
    return transcript_json(transcript(state, trial, records_in(directory)))


def transcript_text(found: Transcript, trial: Trial) -> str:
    """Returns a transcript as text."""
    if not found.turns:
        origin = trial.proposal.origin
        return (f"No model was asked for this trial: {say.one_line(origin.operator, 40)} is code."
                if origin.call is None else f"The log does not hold its call {say.one_line(origin.call, 40)}.")
    parts = [_turn(turn, place, len(found.turns)) for place, turn in enumerate(found.turns, 1)]
    if found.missing:
        parts.append(f"Not found: {say.plural(found.missing, 'earlier answer')} for this proposal. Their files are "
                     "gone, or their prompt does not repeat what it sends back.")
    return "\n\n".join(parts)


def _turn(turn: Turn, place: int, of: int) -> str:
    text = _whole(turn.call, turn.record, f", {place} of {of} behind this trial")
    if not turn.answered:
        return f"{text}\n--- no answer for this proposal ---"
    which = "this proposal" + (f", number {turn.place[0]} of {turn.place[1]} in the reply" if turn.place else "")
    if not turn.issues:
        return f"{text}\n--- {which}: no faults ---"
    return "\n".join([text, f"--- {which}: faults ---",
                      *(say.visible(f"{one['at']}: {one['says']}. {one['fix']}") for one in turn.issues)])


def _whole(call: Called, record: CallRecord | None, place: str) -> str:
    used = call.usage
    head = [f"=== {say.one_line(call.call, 60)}: {say.one_line(call.role, 20)}, step {call.step}{place} ===",
            f"model {say.one_line(call.model, 80)}; prompt {say.one_line(call.prompt, 80)}; "
            f"mode {say.one_line(call.mode, 40) or say.UNKNOWN}; status {say.one_line(call.status, 40)}; "
            f"finish {say.one_line(call.finish, 40) if call.finish else say.UNKNOWN}",
            f"{say.whole(used.input_tokens)} tokens in, {say.whole(used.output_tokens)} out; "
            f"{'price unknown' if used.usd is None else say.dollars(used.usd)}; {say.duration(used.seconds)}, "
            f"{say.duration(used.wait_s)} of it waiting; {say.plural(used.attempts, 'request')}"]
    if record is None:
        return "\n".join([*head, f"Its file {say.one_line(call.file or 'name', 200)} cannot be read."])
    failed = [f"request {n}: {one.status}" + (f", HTTP {one.http}" if one.http else "")
              + (f": {say.one_line(one.error, 300)}" if one.error else "")
              for n, one in enumerate(record.attempts, 1) if one.status != "ok"]
    said = [f"--- {one.role} ---\n{say.visible(one.content)}" for one in as_sent(record)]
    reply = f"--- reply ---\n{say.visible(record.text)}" if record.text is not None else (
        f"--- no reply ---\n{say.visible(record.message)}")
    return "\n".join([*head, *failed, *said, reply])
