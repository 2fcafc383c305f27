"""GPUs that were left out: the protocol on made-up timings, and the published tables."""

import os
from pathlib import Path

import numpy as np
import pytest

from llmnas.bench import unseen
from llmnas.bench.unseen_kernels import Calls, fit
from llmnas.errors import InputError
from llmnas.latency import datasheet

published = pytest.mark.skipif("LLMNAS_DATA" not in os.environ,
                               reason="LLMNAS_DATA does not name the published tables")


def _folder():
    return Path(os.environ["LLMNAS_DATA"])


def test_the_gpu_left_out_is_never_fitted_on():
    """No fit behind a GPU's row knows it, and those behind its interval leave a second one out."""
    measured = {name: np.array([1.0, 2, 4]) * factor for name, factor in (("a", 1), ("b", 1.1), ("c", 1.2), ("d", 2))}
    asked = []

    def foretell(known, device):
        assert device not in known
        asked.append((len(known), device))
        return np.array([1.0, 2, 4])

    rows = unseen.left_out("made up", None, ("a", "b", "c"), ("a", "d"), measured, measured, foretell)
    assert asked == [(2, "a"), (1, "b"), (1, "c"), (3, "d"), (2, "a"), (2, "b"), (2, "c")]
    assert [row["mape"] for row in rows] == pytest.approx([0, .5])
    assert [row["within10"] for row in rows] == [1, 0]
    assert rows[1]["coverage90"] == 0
    assert rows[0]["interval"] == pytest.approx(1.2 / 1.1 - 1)


def test_lines_say_the_figures():
    """A row in words holds its error, the roofline's and their ratio."""
    row = {"task": "new-gpu-hwgpt", "device": "a40", "kernel": None, "n": 5, "spearman": .98, "mape": .1,
           "roofline_mape": .4, "ratio": .25, "within10": .6, "coverage90": .9, "interval": .5}
    line = next(iter(unseen.lines([row])))
    assert "error 10.0 % (roofline 40.0 %, ratio 0.25)" in line


def test_missing_tables(tmp_path):
    """Both benches name the file that is not there."""
    with pytest.raises(InputError, match=r"conv_gpu_latency"):
        unseen.new_gpu_neusight(tmp_path)
    with pytest.raises(InputError, match=r"hwgpt_s"):
        unseen.new_gpu_hwgpt(tmp_path)


@published
@pytest.mark.parametrize(("kind", "device", "most"), [("conv", "v100_pcie", .24), ("linear", "a100_40g", .19)])
def test_published_kernels(kind, device, most):
    """A tenth of the kernels suffices to be twice as near as the roofline on a GPU that was left out."""
    calls = Calls(_folder(), kind, every=10)
    ms, found = calls.measured[device], calls.foretell(frozenset(calls.devices) - {device}, device)
    error = np.mean(np.abs(found / ms - 1))
    assert error <= most
    assert error <= .55 * np.mean(np.abs(calls.roofline[device] / ms - 1))


@published
def test_fits_are_repeatable():
    """The same timings give the same predictions to the last digit."""
    calls = Calls(_folder(), "linear", every=40)
    taught = {key: calls.taught[key] for key in ("p100_pcie", "v100_pcie")}
    work = calls.held["a100_40g"].work
    once, again = (fit(taught).ms(datasheet("a100_40g"), work) for _ in range(2))
    assert np.array_equal(once, again)


@published
def test_published_networks():
    """On average over six GPUs the error is below a third of the roofline's; orders are nearly right."""
    rows = unseen.new_gpu_hwgpt(_folder(), every=40)
    assert len(rows) == 6
    assert np.mean([row["mape"] for row in rows]) <= .19
    assert np.mean([row["mape"] for row in rows]) <= .4 * np.mean([row["roofline_mape"] for row in rows])
    assert all(row["spearman"] >= .95 for row in rows)


@published
@pytest.mark.slow
def test_published_kernels_whole():
    """Over all kernels the mean error is at most half of the roofline's in either class."""
    rows = unseen.new_gpu_neusight(_folder())
    for kind in ("conv", "linear"):
        mine = [row for row in rows if row["kernel"] == kind]
        assert np.mean([row["mape"] for row in mine]) <= .5 * np.mean([row["roofline_mape"] for row in mine])
