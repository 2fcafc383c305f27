"""The evaluator that really trains, on a few tiny networks."""

import pytest

from llmnas.data import load, materialise, split
from llmnas.evaluate import Rungs
from llmnas.executors import LocalExecutor
from llmnas.latency import parse_targets
from llmnas.records import Origin, Proposal, Trial
from llmnas.space import load_space
from tests.search.loop import PLAN, toy_settings


@pytest.fixture(scope="module")
def rungs(tmp_path_factory):
    """An evaluator on digits with every proxy; this CPU and a predicted GPU at two batch sizes are the targets."""
    root = tmp_path_factory.mktemp("rungs")
    dataset = load("digits")
    data = materialise(dataset, split(dataset, 0), root / "data")
    plan = PLAN.model_copy(update={"proxies": ("params", "flops", "synflow", "nwot", "jacov", "grad_norm", "snip")})
    with LocalExecutor() as executor:
        yield Rungs(executor, load_space("convnet"), data, toy_settings(space="convnet", max_params=300_000), plan,
                    parse_targets(["t4", "cpu", "t4@batch=32"], False), 1, root)


def graphs():
    return load_space("convnet").prior()[::24]


def test_screening_fills_everything(rungs):
    """Every network within the limits gets every proxy, a measured and a predicted latency; others say why not."""
    for graph, one in zip(graphs(), rungs.screen(graphs(), None, 60.0), strict=True):
        assert one.counts == rungs.network(graph).counts
        if one.violates:
            assert one.counts.params > 300_000
            continue
        assert set(one.scores) == {"params", "flops", "synflow", "nwot", "jacov", "grad_norm", "snip"}, one.unscored
        assert one.latency["cpu"].source == "measured"
        assert list(one.latency) == ["t4", "cpu", "t4@batch=32"]
        assert {one.latency[key].source for key in ("t4", "t4@batch=32")} == {"analytic"}
        assert all(found.low <= found.ms <= found.high for found in one.latency.values())
        assert all(found.device == key for key, found in one.latency.items())
        assert {key: found.device for key, found in one.energy.items()} == {"t4": "t4", "t4@batch=32": "t4@batch=32"}


def test_screening_cap(rungs):
    """No more networks are scored by proxies than asked for; all are still timed."""
    screened = rungs.screen(graphs()[:2], 1, 60.0)
    assert [len(one.scores) > 2 for one in screened] == [True, False]
    assert all("cpu" in one.latency for one in screened)


def test_finalists_are_timed_where_they_can_be(rungs):
    """Only this CPU is timed again, under its key."""
    found = rungs.time_finalists(graphs()[:2], 60.0)
    assert list(found) == ["cpu"]
    assert [(one.device, one.source) for one in found["cpu"]] == [("cpu", "measured")] * 2


def test_energy_is_a_constraint(rungs):
    """A limit on a target's energy is judged with the rest, before anything is timed or scored."""
    tight = Rungs(rungs.executor, rungs.space, rungs.data, toy_settings(space="convnet", max_energy_on={"t4": 0.001}),
                  rungs.plan, rungs.targets, 1, rungs.root)
    (one,) = tight.screen(graphs()[:1], None, 60.0)
    assert "mJ (prior) exceed 0.001 mJ on t4" in one.violates[0]
    assert "cpu" not in one.latency


def test_short_training_is_deterministic(rungs):
    """The same trial trained twice gives the same score: one seed, a fixed number of epochs."""
    trial = Trial(n=1, status="pending", proposal=Proposal(
        graph=graphs()[0], origin=Origin(strategy="t", operator="t", step=0)))
    first, second = (rungs.start(trial, "short", 60.0).result() for _ in range(2))
    assert first.trained is not None
    assert first.trained.val_score == second.trained.val_score
    assert first.trained.test_score is None


def test_a_share_of_a_training_is_a_schedule_of_its_own(rungs):
    """A third of the epochs, marked as such in the result, and charged as a third."""
    trial = Trial(n=1, status="pending", proposal=Proposal(
        graph=graphs()[0], origin=Origin(strategy="t", operator="t", step=0)))
    whole, part = (rungs.start(trial, "short", 60.0, share=share).result().trained for share in (1.0, 1 / 3))
    assert (whole.share, part.share) == (1.0, 1 / 3)
    assert part.epochs == pytest.approx(whole.epochs / 3, rel=0.1)
    assert rungs.cost(trial, 1 / 3) == 1 / 3
