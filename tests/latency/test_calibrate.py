"""Calibrations: kept, read, void, with another device beside them; and what predictors made of them promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import drawn, ms_of, samples

from llmnas.build import build
from llmnas.errors import InputError
from llmnas.latency import parse_target, predict
from llmnas.latency.calibrate import (
    Calibration,
    Here,
    calibrate,
    calibrate_job,
    from_samples,
    here_for,
    path_of,
    predictor_for,
    read,
    save,
    stored,
)
from llmnas.latency.check import check
from llmnas.latency.genes import encoded, genes_of
from llmnas.latency.predictor import Expected, Predictor, counted, known, passes_of
from llmnas.latency.timing import Conditions
from llmnas.latency.trace import predict_module
from llmnas.network import Network
from llmnas.space import list_spaces, load_space

T4 = parse_target("t4", False)
CPU = parse_target("cpu", False)
HERE = Conditions(device_name="a processor", clock="thread_time", threads=1, cores=2, load_average=None,
                  torch="2.13.0", dtype="fp32", memory_format="contiguous")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMNAS_HOME", str(tmp_path))
    return tmp_path


def networks(space, n, seed=9):
    return [load_space(space).network(graph) for graph in drawn(space, n, seed)]


def made(n, space="nb201", **options):
    return from_samples(T4, samples(space, n), "made up", **options)


def local(n=8):
    """A calibration as of this machine."""
    return from_samples(CPU, samples("nb201", n), "this machine").model_copy(update={"conditions": HERE})


# -- kept


def test_a_kept_calibration_is_read_back(home):
    """What is written is what is read, another device's samples included, and predicts the same."""
    calibration = made(8, proxy=made(7))
    save(calibration, path_of(T4))
    assert read(path_of(T4)).model_dump_json() == calibration.model_dump_json()
    network = networks("nb201", 1)[0]
    assert predictor_for(T4).predict(network) == calibration.predictor(T4).predict(network)
    assert stored(T4)[0].proxy is not None


def test_nothing_kept_is_analytic(home):
    network = networks("nb201", 1)[0]
    assert stored(T4) == (None, "")
    assert predictor_for(T4).predict(network).ms == pytest.approx(predict(network, T4).ms)


@pytest.mark.parametrize(("here", "says"), [
    (Here("a processor", "2.12.0"), "made with torch 2.13.0, here 2.12.0"),
    (Here("another one", "2.13.0"), "made on a processor, here another one")])
def test_another_torch_or_processor_makes_it_void(home, here, says):
    save(local(), path_of(CPU))
    assert stored(CPU, Here("a processor", "2.13.0"))[0] is not None
    found, why = stored(CPU, here)
    assert found is None
    assert says in why
    assert predictor_for(CPU, here).source == "analytic"


def test_other_inputs_make_it_void_only_where_a_measurement_is_to_be_had(home):
    """Elsewhere a calibration on other inputs is still the best there is."""
    assert local().fits(CPU, None, (1, 8, 8)) == "made on inputs of 3×32×32, here 1×8×8"
    assert local().fits(CPU, None, (3, 32, 32)) == ""
    assert made(3).fits(T4, None, (1, 8, 8)) == ""
    assert made(3).fits(CPU) == "it is for t4"


def test_a_file_that_is_no_calibration_says_so(home):
    path_of(T4).parent.mkdir(parents=True)
    path_of(T4).write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="not a calibration"):
        stored(T4)


def test_what_is_here_depends_on_the_kind_of_device():
    machine = {"gpus": ["NVIDIA T4"], "cpu": "a processor", "torch": "2.13.0"}
    assert here_for(CPU, machine) == Here("a processor", "2.13.0")
    assert here_for(T4, machine) == Here("NVIDIA T4", "2.13.0")


def test_a_target_that_is_not_here_cannot_be_measured():
    with pytest.raises(InputError, match="--samples"):
        calibrate(T4, networks("nb201", 3))


def test_this_machine_is_calibrated_in_a_moment():
    """The whole way in a child's entry point, on a tiny budget: operators and networks timed, kept with choices."""
    space = load_space("nb201")
    graphs = drawn("nb201", 12)
    found = calibrate_job({"networks": [space.network(graph, (1, 8, 8)).to_data() for graph in graphs],
                           "choices": [list(space.choices(graph)) for graph in graphs], "n": 3, "budget_s": 2.0,
                           "names": [graph.key() for graph in graphs], "target": CPU.model_dump(mode="json")})
    calibration = Calibration.model_validate(found["calibration"])
    assert calibration.conditions is not None
    assert calibration.shapes == {(1, 8, 8)}
    assert calibration.operators
    assert all(sample.choices[0].startswith("nb201/0>1=") for sample in calibration.samples)
    assert calibration.fits(CPU, calibration.conditions) == ""


