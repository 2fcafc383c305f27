"""A run with a kept calibration predicts what it screens, and times where that decides something."""

import json
import shutil

import numpy as np
import pytest

from llmnas.budget import make_plan
from llmnas.data import load, materialise, split
from llmnas.evaluate import Rungs, kept
from llmnas.executors import Job, LocalExecutor
from llmnas.job import resume, run
from llmnas.latency import parse_target, parse_targets, predict
from llmnas.latency.calibrate import Sample, from_samples, here_for, path_of, save
from llmnas.latency.timing import Conditions
from llmnas.records import Latency, Measured, Origin, Proposal, Settings, Told, Trial
from llmnas.space import load_space
from llmnas.store import read_events
from tests.search.loop import PLAN, InstantEvaluator, open_search, toy_settings

CPU, T4 = parse_targets(["cpu", "t4"], False)
SHAPE = (1, 8, 8)


def made(target, n=20, factor=1.5, **conditions):
    """A calibration of cells on digits: a device a little slower than the analytic model has it."""
    space, rng, found = load_space("nb201"), np.random.default_rng(0), {}
    while len(found) < n:
        graph = space.sample(rng)
        if not space.validate(graph, SHAPE):
            found.setdefault(space.network(graph, SHAPE), graph)
    samples = [Sample(name=graph.key(), network=network.to_data(), choices=space.choices(graph),
                      ms=factor * predict(network, target).ms * float(np.exp(.02 * rng.standard_normal())))
               for network, graph in found.items()]
    calibration = from_samples(target, samples, "made up")
    return calibration.model_copy(update={"conditions": Conditions(
        clock="thread_time", threads=1, cores=1, load_average=None, dtype="fp32", memory_format="contiguous",
        **conditions)}) if conditions else calibration


class Counting:
    """An executor that notes what was to be timed."""

    def __init__(self, executor):
        self.executor, self.timed = executor, []

    def submit(self, job):
        if job.kind == "screen":
            self.timed += [len(one["networks"]) for one in job.payload["measure"]]
        return self.executor.submit(job)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("calibrated")
    dataset = load("digits")
    with LocalExecutor() as executor:
        yield executor, materialise(dataset, split(dataset, 0), root / "data"), root


def rungs(digits, **limits):
    executor, data, root = digits
    return Rungs(Counting(executor), load_space("nb201"), data, toy_settings(**limits), PLAN, [CPU, T4], 1, root,
                 {"cpu": made(CPU).predictor(CPU), "t4": made(T4).predictor(T4)})


def graphs(n=12):
    space, rng = load_space("nb201"), np.random.default_rng(5)
    return [space.sample(rng) for _ in range(n)]


def test_without_a_limit_nothing_is_timed(digits):
    """The figures are calibrated, on the target that is here too."""
    evaluator = rungs(digits)
    screened = evaluator.screen(graphs(), None, 60.0)
    assert not evaluator.executor.timed
    assert {(one.latency[key].source, one.latency[key].n) for one in screened for key in ("cpu", "t4")} == {
        ("calibrated", 20)}


def test_a_limit_in_the_interval_is_decided_by_timing(digits):
    """Networks clearly above are refused, clearly below are passed, both unmeasured; those between are timed."""
    predicted = [one.latency["cpu"] for one in rungs(digits).screen(graphs(), None, 60.0)]
    limit = sorted(one.ms for one in predicted)[6]
    evaluator = rungs(digits, max_latency_ms=limit)
    screened = evaluator.screen(graphs(), None, 60.0)
    doubtful = [one.low <= limit < one.high for one in predicted]
    assert 0 < sum(doubtful) < len(doubtful)
    assert evaluator.executor.timed == [sum(doubtful)]
    assert [one.latency["cpu"].source == "measured" for one in screened] == doubtful
    for before, doubt, one in zip(predicted, doubtful, screened, strict=True):
        if not doubt:
            assert bool(one.violates) == (before.ms > limit)
            assert "calibrated" in " ".join(one.violates) or not one.violates


def test_out_of_time_a_doubtful_network_is_judged_by_its_prediction(digits):
    evaluator = rungs(digits, max_latency_ms=1e-3)
    assert all(one.violates for one in evaluator.screen(graphs(3), None, 0.0))
    ms = rungs(digits).screen(graphs(1), None, 60.0)[0].latency["cpu"].ms
    one, = rungs(digits, max_latency_ms=ms * .999).screen(graphs(1), None, 0.0)
    assert "calibrated" in one.violates[0]


def test_settling_times_what_is_only_predicted(digits):
    """Only on the targets asked for, only where a timing is possible, and never twice."""
    evaluator = rungs(digits)
    graph = graphs(1)[0]
    one, = evaluator.screen([graph], None, 60.0)
    trial = Trial(n=4, status="trained", latency=one.latency, proposal=Proposal(
        graph=graph, origin=Origin(strategy="t", operator="t", step=0)))
    assert evaluator.settle(trial, 60.0, ["t4"]) == []
    found, = evaluator.settle(trial, 60.0, ["cpu", "t4"])
    assert (found.n, found.latency.source, found.latency.device) == (4, "measured", "cpu")
    again = trial.model_copy(update={"latency": {**one.latency, "cpu": found.latency}})
    assert evaluator.settle(again, 60.0, ["cpu"]) == []


