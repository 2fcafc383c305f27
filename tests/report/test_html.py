"""The page: well-formed, self-contained, small, safe, and there for runs in any condition."""

import re
from html.parser import HTMLParser

import pytest

from llmnas.records import Event, Told
from llmnas.report import facts
from llmnas.report.html import render, write_report
from llmnas.space.loading import load_space
from llmnas.store import RunState, fold

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Checker(HTMLParser):
    """Checks that tags close in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.seen, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        """Opens."""
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Opens and closes."""
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Closes."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Collects text."""
        self.words.append(data)


def check(page):
    """Parses a page and returns what is in it."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    tags = [tag for tag, _ in checker.seen]
    assert "script" not in tags
    assert "link" not in tags
    assert not any(name.startswith("on") or name in {"src", "href"} for _, attrs in checker.seen for name in attrs)
    named = [attrs["id"] for _, attrs in checker.seen if "id" in attrs]
    assert len(named) == len(set(named))
    for tag, attrs in checker.seen:
        assert tag != "svg" or set(attrs["aria-labelledby"].split()) <= set(named)
    return checker


def test_page_of_a_finished_run(state, events, tmp_path):
    """One file with verdict, plots, drawing and tables, smaller than 1 MB, fetching nothing."""
    best = facts.answer(state)
    network = load_space("nb201").network(best.proposal.graph, (1, 8, 8), 10)
    path = write_report(state, tmp_path / "new", network, {"events": events, "note": "<i>hello</i>"})
    page = path.read_text(encoding="utf-8")
    found = check(page)
    text = " ".join(found.words)
    assert len(page.encode()) < 1_000_000
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert sum(tag == "svg" for tag, _ in found.seen) == 6
    assert sum(tag == "table" for tag, _ in found.seen) >= 8
    for wanted in (facts.verdict(state)[0], "measured", "analytic", "disconnected", "Spearman", "Plan and actual",
                   "llmnas run --data digits --budget 30min", "pooling never helps", "<i>hello</i>",
                   "clock of the run"):
        assert wanted in text
    assert "mock model" not in page


def test_hostile_text_stays_text(state):
    """What a model wrote is shown, not obeyed."""
    page = render(state)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert "<b>most</b>" not in page


def test_mock_model_is_said_loudly(make_story):
    """The banner comes before everything else."""
    page = render(fold(make_story(model="mock:7")))
    check(page)
    assert "Proposals were made by the mock model" in page
    assert page.index("banner\" role") < page.index("<h1>")


def test_unpriced_and_unknown(make_story):
    """A server that says nothing gives unknown tokens and unpriced money, not zeros."""
    events = make_story(end=False)
    blank = {"input_tokens": None, "output_tokens": None, "usd": None}
    events = [event.model_copy(update={"body": event.body.model_copy(update={
        "usage": event.body.usage.model_copy(update=blank)})}) if event.body.kind == "called" else event
        for event in events]
    words = " ".join(check(render(fold(events))).words)
    assert "unpriced" in words
    assert "the server does not report them" in words


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 4, 6, 12, 30, -1, -2, -3, -4])
def test_page_of_a_run_at_any_point(events, kept, tmp_path):
    """A run that has not begun, is going on or was cut off has a page."""
    state = fold(events[:kept] if kept >= 0 else events[:len(events) + kept])
    page = write_report(state, tmp_path).read_text(encoding="utf-8")
    check(page)
    check(render(state, events=events[:5]))


def test_no_state_at_all():
    """A log without its first event still gives a page."""
    check(render(RunState()))


def test_three_thousand_trials_stay_small(make_story):
    """A long run's page is below 1 MB."""
    events = make_story(steps=60, size=50, promote=50)
    page = render(fold(events), events=events)
    check(page)
    assert len(page.encode()) < 1_000_000


def test_anytime_curve_reads_the_log_beside_it(events, tmp_path):
    """Without events given, the run's own log has the times."""
    (tmp_path / "events.jsonl").write_text("".join(event.model_dump_json() + "\n" for event in events))
    assert "clock of the run" in write_report(fold(events), tmp_path).read_text(encoding="utf-8")
    assert "training time spent" in render(fold(events))


def test_lineage_of_loops_ends(state):
    """Parents that name each other do not go round for ever."""
    state.trials = [trial.model_copy(update={"proposal": trial.proposal.model_copy(update={
        "origin": trial.proposal.origin.model_copy(update={"parents": tuple(state.first)[:5]})})})
        for trial in state.trials]
    found = facts.lineage(state, state.trials[-1])
    assert len({step.key for step in found}) == len(found) <= 40
    check(render(state))


def test_other_devices_are_found(make_story):
    """The device is the first target's, whatever way it was typed."""
    for target in ("cpu", "cpu@batch=1", "gpu:cpu", "t4"):
        assert facts.target(fold(make_story(steps=1, target=(target,)))) == "cpu"


def test_events_of_another_run_do_not_break_it(state):
    """Trials that are not there are left out."""
    page = render(state, events=[Event(seq=0, t_s=1, body=Told(step=0, trials=(), promoted=()))])
    check(page)
