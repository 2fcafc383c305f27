"""`bayesian` for the front of score and cost, whatever a run asks for."""

from __future__ import annotations

from dataclasses import replace

from llmnas.strategies.base import Setup
from llmnas.strategies.bayesian import INITIAL, Bayesian


class BayesianFront(Bayesian):
    """`Bayesian` by expected hypervolume improvement (`llmnas.strategies.acquisition.Front`).

    Args:
        setup: The space and the constraints.
        initial: As in `Bayesian`.
    """

    name = "bayesian_front"

    def __init__(self, setup: Setup, initial: int = INITIAL) -> None:
        super().__init__(replace(setup, front=True), initial)