class Predicting(InstantEvaluator):
    """Latencies come from size; what is asked to be settled is noted, and found twice as slow."""

    def __init__(self, space, tick):
        super().__init__(space, tick, fail=False)
        self.settled = []

    def screen(self, graphs, scored, limit_s):
        return [one.model_copy(update={"latency": {"cpu": latency(one.counts.macs, "calibrated")}})
                for one in super().screen(graphs, scored, limit_s)]

    def settle(self, trial, limit_s, targets):
        self.settled.append((trial.n, tuple(targets)))
        return [Measured(n=trial.n, latency=latency(2 * trial.counts.macs, "measured"))]


def latency(macs, source):
    return Latency(ms=macs / 1e6, low=macs / 1.1e6, high=macs / .9e6, device="cpu", source=source, n=20)


def test_the_front_is_measured(tmp_path):
    """Every trained trial that enters the front is settled once, before the strategy hears of it."""
    from tests.search.loop import Time

    space, time = load_space("nb201"), Time()
    evaluator = Predicting(space, time.pass_)
    store, search = open_search(tmp_path / "run", toy_settings(max_evals=10), time=time, evaluator=evaluator)
    with store:
        search.run()
    settled = [n for n, _ in evaluator.settled]
    assert 0 < len(settled) == len(set(settled)) < len(store.state.trained()) + 1
    assert all(targets == ("cpu",) for _, targets in evaluator.settled)
    for trial in store.state.trained():
        assert (trial.latency["cpu"].source == "measured") == (trial.n in settled)


# -- the plan


def test_predicted_networks_cost_the_plan_no_timing():
    calibrated = {"cpu": made(CPU)}
    assert kept.timings([CPU, T4], {}, {}) == 1
    assert kept.timings([CPU, T4], calibrated, {"t4": 1.0}) == 0
    assert kept.timings([CPU, T4], calibrated, {"cpu": 1.0}) == kept.DOUBTFUL
    designs = [load_space("nb201").network(graph, SHAPE, 10) for graph in load_space("nb201").prior()]
    plans = [make_plan(Settings(budget_s=120), designs, 1151, 64, "cpu", 2, timed, False) for timed in (1, 0.25, 0)]
    assert plans[0].proposals < plans[1].proposals <= plans[2].proposals


def test_a_run_says_what_its_latency_rests_on():
    assert kept.sentence(CPU, None, "") == ""
    assert kept.sentence(CPU, None, "not used: x").endswith("not used: x; every network is timed")
    assert "calibrated on 20 networks" in kept.sentence(CPU, made(CPU), "")
    assert kept.sentence(T4, None, "").endswith("its latency is analytic, not measured")
    assert "its latency is calibrated on 20 networks" in kept.sentence(T4, made(T4), "")


# -- whole runs


@pytest.fixture
def machine(digits):
    return digits[0].submit(Job(kind="probe")).future.result().result


def test_a_run_measures_fewer_networks_than_it_screens_and_a_resumed_one_goes_on_so(tmp_path, monkeypatch, machine):
    """The calibration is copied into the run; taking it away from home changes nothing afterwards."""
    home = tmp_path / "home"
    monkeypatch.setenv("LLMNAS_HOME", str(home))
    here = here_for(CPU, machine)
    save(made(CPU, device_name=here.device_name, torch=here.torch), path_of(CPU))
    options = {"data": "digits", "space": "nb201", "strategy": "random", "budget": "45s", "target": ["cpu", "t4"],
               "out": tmp_path / "run"}
    first = run(**options, max_evals=2)
    screened = [trial for trial in first.state.trials if trial.latency]
    at_first = [trial for event in read_events(tmp_path / "run" / "events.jsonl") if isinstance(event.body, Told)
                for trial in event.body.trials if trial.latency]
    assert {trial.latency["cpu"].source for trial in at_first} == {"calibrated"}
    assert 0 < sum(trial.latency["cpu"].source == "measured" for trial in screened) < len(screened)
    assert first.chosen.latency["cpu"].source == "measured"
    assert any("calibrated on 20 networks" in warning for warning in first.state.warnings)
    kept_file = path_of(parse_target("cpu", False), tmp_path / "run" / "calibrations")
    assert json.loads(kept_file.read_text(encoding="utf-8"))["target"] == "cpu"

    shutil.rmtree(home)
    seen = len(first.state.trials)
    again = resume(tmp_path / "run", max_evals=4)
    later = [trial for trial in again.state.trials[seen:] if trial.latency]
    assert all(trial.latency["cpu"].source in {"calibrated", "measured"} for trial in later)
    assert any(trial.latency["cpu"].n == 20 and trial.latency["cpu"].source == "calibrated" for trial in later) or (
        not later)


def test_a_calibration_of_another_torch_is_not_used_and_the_run_says_why(tmp_path, monkeypatch, machine):
    monkeypatch.setenv("LLMNAS_HOME", str(tmp_path / "home"))
    save(made(CPU, device_name=here_for(CPU, machine).device_name, torch="1.0"), path_of(CPU))
    result = run(data="digits", space="nb201", strategy="random", budget="30s", target="cpu", max_evals=1,
                 out=tmp_path / "run")
    assert not (tmp_path / "run" / "calibrations").exists()
    assert any("made with torch 1.0, here" in warning and "every network is timed" in warning
               for warning in result.state.warnings)
    assert {trial.latency["cpu"].source for trial in result.state.trials if trial.latency} <= {"measured"}
