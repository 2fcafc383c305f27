"""What the search asks of an evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from pydantic import Field

from llmnas.graph import ArchGraph, Frozen
from llmnas.records import Counts, Latency, Measured, Rung, Trial


class Screened(Frozen):
    """What is known of a proposal without training it.

    Attributes:
        counts: Its size.
        scores: Proxy scores by name, raw.
        unscored: Why a proxy has no score, by name.
        latency: By device key.
        violates: Constraints it breaks, in words.
    """

    counts: Counts
    scores: dict[str, float] = Field(default_factory=dict)
    unscored: dict[str, str] = Field(default_factory=dict)
    latency: dict[str, Latency] = Field(default_factory=dict)
    violates: tuple[str, ...] = ()


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

    def order(self, screened: Sequence[Screened]) -> list[int]:
        """Returns the indices from the most to the least promising."""

    def start(self, trial: Trial, rung: Rung, limit_s: float, nominal_s: float | None = None) -> Running:
        """Starts a training that ends, in whatever way, about `limit_s` wall seconds from now.

        Args:
            trial: What to train.
            rung: How.
            limit_s: Wall seconds.
            nominal_s: Nominal seconds of the full rung for this trial; None where the rung decides.
        """
