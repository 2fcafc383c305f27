"""What the search asks of an evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from pydantic import Field

from llmnas.executors.base import Handle
from llmnas.graph import ArchGraph, Frozen
from llmnas.records import Counts, Energy, Latency, Measured, Rung, Trial


class Screened(Frozen):
    """What is known of a proposal without training it.

    Attributes:
        counts: Its size.
        scores: Proxy scores by name, raw.
        unscored: Why a proxy has no score, by name.
        latency: By target key.
        energy: By target key, where it is known.
        violates: Constraints it breaks, in words.
    """

    counts: Counts
    scores: dict[str, float] = Field(default_factory=dict)
    unscored: dict[str, str] = Field(default_factory=dict)
    latency: dict[str, Latency] = Field(default_factory=dict)
    energy: dict[str, Energy] = Field(default_factory=dict)
    violates: tuple[str, ...] = ()


class Ordered(Frozen):
    """An order of screened proposals.

    Attributes:
        places: Indices from the most to the least promising.
        weights: What every proxy counted, adding up to 1; None when the order does not come from proxies.
    """

    places: tuple[int, ...]
    weights: dict[str, float] | None = None


class Running(Protocol):
    """A training under way."""

    n: int
    future: Future[Any]

    def result(self) -> Measured:
        """Returns what came of it; waits until it is done. Failure is a `Measured` too, never an exception."""

    def cancel(self) -> None:
        """Ends it."""


class Evaluator(Protocol):
    """Screens and trains. Every failure of a proposal is data; only a broken machine is an exception."""

    def screen(self, graphs: Sequence[ArchGraph], scored: int | None, limit_s: float) -> list[Screened]:
        """Returns one result per graph.

        Args:
            graphs: Legal graphs.
            scored: How many may be scored by proxies, the first ones; None for all.
            limit_s: Wall seconds; what is not done by then stays unknown.
        """

    def order(self, screened: Sequence[Screened], labelled: Sequence[Trial]) -> Ordered:
        """Returns the proposals from the most to the least promising.

        Args:
            screened: The proposals.
            labelled: The trials with a search score so far, in order. Equal arguments give equal orders, so that a
                resumed run orders as one that was left alone.
        """

    def cost(self, trial: Trial, share: float) -> float:
        """Returns what a short training of a trial at a share of its epochs costs, in evaluations.

        The share, when every training begins anew; less when a training goes on from the one before.
        """

    def start(self, trial: Trial, rung: Rung, limit_s: float, nominal_s: float | None = None,
              share: float = 1.0) -> Running:
        """Starts a training that ends, in whatever way, about `limit_s` wall seconds from now.

        Args:
            trial: What to train.
            rung: How.
            limit_s: Wall seconds.
            nominal_s: Nominal seconds of the full rung for this trial; None where the rung decides.
            share: Share of the rung's epochs; for the short rung only.
        """

    def fit(self, job: str, payload: dict[str, Any], name: str, limit_s: float, start: str | None = None) -> Handle:
        """Starts a training by which a strategy learns, on the training part of the run's data.

        Args:
            job: Kind of job.
            payload: What the strategy says; data, seed, device and threads are added.
            name: Of its checkpoints.
            limit_s: Wall seconds.
            start: A checkpoint to go on from or to use, relative to the run; None for none.

        Raises:
            InputError: There are no data to train on.
        """

    def settle(self, trial: Trial, limit_s: float, targets: Sequence[str]) -> list[Measured]:
        """Returns measurements that replace predicted latencies of a trial that has entered a front.

        Args:
            trial: A trained trial.
            limit_s: Wall seconds.
            targets: Keys of the targets on whose front it is; those without a prediction, or that cannot be timed, are
                passed over.
        """
