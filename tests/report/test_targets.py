"""A run with several targets, with energy, with an aim: what page, texts and JSON say of it, and what old logs lack."""

import json

import pytest

from llmnas.records import EVENT, Energy, Latency
from llmnas.report import card, facts
from llmnas.report.html import render, write_report
from llmnas.report.lines import line
from llmnas.report.panel import panel
from llmnas.report.targets import apart_rows, choice_rows, order_rows
from llmnas.store import RunState, fold
from tests.report.test_html import check

T4, BATCH = "t4", "t4@batch=32"


def figures(trial):
    """Returns latency and energy of a trial on two more targets: on one the order is the opposite of the CPU's."""
    ms = trial.latency["cpu"].ms
    others = {T4: 5 / ms, BATCH: 2 * ms}
    latency = {key: Latency(ms=value, low=value / 2, high=2 * value, device=key, source="analytic",
                            batch=32 if key == BATCH else 1) for key, value in others.items()}
    return {"latency": trial.latency | latency,
            "energy": {T4: Energy(mj=60.0, low=20.0, high=180.0, device=T4, source="prior")}}


def spread(events, **settings):
    """Returns the events of a run on one target as those of a run on three."""
    changed = []
    for event in events:
        body = event.body
        if body.kind == "run_started":
            body = body.model_copy(update={"targets": ("cpu", T4, BATCH),
                                           "settings": body.settings.model_copy(update=settings)})
        if body.kind == "told":
            body = body.model_copy(update={"trials": tuple(
                trial.model_copy(update=figures(trial)) if trial.latency else trial for trial in body.trials)})
        if body.kind == "selected":
            body = body.model_copy(update={"choices": {T4: body.n, BATCH: body.n}})
        changed.append(event.model_copy(update={"body": body}))
    return changed


@pytest.fixture
def several(events):
    """Gives a finished run on three targets, folded."""
    return fold(spread(events))


def test_order_is_compared_between_every_two_targets(several):
    """Opposite orders give −1 and equal ones +1, with n, interval and sources; one measured latency is told apart."""
    rows = {row[0]: row for row in order_rows(several)}
    assert list(rows) == ["cpu and t4", "cpu and t4@batch=32", "t4 and t4@batch=32"]
    n = sum(T4 in trial.latency for trial in several.trials)
    _, count, value, interval, sources = rows["cpu and t4"]
    assert (count, sources) == (str(n), "analytic, measured / analytic")
    assert float(value) < -0.9
    assert interval.startswith("-1.00 to -")
    assert float(rows["cpu and t4@batch=32"][2]) > 0.9
    assert rows["t4 and t4@batch=32"][4] == "analytic / analytic"


def test_designs_on_one_front_and_not_on_another(several):
    """Each is listed with where it belongs and its figures on every target."""
    rows = apart_rows(several)
    assert rows
    for number, _, on, off, *costs in rows:
        for key in on.split(", "):
            assert int(number) in {trial.n for trial in facts.front(several, key)}
        for key in off.split(", "):
            assert int(number) not in {trial.n for trial in facts.front(several, key)}
        assert len(costs) == 3
        assert "~60 mJ (20–180, prior)" in costs[1]


def test_page_of_several_targets(several, events, tmp_path):
    """One plot a target, the comparison, energy where it is known; still one small page with text alternatives."""
    page = write_report(several, tmp_path, None, {"events": spread(events)}).read_text(encoding="utf-8")
    found = check(page)
    text = " ".join(found.words)
    assert len(page.encode()) < 1_000_000
    assert sum(tag == "svg" for tag, _ in found.seen) == 8
    for wanted in ("What a score costs on cpu", "What a score costs on t4@batch=32", "best on t4", "Spearman compares",
                   "How the order differs between targets", "On one front and not on another", "latency on t4",
                   "energy of a call on t4", "(20–180, prior)", "latency in ms on t4@batch=32"):
        assert wanted in text
    assert "energy of a call on cpu" not in text


