"""The calls behind one proposal, in order: what was sent, what came back, and what was wrong with it each time.

The log names the call that last answered for a proposal. Which calls came before follows from their texts: a repair
prompt repeats what it sends back, word for word, so it is looked up in the replies before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmnas.errors import LlmnasError
from llmnas.llm import CallRecord, Message, cut_off, read_block, read_object
from llmnas.llm.modes import MODES, request_messages
from llmnas.records import Called, Trial
from llmnas.space import read_proposals
from llmnas.store import RunState

_KEPT: Final = 4000
"""Characters of an unreadable reply that its invalid proposal keeps."""
Read = Callable[[Called], CallRecord | None]
Fault = dict[str, str]  # at, says, fix


@dataclass(frozen=True)
class Turn:
    """One call behind a proposal.

    Attributes:
        call: The call as it is in the log.
        record: Its file; None when it cannot be read.
        answered: Whether the reply holds an answer for this proposal.
        raw: That answer, as it came.
        issues: What was wrong with it: where, what and the fix.
    """

    call: Called
    record: CallRecord | None
    answered: bool = False
    raw: Any = None
    issues: tuple[Fault, ...] = ()

    @property
    def place(self) -> tuple[int, int] | None:
        """Which proposal of the reply it is, from 1, and of how many; None when the reply does not hold it."""
        made = answers(self.record) if self.record and self.answered else []
        return (made.index(self.raw) + 1, len(made)) if self.raw in made else None


@dataclass(frozen=True)
class Transcript:
    """The calls behind a proposal.

    Attributes:
        turns: In the order in which they were made; empty when no model was asked.
        missing: Answers to repairs that the log counts and that could not be found.
    """

    turns: tuple[Turn, ...]
    missing: int


def records_in(directory: Path) -> Read:
    """Returns what reads the file of a call of the run in `directory`; a file that cannot be read is None."""
    def read(call: Called) -> CallRecord | None:
        path = directory / (call.file or f"calls/{call.call}.json")
        try:
            return CallRecord.read(path)
        except (OSError, LlmnasError):
            return None

    return read


def transcript(state: RunState, trial: Trial, read: Read) -> Transcript:
    """Returns the calls behind a trial's proposal.

    Args:
        state: The run.
        trial: The trial.
        read: Gives the file of a call, see `records_in`.
    """
    origin = trial.proposal.origin
    last = next((call for call in state.calls if call.call == origin.call), None)
    if last is None:
        return Transcript((), 0)
    step = [call for call in state.calls if call.step == last.step]
    at = step.index(last)
    issues = tuple({"at": one.at, "says": one.says, "fix": one.fix} for one in trial.proposal.issues)
    own = Turn(last, read(last), True, trial.proposal.raw, issues)
    turns = [*reversed(list(_before(own, step[:at], read))), own, *_after(own, step[at + 1:], read)]
    return Transcript(tuple(turns), max(0, origin.repairs + 1 - sum(turn.answered for turn in turns)))


def _before(turn: Turn, calls: Sequence[Called], read: Read) -> Iterator[Turn]:
    """Yields the calls that led to a turn, the latest first."""
    wanted = _asked_for(turn)
    for call in reversed(calls):
        if wanted is None:
            return
        raw, issues = wanted
        record = read(call)
        if record is None:
            continue
        if raw in answers(record):
            turn = Turn(call, record, True, raw, issues)
            yield turn
            wanted = _asked_for(turn)
        elif raw in [one for one, _ in sent_back(record)]:
            yield Turn(call, record)


def _after(turn: Turn, calls: Sequence[Called], read: Read) -> Iterator[Turn]:
    """Yields the later calls that sent a proposal back and got no answer for it."""
    for call in calls if turn.issues else ():
        record = read(call)
        if record is not None and turn.raw in [one for one, _ in sent_back(record)]:
            yield Turn(call, record)


def _asked_for(turn: Turn) -> tuple[Any, tuple[Fault, ...]] | None:
    """Returns what a repair was asked to repair; None when the turn is no repair, or it cannot be told."""
    if turn.record is None:
        return None
    listed, made = sent_back(turn.record), answers(turn.record)
    place = made.index(turn.raw) if turn.raw in made else len(listed)
    return listed[place] if place < len(listed) else None


def sent_back(record: CallRecord) -> list[tuple[Any, tuple[Fault, ...]]]:
    """Returns the proposals that a repair prompt holds, with their issues; none in other prompts."""
    block = read_block(record.messages) or {}
    listed = block.get("invalid") if block.get("role") == "repair" else None
    return [(one.get("proposal"), tuple({key: str(issue.get(key, "")) for key in ("at", "says", "fix")}
                                        for issue in one.get("issues", ()) if isinstance(issue, dict)))
            for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict)]


def answers(record: CallRecord) -> list[Any]:
    """Returns the proposals in a reply as they came, as the log keeps them: an unreadable reply is one."""
    if record.text is None:
        return []
    value, faults = read_object(record.text)
    if value is None:
        return [{"cut" if cut_off(faults) else "unreadable": record.text[:_KEPT]}]
    return [raw for raw, _, _, _ in read_proposals(value, "")]


def as_sent(record: CallRecord) -> list[Message]:
    """Returns the messages as the model got them: some modes put the schema into the last one."""
    mode = record.mode or next((one.mode for one in reversed(record.attempts) if one.mode), "")
    if record.answer_schema is None or mode not in MODES:
        return list(record.messages)
    return [Message.model_validate(one) for one in request_messages(
        next(one for one in MODES if one == mode), record.messages, record.answer_schema)]


def as_json(found: Transcript) -> dict[str, Any]:
    """Returns a transcript as JSON values: nothing in it is cut or cleaned."""
    return {"calls": [{"call": turn.call.call, "answered": turn.answered, "place": turn.place, "raw": turn.raw,
                       "issues": list(turn.issues), **call_json(turn.call, turn.record)} for turn in found.turns],
            "missing": found.missing}


def call_json(call: Called, record: CallRecord | None) -> dict[str, Any]:
    """Returns a call as JSON values: its event, its whole file, and the messages as the model got them."""
    return {"event": call.model_dump(mode="json"), "record": record.model_dump(mode="json") if record else None,
            "sent": [one.model_dump() for one in as_sent(record)] if record else None}
