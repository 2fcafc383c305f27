"""`Proxy`: a declared score of an untrained network, and `PROXIES`, the registry.

Adding a proxy is one function from `Evidence` to a float under `@proxy(...)`; which passes are run, shared and undone
is the evaluator's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import log, log1p
from typing import TYPE_CHECKING, Final, Literal

from llmnas.errors import InputError, nearest
from llmnas.graph import Frozen
from llmnas.network import Network
from llmnas.plugins import Plugin, is_path, load_path, plugins

if TYPE_CHECKING:
    from torch import Tensor

Pass = Literal["weights", "forward", "backward", "halves", "channels", "curvature", "input_grad", "activations",
               "patterns", "blocks", "gains", "noise", "layers", "examples", "thin", "synflow"]
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

    The network is at its default initialisation, in train mode: norms use batch statistics. L is the mean
    cross-entropy of the batch of B examples x.

    Attributes:
        network: The network as data. Always there.
        weights: Weights W of convolutions and linear layers, no biases, no norms. Pass ``weights``.
        labels: Labels (B,). Any pass over the batch.
        loss_grads: ∂L/∂W, in the order of `weights`. Pass ``backward``.
        half_grads: ∂L₁/∂W and ∂L₂/∂W, the mean losses of the two halves of the batch. Pass ``halves``.
        channel_products: Σ over positions of a · ∂L/∂a for the output a of each convolution and linear layer, (B,
            channels), in the order of `weights`. Pass ``channels``.
        curvature: H g, the loss's Hessian applied to its gradient, in the order of `weights`. Pass ``curvature``.
        input_grads: J = ∂(Σ logits)/∂x, (B, *input_shape). Pass ``input_grad``.
        agreement: Number of units that agree on being active, for every pair of examples, (B, B) float64. Pass
            ``activations``.
        patterns: Distinct on-off patterns of units over each group of examples. Pass ``patterns``.
        spectra: Eigenvalues of the covariance of the channels at the end of each block, ascending, float64. Pass
            ``blocks``.
        gains: Per block after the first, the largest singular value of the mean Jacobian across it; None where the
            block passes its input on unchanged. Pass ``gains``.
        noise_response: Mean over N(0, 1) inputs x of ‖f(x) - f(x + .01 x')‖₁, f the values before the global pool,
            weights N(0, 1). Pass ``noise``.
        norm_variances: Mean running variance of each norm after these two forwards. Pass ``noise``.
        least_correlations: Smallest eigenvalue of the correlations of the channels at the output of each layer. Pass
            ``layers``.
        sign_sums: Σ over weights of |Σ_i sign(∂L_i/∂w)|. Pass ``examples``.
        kernel: Neural tangent kernel of the summed logits, (B, B) float64. Pass ``examples``.
        regions: Distinct activation patterns of a thin copy of the network over random small inputs. Pass ``thin``.
        flow: |W · ∂R/∂W| per weight tensor in units of exp(`flow_log_scale`), float64. Pass ``synflow``.
        flow_log_scale: See `flow`.
    """

    network: Network
    weights: tuple[Tensor, ...] | None = None
    labels: Tensor | None = None
    loss_grads: tuple[Tensor, ...] | None = None
    half_grads: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None = None
    channel_products: tuple[Tensor, ...] | None = None
    curvature: tuple[Tensor, ...] | None = None
    input_grads: Tensor | None = None
    agreement: Tensor | None = None
    patterns: tuple[int, ...] | None = None
    spectra: tuple[Tensor, ...] | None = None
    gains: tuple[float | None, ...] | None = None
    noise_response: float | None = None
    norm_variances: tuple[float, ...] | None = None
    least_correlations: tuple[float, ...] | None = None
    sign_sums: float | None = None
    kernel: Tensor | None = None
    regions: int | None = None
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

    @property
    def formula(self) -> str:
        """The formula in words: the first line of the function's docstring."""
        return (self.score.__doc__ or "").strip().split("\n")[0].removeprefix("Returns ").rstrip(".")

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
    others = plugins("proxies")
    if name not in PROXIES and name in others:
        _registered(others[name])
    if name not in PROXIES and is_path(name):
        score = load_path(name, "the proxy")
        name = next((each.name for each in PROXIES.values() if each.score is score), name)
    if name not in PROXIES:
        raise InputError(f"unknown proxy {name!r}", nearest(name, [*PROXIES, *others]))
    return PROXIES[name]


def _registered(plugin: Plugin) -> None:
    """Imports a proxy of another package.

    Raises:
        InputError: It cannot be imported, or registers another name.
    """
    plugin.load()
    if plugin.name not in PROXIES:
        raise InputError(f"{plugin.path!r} of package {plugin.package} registers no proxy {plugin.name!r}",
                         "the name of the entry point and of @proxy must be one")


def all_proxies() -> dict[str, Proxy]:
    """Returns all proxies by name, those of other packages last; what cannot be loaded is left out."""
    for plugin in plugins("proxies").values():
        if plugin.name not in PROXIES:
            with suppress(InputError):  # `llmnas doctor` says why
                _registered(plugin)
    return dict(PROXIES)
