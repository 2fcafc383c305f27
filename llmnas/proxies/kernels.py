"""Proxies from gradients of single examples, and from linear regions."""

from __future__ import annotations

from math import log

from llmnas.proxies.base import Evidence, UnscorableError, proxy

_TE = "Chen et al. 2021, arXiv 2102.11535"


@proxy("gradsign", passes={"examples"}, data="labels", cost=6,
       validity="counts weights: correlates with the number of parameters above all",
       source="Zhang and Jia 2022, arXiv 2110.08616, algorithm 1")
def gradsign(evidence: Evidence) -> float:
    """Returns Σ_w |Σ_i sign(∂L_i/∂w)| over examples i, each normalised by its own statistics."""
    assert evidence.sign_sums is not None
    return evidence.sign_sums


@proxy("te_ntk", passes={"examples"}, data="batch", cost=6, direction=-1,
       validity="a part of te_nas, to be ranked in a pool with te_regions; noisy between initialisations",
       source=_TE + ", section 3.1.1")
def te_ntk(evidence: Evidence) -> float:
    """Returns log of the condition number of the tangent kernel Θ_ij = ⟨∂(Σ f(x_i))/∂W, ∂(Σ f(x_j))/∂W⟩."""
    import torch

    assert evidence.kernel is not None
    values = torch.linalg.eigvalsh(evidence.kernel)
    if float(values[0]) <= 1e-12 * float(values[-1]):
        raise UnscorableError("the tangent kernel is singular")
    return log(float(values[-1]) / float(values[0]))


@proxy("te_regions", passes={"thin"}, data="none", cost=0.1,
       validity="a part of te_nas; reads the structure alone, at one channel in the narrowest layer",
       source=_TE + ", section 3.1.2")
def te_regions(evidence: Evidence) -> float:
    """Returns the distinct activation patterns of a thin copy of the network over 1,000 random inputs."""
    assert evidence.regions is not None
    return float(evidence.regions)
