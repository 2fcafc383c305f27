"""How long a GPU works on one matrix product or convolution, from its datasheet alone.

    t = floor + throttled(min(direct, Winograd))
    direct   = (compute^s + memory^s)^(1/s)
    compute  = FLOP / (e * peak) * (1 + x'/x + d'/d + n'/n)
    memory   = bytes / (b * bandwidth)
    throttled(t) = t / share^(t / (t + 4 ms))

*x* is the number of outputs per streaming multiprocessor: few of them leave multiprocessors without a tile or end in a
wave that is not full. *d* is the length of the reduction and *n* the narrower side of the product. Their costs are
added, so that more work never takes less time. Winograd's F(4x4, 3x3) multiplies a quarter as often and moves
transformed tiles through memory; an autotuned runtime takes whichever is faster, so a 3x3 convolution can beat the
roofline. *share* is what the power limit leaves of the peak: a card with fewer watts per TFLOP/s than the large card of
its generation cannot keep its clock for longer than a burst.

The milliseconds are of isolated calls timed with CUDA events, the fastest of many: the floor is what the host needs to
launch one call and part of that protocol. In a stream of calls the launch costs of `analytic` take its place.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmnas.errors import InputError
from llmnas.latency.datasheet import Datasheet, datasheet

Floats = NDArray[np.float64]

WINOGRAD_GAIN: Final = 4.0
"""Multiplications of a direct 3x3 convolution per multiplication of Winograd's F(4x4, 3x3)."""
BURST_MS: Final = 4.0
"""A call of this length feels half of the power limit. A guess: limits average over .1 s, timers repeat 25 calls."""
PEERS: Final = {"p4": "titan_xp", "t4": "titan_rtx", "l4": "rtx_4090"}
"""Cards of low power and the large card of the same generation."""
_BYTES: Final = 4  # of an fp32 value


class Work(NamedTuple):
    """Products of (rows x depth) by (depth x columns) matrices, one an element; arrays of shape (calls,).

    Attributes:
        rows: Rows of the output; batch times pixels for a convolution.
        depth: Length of the reduction; nine times the channels for a 3x3 convolution.
        columns: Columns of the output.
        side: Side of the square image of a 3x3 convolution of stride 1; 0 for a matrix product.
    """

    rows: Floats
    depth: Floats
    columns: Floats
    side: Floats

    @property
    def flops(self) -> Floats:
        """Floating-point operations, a multiply-accumulate being two."""
        return 2 * self.rows * self.depth * self.columns

    @property
    def moved(self) -> Floats:
        """Bytes of both operands and the result, each once, in fp32."""
        inputs = self.rows * self.depth / np.where(self.side > 0, 9, 1)
        return _BYTES * (inputs + self.depth * self.columns + self.rows * self.columns)

    def take(self, places: NDArray[np.intp]) -> Work:
        """Returns the calls at these places."""
        return Work(*(values[places] for values in self))


class Coefficients(NamedTuple):
    """What the formula is fitted by. Fractions are of nominal rates.

    Attributes:
        floor_ms: Milliseconds of a call that does nothing.
        products: *e*, the fraction of the peak that large products reach.
        bandwidth: *b*, the fraction of the bandwidth.
        outputs_half: *x'*: outputs per multiprocessor at which, all else being large, half of that is reached.
        depth_half: *d'*, likewise for the length of the reduction.
        narrow_half: *n'*, likewise for the narrower side.
        older: Factor of the efficiency of GPUs without tensor cores.
        sharp: *s*: 1 adds compute and memory, a large value takes the longer.
        winograd: *e* of Winograd's products.
        winograd_traffic: Traffic of the transforms, as a fraction of reading and writing every tile.
        winograd_narrow: *n'* of Winograd's products.
        winograd_depth: *d'* of Winograd's products, in channels.
    """

    floor_ms: float
    products: float
    bandwidth: float
    outputs_half: float
    depth_half: float
    narrow_half: float
    older: float
    sharp: float
    winograd: float = 1.0
    winograd_traffic: float = 1.0
    winograd_narrow: float = 1.0
    winograd_depth: float = 1.0


CONV: Final = Coefficients(.1, .749, 1, 4430, 19.5, 12.6, .869, 2.05, .544, .11, 33.6, 51.5)
"""Fitted: 3x3 convolutions of NeuSight on P4, P100, V100 and A100-80 (fp32, TF32 off, PyTorch 2.1, cuDNN autotuned).

The floor and the bandwidth sit on the bounds of the fit: hardly any of its convolutions wait for memory.
"""
LINEAR: Final = Coefficients(.0528, .855, .666, 246, 7.11, 35.8, .571, 1.97)
"""Fitted: linear layers of NeuSight on P4, P100, V100 and A100-40, likewise."""


def matrix_product(rows: Floats, depth: Floats, columns: Floats) -> Work:
    """Returns the work of products of (rows x depth) by (depth x columns) matrices, each of shape (calls,)."""
    return Work(rows, depth, columns, np.zeros(len(rows)))


