"""NeuSight's kernel timings: the formula of `llmnas.latency.efficiency` fitted on some GPUs, to predict another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmnas.bench.table import read_table
from llmnas.latency import Datasheet, datasheet
from llmnas.latency.efficiency import (
    Coefficients,
    Work,
    convolution3,
    has_tensor_cores,
    kernel_ms,
    matrix_product,
    roofline_ms,
)

Floats = NDArray[np.float64]
KINDS: Final = ("conv", "linear")
KEYS: Final = {"Tesla P4": "p4", "Tesla P100-PCIE-16GB": "p100_pcie", "Tesla V100-PCIE-32GB": "v100_pcie",
               "NVIDIA A100-PCIE-40GB": "a100_40g", "NVIDIA A100 80GB PCIe": "a100_80g_pcie", "NVIDIA L4": "l4"}
"""Devices of the tables and their datasheets."""
STRENGTH: Final = .75
"""How much of the boosted residual is believed on a GPU it has not seen."""
_COLUMNS: Final = {"conv": ("Device", "B", "Input_Channel", "Output_Channel", "Input_Size", "latency_ms"),
                   "linear": ("Device", "M", "N", "K", "latency_ms")}
_OTHERS: Final = ("OPName", "Latency", "Device", "M", "N", "K")
_SAMPLE: Final = 1000  # kernels per GPU for the formula's few coefficients

# Where a fit begins, how far it may go: what is physically possible, not what was seen.
_START: Final = Coefficients(.05, .85, .7, 3000, 20, 10, .8, 2, .7, 1, 10, 30)
_LEAST: Final = Coefficients(.005, .3, .3, 50, .5, .1, .3, 1, .2, .1, .1, .1)
_MOST: Final = Coefficients(.1, 1, 1, 1e5, 1e3, 1e3, 1.01, 8, 1, 3, 1e3, 1e3)


class Timed(NamedTuple):
    """Calls of one GPU and their milliseconds, of shape (calls,)."""

    work: Work
    ms: Floats

    def take(self, places: NDArray[np.intp]) -> Timed:
        """Returns the calls at these places."""
        return Timed(self.work.take(places), self.ms[places])


class Fitted(NamedTuple):
    """A predictor of one kernel class.

    Attributes:
        coefficients: Of the formula.
        older: Factor of GPUs without tensor cores, shrunk towards 1: what one GPU tells of a generation counts half.
        residual: Boosted trees of log(measured / formula).
    """

    coefficients: Coefficients
    older: float
    residual: Any

    def ms(self, sheet: Datasheet, work: Work) -> Floats:
        """Returns milliseconds, of shape (calls,)."""
        base = kernel_ms(sheet, work, self.coefficients, self.older)
        return np.asarray(base * np.exp(STRENGTH * self.residual.predict(features(sheet, work))), dtype=float)


class Calls:
    """The timings of one kernel class, and its predictors by the GPUs they were fitted on.

    Half of the kernels are for fitting, the other half for scoring.

    Args:
        folder: Holds ``neusight`` and ``latency``.
        kind: ``conv`` or ``linear``.
        every: Takes every such kernel.

    Raises:
        InputError: A table is not there, or has other columns.
    """

    def __init__(self, folder: Path, kind: str, every: int = 1) -> None:
        rows = read_table(folder / "neusight" / f"{kind}_gpu_latency.csv.gz", _COLUMNS[kind])
        whole = {key: timed for name, key in KEYS.items()
                 if len((timed := _timed(kind, [row for row in rows if row["Device"] == name])).ms)}
        self.devices = tuple(whole)
        self.taught = {key: timed.take(np.flatnonzero(_half(timed.work))[::every]) for key, timed in whole.items()}
        held = {key: timed.take(np.flatnonzero(~_half(timed.work))[::every]) for key, timed in whole.items()}
        if kind == "linear":  # GPUs that were never meant to be fitted on, and other shapes
            held |= _test_only(folder, self.devices, every)
        self.tested = tuple(held)
        self.held = held
        self.measured = {key: timed.ms for key, timed in held.items()}
        self.roofline = {key: roofline_ms(datasheet(key), timed.work) for key, timed in held.items()}
        self._fits: dict[frozenset[str], Fitted] = {}

    def foretell(self, known: frozenset[str], device: str) -> Floats:
        """Returns the milliseconds of the held-out kernels of a GPU, fitted on the GPUs in `known`."""
        if known not in self._fits:
            self._fits[known] = fit({key: self.taught[key] for key in sorted(known)})
        return self._fits[known].ms(datasheet(device), self.held[device].work)


def fit(taught: dict[str, Timed]) -> Fitted:
    """Returns the predictor fitted on the timings of GPUs, by the key of their datasheets."""
    by = fit_formula(taught)
    inputs = np.vstack([features(datasheet(key), timed.work) for key, timed in taught.items()])
    wanted = np.concatenate([np.log(timed.ms / kernel_ms(datasheet(key), timed.work, by))
                             for key, timed in taught.items()])
    older = sum(not has_tensor_cores(datasheet(key)) for key in taught)
    return Fitted(by, float(by.older ** (older / (older + 1))), _boosted(inputs, wanted))


def fit_formula(taught: dict[str, Timed]) -> Coefficients:
    """Returns the formula's coefficients: robust least squares of log(expected / measured), as many calls a GPU."""
    from scipy.optimize import least_squares

    sample = {datasheet(key): timed.take(_spread(len(timed.ms))) for key, timed in taught.items()}
    convolutions = any(timed.work.side.any() for timed in sample.values())
    size = len(_START) if convolutions else _START._fields.index("winograd")
    start, least, most = (np.log(values[:size]) for values in (_START, _LEAST, _MOST))

    def off(logs: Floats) -> Floats:
        by = Coefficients(*np.exp(logs))
        errors = [np.log(kernel_ms(sheet, timed.work, by) / timed.ms) for sheet, timed in sample.items()]
        return np.concatenate([*errors, 5 * (logs - start)])

    return Coefficients(*map(float, np.exp(least_squares(off, start, bounds=(least, most), loss="soft_l1",
                                                         f_scale=.2).x)))


