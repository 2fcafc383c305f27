"""DARTS: the architecture by gradient descent (Liu et al., arXiv 1806.09055), with what later papers added to it.

Every slot runs all of its ops, weighted by a softmax over parameters α; weights and α are trained in turn, each on one
half of the training part, and the strongest op of each slot makes the derived architecture. The descent itself is
`llmnas.supernet.differentiable`; here stands what is searched, for how long, and what is proposed afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from llmnas.errors import InputError
from llmnas.graph import ArchGraph
from llmnas.records import Proposal, Trial
from llmnas.strategies.base import DRAWS, Context, Fit, Rng, Setup, proposal
from llmnas.strategies.supernets import MOST_EPOCHS, SharedNetwork, SupernetOptions, by_probability, steps_of

PASSES: Final = {1: 1.0, 2: 5.0}
"""Cost of one step of α by order, in steps of the weights."""
GUARD_STEPS: Final = 36
"""Cost of one eigenvalue: some twelve products with the Hessian, each about three steps."""


class DartsOptions(SupernetOptions):
    """Options of ``darts``; the defaults are the paper's first order.

    Attributes:
        order: 1: the weights are taken as they are. 2: one step of theirs is looked through.
        partial: Ops get one of so many parts of the channels, the others pass by (PC-DARTS, arXiv 1907.05737).
        gate: ``softmax``: ops compete. ``sigmoid``: each has its own gate and is pushed to 0 or 1 (FairDARTS, arXiv
            1911.12126).
        skip_decay: An auxiliary skip on every slot fades from 1 to 0 (DARTS-, arXiv 2009.01027).
        entropy: Weight of the distributions' mean entropy (0 to 1) in the loss of α.
        latency: Weight of the expected latency, as a share of the dearest architecture's (ProxylessNAS, arXiv
            1812.00332).
        paths: ``all`` ops run at once, or ``one``: one drawn op per slot in a step of the weights, two in one of α
            (ProxylessNAS), so that memory is that of an ordinary network.
        guard: Against collapse (RobustDARTS, arXiv 1909.09656): ``report`` looks and says, ``stop`` ends the search and
            goes back, ``off`` saves the time.
    """

    order: Literal[1, 2] = 1
    partial: int = Field(default=1, ge=1, le=64)
    gate: Literal["softmax", "sigmoid"] = "softmax"
    skip_decay: bool = False
    entropy: float = Field(default=0.0, ge=-100, le=100)
    latency: float = Field(default=0.0, ge=0, le=100)
    paths: Literal["all", "one"] = "all"
    guard: Literal["report", "stop", "off"] = "report"

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.paths == "one" and (self.order == 2 or self.gate == "sigmoid"):
            raise ValueError("paths=one draws from a softmax and looks through no step: use order=1 and gate=softmax")
        return self


class Darts:
    """Fits a supernet's architecture, then proposes the derived one, then others drawn from the distributions.

    It proposes one at a time: the supernet has chosen, the loop's proxies would choose anew.

    Args:
        setup: Space and data.
        options: See `DartsOptions`.

    Raises:
        InputError: The space has no supernet, channels cannot be divided, or nothing predicts the latency asked for.
    """

    name = "darts"
    waits = False
    Options = DartsOptions

    def __init__(self, setup: Setup, options: DartsOptions | None = None) -> None:
        self.setup, self.options = setup, options or DartsOptions()
        self.shared = SharedNetwork(setup, self.options, self.options.partial)
        self.rows: list[list[float]] = []

    # -- learning

    def fit(self, fit: Fit) -> None:
        """Trains weights and α; what the guard saw is told to the person."""
        options, steps = self.options, steps_of(fit.examples)
        active = 1.0 if options.paths == "all" else 1 / max(len(ops) for _, ops in self.shared.data.slots)
        epoch_s = (self.shared.steps_s(fit, steps, active)
                   + self.shared.steps_s(fit, steps * PASSES[options.order], min(1.0, 2 * active) if active < 1 else 1)
                   + self.shared.steps_s(fit, 0 if options.guard == "off" else GUARD_STEPS))
        epochs = options.epochs or max(1, min(MOST_EPOCHS, int(fit.seconds / epoch_s)))
        told = options.model_dump(exclude={"epochs", "channels", "cells"})
        found = fit.run("supernet", "darts", {**self.shared.payload(), **told, "epochs": epochs,
                                              "costs": self._costs() if options.latency else ()}, epochs * epoch_s)
        self.rows = found["probabilities"]
        for says in (*_alarms(found, self.shared.data.slots), *self._limits()):
            fit.warn(says)

    def _costs(self) -> list[list[float]]:
        """Returns what each op adds to the latency, as a share of all that ops can add: in sum at most 1.

        Each op is timed by the predictor in the architecture of otherwise last ops; ops are taken to add up, as in the
        paper.
        """
        slots, last = self.shared.data.slots, [len(ops) - 1 for _, ops in self.shared.data.slots]
        timed = [[self._ms([*last[:i], n, *last[i + 1:]]) for n in range(len(ops))] for i, (_, ops) in enumerate(slots)]
        above = [[ms - min(row) for ms in row] for row in timed]
        whole = sum(max(row) for row in above)
        return [[ms / whole if whole else 0.0 for ms in row] for row in above]

    def _ms(self, path: Sequence[int]) -> float:
        ms = self.setup.milliseconds(self.shared.whole.graph(path))
        if ms is None:
            raise InputError("option latency needs a target whose latency can be predicted", "give --target")
        return ms

    # -- proposing

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns the derived architecture, or else one that was not proposed yet; none when there is none left."""
        seen = {trial.key for trial in ctx.trials}
        found = next((one for one in self._candidates(rng) if one[1].key() not in seen), None) if self.rows else None
        return [] if found is None else [proposal(self.name, found[0], ctx.step, found[1])]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learns nothing: what there was to learn is in the supernet."""

    def _candidates(self, rng: Rng) -> Iterator[tuple[str, ArchGraph]]:
        """Yields the derived architecture, then draws, then the rest by probability."""
        path, graph = self._derived()
        if graph is not None:
            yield "derived" if path == self._strongest() else "derived_legal", graph
        for _ in range(DRAWS):
            drawn = [int(rng.choice(len(row), p=[p / sum(row) for p in row])) for row in self.rows]
            if (one := self.shared.legal(drawn)) is not None:
                yield "drawn", one
        yield from (("likely", one) for path in by_probability(self.rows)
                    if (one := self.shared.legal(path)) is not None)

    def _open(self) -> list[list[float]]:
        """Returns the probabilities without those of ``none``, which no derived architecture takes (section 2.4)."""
        return [[0.0 if op == "none" else p for op, p in zip(ops, row, strict=True)]
                for (_, ops), row in zip(self.shared.data.slots, self.rows, strict=True)]

    def _strongest(self) -> tuple[int, ...]:
        return next(by_probability(self._open()))

    def _derived(self) -> tuple[tuple[int, ...], ArchGraph | None]:
        """Returns the most probable legal architecture without ``none``: the strongest ops, where they are legal."""
        for path in by_probability(self._open()):
            if (graph := self.shared.legal(path)) is not None:
                return path, graph
        return (), None

    def _limits(self) -> Iterator[str]:
        path, graph = self._derived()
        if graph is None:
            yield "darts: no architecture without none keeps the space's rules and the limits"
        elif path != self._strongest():
            yield ("darts: the strongest op of every slot together break a rule of the space or a limit; the most "
                   "probable architecture that keeps them is proposed in its place")


def _alarms(found: dict[str, Any], slots: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Yields what a person should know of a fit: that it was cut, that the guard stopped it, that it collapsed."""
    from llmnas.supernet.guard import RISE, is_filled

    if found["cut"]:
        yield f"darts: the time ended the fit after {found['epochs']} of {found['planned']} epochs"
    if found["stopped"]:
        why = {"eigenvalue": f"the largest eigenvalue of the Hessian in α rose by more than {RISE} times",
               "skips": "more than half of the slots were skips"}[found["stopped"]]
        yield f"darts: the guard stopped the fit after epoch {found['epochs']}, because {why}; α is of epoch " \
              f"{found['epoch']}"
    if is_filled(found["skips"], len(slots)):
        yield (f"darts: the search has collapsed: {found['skips']} of {len(slots)} slots of the derived architecture "
               "are skips")
    risen = [n for n, ratio in enumerate(found["rises"], start=1) if ratio is not None and ratio > RISE]
    if risen and not found["stopped"]:
        highest = max(ratio for ratio in found["rises"] if ratio is not None)
        yield (f"darts: the largest eigenvalue of the Hessian in α rose as before a collapse, first in epoch {risen[0]}"
               f" (at most {highest:.2f} times within four epochs, the limit is {RISE}); guard=stop would have ended "
               "the fit there")