def convolution3(batch: Floats, channels: Floats, outputs: Floats, side: Floats) -> Work:
    """Returns the work of 3x3 convolutions of stride 1 that keep the size, each argument of shape (calls,)."""
    return Work(batch * side * side, 9 * channels, outputs, side)


def has_tensor_cores(sheet: Datasheet) -> bool:
    """Returns whether a datasheet tells of tensor cores: TF32, or half precision at four times the fp32 peak."""
    half = sheet.fp16_tflops.value if sheet.fp16_tflops else 0.0
    return sheet.tf32_tflops is not None or half >= 4 * sheet.peak.value


def power_share(sheet: Datasheet) -> float:
    """Returns the fraction of the peak that the power limit sustains, at most 1.

    Watts per TFLOP/s, divided by those of the large card of the same generation; 1 where none is named.
    """
    peer = datasheet(PEERS[sheet.key]) if sheet.key in PEERS else None
    if peer is None or peer.tdp_w is None or sheet.tdp_w is None:
        return 1.0
    return min(1.0, sheet.tdp_w.value / sheet.peak.value * peer.peak.value / peer.tdp_w.value)


def roofline_ms(sheet: Datasheet, work: Work) -> Floats:
    """Returns max(FLOP / peak, bytes / bandwidth) in fp32 and ms, of shape (calls,)."""
    return np.maximum(_compute_ms(sheet, work), work.moved / sheet.bandwidth_gbs.value / 1e6)


def kernel_ms(sheet: Datasheet, work: Work, coefficients: Coefficients, older: float | None = None) -> Floats:
    """Returns the milliseconds of isolated fp32 calls on a GPU, of shape (calls,).

    Args:
        sheet: The GPU.
        work: The calls.
        coefficients: `CONV` for 3x3 convolutions, `LINEAR` for matrix products, or a fit.
        older: Takes the place of the coefficient of that name.

    Raises:
        InputError: The datasheet is not a GPU's or lacks its multiprocessors.
    """
    factor = 1.0 if has_tensor_cores(sheet) else coefficients.older if older is None else older
    few = coefficients.outputs_half / _outputs_each(sheet, work)
    spent = _direct_ms(sheet, work, coefficients, few, factor)
    if work.side.any():
        other = _winograd_ms(sheet, work, coefficients, few, factor)
        spent = np.where(work.side > 0, (spent ** -4 + other ** -4) ** -.25, spent)
    return np.asarray(coefficients.floor_ms + _throttled(spent, power_share(sheet)), dtype=float)


def _outputs_each(sheet: Datasheet, work: Work) -> Floats:
    """Returns the outputs per multiprocessor."""
    if sheet.kind != "gpu" or sheet.sms is None:
        raise InputError(f"device {sheet.key!r}: expected a GPU with its number of multiprocessors, got none",
                         f"add sms to {sheet.key}.json")
    return np.asarray(work.rows * work.columns / sheet.sms.value, dtype=float)


def _direct_ms(sheet: Datasheet, work: Work, by: Coefficients, few: Floats, factor: float) -> Floats:
    small = few + by.depth_half / work.depth + by.narrow_half / np.minimum(work.rows, work.columns)
    compute = _compute_ms(sheet, work) * (1 + small) / (by.products * factor)
    memory = work.moved / (by.bandwidth * sheet.bandwidth_gbs.value * 1e6)
    return np.asarray((compute ** by.sharp + memory ** by.sharp) ** (1 / by.sharp), dtype=float)


def _winograd_ms(sheet: Datasheet, work: Work, by: Coefficients, few: Floats, factor: float) -> Floats:
    side = np.maximum(work.side, 1)
    tiles = np.ceil(side / 4) ** 2  # of one image; those at its edge are padded
    padded, channels = 16 * tiles / side ** 2, work.depth / 9
    narrow = np.minimum(work.rows / side ** 2 * tiles, work.columns)
    small = few + by.winograd_depth / channels + by.winograd_narrow / narrow
    compute = _compute_ms(sheet, work) / WINOGRAD_GAIN * padded * (1 + small) / (by.winograd * factor)
    # a 6x6 tile stands for 4x4 values: 1 read, 2.25 written, 2.25 read, and so for the result
    values = 5.5 * padded * work.rows * (channels + work.columns) + work.depth * work.columns
    memory = _BYTES * by.winograd_traffic * values / (by.bandwidth * sheet.bandwidth_gbs.value * 1e6)
    return np.asarray(compute + memory, dtype=float)


def _compute_ms(sheet: Datasheet, work: Work) -> Floats:
    return np.asarray(work.flops / (sheet.peak.value * 1e9), dtype=float)


def _throttled(ms: Floats, share: float) -> Floats:
    return np.asarray(ms / share ** (ms / (ms + BURST_MS)), dtype=float)
