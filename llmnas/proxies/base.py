"""`Proxy`: a declared score of an untrained network, and `PROXIES`, the registry.

Adding a proxy is one function from `Evidence` to a float under `@proxy(...)`; which passes are run, shared and undone
is the evaluator's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, log1p
from typing import TYPE_CHECKING, Final, Literal

from llmnas.errors import InputError, nearest
from llmnas.graph import Frozen
from llmnas.network import Network

if TYPE_CHECKING:
    from torch import Tensor

Pass = Literal["weights", "forward", "backward", "input_grad", "activations", "synflow"]
Need = Literal["none", "batch", "labels"]
Transform = Literal["identity", "log", "symlog"]


class UnscorableError(Exception):
    """A proxy is not defined for this network or batch; the message says why."""


class ScoreResult(Frozen):
    """A score, or why there is none.

    Attributes:
        value: Finite; None when there is none.
        problem: Why; empty when there is a value.
    """

    value: float | None
    problem: str = ""


@dataclass(frozen=True)
class Evidence:
    """What the shared passes collected. A field is None unless a pass that fills it was asked for.

    The network is at its default initialisation, in train mode: norms use batch statistics.

    Attributes:
        network: The network as data. Always there.
        weights: Weights W of convolutions and linear layers, no biases, no norms. Pass ``weights``.
        loss_grads: ∂L/∂W of the mean cross-entropy L, in the order of `weights`. Pass ``backward``.
        input_grads: ∂(Σ logits)/∂x, (B, *input_shape). Pass ``input_grad``.
        agreement: Number of units that agree on being active, for every pair of examples, (B, B) float64. Pass
            ``activations``.
        flow: |W · ∂R/∂W| per weight tensor in units of exp(`flow_log_scale`), float64. Pass ``synflow``.
        flow_log_scale: See `flow`.
    """

    network: Network
    weights: tuple[Tensor, ...] | None = None
    loss_grads: tuple[Tensor, ...] | None = None
    input_grads: Tensor | None = None
    agreement: Tensor | None = None
    flow: tuple[Tensor, ...] | None = None
    flow_log_scale: float = 0.0


Score = Callable[[Evidence], float]


@dataclass(frozen=True)
class Proxy:
    """A proxy and everything one must know to use it.

    Attributes:
        name: Its name.
        score: The formula; raises `UnscorableError` where it is not defined.
        direction: +1: higher is better; -1: lower is better.
        transform: What a regression should apply first (`transformed`); ranks do not need it.
        passes: Passes over the network it needs.
        data: What it needs of the data.
        cost: Cost when scored alone, in forward passes over the batch.
        validity: Where it is known to mislead.
        source: Paper.
    """

    name: str
    score: Score
    direction: Literal[1, -1]
    transform: Transform
    passes: frozenset[Pass]
    data: Need
    cost: float
    validity: str
    source: str

    def transformed(self, value: float) -> float:
        """Returns `value` on the scale a regression should see."""
        if self.transform == "log":
            return log(max(value, 1e-300))
        if self.transform == "symlog":
            return log1p(abs(value)) * (1 if value >= 0 else -1)
        return value


PROXIES: Final[dict[str, Proxy]] = {}


def proxy(name: str, *, passes: set[Pass], data: Need, cost: float, validity: str, source: str,
          direction: Literal[1, -1] = 1, transform: Transform = "identity") -> Callable[[Score], Score]:
    """Registers the decorated formula as a proxy; see `Proxy` for the arguments.

    Raises:
        ValueError: The name is taken.
    """
    def register(score: Score) -> Score:
        if name in PROXIES:
            raise ValueError(f"proxy {name!r} is already registered: choose another name")
        PROXIES[name] = Proxy(name, score, direction, transform, frozenset(passes), data, cost, validity, source)
        return score

    return register


def find_proxy(name: str) -> Proxy:
    """Returns the proxy of this name.

    Raises:
        InputError: There is none; names the nearest.
    """
    if name not in PROXIES:
        raise InputError(f"unknown proxy {name!r}", nearest(name, list(PROXIES)))
    return PROXIES[name]
