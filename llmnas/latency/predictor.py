"""`Predictor`: latency on one target from whatever is known of it, with an interval that says how well it is known.

Three stages, each used when there are samples for it and otherwise falling back to the one before: the analytic
model; the analytic model times one factor (`SCALE` samples); regressions on the work of operators (`REGRESSION`
samples), with a Gaussian process on what they leave over once there are `RESIDUAL` samples that say how their
architectures were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, sqrt
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from scipy.stats import t as student

from llmnas.latency.analytic import SIGMA_RATE, SIGMA_SCALE, costs, deviation, launch_sigma
from llmnas.latency.counting import Counted, Floats, count, count_calls
from llmnas.latency.datasheet import Runtime
from llmnas.latency.features import Cost, Costs, Features, features, kinds
from llmnas.latency.genes import Choices, Genes
from llmnas.latency.kernels import EXECUTIONS, RUNS, Kernel, executed
from llmnas.latency.launches import Host
from llmnas.latency.regression import MEASURED, MEMBERS, PROXY, Ensemble, Member, d_optimal, ensemble
from llmnas.latency.target import Target
from llmnas.network import Network
from llmnas.records import Latency

SCALE: Final = 1
REGRESSION: Final = 6
RESIDUAL: Final = 15
"""Least samples for each stage."""

BELIEFS: Final[dict[Runtime | None, tuple[float, float, float]]] = {
    "eager": (.94, .04, .02), "cudagraph": (.94, .04, .02), "exported": (.04, .87, .09), "compiled": (.04, .16, .8),
    "onnx": (.04, .16, .8), None: (1 / 3, 1 / 3, 1 / 3)}
"""How much each of `EXECUTIONS` is believed before any sample, by runtime; None: the runtime is not known."""

OUTSIDE: Final = .3
"""Standard deviation of the log that is added where a network consists of operators without samples, and per unit of
log that its expected latency lies below the least or above the greatest of the samples."""
MEASUREMENT: Final = .016
"""Deviation of the log of a careful measurement; published campaigns repeat to 1.6 % (Jetson TX2) and worse."""
_LEFT_OVER: Final = .04  # usual deviation of the analytic model times a factor from measurements (eager GPUs)
LEFT_OVER: Final = {"gpu": _LEFT_OVER, "cpu": .5}
"""The same by kind of target; that of CPUs was seen over 20 networks of nb201 and convnet on one x86 server CPU, and is
.35 within nb201."""
_BELIEF_DF: Final = 4  # how many samples that figure is worth


_PLAUSIBLE: Final = .03
_SIZES: Final = (.0001, .001, .01, .1)  # variances of the log that architecture may explain
_LENGTHS: Final = (1.0, 2.0, 4.0, 8.0)
_NOISES: Final = (.03, .1, .3, 1.0, 3.0)
_WORTH: Final = .95  # of the leave-one-out error must be left at most, or the process is left out


class Known(NamedTuple):
    """Counted work of several networks, by execution, and how their architectures were chosen.

    Attributes:
        counted: By execution.
        genes: One-hot choices, of shape (networks, genes); None when not known.
    """

    counted: tuple[Counted, ...]
    genes: Floats | None = None

    def take(self, places: Sequence[int] | np.ndarray) -> Known:
        """Returns the networks at these places."""
        at = np.asarray(places, dtype=np.intp)
        return Known(tuple(one.take(at) for one in self.counted),
                     None if self.genes is None else self.genes[at])


def known(networks: Sequence[Network], genes: Floats | None = None) -> Known:
    """Returns the counted work of networks."""
    return Known(tuple(count(networks, execution) for execution in EXECUTIONS), genes)


class Expected(NamedTuple):
    """Predictions for several networks.

    Attributes:
        ms: Milliseconds per batch, of shape (networks,).
        low: Lower ends of the 90 % intervals.
        high: Upper ends.
    """

    ms: Floats
    low: Floats
    high: Floats


Passes = Sequence[Sequence[Kernel]]
"""The calls of one network or module for each of `EXECUTIONS`."""


def passes_of(network: Network) -> Passes:
    """Returns the calls of a network as each execution has them."""
    return [executed(network, execution) for execution in EXECUTIONS]


def passes_of_calls(calls: Sequence[Kernel], fused: Sequence[Kernel] | None = None) -> Passes:
    """Returns the calls of a traced module as each execution has them.

    Args:
        calls: As an eager framework makes them.
        fused: As a compiler leaves them; None takes `calls`.
    """
    return [calls if fused is None or not execution.fused else fused for execution in EXECUTIONS]


def counted(subjects: Sequence[Passes], genes: Floats | None = None) -> Known:
    """Returns the counted work of networks and modules."""
    return Known(tuple(count_calls(passes) for passes in zip(*subjects, strict=True)), genes)


class Predictor:
    """Predicts latency on a target.

    Args:
        target: Where networks would run.
        samples: Networks measured there; None when there are none.
        ms: Their milliseconds per batch, of shape (samples,).
        runtime_known: Whether the target's runtime is what the samples were measured with; else all ways of
            executing a graph are believed equally.
        host: Launch costs; None takes the prior for a present framework.
        micro: Milliseconds of single kernels measured on the target.
        proxy: Predicts another device. What it says is one more feature of the regressions, so it counts for something
            from `REGRESSION` samples on, and never instead of them.
        code: How to read choices, when the samples have genes.
        measurement: Standard deviation of the log of one measurement against another day's.
    """

    def __init__(self, target: Target, samples: Known | None = None, ms: Sequence[float] | Floats = (), *,
                 runtime_known: bool = True, host: Host | None = None, micro: Cost | None = None,
                 proxy: Predictor | None = None, code: Genes | None = None,
                 measurement: float = MEASUREMENT) -> None:
        self.target = target
        self.measurement = measurement
        self.n = len(ms)
        self.host = host
        self.costs: Costs = costs(target, host)._replace(measured=micro)
        self.beliefs = BELIEFS[target.runtime if runtime_known else None]
        self.usual = EXECUTIONS.index(RUNS[target.runtime])
        self.fitted: Ensemble | None = None
        self.residual: Any = None
        self.factor, self.sigma, self.freedom = 1.0, SIGMA_SCALE[target.kind], 1e9
        self.ops: list[tuple[str, ...]] = []
        self.proxy, self.code = proxy, code
        self.residuals: Floats = np.empty(0)
        self.range = (1e-12, 1e12)
        if samples is not None and self.n >= SCALE:
            self._fit(samples, np.asarray(ms, dtype=float))

    @property
    def source(self) -> Literal["analytic", "calibrated"]:
        """How figures are obtained: ``analytic`` or ``calibrated``."""
        return "calibrated" if self.n else "analytic"

    @property
    def stage(self) -> str:
        """What the predictions are made of, in words."""
        if not self.n:
            return "the analytic model, no samples"
        if self.fitted is None:
            return "the analytic model times one factor"
        return "regressions on the work of operators" + (
            "" if self.residual is None else " and a process on what they leave over")

    def genes(self, choices: Choices) -> Floats | None:
        """Returns the columns of an architecture's choices; None when the samples were chosen otherwise."""
        return None if self.code is None else self.code.encode(choices)

    def predict(self, network: Network, genes: Floats | None = None) -> Latency:
        """Returns the latency of one network with its 90 % interval.

        Args:
            network: What would run.
            genes: As `genes` gives them; None when it is not known how the network was chosen.
        """
        return self.latencies(self._known(network, genes))[0]

    def predict_calls(self, calls: Sequence[Kernel], fused: Sequence[Kernel] | None = None) -> Latency:
        """Returns the latency of a traced module with its 90 % interval; see `passes_of_calls`."""
        return self.latencies(counted([passes_of_calls(calls, fused)]))[0]

    def latencies(self, networks: Known) -> list[Latency]:
        """Returns what `expect` does, as records."""
        found = self.expect(networks)
        return [Latency(ms=float(ms), low=float(low), high=float(high), device=self.target.key, source=self.source,
                        batch=self.target.batch, runtime=self.target.runtime, n=self.n or None)
                for ms, low, high in zip(*found, strict=True)]

    def expect(self, networks: Known) -> Expected:
        """Returns the latencies of several networks with their 90 % intervals."""
        logs, strange = self._log_ms(networks)
        sigma = np.sqrt(self.sigma**2 + self._outside(networks, strange)) if self.n else self._prior_sigma(
            networks, logs)
        width = sigma * float(student.ppf(.95, self.freedom))
        return Expected(np.exp(logs), np.exp(logs - width), np.exp(logs + width))

    def strange(self, networks: Known) -> Floats:
        """Returns the share of expected time in operators that no sample has, of shape (networks,)."""
        return self._log_ms(networks)[1] if self.n else np.zeros(len(networks.counted[self.usual].counts))

    def beyond(self, networks: Known) -> Floats:
        """Returns how far expected latencies lie outside those of the samples, in log, of shape (networks,)."""
        expected = self._expected(networks)
        low, high = self.range
        return np.maximum(0.0, np.maximum(np.log(low / expected), np.log(expected / high)))

    def faster(self, first: Network, second: Network) -> float:
        """Returns the probability that the first network is the faster one; see `odds`."""
        return float(self.odds(known([first, second]))[0, 1])

    def odds(self, networks: Known) -> Floats:
        """Returns the probability that each network is faster than each other, of shape (networks, networks).

        Predictions are log-normal. What makes all predictions of a target too high or too low together (the overall
        scale, and as far as the two networks share it, the cost of a launch and the rate of the arithmetic) does not
        change an order, so only what differs from network to network counts: the error that is left of networks that
        were left out of the fit, or without samples `LEFT_OVER` and the differing shares of launch and work.
        """
        logs, strange = self._log_ms(networks)
        own = self._own_variance(networks, strange)
        variance = own[:, None] + own[None, :] + (self._differing(networks, logs) if not self.n else 0.0)
        chance = student.cdf((logs[None, :] - logs[:, None]) / np.sqrt(variance), self.freedom)
        return np.asarray(chance, dtype=float)

    def _own_variance(self, networks: Known, strange: Floats) -> Floats:
        """Returns the variance of the log that is each network's own."""
        if not self.n:
            return np.full(len(strange), LEFT_OVER[self.target.kind] ** 2)
        sigma2 = self.sigma**2 if self.fitted is not None else self.sigma**2 / (1 + 1 / self.n)
        return sigma2 + self._outside(networks, strange)

    def _differing(self, networks: Known, logs: Floats) -> Floats:
        """Returns the variance of differences that comes of launches and rates, without samples."""
        waiting, working = self._shares(networks, logs)
        launches = launch_sigma(self.target, self.host)
        return np.asarray((launches * (waiting[:, None] - waiting)) ** 2 + (SIGMA_RATE * (working[:, None] - working))
                          ** 2, dtype=float)

    def _outside(self, networks: Known, strange: Floats) -> Floats:
        """Returns the variance of the log that is added for what is unlike the samples."""
        return np.asarray(OUTSIDE**2 * (strange**2 + self.beyond(networks) ** 2), dtype=float)

    def _expected(self, networks: Known) -> Floats:
        """Returns ms by the analytic model, of shape (networks,), for the first execution that was counted."""
        first = networks.counted[self._needed[0]]
        return np.asarray(first.total(self.costs.expected) + self.costs.start_ms, dtype=float)

    @property
    def _needed(self) -> tuple[int, ...]:
        """The executions that must have been counted."""
        own = self.fitted.executions if self.fitted else (self.usual,)
        return tuple(sorted({*own, *(self.proxy._needed if self.proxy and self.fitted else ())}))

    def _shares(self, networks: Known, logs: Floats) -> tuple[Floats, Floats]:
        """Returns the shares of waiting for launches and of working."""
        waiting = np.asarray(networks.counted[self.usual].total(self.costs.waiting) / np.exp(logs), dtype=float)
        return waiting, np.asarray(1 - waiting - self.costs.start_ms / np.exp(logs), dtype=float)

    def _prior_sigma(self, networks: Known, logs: Floats) -> Floats:
        shares = zip(*self._shares(networks, logs), strict=True)
        return np.array([deviation(self.target, self.host, float(waits), float(works)) for waits, works in shares])

    def _known(self, network: Network, genes: Floats | None) -> Known:
        """Returns the counted work of one network, for the executions that count."""
        needed = self._needed
        empty = Counted((), np.zeros((1, 0)))
        return Known(tuple(count([network], execution) if i in needed else empty
                           for i, execution in enumerate(EXECUTIONS)), None if genes is None else genes[None])

    def _log_ms(self, networks: Known) -> tuple[Floats, Floats]:
        """Returns the log of predicted ms and the share of work that no sample tells of, each of shape (networks,)."""
        if self.fitted is None:
            usual = networks.counted[self.usual]
            table = self._table(usual, kinds(usual))
            strange = self._table(usual, self.ops[self.usual]).strange if self.ops else table.strange
            return np.log(self.factor * (table.expected.sum(axis=1) + self.costs.start_ms)), strange
        needed = self.fitted.executions
        elsewhere = self._elsewhere(networks)
        tables = [self._table(one, self.ops[i])._replace(proxy=elsewhere) if i in needed else None
                  for i, one in enumerate(networks.counted)]
        logs = self.fitted.log_ms(tables)
        if self.residual is not None and networks.genes is not None:
            logs = logs + self.residual.predict(networks.genes)
        strange = max((table for table in tables if table is not None), key=lambda table: len(table.ops)).strange
        return logs, strange

    def _elsewhere(self, networks: Known) -> Floats | None:
        """Returns ms on the other device, of shape (networks,)."""
        return None if self.proxy is None else np.exp(self.proxy._log_ms(networks._replace(genes=None))[0])

    def _table(self, counted: Counted, ops: Sequence[str]) -> Features:
        return features(counted, self.costs, ops, self.target.batch, self.target.value_bytes)

    def _fit(self, samples: Known, ms: Floats) -> None:
        self.ops = [kinds(one) for one in samples.counted]
        if self.n < REGRESSION:
            self._fit_factor(samples, ms)
        else:
            self._fit_ensemble(samples, ms)
        expected = self._expected(samples)
        self.range = float(expected.min()), float(expected.max())

    def _fit_ensemble(self, samples: Known, ms: Floats) -> None:
        elsewhere = self._elsewhere(samples)
        tables = [self._table(one, self.ops[i])._replace(proxy=elsewhere) for i, one in enumerate(samples.counted)]
        self.fitted = ensemble(tables, ms, self.beliefs, self._members())
        self.residuals = self.fitted.residuals
        if self.n >= RESIDUAL and samples.genes is not None:
            logs = np.log(ms) - self.fitted.log_ms(tables)
            self.residual, self.residuals = _left_over(samples.genes, logs, self.residuals)
        self.sigma = sqrt(float(np.mean(self.residuals**2)) + self.measurement**2)
        self.freedom = float(self.n - 1)

    def _members(self) -> tuple[Member, ...]:
        return (*MEMBERS, *(() if self.costs.measured is None else MEASURED), *(() if self.proxy is None else PROXY))

    def _fit_factor(self, samples: Known, ms: Floats) -> None:
        """Sets one factor on the analytic model: the mean log ratio, held to 1 by the prior of the overall scale."""
        usual = samples.counted[self.usual]
        table = self._table(usual, kinds(usual))
        ratios = np.log(ms / (table.expected.sum(axis=1) + self.costs.start_ms))
        held = (_LEFT_OVER / SIGMA_SCALE[self.target.kind]) ** 2
        center = float(ratios.sum()) / (self.n + held)
        self.factor = exp(center)
        left = float(((ratios - center) ** 2).sum())
        self.residuals = (ratios.sum() - ratios) / (self.n - 1 + held) - ratios
        self.freedom = float(_BELIEF_DF + self.n - 1)
        self.sigma = sqrt((_BELIEF_DF * _LEFT_OVER**2 + left) / self.freedom * (1 + 1 / self.n))


