"""Energy of inference without a counter: power times latency, or a model fitted to what a counter read. No torch.

Energy is power times time only while the power is constant. Over networks of one kind that errs by 3 to 5 % on a V100,
an A100 and a Jetson TX2, but by 24 % on an RTX 2080, whose power doubles with the width of the networks (computed from
HW-GPT-Bench and HW-NAS-Bench). Idle power is part of it and never subtracted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, hypot, log
from typing import TYPE_CHECKING, Final, Literal

from llmnas.errors import InputError
from llmnas.graph import Frozen
from llmnas.latency.datasheet import Datasheet, datasheet
from llmnas.latency.target import Target
from llmnas.latency.timing import Z90
from llmnas.records import Energy, Latency

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Solve = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

TDP_SHARE: Final = .4  # of the power limit; medians of six GPUs at work on one network: .26 to .78
SIGMA_TDP: Final = log(2) / Z90  # a factor of two either way
LEAST: Final = 5  # networks below which only power is fitted: the full fit has four coefficients
SIGMA_FIT: Final = .15  # expected of a fit before any residual is known; a guess, counted as two networks


def estimate_energy(latency: Latency, target: Target) -> Energy | None:
    """Returns the energy of one call without a counter: usual power of the device times latency.

    Power is what the device was measured to draw at inference where that is known, else two fifths of its power limit
    within a factor of two.

    Args:
        latency: Measured or predicted; its interval is combined with that of the power on the log scale.
        target: What it is the latency of.

    Returns:
        Millijoules with a 90 % interval, ``source="prior"``; None when nothing is known of the device's power.
    """
    found = _power(datasheet(target.device))
    if latency.low <= 0:  # a clock that did not move
        return None
    return None if found is None else _times(latency, found[0], found[1], "prior", None)


def _power(sheet: Datasheet) -> tuple[float, float] | None:
    """Returns the expected power in W and the standard deviation of its logarithm."""
    if sheet.inference_w is not None:
        return sheet.inference_w.value, sheet.inference_w_sigma.value if sheet.inference_w_sigma else SIGMA_TDP
    return None if sheet.tdp_w is None else (TDP_SHARE * sheet.tdp_w.value, SIGMA_TDP)


def _times(latency: Latency, watts: float, sigma: float, source: Literal["calibrated", "prior"],
           n: int | None) -> Energy:
    """Returns power times latency; watts times milliseconds are millijoules."""
    mj = watts * latency.ms
    below = hypot(log(latency.ms / latency.low), Z90 * sigma)
    above = hypot(log(latency.high / latency.ms), Z90 * sigma)
    return Energy(mj=mj, low=mj * exp(-below), high=mj * exp(above), device=latency.device, batch=latency.batch,
                  runtime=latency.runtime, source=source, n=n)


class EnergyModel(Frozen):
    """Energy from latency and work: ``E = a t + b F + d F**2 / t + c``, and a term for every further feature.

    Divided by *t* this is a power that rises with the work done per time, straight and then faster.

    Attributes:
        watts: *a*: power that does not depend on the work, W.
        mj_per_mflop: *b*: millijoules per 1e6 floating-point operations.
        mj_ms_per_mflop2: *d*: millijoules times milliseconds per square of that.
        mj: *c*: millijoules per call.
        more: Millijoules per unit of each further feature.
        sigma: Standard deviation of the logarithm of what is predicted, from networks left out of the fit.
        n: Networks fitted on.
    """

    watts: float
    mj_per_mflop: float = 0.0
    mj_ms_per_mflop2: float = 0.0
    mj: float = 0.0
    more: tuple[float, ...] = ()
    sigma: float
    n: int

    def energy(self, latency: Latency, flops: float, features: Sequence[float] = ()) -> Energy:
        """Returns the energy of a network, ``source="calibrated"``.

        Args:
            latency: Its latency on the device that the model was fitted on.
            flops: Its floating-point operations per call, two per multiply-accumulate.
            features: Its further features, in the order of the fit; ignored by a model of power alone.

        Raises:
            InputError: There are more or fewer features than fitted.
        """
        if self.more and len(features) != len(self.more):
            raise InputError(f"expected {len(self.more)} features, got {len(features)}", "give those of the fit")
        mflop = flops / 1e6
        work = (self.mj_per_mflop * mflop + self.mj_ms_per_mflop2 * mflop**2 / latency.ms + self.mj
                + sum(each * value for each, value in zip(self.more, features, strict=False)))
        return _times(latency, self.watts + work / latency.ms, self.sigma, "calibrated", self.n)


def fit_energy(latency_ms: Sequence[float], flops: Sequence[float], energy_mj: Sequence[float],
               features: Sequence[Sequence[float]] | None = None) -> EnergyModel:
    """Returns the model of a device's energy that fits measured networks best.

    Non-negative least squares of relative errors; below five networks power alone, the median of energy over latency.
    The square term is there because power rises faster than throughput; it was seen to help on the GPUs of
    HW-GPT-Bench, on which the fit is also tested.

    Args:
        latency_ms: Milliseconds per call of every network.
        flops: Floating-point operations per call.
        energy_mj: Measured millijoules per call.
        features: Further quantities that cost energy, one row a network, each at least 0.

    Raises:
        InputError: No network, sequences of unequal length, or a value that is not positive.
    """
    import numpy as np

    _check_samples(latency_ms, flops, energy_mj, features)
    time_ms, mflop, energy = (np.asarray(each, dtype=float) for each in (latency_ms, np.divide(flops, 1e6), energy_mj))
    n = len(energy)
    if n < LEAST:
        columns, solve = time_ms[:, None], _power_alone
    else:
        more = np.asarray(features if features is not None else np.empty((n, 0)), dtype=float)
        columns, solve = np.column_stack([time_ms, mflop, mflop**2 / time_ms, np.ones(n), more]), _non_negative
    watts, *rest = (float(value) for value in solve(columns, energy))
    linear, square, constant = rest[:3] or (0.0, 0.0, 0.0)
    return EnergyModel(watts=watts, mj_per_mflop=linear, mj_ms_per_mflop2=square, mj=constant, more=tuple(rest[3:]),
                       sigma=_sigma(columns, energy, solve), n=n)


def _check_samples(latency_ms: Sequence[float], flops: Sequence[float], energy_mj: Sequence[float],
                   features: Sequence[Sequence[float]] | None) -> None:
    lengths = [len(latency_ms), len(flops), len(energy_mj), *([len(features)] if features is not None else [])]
    if lengths[0] == 0 or len(set(lengths)) > 1:
        raise InputError(f"expected one latency, FLOPs and energy per network, got {lengths}", "measure some networks")
    if min(*latency_ms, *energy_mj) <= 0 or min(flops) < 0:
        raise InputError("expected positive latencies and energies, got "
                         f"{min(latency_ms)} ms and {min(energy_mj)} mJ", "leave out what was not measured")


def _power_alone(columns: NDArray[np.float64], energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the median of energy over latency."""
    import numpy as np

    return np.array([np.median(energy / columns[:, 0])])


def _non_negative(columns: NDArray[np.float64], energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the non-negative coefficients with the least relative squared error."""
    import numpy as np
    from scipy.optimize import nnls

    relative = columns / energy[:, None]
    scale = np.linalg.norm(relative, axis=0)
    scale[scale == 0] = 1.0
    found: NDArray[np.float64] = nnls(relative / scale, np.ones(len(energy)))[0] / scale
    return found


def _sigma(columns: NDArray[np.float64], energy: NDArray[np.float64], solve: Solve) -> float:
    """Returns the root mean square of the log error of each network predicted from the others, drawn to a prior."""
    import numpy as np

    squares = 2 * SIGMA_FIT**2
    n = len(energy) if len(energy) > 1 else 0
    for left_out in range(n):
        rest = np.arange(n) != left_out
        found = float(columns[left_out] @ solve(columns[rest], energy[rest]))
        squares += log(max(found, 1e-12) / energy[left_out]) ** 2
    return float((squares / (n + 2)) ** .5)