# -- what it predicts


@pytest.mark.parametrize(("n", "error", "stage"), [(1, .6, "factor"), (5, .4, "factor"), (8, .12, "regressions"),
                                                   (20, .04, "regressions")])
def test_more_samples_make_a_better_predictor(n, error, stage):
    predictor, fresh = made(n).predictor(T4), networks("nb201", 40)
    found = predictor.expect(known(fresh))
    assert np.mean(np.abs(found.ms / [ms_of(one) for one in fresh] - 1)) < error
    assert stage in predictor.stage
    assert len(predictor.residuals) == n


def test_choices_are_columns():
    """One column a choice that occurs; other slots give none, an unseen choice gives zeros."""
    chosen = [("s/a=x", "s/b=u"), ("s/a=y", "s/b=u")]
    code = genes_of(chosen)
    assert code.columns == ("s/a=x", "s/a=y", "s/b=u")
    assert encoded(chosen).tolist() == [[1, 0, 1], [0, 1, 1]]
    assert code.encode(("s/a=z", "s/b=u")).tolist() == [0, 0, 1]
    assert code.encode(("t/a=x", "t/b=u")) is None
    assert genes_of([("s/a=x",), ("t/a=x",)]) is None
    assert genes_of([(), ()]) is None


def test_choices_explain_what_operators_do_not():
    """On a device where the place of an operator matters, samples with choices predict better than without."""
    rng = np.random.default_rng(0)
    effects = {}
    given_ = [one.model_copy(update={"ms": one.ms * float(np.exp(sum(
        effects.setdefault(choice, rng.normal(0, .08)) for choice in one.choices)))})
        for one in samples("nb201", 110, noise=.002)]
    errors = []
    for strip in (False, True):
        use = [one.model_copy(update={"choices": ()}) if strip else one for one in given_]
        predictor = from_samples(T4, use[:60], "made up").predictor(T4)
        genes = None if strip else np.array([predictor.genes(one.choices) for one in use[60:]])
        found = predictor.expect(known([Network.from_data(one.network) for one in use[60:]], genes))
        errors.append(np.mean(np.abs(np.log(found.ms / [one.ms for one in use[60:]]))))
    assert errors[0] < .9 * errors[1]


def test_another_device_helps_and_never_stands_alone():
    """A device like this one but for an effect that operators do not tell: its samples help from six of ours on."""
    rng = np.random.default_rng(1)
    quirk = {graph.key(): float(np.exp(rng.normal(0, .1))) for graph in drawn("nb201", 80)}

    def bent(n, factor):
        return [one.model_copy(update={"ms": one.ms * factor * quirk[one.name]}) for one in samples("nb201", n)]

    def with_proxy(n):
        proxy = from_samples(CPU, bent(60, 5.0), "another")
        return from_samples(T4, bent(n, 1.0), "ours", proxy).predictor(T4)

    assert with_proxy(3).fitted is None
    names = {fitted.member.name for fitted in with_proxy(12).fitted.members}
    assert {"another device", "calls and another device"} & names
    assert names - {"another device", "calls and another device"}
    network = networks("nb201", 1)[0]
    one = with_proxy(12)
    assert one.predict(network).ms == pytest.approx(float(one.expect(known([network])).ms[0]))


@pytest.mark.parametrize("n", [0, 1, 5, 8, 16])
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_predictions_are_positive_and_grow_with_the_network(n, seed):
    """Finite, inside their interval, and never less with one more layer of a kind that costs."""
    predictor = fitted(n)
    graph = load_space("convnet").sample(np.random.default_rng(seed))
    network = load_space("convnet").network(graph)
    found = predictor.predict(network)
    assert 0 < found.low <= found.ms <= found.high < float("inf")
    assert found.source == ("calibrated" if n else "analytic")
    last = network.layers[-1]
    convolution = next(layer for layer in network.layers if layer.kind == "conv")
    longer = Network(network.input_shape, (*network.layers, convolution, last._replace(inputs=last.inputs)))
    assert predictor.predict(longer).ms >= found.ms * (1 - 1e-9)


