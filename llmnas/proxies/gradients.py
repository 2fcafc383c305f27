"""Proxies from one backward pass of the loss (arXiv 2101.08134)."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

from llmnas.proxies.base import Evidence, UnscorableError, proxy

if TYPE_CHECKING:
    from torch import Tensor

_VALIDITY = "prefers chains of 1x1 convolutions without skips; negative on NAS-Bench-101 and DARTS cells"


@proxy("grad_norm", passes={"backward"}, data="labels", cost=3, transform="log", validity=_VALIDITY,
       source="Abdelfattah et al. 2021, arXiv 2101.08134")
def grad_norm(evidence: Evidence) -> float:
    """Returns Σ_l ‖∂L/∂W_l‖₂."""
    _, grads = _reached(evidence)
    return float(sum(float(grad.double().norm()) for grad in grads))


@proxy("snip", passes={"backward"}, data="labels", cost=3, transform="log", validity=_VALIDITY,
       source="Lee et al. 2019, arXiv 1810.02340; not normalised, as in arXiv 2101.08134")
def snip(evidence: Evidence) -> float:
    """Returns Σ |W · ∂L/∂W|: the mask's gradient at one."""
    weights, grads = _reached(evidence)
    return float(sum(float((weight * grad).abs().double().sum())
                     for weight, grad in zip(weights, grads, strict=True)))


@proxy("plain", passes={"backward"}, data="labels", cost=3,
       validity="correlates negatively everywhere; sums what cancels in networks with norms, so it is mostly "
                "the head's, and two initialisations hardly agree",
       source="Abdelfattah et al. 2021, arXiv 2101.08134", direction=-1)
def plain(evidence: Evidence) -> float:
    """Returns Σ W · ∂L/∂W."""
    weights, grads = _reached(evidence)
    return float(sum(float((weight.double() * grad.double()).sum())
                     for weight, grad in zip(weights, grads, strict=True)))


@proxy("grasp", passes={"weights", "curvature"}, data="labels", cost=10, transform="symlog", validity=_VALIDITY,
       source="Wang et al. 2020, arXiv 2002.07376; sign as in arXiv 2101.08134")
def grasp(evidence: Evidence) -> float:
    """Returns -Σ W · (H g), g = ∂L/∂W and H the loss's Hessian."""
    assert evidence.weights is not None
    assert evidence.curvature is not None
    if not any(bool(bent.any()) for bent in evidence.curvature):
        raise UnscorableError("dead network: no gradient of the loss reaches a convolution or linear weight")
    return -float(sum(float((weight.double() * bent.double()).sum())
                      for weight, bent in zip(evidence.weights, evidence.curvature, strict=True)))


@proxy("fisher", passes={"channels", "backward"}, data="labels", cost=3, transform="log", validity=_VALIDITY,
       source="Turner et al. 2020, arXiv 1906.04113; as in arXiv 2101.08134")
def fisher(evidence: Evidence) -> float:
    """Returns Σ over channels of ½ mean_b(Σ_positions a · ∂L/∂a)² times the weights of the channel."""
    weights, _ = _reached(evidence)
    assert evidence.channel_products is not None
    return float(sum(float(product.double().square().mean(0).sum()) / 2 * weight[0].numel()
                     for weight, product in zip(weights, evidence.channel_products, strict=True)))


@proxy("zico", passes={"halves", "backward"}, data="labels", cost=5,
       validity="grows with depth; unreliable for layers with few weights",
       source="Li et al. 2023, arXiv 2301.11300, equation 15; the two batches are the halves of one, whose norms they "
              "share")
def zico(evidence: Evidence) -> float:
    """Returns Σ_l log Σ_w mean(|g|) / std(g), over the two halves' gradients g; weights without spread are left out."""
    _reached(evidence)
    if evidence.half_grads is None:
        raise UnscorableError("zico needs at least two examples")
    total = 0.0
    for one, other in zip(*evidence.half_grads, strict=True):
        spread = (one - other).abs() / 2  # the standard deviation of two numbers
        moved = spread > 0
        ratio = float((((one.abs() + other.abs()) / 2)[moved] / spread[moved]).double().sum())
        total += log(ratio) if ratio > 0 else 0.0
    return total


def _reached(evidence: Evidence) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Returns weights and gradients.

    Raises:
        UnscorableError: No gradient reaches any weight.
    """
    assert evidence.weights is not None
    assert evidence.loss_grads is not None
    if not any(bool(grad.any()) for grad in evidence.loss_grads):
        raise UnscorableError("dead network: no gradient of the loss reaches a convolution or linear weight")
    return evidence.weights, evidence.loss_grads