def features(sheet: Datasheet, work: Work) -> Floats:
    """Returns what the residual may depend on, of shape (calls, features): ratios and shapes, never a device's name."""
    assert sheet.sms is not None
    assert sheet.l2_mb is not None
    rows, depth, columns, side = work
    flop_ms, memory_ms = work.flops / sheet.peak.value / 1e9, work.moved / sheet.bandwidth_gbs.value / 1e6
    found = [np.log(flop_ms), np.log(memory_ms / flop_ms), np.log(rows * columns / sheet.sms.value),
             np.log(depth), np.log(rows), np.log(columns), np.log(np.minimum(rows, columns)),
             np.log(depth * columns / sheet.l2_mb.value), np.log(rows * depth / sheet.l2_mb.value),
             (depth % 4 == 0).astype(float), (columns % 4 == 0).astype(float),
             np.full(len(rows), float(has_tensor_cores(sheet)))]
    for tile in (128, 64, 32):
        tiles = np.ceil(rows / tile) * np.ceil(columns / tile)
        waves = tiles / sheet.sms.value
        found += [np.log(waves), np.log(np.ceil(waves) / waves), np.log(tiles * tile ** 2 / (rows * columns))]
    if side.any():
        found += [np.log(side), *(np.log(np.ceil(side / tile) * tile / side) for tile in (2, 4))]
    return np.column_stack(found)


def _boosted(inputs: Floats, wanted: Floats) -> Any:
    """Returns trees for the median log ratio, those weighing more whose relative error counts more."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    trees = HistGradientBoostingRegressor(loss="absolute_error", max_iter=150, learning_rate=.08, max_leaf_nodes=12,
                                          min_samples_leaf=60, early_stopping=False, random_state=0)
    return trees.fit(inputs, wanted, sample_weight=np.exp(-.7 * wanted))


def _spread(size: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, size - 1, min(size, _SAMPLE)).astype(np.intp))


def _half(work: Work) -> NDArray[np.bool_]:
    """Returns which kernels are for fitting, by their shapes, so that it is the same ones on every GPU."""
    return np.asarray((7 * work.rows + 13 * work.depth + 31 * work.columns) % 2 == 0, dtype=bool)


def _timed(kind: str, rows: Sequence[dict[str, str]]) -> Timed:
    columns = [np.array([float(row[name]) for row in rows]) for name in _COLUMNS[kind][1:]]
    shaped = convolution3(*columns[:4]) if kind == "conv" else matrix_product(*columns[:3])
    return Timed(shaped, columns[-1])


def _test_only(folder: Path, seen: Sequence[str], every: int) -> dict[str, Timed]:
    rows = [row for row in read_table(folder / "latency" / "neusight_elem_linear_bmm.csv.gz", _OTHERS)
            if row["OPName"] == "linear" and KEYS[row["Device"]] not in seen]
    found = {}
    for key in sorted({KEYS[row["Device"]] for row in rows}):
        picked = [row | {"latency_ms": row["Latency"]} for row in rows if KEYS[row["Device"]] == key]
        found[key] = _timed("linear", picked[::every])
    return found