FITTED = {}


def fitted(n):
    if n not in FITTED:
        FITTED[n] = Predictor(T4) if not n else made(n, "convnet").predictor(T4)
    return FITTED[n]


def test_far_from_the_samples_the_interval_is_wider():
    """Operators without samples and sizes beyond theirs are not known as well."""
    predictor = made(12).predictor(T4)
    friend, stranger = networks("nb201", 1), networks("mbconv", 1)
    assert predictor.strange(known(friend))[0] == 0
    assert predictor.strange(known(stranger))[0] > 0
    large = [load_space("nb201").network(drawn("nb201", 1, 9)[0], (3, 512, 512))]
    assert predictor.beyond(known(large))[0] > 0
    widths = [float(predictor.expect(known(one)).high[0] / predictor.expect(known(one)).low[0])
              for one in (friend, stranger, large)]
    assert widths[0] < min(widths[1:])


# -- which is faster


@pytest.mark.parametrize("n", [0, 3, 12])
def test_odds_are_probabilities_of_an_order(n):
    predictor = Predictor(T4) if not n else made(n).predictor(T4)
    odds = predictor.odds(known(networks("nb201", 6)))
    assert np.allclose(odds + odds.T, 1)
    assert np.allclose(np.diag(odds), .5)
    ms = predictor.expect(known(networks("nb201", 6))).ms
    assert np.array_equal(odds > .5, ms[:, None] < ms[None, :])


def test_a_common_scale_does_not_blur_an_order():
    """Without samples milliseconds are known within a factor of two; which network is faster is known far better."""
    small, large = sorted(networks("nb201", 20), key=lambda one: predict(one, T4).ms)[::19]
    one, two = predict(small, T4), predict(large, T4)
    assert one.high > two.low
    assert Predictor(T4).faster(small, large) > .99
    assert Predictor(T4).faster(large, small) < .01


def test_odds_hold_on_a_made_up_device():
    """Of the pairs that are called at least 90 % sure, at least as many are right."""
    predictor, fresh = made(10).predictor(T4), networks("nb201", 40)
    odds, ms = predictor.odds(known(fresh)), np.array([ms_of(one) for one in fresh])
    sure = odds > .9
    assert np.mean((ms[:, None] < ms[None, :])[sure]) > .9


# -- modules


@pytest.mark.parametrize("name", list_spaces())
def test_a_module_is_predicted_as_its_network(name):
    """A calibrated predictor reads the calls of a trace as those of the network."""
    target = parse_target("t4", False)
    predictor = from_samples(target, samples(name, 8), "made up").predictor(target)
    for network in networks(name, 3):
        if any(layer.kind in {"attention", "zero"} for layer in network.layers):
            continue
        found = predict_module(build(network, seed=0), network.input_shape, target, predictor=predictor)
        assert found.source == "calibrated"
        assert found.ms == pytest.approx(predictor.predict(network).ms, rel=1e-3)


def test_subjects_are_counted_together():
    fresh = networks("nb201", 3)
    together, single = counted([passes_of(one) for one in fresh]), known(fresh)
    assert [one.kernels for one in together.counted] == [one.kernels for one in single.counted]
    assert all(np.array_equal(one.counts, two.counts)
               for one, two in zip(together.counted, single.counted, strict=True))


# -- how good it is


def expected(ms, width=1.2):
    ms = np.asarray(ms, dtype=float)
    return Expected(ms, ms / width, ms * width)


def test_a_check_says_what_few_networks_can_tell():
    """Three networks decide nothing; thirty in the right order do; reversed, they are wrong."""
    ms = np.arange(1.0, 31.0)
    assert check(expected(ms[:3]), ms[:3]).order == "not decided"
    right = check(expected(ms), ms)
    assert (right.order, right.intervals, right.covered, right.mape) == ("right", "hold", 30, 0)
    assert check(expected(ms[::-1]), ms).order == "wrong"
    assert check(expected(ms * 1.3), ms).intervals == "too narrow"
    assert check(expected([2.0] * 5), ms[:5]).spearman is None
    assert check(expected(np.tile(ms, 9)), np.tile(ms, 9)).intervals == "wider than needed"
    assert check(expected([1.05, 2.4]), [1.0, 2.0]).within_10 == .5
