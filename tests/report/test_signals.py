"""What a run says of its proxies: as text, as JSON, on the page and from the command line, without torch."""

import json
import subprocess
import sys

import pytest

from llmnas.records import Measured, Trained
from llmnas.report import signals
from llmnas.report.html import render
from llmnas.store import RunState, fold

LEARNED = {"params": 0.2, "flops": 0.0, "nwot": 0.8}


def taught(events, weights=LEARNED):
    """Returns the events with proxies by their real names, and with weights from step 2 on."""
    changed = []
    for event in events:
        body = event.body
        if body.kind == "run_started":
            body = body.model_copy(update={"plan": body.plan.model_copy(update={"proxies": ("params", "nwot")})})
        if body.kind == "told":
            trials = tuple(trial.model_copy(update={"scores": {"nwot": trial.scores["naswot"]} if trial.scores else {}})
                           for trial in body.trials)
            body = body.model_copy(update={"trials": trials, "weights": weights if body.step >= 2 else None})
        changed.append(event.model_copy(update={"body": body}))
    return changed


@pytest.fixture
def run(events):
    """A finished run that learned weights in its third step."""
    return fold(taught(events))


def test_rows_are_the_orders_the_sizes_and_the_proxies(run):
    """The order in use, the default and the baselines come first, all on the really trained candidates."""
    found = signals.signals(run)
    assert [row.name for row in found.rows] == ["combined", "default", "params", "flops", "nwot"]
    assert found.kinds == ("combined", "default", "baseline", "baseline", "proxy")
    assert {row.n for row in found.rows} == {len(run.trained())}
    assert found.weights == LEARNED
    assert found.default == {"params": 1.0, "nwot": 0.0, "flops": 0.0}
    assert found.unknown == ()


def test_order_in_use_goes_by_the_weights_of_its_time(run, events):
    """Weights that came too late for every trained candidate change nothing."""
    never = fold(taught(events, None))
    assert signals.signals(never).rows[0].spearman == signals.signals(never).rows[1].spearman
    assert signals.signals(run).rows[0].spearman != signals.signals(run).rows[1].spearman
    late = fold(taught(events, None))
    late.weights = {len(late.trials): LEARNED}
    assert late.trials[-1].score is None
    assert signals.signals(late).rows[0].spearman == signals.signals(never).rows[0].spearman


def test_text_says_what_it_is_about(run):
    """The words, the weights, what the figures hold for; no word of a mock that was not there."""
    text = signals.validate_text(run)
    for wanted in ("order in use", "params (baseline)", "chosen by screening", "in words", "95 % interval",
                   "nwot 0.80, params 0.20 (learned from trained candidates)"):
        assert wanted in text
    assert "mock" not in text


def test_mock_run_says_so_everywhere(make_story):
    """Text and JSON of a run of the mock model say so."""
    state = fold(taught(make_story(model="mock:1")))
    assert signals.validate_text(state).startswith("NOTE: proposals were made by the mock model")
    found = signals.validate_json(state)
    assert found["offline"] is True
    assert "mock" in found["notice"]


def test_json_has_null_for_unknown(make_story):
    """A run with two trainings has too few of everything, and no zeros in their place."""
    events = make_story(steps=1, size=4, promote=2, end=False)
    found = json.loads(json.dumps(signals.validate_json(fold(events))))
    assert found["schema"] == "llmnas.proxies.validate/1"
    assert found["unknown_proxies"] == ["naswot"]
    for row in found["rows"]:
        assert row["verdict"] == "too few"
        assert {row[name] for name in ("spearman", "low", "high", "spearman_top", "precision", "regret", "k")} == {None}


def test_a_cut_training_is_no_label(run):
    """What a deadline cut does not compete, so it validates nothing."""
    before = signals.signals(run).rows[0].n
    cut = Trained(metric="accuracy", val_score=0.9, val_loss=1, epochs=1, seconds=1, seed=0, cut=True)
    waiting = next(trial for trial in run.trials if trial.status == "screened")
    run._measured(Measured(n=waiting.n, rung="short", failed="timeout", trained=cut))
    assert signals.signals(run).rows[0].n == before


def test_states_in_any_condition(events):
    """A run that has not begun or trained nothing has an account, and its page has no table of it."""
    for kept in (0, 1, 3):
        state = fold(events[:kept])
        assert signals.validate_json(state)["trained"] == 0
        assert "too few" in signals.validate_text(state)
        assert "Nothing has been trained that a proxy" in render(state)
    assert signals.signals(RunState()).rows[0].n == 0


def test_page_has_the_same_table(run):
    """Every cell of the text's table stands on the page, with the weights and how to read it."""
    page = render(run)
    for row in signals.rows(signals.signals(run), "accuracy"):
        assert all(f">{cell}<" in page for cell in row), row
    for wanted in (*signals.HEADS, "Weights in use", "nwot 0.80", signals.CAVEAT):
        assert wanted in page


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_command_reads_a_run_without_torch(events, options, tmp_path):
    """`llmnas proxies validate` answers from the log alone; neither torch nor scipy is imported."""
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("".join(event.model_dump_json() + "\n" for event in taught(events)))
    code = ("import sys\nfrom llmnas.cli import main\n"
            "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
            "assert not {'torch', 'openai', 'scipy'} & set(sys.modules)\n")
    done = subprocess.run([sys.executable, "-c", code, "proxies", "validate", "one", *options], capture_output=True,
                          text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if options:
        assert json.loads(done.stdout)["rows"][0]["kind"] == "combined"
    else:
        assert "order in use" in done.stdout
