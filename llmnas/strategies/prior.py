"""The prior alone: known-good designs of growing cost, without any search."""

from __future__ import annotations

from collections.abc import Sequence

from llmnas.records import Proposal, Trial
from llmnas.strategies.base import Context, Rng, Setup, proposal


class Prior:
    """Proposes the space's prior in a shuffled order that depends on nothing but the seed of the first ask, then stops.

    A search must beat this: it needs no feedback at all.

    Args:
        setup: The space.
    """

    name = "prior"
    waits = False

    def __init__(self, setup: Setup) -> None:
        self.designs = setup.space.prior()
        self.used: set[str] = set()

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns designs not proposed yet, spread over the range of cost; none when all were."""
        left = [graph for graph in self.designs if graph.key() not in self.used]
        picked = sorted(rng.choice(len(left), size=min(n, len(left)), replace=False)) if left else []
        return [proposal(self.name, "prior", ctx.step, left[i]) for i in picked]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Remembers what was proposed."""
        self.used |= {trial.key for trial in trials if trial.key is not None}
