"""Evolution warmed up by zero-cost proxies (Abdelfattah et al., arXiv 2101.08134, section 4.3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from llmnas.graph import ArchGraph
from llmnas.strategies.base import Context, Rng, unseen
from llmnas.strategies.evolution import Evolution

RATIO: Final = 100
"""Random draws screened for every member of the first population: the paper warms up with 1,000 and more."""


class ProxyWarm(Evolution):
    """Regularised evolution whose first population is the best of many random draws by proxies.

    The proxies are the space's default pair (`llmnas.proxies.default_weights`), ranked within the draws. Each ask of
    the first population screens `RATIO` draws per proposal, as far as the run can afford; a run that can screen
    nothing starts from random draws. The paper's other use of proxies, choosing among several mutations of a parent,
    is what the loop does with every batch.

    Args:
        setup: The space.
        population: As in `Evolution`.
        sample: As in `Evolution`.
        ratio: Draws per member.
    """

    name = "proxy_warm"
    ratio = RATIO
    founder = "warm"

    def _founders(self, n: int, rng: Rng, ctx: Context) -> list[ArchGraph]:
        """Returns the best of many draws by proxies."""
        seen = {trial.key for trial in ctx.trials if trial.key is not None}
        pool = unseen(self.space, rng, n * self.ratio, seen)
        scores = [{"params": one.counts.params, "flops": one.counts.macs, **one.scores} for one in ctx.screen(pool)]
        best = by_proxies(self.space.name, scores)[:n]
        return [*(pool[i] for i in best), *pool[len(scores):]][:n]


def by_proxies(space: str, scores: Sequence[Mapping[str, float]]) -> list[int]:
    """Returns the places of scored graphs from the most to the least promising, by the space's default pair."""
    from llmnas.proxies import PROXIES, default_weights, ranking

    directions = {name: PROXIES[name].direction for one in scores for name in one if name in PROXIES}
    return list(ranking(scores, directions, default_weights(space, directions)))
