"""Proxies from one backward pass of the loss (arXiv 2101.08134)."""

from __future__ import annotations

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
