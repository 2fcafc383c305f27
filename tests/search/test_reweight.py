"""The order of proposals learns from trainings: it is logged, and a killed run learns the same."""

import pytest

from llmnas.evaluate import Rungs
from llmnas.records import EVENT
from llmnas.space import load_space
from llmnas.store import read_events, read_run
from tests.search.loop import PLAN, InstantEvaluator, Time, open_search, toy_settings

RUN = {"strategy": "random", "max_evals": 16, "budget_s": 1000}


class Weighing(InstantEvaluator):
    """Orders as the real evaluator does. One proxy is the score itself, the default pair is noise."""

    def __init__(self, space, tick, directory):
        super().__init__(space, tick, fail=False)
        plan = PLAN.model_copy(update={"proxies": ("params", "flops", "jacov", "snip")})
        self.real = Rungs(None, space, None, toy_settings(), plan, [], 1, directory)
        self.labels = []

    def screen(self, graphs, scored, limit_s):
        keys = [int(graph.key()[3:9], 16) / 2**24 for graph in graphs]
        return [one.model_copy(update={"scores": {"snip": key, "jacov": -key * (key - 0.7)}}) for one, key in
                zip(super().screen(graphs, scored, limit_s), keys, strict=True)]

    def order(self, screened, labelled):
        self.labels.append(len(labelled))
        return self.real.order(screened, labelled)


def play(directory, create=True):
    time = Time()
    evaluator = Weighing(load_space("nb201"), time.pass_, directory)
    store, search = open_search(directory, toy_settings(**RUN), create=create, time=time, evaluator=evaluator)
    with store:
        search.run()
    return store.state, evaluator


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run left alone: its directory and state, and the evaluator that saw it."""
    directory = tmp_path_factory.mktemp("whole")
    return (directory, *play(directory))


def test_weights_are_logged_and_learn(whole):
    """The default stands until ten trainings, then the proxy that is right gains; every step says what counted."""
    directory, _, evaluator = whole
    told = [event.body for event in read_events(directory / "events.jsonl") if event.body.kind == "told"]
    default = {"params": 0.5, "flops": 0.0, "jacov": 0.5, "snip": 0.0}
    assert [body.weights == default for body in told] == [n < 10 for n in evaluator.labels]
    assert told[-1].weights["snip"] > 0.2


def test_the_state_knows_the_weights_of_every_trial(whole):
    """Folding the log gives each trial the weights of its step."""
    directory, state, _ = whole
    assert set(state.weights) == {trial.n for trial in state.trials}
    assert read_run(directory).weights == state.weights
    assert state.trained() == [trial for trial in state.trials if trial.score is not None]


def test_killed_anywhere_it_learns_the_same(whole, tmp_path):
    """Whatever event the run is killed after, resuming it gives the same trials and the same weights."""
    directory, state, _ = whole
    lines = (directory / "events.jsonl").read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines) - 1):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        (folder / "events.jsonl").write_bytes(b"".join(lines[:cut]))
        again, _ = play(folder, create=False)
        assert again.trials == state.trials, cut
        assert again.weights == state.weights, cut


def test_logs_without_weights_still_load():
    """An event of an earlier version has none: it was ordered without labels."""
    line = '{"seq":0,"t_s":1.0,"body":{"kind":"told","step":0,"trials":[],"promoted":[],"seconds":0.5}}'
    assert EVENT.validate_json(line).body.weights is None
