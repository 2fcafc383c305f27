"""Answers on stdout, the card, the console."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmnas.errors import InputError, RunError
from llmnas.report import card, facts
from llmnas.report.console import LiveConsole, PlainConsole, open_console
from llmnas.store import RunState, fold


def golden(name):
    """Returns what was agreed on."""
    return (Path(__file__).parent / "golden" / name).read_text(encoding="utf-8")


def played(mode, events):
    """Returns what a console writes to stdout and stderr over a run."""
    out, err, state = io.StringIO(), io.StringIO(), RunState()
    console = open_console(mode, stdout=out, stderr=err, environment={})
    console.started(state)
    for event in events:
        state.apply(event)
        console.event(event, state)
        console.tick(state, event.t_s, "training <[bold]> \x1b[2J")
    console.close(state)
    console.close(state)
    return out.getvalue(), err.getvalue()


def test_summary(make_story):
    """The golden answer of a small run."""
    assert card.summary(fold(make_story(steps=2, size=4))) + "\n" == golden("summary.txt")


def test_plain_lines(make_story):
    """The golden lines of a small run: one per event, nothing on stdout."""
    events = make_story(steps=1, size=4)
    out, err = played("plain", events)
    assert out == ""
    assert err == golden("lines.txt")
    assert len(err.splitlines()) == len(events)


def test_auto_is_plain_without_a_terminal(events):
    """Pipes and CI get lines."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert isinstance(open_console("auto", stderr=io.StringIO(), environment={}), PlainConsole)
    assert isinstance(open_console("auto", stderr=Terminal(), environment={}), LiveConsole)
    for name in ("CI", "NO_COLOR"):
        assert isinstance(open_console("auto", stderr=Terminal(), environment={name: "1"}), PlainConsole)
    with pytest.raises(InputError, match="progress"):
        open_console("lively")


def test_json_is_the_log(events):
    """Every line on stdout is the event; nothing on stderr."""
    out, err = played("json", events)
    assert err == ""
    assert [json.loads(line)["seq"] for line in out.splitlines()] == list(range(len(events)))


def test_quiet_and_live_leave_stdout_alone(events):
    """Quiet says nothing; live draws on stderr, with best, budget and model spend."""
    assert played("quiet", events) == ("", "")
    out, err = played("live", events)
    assert out == ""
    assert "best" in err
    assert "30 min" in err
    assert "$0.0210" in err
    assert "\x1b[2J" not in err


def test_a_broken_stream_ends_no_run(events, state):
    """A closed terminal is not the run's problem."""
    for mode in ("plain", "json", "live"):
        stream = io.StringIO()
        console = open_console(mode, stdout=stream, stderr=stream)
        console.started(state)
        stream.close()
        console.event(events[0], state)
        console.tick(state, float("nan"), "x")
        console.close(state)


def test_summary_json(state):
    """The document is JSON, names its schema, and knows null."""
    found = json.loads(json.dumps(card.summary_json(state)))
    assert found["schema"] == "llmnas.show/1"
    assert found["answer"]["test_score"] == 0.9528
    assert found["spent"]["proposals"] == 40
    empty = json.loads(json.dumps(card.summary_json(RunState())))
    assert empty["run"] is None
    assert empty["answer"] is None


def test_every_trial_can_be_shown(state):
    """Valid, invalid, duplicate and failed trials have text and JSON, the drawing included."""
    for trial in state.trials:
        text, found = card.trial_text(state, trial.n), card.trial_json(state, trial.n)
        assert found["schema"] == "llmnas.trial/1"
        assert json.dumps(found)
        assert "\x1b" not in text
        assert ("output: out" in text) == (trial.proposal.graph is not None)
        assert ("fault: output: no path" in text) == (trial.status == "invalid")
    with pytest.raises(RunError, match="no trial 99"):
        card.trial_text(state, 99)


def test_card_says_what_matters(state):
    """Score, latency with source and interval, how found, limits, loading; hostile text cannot leave its line."""
    chosen = next(trial for trial in state.trained() if "<script>" in trial.proposal.rationale)
    text = card.model_card(state, chosen)
    for heading in ("## Figures", "## How it was found", "## Architecture", "## Limits", "## How to load it"):
        assert heading in text
    assert "<script>" not in text
    assert "analytic" in text
    assert "test data have not been read" in text
    final = card.model_card(state)
    assert "95.3 %" in final
    assert "measured" in final
    assert "from model import load" in final


def test_mock_is_said_everywhere(make_story):
    """Summary, card, lines and panel say that the mock model proposed."""
    events = make_story(model="mock:7")
    state = fold(events)
    assert card.summary(state).startswith("NOTE: proposals were made by the mock model")
    assert "made by the mock model" in card.model_card(state)
    assert "no language model takes part" in played("plain", events)[1]
    assert "mock model" in played("live", events)[1]


@pytest.mark.parametrize("kept", range(0, 34, 3))
def test_texts_at_any_point(events, kept):
    """A run in any condition has answers."""
    state = fold(events[:kept])
    assert card.summary(state)
    assert json.dumps(card.summary_json(state))
    assert card.model_card(state).startswith("# ")
    assert all(facts.verdict(state))
    assert facts.spent_rows(state)


def test_importing_is_light():
    """Showing a run needs neither torch nor the heavy libraries of a page or a panel."""
    code = ("import sys, llmnas.report; "
            "print([m for m in ('torch', 'rich', 'jinja2', 'scipy', 'networkx', 'openai') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONWARNINGS": ""})
    assert done.stdout.strip() == "[]"
