"""Scores that exist only in a pool: sums of the ranks of several proxies.

The raw parts are what is stored; ranks are recomputed whenever the pool changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from llmnas.proxies.base import PROXIES
from llmnas.proxies.combine import rank


@dataclass(frozen=True)
class Composite:
    """A score made of ranks.

    Attributes:
        parts: Proxies.
        source: Paper.
    """

    parts: tuple[str, ...]
    source: str


COMPOSITES: Final = {
    "az_nas": Composite(("az_expressivity", "az_progressivity", "az_trainability", "flops"),
                        "Lee and Ham 2024, arXiv 2403.19232, equation 10: Σ log(rank / n)"),
    "te_nas": Composite(("te_ntk", "te_regions"),
                        "Chen et al. 2021, arXiv 2102.11535; log-ranks instead of the paper's plain ranks"),
}


def composite(name: str, pool: Sequence[Mapping[str, float | None]]) -> list[float]:
    """Returns the composite's score of every member of a pool, higher is better; see `rank`."""
    return rank(pool, {part: PROXIES[part].direction for part in COMPOSITES[name].parts})
