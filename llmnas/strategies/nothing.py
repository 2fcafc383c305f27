"""No search: only the person's own architectures are measured."""

from __future__ import annotations

from collections.abc import Sequence

from llmnas.records import Proposal, Trial
from llmnas.strategies.base import Context, Rng, Setup


class Nothing:
    """Proposes nothing; ``llmnas evaluate`` uses it.

    Args:
        setup: Not used.
    """

    name = "none"
    waits = False

    def __init__(self, setup: Setup) -> None:
        pass

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns nothing."""
        return []

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learns nothing."""
