"""Latency from a few measured networks: non-negative regressions on the work of operators, weighted by how they do.

Every member explains milliseconds as a sum of non-negative costs, so that it extrapolates sanely; relative errors are
minimised, and a small penalty holds coefficients at zero or at the prior's. Which graph a runtime executes is not
known beforehand, so every member exists once for each `Execution`. Members count by 1 / (leave-one-out error)^4 times
the prior of their execution. Ten networks do what a graph network needs hundreds for (docs/latency.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy.optimize import nnls

from llmnas.latency.counting import Floats
from llmnas.latency.features import Features

Columns = Callable[[Features], Floats]
_TINY: Final = 1e-9
_SAME: Final = .9999
"""Correlation from which two columns say the same."""


class Member(NamedTuple):
    """One regression.

    Attributes:
        name: What it is made of.
        columns: Makes its columns, of shape (networks, terms), from features.
        penalty: How strongly coefficients are held, relative to the weight of one sample.
        anchored: Whether they are held at one common factor (columns are then ms by some prior), else at zero.
    """

    name: str
    columns: Columns
    penalty: float
    anchored: bool


def _with_constant(*parts: Floats) -> Floats:
    return np.concatenate([*parts, np.ones((len(parts[0]), 1))], axis=1)


def _with_start(part: Floats, start_ms: float) -> Floats:
    return np.concatenate([part, np.full((len(part), 1), start_ms)], axis=1)


MEMBERS: Final = (
    Member("calls", lambda f: _with_constant(f.calls), .01, False),
    Member("calls and totals", lambda f: _with_constant(
        f.calls, f.mflop.sum(axis=1, keepdims=True), f.mb.sum(axis=1, keepdims=True)), .03, False),
    Member("expected", lambda f: _with_start(f.expected, f.start_ms), .05, True),
    Member("work", lambda f: _with_start(f.work, f.start_ms), .05, True),
    Member("calls and work", lambda f: _with_constant(f.calls, f.work), .03, False),
)
MEASURED: Final = (
    Member("micro-benchmark in total", lambda f: np.stack(
        [_measured(f).sum(axis=1), f.calls.sum(axis=1)], axis=1), .01, False),
    Member("micro-benchmark and traffic", lambda f: np.stack(  # alone, an operator finds its values in the cache
        [_measured(f).sum(axis=1), f.calls.sum(axis=1), f.mb.sum(axis=1)], axis=1), .01, False),
    Member("micro-benchmark", lambda f: _with_start(_measured(f), f.start_ms), .05, True),
    Member("calls and micro-benchmark", lambda f: _with_constant(f.calls, _measured(f)), .03, False),
)
PROXY: Final = (
    Member("another device", lambda f: _with_constant(_proxy(f)), .01, False),
    Member("calls and another device", lambda f: _with_constant(f.calls, _proxy(f)), .01, False),
)


def _proxy(features: Features) -> Floats:
    if features.proxy is None:
        raise ValueError("these features have no other device")
    return features.proxy[:, None]


def _measured(features: Features) -> Floats:
    if features.measured is None:
        raise ValueError("these features have no micro-benchmark")
    return features.measured


def fit(columns: Floats, ms: Floats, penalty: float, anchored: bool) -> Floats:
    """Returns the non-negative coefficients that minimise squared relative errors, of shape (terms,).

    Args:
        columns: Of shape (samples, terms).
        ms: Measured, of shape (samples,).
        penalty: See `Member`.
        anchored: See `Member`.
    """
    size = np.maximum(np.abs(columns).max(axis=0), _TINY)
    scaled = columns / size
    if anchored:
        factor = float(np.median(ms / np.maximum(columns.sum(axis=1), _TINY)))
        held = np.maximum(factor * size, _TINY)
        weights, target = penalty / held, np.full(columns.shape[1], penalty)
    else:
        weights, target = np.full(columns.shape[1], penalty / float(ms.mean())), np.zeros(columns.shape[1])
    solved, _ = nnls(np.concatenate([scaled / ms[:, None], np.diag(weights)]),
                     np.concatenate([np.ones(len(ms)), target]), maxiter=30 * columns.shape[1] + 100)
    return np.asarray(solved / size, dtype=float)


def left_out(columns: Floats, ms: Floats, penalty: float, anchored: bool) -> Floats:
    """Returns the log of each sample as the others predict it, of shape (samples,)."""
    found = np.empty(len(ms))
    for i in range(len(ms)):
        others = np.arange(len(ms)) != i
        found[i] = columns[i] @ fit(columns[others], ms[others], penalty, anchored)
    return np.log(np.maximum(found, _TINY))


class Fitted(NamedTuple):
    """A member that knows its coefficients.

    Attributes:
        member: What it is made of.
        execution: Which of the executions its features come from.
        coefficients: Of shape (terms,).
        weight: Its share of the ensemble.
    """

    member: Member
    execution: int
    coefficients: Floats
    weight: float

    def log_ms(self, features: Features) -> Floats:
        """Returns the log of predicted ms, of shape (networks,)."""
        return np.asarray(np.log(np.maximum(self.member.columns(features) @ self.coefficients, _TINY)), dtype=float)


class Ensemble(NamedTuple):
    """Members and how well they do together.

    Attributes:
        members: The weighted members; those below a hundredth are left out.
        residuals: log(predicted / measured) of each sample when it is left out, of shape (samples,).
    """

    members: tuple[Fitted, ...]
    residuals: Floats

    @property
    def executions(self) -> tuple[int, ...]:
        """The executions whose features are needed."""
        return tuple(sorted({fitted.execution for fitted in self.members}))

    def log_ms(self, tables: Sequence[Features | None]) -> Floats:
        """Returns the log of predicted ms, of shape (networks,).

        Args:
            tables: Features by execution; None where no member needs them.
        """
        logs = [fitted.weight * fitted.log_ms(table) for fitted in self.members
                if (table := tables[fitted.execution]) is not None]
        return np.asarray(sum(logs), dtype=float)


def ensemble(tables: Sequence[Features], ms: Floats, prior: Sequence[float],
             members: Sequence[Member] = MEMBERS) -> Ensemble:
    """Returns the members fitted and weighted.

    Args:
        tables: Features of the samples, by execution.
        ms: Their measured ms.
        prior: How much each execution is believed beforehand, adding up to 1.
        members: What to fit for each execution.
    """
    found: list[tuple[Fitted, Floats]] = []
    for execution, (table, belief) in enumerate(zip(tables, prior, strict=True)):
        for member in members:
            columns = member.columns(table)
            logs = left_out(columns, ms, member.penalty, member.anchored)
            error = float(np.mean((logs - np.log(ms)) ** 2)) + 1e-8
            coefficients = fit(columns, ms, member.penalty, member.anchored)
            found.append((Fitted(member, execution, coefficients, belief / error**2), logs))
    total = sum(fitted.weight for fitted, _ in found)
    kept = [(fitted, logs) for fitted, logs in found if fitted.weight >= .01 * total]
    total = sum(fitted.weight for fitted, _ in kept)
    residuals = sum((fitted.weight / total) * logs for fitted, logs in kept) - np.log(ms)
    return Ensemble(tuple(fitted._replace(weight=fitted.weight / total) for fitted, _ in kept),
                    np.asarray(residuals, dtype=float))


def distinct(columns: Floats) -> list[int]:
    """Returns the columns that vary and do not repeat an earlier one up to a factor and a constant."""
    kept: list[int] = []
    for j in range(columns.shape[1]):
        x = columns[:, j]
        if x.std() > _TINY * max(1.0, abs(float(x.mean()))) and all(
                abs(np.corrcoef(x, columns[:, i])[0, 1]) < _SAME for i in kept):
            kept.append(j)
    return kept


def d_optimal(columns: Floats, n: int, start: float = 3.0) -> list[int]:
    """Returns the rows that tell most about the coefficients of a linear model: greedy D-optimal design.

    Each next row has the largest variance of prediction given those before (Fedorov, 1972), which enlarges the
    determinant of the information matrix most.

    Args:
        columns: Of shape (candidates, terms).
        n: How many; at most all.
        start: Information there is beforehand about each standardised term, in samples of unit distance: with little,
            only the most extreme networks are chosen (Bayesian D-optimality, DuMouchel and Jones 1994).
    """
    varied = columns[:, distinct(columns)]
    spread = np.maximum(varied.std(axis=0), _TINY)
    rows = np.concatenate([(varied - varied.mean(axis=0)) / spread, np.ones((len(columns), 1))], axis=1)
    inverse = np.eye(rows.shape[1]) / start
    chosen: list[int] = []
    for _ in range(min(n, len(rows))):
        variance = np.einsum("ij,jk,ik->i", rows, inverse, rows)
        variance[chosen] = -1
        best = int(variance.argmax())
        chosen.append(best)
        direction = inverse @ rows[best]
        inverse -= np.outer(direction, direction) / (1 + rows[best] @ direction)
    return chosen
