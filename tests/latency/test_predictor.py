"""From a few measured networks to a predictor: synthetic devices whose costs are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from llmnas.latency import parse_target
from llmnas.latency.counting import count
from llmnas.latency.kernels import COMPILED, EAGER, EXECUTIONS, EXPORTED, executed
from llmnas.latency.launches import TORCH_2020, fit_launches
from llmnas.latency.predictor import BELIEFS, Predictor, choose, known
from llmnas.latency.regression import d_optimal, distinct, fit, left_out
from llmnas.space import Digits, load_space

SPACE = load_space("nb201")
CODEC = Digits(SPACE)
EAGER_GPU = parse_target("gtx_1080_ti", False)
PHONE = parse_target("cortex_a76@runtime=compiled", False)


def cell(digits):
    return SPACE.network(CODEC.graph(digits), raw=True)


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    drawn = {"".join(str(digit) for digit in rng.integers(0, 5, 6)) for _ in range(500)}
    live = sorted(digits for digits in drawn if CODEC.graph(digits).live().nodes)
    return known([cell(digits) for digits in live])


def device(cells, execution, cost, noise=.01, seed=1):
    """Milliseconds of a device that executes networks in one way at known costs."""
    rng = np.random.default_rng(seed)
    clean = cells.counted[EXECUTIONS.index(execution)].total(cost) + .4
    return clean * np.exp(noise * rng.standard_normal(len(clean)))


def launch_bound(kernel):
    return {"conv": .06, "norm": .03}.get(kernel.kind, .015)


def compute_bound(kernel):
    return kernel.flops / 3e9 + kernel.values / 4e7 + .004


def test_executions_differ_in_what_they_leave_out():
    """Edge 0>1 of the second cell feeds nothing; edge 1>2 of the third is fed by a zero."""
    full, unused, fed_by_zero = cell("333333"), cell("313000"), cell("003300")
    assert len(executed(full, EXPORTED)) < len(executed(full, EAGER))  # norms and activations are folded in

    def convolutions(network, execution):
        return sum(kernel.op == "conv3" for kernel in executed(network, execution))

    assert convolutions(full, EAGER) == convolutions(full, EXPORTED) == convolutions(full, COMPILED)
    assert convolutions(unused, EAGER) > convolutions(unused, COMPILED)
    assert convolutions(fed_by_zero, EXPORTED) >= convolutions(fed_by_zero, COMPILED)


def test_counts_add_up_to_the_kernels(cells):
    network = cell("123431")
    counted = count([network], EAGER)
    assert counted.counts.sum() == len(executed(network, EAGER))
    assert counted.total(lambda kernel: kernel.flops)[0] == sum(kernel.flops for kernel in executed(network, EAGER))


@pytest.mark.parametrize(("target", "execution", "cost"), [(EAGER_GPU, EAGER, launch_bound),
                                                           (PHONE, COMPILED, compute_bound),
                                                           (PHONE, EXPORTED, compute_bound)])
def test_ten_networks_tell_a_device(cells, target, execution, cost):
    ms = device(cells, execution, cost)
    chosen = choose(cells, target, 10)
    predictor = Predictor(target, cells.take(chosen), ms[chosen])
    rest = np.setdiff1d(np.arange(len(ms)), chosen)
    found = predictor.expect(cells.take(rest))
    assert spearmanr(found.ms, ms[rest])[0] > .97
    assert np.mean(np.abs(found.ms / ms[rest] - 1)) < .06
    assert np.mean((found.low <= ms[rest]) & (ms[rest] <= found.high)) > .8
    heaviest = max(predictor.fitted.members, key=lambda fitted: fitted.weight)
    assert EXECUTIONS[heaviest.execution] == execution


@pytest.mark.parametrize("n", [1, 3, 5])
def test_few_samples_set_a_factor(cells, n):
    ms = device(cells, EAGER, launch_bound)
    chosen = choose(cells, EAGER_GPU, n)
    prior, scaled = Predictor(EAGER_GPU, host=TORCH_2020), Predictor(EAGER_GPU, cells.take(chosen), ms[chosen],
                                                                    host=TORCH_2020)
    before, after = (np.abs(one.expect(cells).ms / ms - 1).mean() for one in (prior, scaled))
    assert after < .1 < before
    assert scaled.source == "calibrated"
    assert prior.source == "analytic"
    width = [np.mean(one.expect(cells).high / one.expect(cells).low) for one in (scaled, prior)]
    assert width[0] < width[1]


def test_one_network_agrees_with_many(cells):
    ms = device(cells, EAGER, launch_bound)
    chosen = choose(cells, EAGER_GPU, 12)
    predictor = Predictor(EAGER_GPU, cells.take(chosen), ms[chosen])
    network = cell("321402")
    alone, together = predictor.predict(network), predictor.expect(known([network]))
    assert (alone.ms, alone.low, alone.high) == pytest.approx(
        (together.ms[0], together.low[0], together.high[0]))
    assert (alone.source, alone.n) == ("calibrated", 12)


def test_operators_without_samples_widen_the_interval(cells):
    ms = device(cells, EAGER, launch_bound)
    chosen = choose(cells, EAGER_GPU, 12)
    predictor = Predictor(EAGER_GPU, cells.take(chosen), ms[chosen])
    mobile = load_space("mbconv")
    stranger = predictor.predict(mobile.network(mobile.sample(np.random.default_rng(0))))
    friend = predictor.predict(cell("333333"))
    assert stranger.high / stranger.low > friend.high / friend.low


def test_genes_explain_what_operators_do_not(cells):
    """A device on which the place of an operator matters, which no count of operators tells."""
    rng = np.random.default_rng(3)
    digits = ["".join(str(digit) for digit in rng.integers(1, 5, 6)) for _ in range(200)]
    genes = np.array([[float(letter == other) for letter in one for other in "01234"] for one in digits])
    networks = known([cell(one) for one in digits], genes)
    effect = np.exp(genes @ rng.normal(0, .06, genes.shape[1]))
    ms = networks.counted[0].total(launch_bound) * effect
    errors = []
    for with_genes in (networks, known([cell(one) for one in digits])):
        predictor = Predictor(EAGER_GPU, with_genes.take(range(60)), ms[:60])
        found = predictor.expect(with_genes.take(range(60, 200)))
        errors.append(np.mean(np.abs(np.log(found.ms / ms[60:]))))
    assert errors[0] < .8 * errors[1]


def test_launch_costs_are_found_again(cells):
    true = dict(zip(("heavy", "grouped", "norm", "light"), (.048, .07, .03, .012), strict=True))

    def cost(kernel):
        name = {"conv": "heavy", "linear": "heavy", "grouped": "grouped", "norm": "norm"}.get(kernel.kind, "light")
        return true[name]

    mobile = load_space("mbconv")
    rng = np.random.default_rng(0)
    others = known([mobile.network(mobile.sample(rng)) for _ in range(60)])
    columns = [(part.counted[0], part.counted[0].total(cost) * factor + .3)
               for part in (cells, others) for factor in (1.0, 1.2)]
    host = fit_launches(columns, "made up")
    assert host.heavy / host.norm == pytest.approx(.048 / .03, rel=.35)
    assert host.heavy / host.light == pytest.approx(.048 / .012, rel=.35)
    assert host.source == "fitted: made up"


def test_beliefs_are_probabilities():
    assert all(sum(beliefs) == pytest.approx(1) for beliefs in BELIEFS.values())


columns = st.integers(6, 20).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, 5), st.integers(0, 10**6)))


@given(columns)
@settings(max_examples=60, deadline=None)
def test_coefficients_are_never_negative(shape):
    n, terms, seed = shape
    rng = np.random.default_rng(seed)
    x = rng.gamma(2, 1, (n, terms))
    ms = x @ rng.gamma(1, 1, terms) * np.exp(.1 * rng.standard_normal(n)) + 1e-3
    for anchored in (False, True):
        coefficients = fit(x, ms, .01, anchored)
        assert np.isfinite(coefficients).all()
        assert (coefficients >= 0).all()
    assert np.isfinite(left_out(x, ms, .01, False)).all()


@given(columns)
@settings(max_examples=60, deadline=None)
def test_chosen_rows_are_different_and_determine_more_than_the_first(shape):
    n, terms, seed = shape
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5 * n, terms))
    chosen = d_optimal(x, n)
    assert len(set(chosen)) == n
    rows = np.c_[x, np.ones(len(x))]

    def information(places):
        return np.linalg.slogdet(rows[places].T @ rows[places] + np.eye(terms + 1))[1]

    assert information(chosen) >= information(list(range(n))) - 1e-9


def test_columns_that_say_the_same_are_found():
    x = np.random.default_rng(0).normal(size=(30, 2))
    assert distinct(np.c_[x, 3 * x[:, 0] + 1, np.ones(30)]) == [0, 1]


def test_ensemble_weights_add_up_and_favour_the_better(cells):
    ms = device(cells, EAGER, launch_bound)
    chosen = choose(cells, EAGER_GPU, 12)
    predictor = Predictor(EAGER_GPU, cells.take(chosen), ms[chosen])
    assert sum(fitted.weight for fitted in predictor.fitted.members) == pytest.approx(1)
    assert len(predictor.fitted.residuals) == 12