def _left_over(genes: Floats, logs: Floats, residuals: Floats) -> tuple[Any, Floats]:
    """Returns a Gaussian process on what the regressions leave over, and residuals as they are with it."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    tried = [GaussianProcessRegressor(ConstantKernel(size) * RBF(length) + WhiteKernel(noise * size), optimizer=None)
             .fit(genes, logs) for size in _SIZES for length in _LENGTHS for noise in _NOISES]
    model = max(tried, key=lambda one: float(one.log_marginal_likelihood_value_))
    inverse = np.linalg.inv(model.kernel_(genes))
    left_out = (inverse @ logs) / np.diag(inverse)  # Rasmussen and Williams (2006), eq. 5.12
    gain = sqrt(float(np.mean(left_out**2)) / max(float(np.mean(logs**2)), 1e-12))
    return (model, residuals * gain) if gain < _WORTH else (None, residuals)


def choose(networks: Known, target: Target, n: int, host: Host | None = None, runtime_known: bool = True) -> list[int]:
    """Returns which of many networks to measure.

    Too few for a regression are spread evenly over the expected latencies, because they only set a factor; more are
    D-optimal in the calls of their operators, as each plausible execution has them, so that the samples also tell
    the executions apart.

    Args:
        networks: Candidates; four hundred random ones will do.
        target: Where they will be measured.
        n: How many.
        host: As of the predictor.
        runtime_known: As of the predictor.
    """
    beliefs, prior = BELIEFS[target.runtime if runtime_known else None], costs(target, host)
    tables = [features(one, prior, kinds(one), target.batch, target.value_bytes)
              for one, belief in zip(networks.counted, beliefs, strict=True) if belief >= _PLAUSIBLE]
    if n >= REGRESSION:
        return d_optimal(np.concatenate([table.calls for table in tables], axis=1), n)
    table = tables[0]
    order = np.argsort(table.expected.sum(axis=1), kind="stable")
    return [int(order[int((i + .5) / n * len(order))]) for i in range(min(n, len(order)))]
