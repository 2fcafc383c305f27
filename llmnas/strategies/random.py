"""Random search: the baseline every other strategy must beat."""

from __future__ import annotations

from collections.abc import Sequence

from llmnas.records import Proposal, Trial
from llmnas.strategies.base import Context, Rng, Setup, proposal


class Random:
    """Draws from the space, uniformly where the space can (Li and Talwalkar, arXiv 1902.07638).

    Args:
        setup: The space.
    """

    name = "random"
    waits = False

    def __init__(self, setup: Setup) -> None:
        self.space = setup.space

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns `n` independent draws."""
        return [proposal(self.name, "random", ctx.step, self.space.sample(rng)) for _ in range(n)]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learns nothing."""
