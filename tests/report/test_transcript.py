"""The conversation behind a trial: every call of it in order, exact, and honest about what is not there."""

import json

import pytest

from llmnas.errors import RunError
from llmnas.llm import Attempt, CallRecord, Message
from llmnas.records import Usage
from llmnas.report import said
from llmnas.report.html import write_report
from llmnas.report.transcript import answers, as_sent, records_in, transcript
from llmnas.store import read_run
from tests.report.test_html import check


def test_every_call_of_every_trial(talked):
    """A proposal that was repaired k times has k + 1 answers, the first in a propose call, in the order of the log."""
    state, directory = talked
    order = [call.call for call in state.calls]
    most = 0
    for trial in state.trials:
        found, origin = transcript(state, trial, records_in(directory)), trial.proposal.origin
        if origin.call is None:
            assert found.turns == ()
            continue
        answered = [turn for turn in found.turns if turn.answered]
        assert (len(answered), found.missing) == (origin.repairs + 1, 0)
        assert [turn.call.role for turn in found.turns] == ["propose"] + ["repair"] * (len(found.turns) - 1)
        assert sorted(order.index(turn.call.call) for turn in found.turns) == [
            order.index(turn.call.call) for turn in found.turns]
        assert answered[-1].call.call == origin.call
        assert answered[-1].raw == trial.proposal.raw
        assert all(turn.issues for turn in answered[:-1])
        assert [one["says"] for one in answered[-1].issues] == [one.says for one in trial.proposal.issues]
        most = max(most, len(found.turns))
    assert most == 3


def test_a_repair_without_a_reply_is_shown(talked):
    """A failed repair belongs to the proposals that it sent back, though it brought nothing."""
    state, directory = talked
    failed = {call.call for call in state.calls if call.role == "repair" and call.status != "ok"}
    shown = {turn.call.call for trial in state.trials for turn in transcript(state, trial, records_in(directory)).turns
             if not turn.answered}
    assert failed
    assert failed <= shown


def test_text_is_whole_and_exact(talked):
    """Messages, reply and faults stand in the text word for word; the JSON carries the same."""
    state, directory = talked
    trial = max((one for one in state.trials if one.proposal.origin.call), key=lambda one: one.proposal.origin.repairs)
    text, value = said.behind_text(state, trial, directory), said.behind_json(state, trial, directory)
    assert json.loads(json.dumps(value))["missing"] == 0
    for one in value["calls"]:
        record = CallRecord.read(directory / "calls" / f"{one['call']}.json")
        assert one["record"] == record.model_dump(mode="json")
        assert one["sent"] == [message.model_dump() for message in record.messages]
        for part in (*(message.content for message in record.messages), record.text or record.message):
            assert part in text
        assert all(f"{issue['at']}: {issue['says']}. {issue['fix']}" in text for issue in one["issues"])


def test_a_file_that_is_gone(talked, tmp_path):
    """Without the files the log still says which call it was, and that earlier ones cannot be shown."""
    state, _ = talked
    trial = next(one for one in state.trials if one.proposal.origin.repairs)
    found = transcript(state, trial, records_in(tmp_path))
    assert [turn.record for turn in found.turns] == [None]
    assert found.missing == trial.proposal.origin.repairs
    text = said.transcript_text(found, trial)
    assert "cannot be read" in text
    assert "Not found: " in text
    stranger = trial.model_copy(update={"proposal": trial.proposal.model_copy(update={
        "origin": trial.proposal.origin.model_copy(update={"call": "99-propose-0"})})})
    assert "does not hold its call 99-propose-0" in said.behind_text(state, stranger, tmp_path)


def test_code_made_it(talked):
    """A trial by code says that no model was asked."""
    state, directory = talked
    trial = next(one for one in state.trials if one.proposal.origin.operator == "one_edit")
    assert said.behind_text(state, trial, directory) == "No model was asked for this trial: one_edit is code."
    assert said.behind_json(state, trial, directory) == {"calls": [], "missing": 0}


def test_one_call_whole(talked):
    """Calls that no trial leads to, such as looks back, are shown by their id."""
    state, directory = talked
    look = next(call for call in state.calls if call.role == "reflect")
    text = said.call_text(state, look.call, directory)
    assert CallRecord.read(directory / look.file).text in text
    assert "mock model" in text
    assert said.one_json(state, look.call, directory)["schema"] == "llmnas.call/1"
    failed = next(call for call in state.calls if call.status != "ok")
    assert "--- no reply ---\nthe server answered 503 six times" in said.call_text(state, failed.call, directory)
    with pytest.raises(RunError, match="no call 'x'"):
        said.call_text(state, "x", directory)


def record(**changes):
    """Returns a call of a server."""
    return CallRecord(**{"call": "c", "key": "k", "model": "m", "seed": 1, "status": "ok", "usage": Usage(),
                         "messages": (Message(role="system", content="s"), Message(role="user", content="u")),
                         "answer_schema": {"type": "object"}, "text": "{}", **changes})


def test_messages_are_shown_as_they_were_sent():
    """Modes in which the server does not see the schema have it in the last message; others have not."""
    assert '"type":"object"' in as_sent(record(mode="prompted"))[-1].content
    assert '"type":"object"' in as_sent(record(mode="", attempts=(Attempt(status="empty", mode="json_object"),)))[
        -1].content
    for mode in ("json_schema", "tool", "mock", "manual"):
        assert [one.content for one in as_sent(record(mode=mode))] == ["s", "u"]
    assert as_sent(record(mode="prompted", answer_schema=None))[-1].content == "u"


@pytest.mark.parametrize("text", ["", "no", "[1]", '{"proposals": 3}', '{"proposals": [', '{"a": NaN}'])
def test_any_reply_has_answers(text):
    """A reply that cannot be read is one answer, as the log keeps it."""
    assert len(answers(record(text=text))) == 1
    assert answers(record(text=None, status="timeout")) == []


def test_hostile_replies_are_shown_and_not_obeyed(talked, tmp_path):
    """Control characters of a reply are written as escapes, so that nothing is lost and no terminal obeys."""
    state, directory = talked
    call = next(call for call in state.calls if call.status == "ok")
    hostile = CallRecord.read(directory / call.file).model_copy(update={"text": "a\x1b[2Jb\r\u202ec <script>"})
    text = said.call_text(state, call.call, _only(tmp_path, hostile, call))
    assert "a\\x1b[2Jb\\r\\u202ec <script>" in text
    assert "\x1b" not in text


def _only(tmp_path, hostile, call):
    path = tmp_path / call.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(hostile.model_dump(), ensure_ascii=True))
    return tmp_path


def test_page_holds_the_conversation_behind_the_answer(talked, tmp_path):
    """The page of a run whose answer a model made shows what it saw and said; a page without the files does not."""
    state, directory = talked
    mine = max((one for one in state.trained() if one.proposal.origin.call), key=lambda one: one.score)
    state = read_run(directory)
    state.best = mine
    page = write_report(state, directory).read_text(encoding="utf-8")
    check(page)
    assert "What the model saw and said for the answer" in page
    assert "How calls ended" in page
    assert "Who made the front" in page
    assert len(page.encode()) < 1_000_000
    assert "cannot be read" in write_report(state, tmp_path).read_text(encoding="utf-8")