def test_page_of_one_target_compares_nothing(state):
    """With one target there is nothing to compare, and no word of it."""
    page = render(state)
    assert "How the order differs" not in page
    assert page.count("What a score costs") == 1


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 12, -3, -1])
def test_pages_and_texts_in_any_condition(events, kept):
    """A run on several targets has a page and answers at any point."""
    state = fold(spread(events, aim_latency_ms=0.5)[:kept] if kept >= 0 else spread(events)[:kept])
    check(render(state))
    assert card.summary(state)
    assert json.dumps(card.summary_json(state))


def test_closing_lines_name_the_best_on_every_target(several):
    """The summary has a front a target and one line for each further target."""
    text = card.summary(several)
    n = several.selected.n
    assert f"Best on t4: the same, trial {n}, accuracy" in text
    assert "Front (search score, latency on cpu; * is the answer)" in text
    assert "Front (search score, latency on t4@batch=32; * is the best on t4@batch=32)" in text or (
        "latency on t4@batch=32, the best 6 of" in text)
    assert "~60 mJ (20–180, prior)" in text
    assert [row[0] for row in choice_rows(several)] == ["cpu", T4, BATCH]


def test_json_has_every_front(several):
    """Fronts, choices, latencies and energies are by target key."""
    found = json.loads(json.dumps(card.summary_json(several)))
    assert found["targets"] == ["cpu", T4, BATCH]
    assert set(found["fronts"]) == {"cpu", T4, BATCH}
    assert found["choices"] == {T4: several.selected.n, BATCH: several.selected.n}
    assert found["front"][0]["latencies"][T4]["source"] == "analytic"
    assert found["front"][0]["energies"][T4]["mj"] == 60.0
    assert found["answer"]["reward"] is None


def test_trial_and_card_say_energy_or_unknown(several):
    """Energy stands beside every latency with interval and source; unknown is said."""
    n = several.selected.n
    text = card.trial_text(several, n)
    for wanted in ("latency on t4@batch=32", "energy on t4 ", "~60 mJ (20–180, prior)", "unknown"):
        assert wanted in text
    page = card.model_card(several)
    assert "| energy of one call on t4 | \\~60 mJ \\(20–180, prior\\) |" in page
    assert "| energy of one call on cpu | unknown |" in page
    assert "no meter has seen it" in page


def test_the_reward_is_shown_beside_the_score(events):
    """With an aim the page, the summary, the lines and the panel show the reward, and the best come by it."""
    told = spread(events, aim_latency_ms=0.5, aim_weight=(0.0, -1.0))
    state = fold(told)
    rewards = [state.merit(trial) for trial in facts.top(state)]
    assert rewards == sorted(rewards, reverse=True)
    text = " ".join(check(render(state, events=told)).words)
    assert "score · (latency on cpu / 0.5 ms)^w, w = 0 up to the aim, -1 above" in text
    assert f"{rewards[0]:.4f}" in text
    assert "reward" in card.summary(state)
    assert "; its reward in the search is 0." in facts.verdict(state)[0]
    trained = next(event for event in told if event.body.kind == "measured" and event.body.trained)
    assert "reward 0." in line(trained, state)
    assert panel(state, 1.0, "training")
    assert facts.reward(fold(spread(events)), state.trials[0]) is None


def test_logs_from_before_still_load(events):
    """A log without the new fields folds, and its targets are read off its latencies."""
    old = []
    for event in events:
        value = json.loads(event.model_dump_json())
        body = value["body"]
        for name in ("targets", "fronts", "choices", "energy"):
            body.pop(name, None)
        if body["kind"] == "run_started":
            for name in ("max_latency_on", "max_energy_on", "aim_latency_ms", "aim_weight"):
                del body["settings"][name]
        old.append(EVENT.validate_json(json.dumps(value)))
    state = fold(old)
    assert state.targets == ()
    assert (facts.targets(state), facts.target(state)) == (("cpu",), "cpu")
    assert facts.choices(state) == {}
    assert render(state) == render(fold(events))
    assert facts.targets(RunState()) == ()
