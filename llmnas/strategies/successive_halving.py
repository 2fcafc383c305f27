"""Successive halving (Jamieson and Talwalkar, arXiv 1502.07943) by the rule of ASHA (Li et al., arXiv 1810.05934)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor
from typing import Final

from llmnas.errors import InputError
from llmnas.records import Proposal, Trial
from llmnas.strategies.base import Context, Rng, Setup, promotion, proposal, unseen

ETA: Final = 3.0
"""Ratio of two neighbouring shares, and what is kept of the lower one: a third."""
LEVELS: Final = 3
"""Shares at most: 1/9, 1/3 and 1 of a short training where any can be had."""
ROUNDING: Final = 1e-9


class SuccessiveHalving:
    """Random designs are trained briefly; the best of each share are trained again for the next larger one.

    Whoever is among the best 1/ratio of the results of a share is promoted as soon as it is, the largest share first;
    when nobody can be, a new design is drawn (ASHA, algorithm 2). No round has to be full before it goes on, so workers
    never wait, and as many evaluations go into each share. Results are compared within a share only. A training that
    failed is no result.

    Args:
        setup: The space, and the shares that can be had.
        eta: Least ratio of two shares.

    Raises:
        InputError: Only whole trainings can be had.
    """

    name = "successive_halving"
    waits = False

    def __init__(self, setup: Setup, eta: float = ETA) -> None:
        self.space, self.merit = setup.space, setup.merit
        self.shares = levels(setup.shares, eta)
        self.results: dict[float, dict[int, float]] = {share: {} for share in self.shares}  # merits by number
        if len(self.shares) < 2:
            raise InputError("successive_halving needs scores after a part of a training, and this table has only "
                             "those of whole ones", "choose a table with such columns (docs/benchmarks.md), or another "
                             "strategy")

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns promotions, those to the largest share first, and new designs for what is left of `n`."""
        found = [promotion(self.name, ctx.step, trial, share) for trial, share in self._promotable(ctx.trials)][:n]
        return [*found, *self._drawn(n - len(found), rng, ctx)]

    def _drawn(self, n: int, rng: Rng, ctx: Context) -> list[Proposal]:
        """Returns new designs, fewer than `n`: a batch is cut to what is screened for as much training elsewhere."""
        some = ceil(n * len(self.shares) * self.shares[0] - ROUNDING)
        seen = {trial.key for trial in ctx.trials if trial.key is not None}
        return [proposal(self.name, "random", ctx.step, graph).model_copy(update={"share": self.shares[0]})
                for graph in unseen(self.space, rng, min(n, some), seen)]

    def _promotable(self, trials: Sequence[Trial]) -> list[tuple[Trial, float]]:
        """Returns who is to be trained for which share."""
        found = []
        for low, high in reversed(list(pairwise(self.shares))):
            results = sorted(self.results[low].items(), key=lambda result: (-result[1], result[0]))
            best = (trials[n - 1] for n, _ in results[:floor(len(results) * low / high + ROUNDING)])
            found += [(trial, high) for trial in best if trial.status == "trained" and trial.share == low]
        return found

    def tell(self, trials: Sequence[Trial]) -> None:
        """Takes in the results of every share; what breaks a constraint is none."""
        for trial in trials:
            for share, results in self.results.items():
                value = self.merit(trial, share)
                if value is not None and not trial.violates:
                    results[trial.n] = value


def levels(shares: Sequence[float] | None, eta: float = ETA) -> tuple[float, ...]:
    """Returns the shares to train for, rising to 1, each at least `eta` times the one before, `LEVELS` at most.

    Args:
        shares: Those that can be had; None for any.
        eta: Least ratio of neighbours.
    """
    if shares is None:
        return tuple(eta ** -power for power in reversed(range(LEVELS)))
    found = [1.0]
    while len(found) < LEVELS and (lower := [share for share in shares if share <= found[0] / eta + ROUNDING]):
        found.insert(0, max(lower))
    return tuple(found)
