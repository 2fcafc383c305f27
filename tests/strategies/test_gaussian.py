"""The Gaussian process, against scikit-learn and against sampling."""

import moocore
import numpy as np
import pytest
from scipy.stats import spearmanr

from llmnas.space import load_space
from llmnas.strategies.acquisition import hypervolume_improvement
from llmnas.strategies.gaussian import GaussianProcess, expected_improvement, normal_scores, squared_distances
from llmnas.strategies.points import edge_features


def test_it_predicts_as_scikit_learn_does():
    """With the same kernel and noise, mean and spread agree."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(40, 3)), rng.normal(size=(15, 3))
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1]
    ours = GaussianProcess([x], y, [(1.0,)])
    length = ours._scale * np.sqrt(squared_distances(x, x).mean())
    noise = next(noise for noise in (1e-3, 3e-2, 0.3)
                 if np.allclose(ours._lower @ ours._lower.T - np.diag(np.diag(ours._lower @ ours._lower.T)) + np.eye(40)
                                * (1 + noise), ours._lower @ ours._lower.T))
    kernel = ConstantKernel(ours._variance) * RBF(length) + WhiteKernel(noise * ours._variance)
    theirs = GaussianProcessRegressor(kernel, optimizer=None, alpha=0).fit(x, y)
    mean, spread = theirs.predict(new, return_std=True)
    found_mean, found_spread = ours.predict([new])
    assert found_mean == pytest.approx(mean, abs=1e-5)
    assert found_spread**2 == pytest.approx(spread**2 - noise * ours._variance, abs=1e-5)


def test_a_group_of_noise_gets_no_say():
    """The likelihood picks the group that explains the values."""
    rng = np.random.default_rng(1)
    signal, noise = rng.normal(size=(60, 2)), rng.normal(size=(60, 30))
    process = GaussianProcess([signal, noise], normal_scores(signal.sum(axis=1)), [(1.0, 0.0), (0.0, 1.0)])
    assert tuple(process._weights) == (1.0, 0.0)
    new = rng.normal(size=(50, 2))
    assert spearmanr(process.predict([new, rng.normal(size=(50, 30))])[0], new.sum(axis=1))[0] > 0.95


@pytest.mark.parametrize(("mean", "spread", "best"), [(0.0, 1.0, 0.5), (1.0, 0.3, 0.5), (-1.0, 2.0, 1.0)])
def test_expected_improvement_is_the_mean_of_the_improvement(mean, spread, best):
    """Against 400,000 draws."""
    draws = np.random.default_rng(2).normal(mean, spread, 400_000)
    found = expected_improvement(np.array([mean]), np.array([spread]), best)[0]
    assert found == pytest.approx(np.maximum(draws - best, 0).mean(), abs=0.005)


def test_normal_scores_keep_order_and_tame_outliers():
    """An outlier is only the last rank."""
    found = normal_scores(np.array([0.1, 90.0, 0.2, -1e9]))
    assert np.argsort(found).tolist() == [3, 0, 2, 1]
    assert np.abs(found).max() < 2
    tied = normal_scores(np.array([1.0, 2.0, 2.0, 3.0]))
    assert tied[1] == tied[2] == pytest.approx(0.0)


def test_edge_features_name_the_function():
    """Dead branches do not count, names of nodes neither; another op does."""
    space = load_space("nb201")
    rng = np.random.default_rng(3)
    for graph in (space.sample(rng) for _ in range(20)):
        assert np.array_equal(edge_features(graph), edge_features(graph.live()))
    assert len({edge_features(graph).tobytes() for graph in space.prior()}) > 10


@pytest.mark.parametrize("seed", range(4))
def test_hypervolume_improvement_is_the_mean_growth_of_the_volume(seed):
    """Against moocore's hypervolume over 4,000 draws of every candidate's score; known points may lie anywhere."""
    rng = np.random.default_rng(seed)
    scores, paid = rng.normal(size=6), rng.uniform(0, 1, 6)
    mean, spread, costs = rng.normal(size=4), rng.uniform(0.2, 1.0, 4), rng.uniform(0, 1.2, 4)
    most = float(max(paid.max(), costs.max()))
    found = hypervolume_improvement(mean, spread, costs, scores, paid, most)

    def volume(points):
        return moocore.hypervolume(np.asarray(points), ref=[-scores.min(), most])

    known = np.stack([-scores, paid], axis=1)
    for i in range(4):
        draws = rng.normal(mean[i], spread[i], 4_000)
        grown = [volume([*known, (-draw, costs[i])]) - volume(known) for draw in draws]
        assert found[i] == pytest.approx(np.mean(grown), abs=0.03)


def test_what_costs_most_or_is_sure_to_be_worse_brings_nothing():
    """A candidate at the reference cost, and one that is dominated without doubt."""
    found = hypervolume_improvement(np.array([5.0, -1.0]), np.array([0.1, 1e-6]), np.array([1.0, 0.9]),
                                    np.array([0.0, 1.0]), np.array([0.2, 0.5]), 1.0)
    assert found == pytest.approx([0.0, 0.0])
