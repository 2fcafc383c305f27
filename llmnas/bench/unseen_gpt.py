"""HW-GPT-Bench: what whole transformers cost on a GPU, fitted on other GPUs, to predict it from its datasheet.

    t = sum over kernels of ((FLOP / (e * peak) + c * bytes / bandwidth)^4 + launch^4)^(1/4)

Products of linear layers, the attention and all other kernels have coefficients of their own. Half precision where the
datasheet tells of tensor cores, fp32 elsewhere; the roofline is given the same peak and the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmnas.bench.geometry import GPT_BATCH, TOKENS, gpt
from llmnas.bench.table import read_table
from llmnas.latency import Datasheet, datasheet
from llmnas.latency.counting import Counted, count
from llmnas.latency.efficiency import has_tensor_cores
from llmnas.latency.kernels import EAGER, Kernel

Floats = NDArray[np.float64]
GPUS: Final = {"p100_pcie": "P100", "a100_40g": "a100", "a40": "a40", "rtx_2080": "rtx2080", "rtx_3080": "rtx3080",
               "v100_pcie": "v100"}
"""Datasheets and the names of their columns. The table does not say which A100 or which board it is."""
_FIT: Final = 200  # networks per GPU


class Costs(NamedTuple):
    """What the model is fitted by.

    Attributes:
        linear: Fraction of the peak that linear layers reach.
        attention: Multiple of the time the attention's products would take at the peak.
        other: Multiple of the bytes that kernels read and write.
        scores: Likewise of the scores, of tokens x tokens a head, written and read once.
        launch_us: Host's time for one call.
    """

    linear: float
    attention: float
    other: float
    scores: float
    launch_us: float


# A guess, how far a fit may go from it, and how strongly it is held there.
_START: Final = Costs(.7, 2, 3, 2.5, 20)
_LEAST: Final = Costs(.3, 1, 1, 1, 3)
_MOST: Final = Costs(.95, 10, 12, 6, 80)
_PRIOR: Final = 6.0


class Amounts(NamedTuple):
    """Work of one forward pass by kernel, of shape (kernels,): FLOPs and values moved."""

    linear: Floats
    attention: Floats
    values: Floats
    scores: Floats


class Transformers:
    """The table's networks, and their predictors by the GPUs they were fitted on.

    Every second network is for fitting, the others for scoring.

    Args:
        folder: Holds ``hwgpt``.
        every: Takes every such network.

    Raises:
        InputError: The table is not there, or has other columns.
    """

    def __init__(self, folder: Path, every: int = 10) -> None:
        columns = ("embed_dim", "n_head", "mlp_ratio", *(f"lat_{name}_ms" for name in GPUS.values()))
        rows = read_table(folder / "hwgpt" / "hwgpt_s.csv.gz", columns)[::every]
        counted = count((gpt(row) for row in rows), EAGER)
        self.devices = tuple(GPUS)
        self.amounts = amounts(counted.kernels)
        taught = np.arange(0, len(rows), 2)
        self._counts = {True: counted.take(taught), False: counted.take(taught[:len(rows) // 2] + 1)}
        ms = {key: np.array([float(row[f"lat_{name}_ms"]) for row in rows]) for key, name in GPUS.items()}
        self._taught = {key: values[::2] for key, values in ms.items()}
        self.measured = {key: values[1::2] for key, values in ms.items()}
        self.roofline = {key: self._roofline(datasheet(key)) for key in GPUS}
        self._fits: dict[frozenset[str], Costs] = {}

    def foretell(self, known: frozenset[str], device: str) -> Floats:
        """Returns the milliseconds of the held-out networks on a GPU, fitted on the GPUs in `known`."""
        if known not in self._fits:
            self._fits[known] = self.fit(known)
        return self._ms(datasheet(device), self._fits[known], self._counts[False])

    def fit(self, known: frozenset[str]) -> Costs:
        """Returns the costs: least squares of log(expected / measured), held near a guess."""
        from scipy.optimize import least_squares

        used = np.unique(np.linspace(0, len(self._counts[True].counts) - 1, _FIT).astype(np.intp))
        part = self._counts[True].take(used)
        start, least, most = np.log(_START), np.log(_LEAST), np.log(_MOST)

        def off(logs: Floats) -> Floats:
            errors = [np.log(self._ms(datasheet(key), Costs(*np.exp(logs)), part) / self._taught[key][used])
                      for key in sorted(known)]
            return np.concatenate([*errors, _PRIOR * np.sqrt(len(used) / 400) * (logs - start)])

        return Costs(*map(float, np.exp(least_squares(off, start, bounds=(least, most)).x)))

    def _ms(self, sheet: Datasheet, costs: Costs, counted: Counted) -> Floats:
        peak, size = precision(sheet)
        flops, moved = 1 / (peak * 1e9), size / (sheet.bandwidth_gbs.value * 1e6)
        work = (flops * (self.amounts.linear / costs.linear + self.amounts.attention * costs.attention)
                + moved * (self.amounts.values * costs.other + self.amounts.scores * costs.scores))
        return np.asarray(counted.counts @ (work ** 4 + (costs.launch_us / 1e3) ** 4) ** .25, dtype=float)

    def _roofline(self, sheet: Datasheet) -> Floats:
        peak, size = precision(sheet)
        flop_ms = (self.amounts.linear + self.amounts.attention) / (peak * 1e9)
        memory_ms = size * (self.amounts.values + self.amounts.scores) / (sheet.bandwidth_gbs.value * 1e6)
        return np.asarray(self._counts[False].counts @ np.maximum(flop_ms, memory_ms), dtype=float)


def precision(sheet: Datasheet) -> tuple[float, int]:
    """Returns the peak in TFLOP/s and the bytes of a value: half precision with tensor cores, fp32 without."""
    if sheet.fp16_tflops is not None and has_tensor_cores(sheet):
        return sheet.fp16_tflops.value, 2
    return sheet.peak.value, 4


def amounts(kernels: tuple[Kernel, ...]) -> Amounts:
    """Returns the work of kernels for one batch of the benchmark."""
    attends = np.array([kernel.op == "attend" for kernel in kernels])
    products = np.array([kernel.kind == "linear" for kernel in kernels])
    flops = GPT_BATCH * np.array([kernel.flops for kernel in kernels], dtype=float)
    values = np.array([GPT_BATCH * kernel.values + kernel.weights for kernel in kernels], dtype=float)
    # an attention's FLOPs are 4 tokens² channels; queries, keys, values and result are 4 tokens channels
    plain = np.where(attends, flops / TOKENS, values)
    return Amounts(np.where(products & ~attends, flops, 0), np.where(attends, flops, 0), plain, values - plain)
