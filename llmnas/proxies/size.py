"""Proxies that only count."""

from __future__ import annotations

from llmnas.proxies.base import Evidence, UnscorableError, proxy


@proxy("params", passes=set(), data="none", cost=0, transform="log",
       validity="counts dead branches; heavy ties in cell spaces; says nothing where all networks overfit",
       source="Ning et al. 2021, arXiv 2008.03064; baseline")
def params(evidence: Evidence) -> float:
    """Returns the number of trainable parameters."""
    return float(evidence.network.counts.params)


@proxy("flops", passes=set(), data="none", cost=0, transform="log",
       validity="counts dead branches; multiply-accumulates of convolution, linear and attention layers only",
       source="Ning et al. 2021, arXiv 2008.03064; baseline")
def flops(evidence: Evidence) -> float:
    """Returns the multiply-accumulates for one example."""
    return float(evidence.network.counts.macs)


@proxy("l2_norm", passes={"weights"}, data="none", cost=0,
       validity="at default initialisation it only counts convolutions and their widths",
       source="Abdelfattah et al. 2021, arXiv 2101.08134")
def l2_norm(evidence: Evidence) -> float:
    """Returns Σ_l ‖W_l‖₂, not squared."""
    if not evidence.weights:
        raise UnscorableError("the network has no convolution or linear layer")
    return float(sum(float(weight.double().norm()) for weight in evidence.weights))
