"""The agent's controls, strategies of their own: best of n, shuffled scores, no language model."""

from __future__ import annotations

from llmnas.agent.agent import Agent, AgentOptions
from llmnas.strategies.base import Setup


class BestOfN(Agent):
    """Proposals of the language model without any history, trained as they come: what sampling alone finds.

    Whole evolution engines were found to tie with it (arXiv 2602.16805): whatever a language model leads must beat it.

    Args:
        setup: As in `Agent`.
    """

    name = "best_of_n"
    batch = 1

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, AgentOptions(probe=False, niches=False, knowledge=False, surrogate=False,
                                             operators=False, history="none"))


class Shuffled(Agent):
    """The agent whose model is shown the trained scores in a random order: what true feedback to it is worth.

    Args:
        setup: As in `Agent`.
    """

    name = "shuffled"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, AgentOptions(history="shuffled"))


class NoModel(Agent):
    """The agent without its language model: operators by code, proxies and the surrogate.

    Args:
        setup: As in `Agent`.
    """

    name = "agent-nollm"
    uses_model = False

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, AgentOptions(model=False))
