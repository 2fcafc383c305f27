"""The evaluator that really trains, on a few tiny networks."""

import pytest

from llmnas.data import load, materialise, split
from llmnas.evaluate import Rungs
from llmnas.executors import LocalExecutor
from llmnas.latency import parse_target
from llmnas.records import Origin, Proposal, Trial
from llmnas.space import load_space
from tests.search.loop import PLAN, toy_settings


@pytest.fixture(scope="module")
def rungs(tmp_path_factory):
    """An evaluator on digits with every proxy, this CPU and a predicted GPU as targets."""
    root = tmp_path_factory.mktemp("rungs")
    dataset = load("digits")
    data = materialise(dataset, split(dataset, 0), root / "data")
    plan = PLAN.model_copy(update={"proxies": ("params", "flops", "synflow", "nwot", "jacov", "grad_norm", "snip")})
    with LocalExecutor() as executor:
        yield Rungs(executor, load_space("convnet"), data, toy_settings(space="convnet", max_params=300_000), plan,
                    [parse_target("cpu", False), parse_target("gpu:t4", False)], 1, root)


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
        assert one.latency["t4"].source == "analytic"
        assert all(found.low <= found.ms <= found.high for found in one.latency.values())


def test_screening_cap(rungs):
    """No more networks are scored by proxies than asked for; all are still timed."""
    screened = rungs.screen(graphs()[:2], 1, 60.0)
    assert [len(one.scores) > 2 for one in screened] == [True, False]
    assert all("cpu" in one.latency for one in screened)


def test_short_training_is_deterministic(rungs):
    """The same trial trained twice gives the same score: one seed, a fixed number of epochs."""
    trial = Trial(n=1, status="pending", proposal=Proposal(
        graph=graphs()[0], origin=Origin(strategy="t", operator="t", step=0)))
    first, second = (rungs.start(trial, "short", 60.0).result() for _ in range(2))
    assert first.trained is not None
    assert first.trained.val_score == second.trained.val_score
    assert first.trained.test_score is None
