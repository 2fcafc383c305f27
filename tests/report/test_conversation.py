"""What a run says of its model: counts that add up, unknown that stays unknown, the mock named wherever it answered."""

import json

import pytest

from llmnas.records import Usage
from llmnas.report import calls, card, language, outcomes
from llmnas.report.conversation import as_json, came_of, conversation
from llmnas.report.html import render
from llmnas.store import RunState, fold
from tests.report.test_html import check


def silenced(events, which):
    """Returns the events with the usage of those calls unknown for which `which` says so."""
    def blank(event):
        usage = Usage(attempts=1, seconds=1.0)
        return event.model_copy(update={"body": event.body.model_copy(update={"usage": usage})})

    return [blank(event) if event.body.kind == "called" and which(event.body) else event for event in events]


def test_counts_add_up(talked):
    """Operators together are the run; calls together are the model; roles, prompts and endings are all calls."""
    state, _ = talked
    found = conversation(state)
    total = {name: sum(getattr(one.outcome, name) for one in found.makers)
             for name in ("proposals", "invalid", "duplicate", "repaired", "on_front")}
    assert total == {"proposals": state.spent.proposals, "invalid": state.spent.invalid,
                     "duplicate": state.spent.duplicate, "repaired": state.spent.repaired, "on_front": found.front}
    assert sum(one.share for one in found.makers) == pytest.approx(1)
    for name in ("proposals", "novel", "duplicate", "invalid", "repaired", "trained"):
        assert sum(getattr(one.outcome, name) for one in came_of(state)) == getattr(found.outcome, name)
    for groups in (found.roles, found.payers, found.yields):
        assert sum(one.cost.calls for one in groups) == state.spent.calls
    assert sum(one.calls for one in found.endings) == state.spent.calls
    assert found.outcome.repaired > 0
    assert found.outcome.invalid > 0
    assert found.outcome.valid == found.outcome.novel + found.outcome.duplicate


def test_golden_figures(make_story):
    """Five calls of a story: each figure as counted by hand from its trials."""
    state = fold(make_story())
    found = conversation(state)
    (only,) = found.yields
    mine = [trial for trial in state.trials if trial.proposal.origin.operator in {"llm_fresh", "llm_mutate"}]
    assert only.outcome.proposals == len(mine)
    assert only.outcome.novel == sum(trial.status not in {"invalid", "duplicate"} for trial in mine)
    assert (only.asked, only.cost.calls, only.cost.tokens) == (5, 5, 5 * 2740)
    assert only.cost.usage.usd == pytest.approx(0.021)
    assert only.per_call(only.outcome.novel) == only.outcome.novel / 5
    assert only.per_point(only.cost.usage.usd) == (
        pytest.approx(0.021 / only.outcome.on_front) if only.outcome.on_front else None)


def test_unknown_is_never_zero(make_story):
    """One call that does not say its price makes the sum unknown, and what the others said is still said."""
    events = silenced(make_story(), lambda call: call.step == 2)
    found = conversation(fold(events))
    assert (found.total.tokens, found.total.usage.usd) == (None, None)
    assert (found.total.silent, found.total.unpriced, found.total.said_tokens) == (1, 1, 4 * 2740)
    assert found.total.said_usd == pytest.approx(4 * 0.0042)
    assert all(one.per_point(one.cost.usage.usd) is None for one in found.yields)
    said = "\n".join(language.summary_lines(fold(events)))
    assert "tokens unknown (1 of 5 did not say; 10,960 by the others)" in said
    assert "price unknown (1 of 5 did not say; $0.0168 by the others)" in said
    written = json.loads(json.dumps(as_json(found)))
    assert (written["cost"]["usd"], written["cost"]["tokens"]) == (None, None)
    words = " ".join(check(render(fold(events))).words)
    assert "1 of 5 did not say; $0.0168 by the others" in words
    assert "price unknown (5 of 5 did not say)" in language.summary_lines(fold(silenced(make_story(), bool)))[0]


def test_several_models_are_told_apart(make_story):
    """Calls of two models: cost, proposals and front by model; the mock among them is named, the run is not offline."""
    events = [event.model_copy(update={"body": event.body.model_copy(update={"model": "mock:1", "mode": "mock"})})
              if event.body.kind == "called" and event.body.step % 2 else event for event in make_story()]
    state = fold(events)
    found = conversation(state)
    assert [(one.model, one.cost.calls) for one in found.yields] == [("gpt-test", 3), ("mock:1", 2)]
    assert sum(one.outcome.proposals for one in found.yields) == found.outcome.proposals
    assert found.mocks == ("mock:1",)
    page = render(state)
    check(page)
    assert "mock:1 is the mock: code, no language model" in page
    assert "Proposals were made by the mock model" not in page


def test_a_replayed_mock_is_the_mock(make_story):
    """A replay of the mock's replies says so, though the model is named after the run that is replayed."""
    changed = {"model": "replay:runs/old", "mode": "mock"}
    state = fold([event.model_copy(update={"body": event.body.model_copy(update=changed)})
                  if event.body.kind == "called" else event for event in make_story(model="replay:runs/old")])
    assert card.summary(state).startswith("NOTE: proposals were made by the mock model")
    assert conversation(state).mocks == ("replay:runs/old",)


def test_list_of_calls(talked):
    """A row for every call, with its failure, its rules, or what became of its proposals."""
    state, _ = talked
    rows = calls.rows(state)
    assert len(rows) == len(state.calls)
    came = [row[-1] for row in rows]
    assert "no reply: the server answered 503 six times" in came
    assert any("repaired" in one for one in came)
    assert any(one.endswith(("rules", "rule")) for one in came)
    failed = next(row for row in rows if row[4] == "server_error")
    assert failed[5:8] == ("–", "unknown + unknown", "unknown")
    listed = json.loads(json.dumps(calls.calls_json(state)))
    assert listed["schema"] == "llmnas.calls/1"
    assert [one["call"] for one in listed["calls"]] == [call.call for call in state.calls]
    assert next(one for one in listed["calls"] if one["status"] == "server_error")["usage"]["usd"] is None


def test_no_model_and_no_run():
    """A run without a model has no section on it, and none of its figures."""
    found = conversation(RunState())
    assert (found.yields, found.makers, found.endings, found.front) == ((), (), (), 0)
    assert language.summary_lines(RunState()) == ["Model: no calls."]
    assert "The language model" not in render(RunState())
    assert json.dumps(as_json(found))


def test_long_runs_merge_their_steps():
    """More steps than columns are counted together; none is lost."""
    steps = [outcomes.Step(n, n, (1, 0, 2, 0), n % 2) for n in range(1000)]
    merged = outcomes.merged(steps, 120)
    assert len(merged) <= 120
    assert sum(sum(one.counts) for one in merged) == 3000
    assert sum(one.failed for one in merged) == 500
    assert (merged[0].first, merged[-1].last) == (0, 999)
    assert "1000 novel, 0 novel after repair, 2000 duplicate" in outcomes.steps_plot(steps)
    assert outcomes.merged([]) == []
