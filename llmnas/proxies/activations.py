"""Proxies that ask whether an untrained network tells the examples of a batch apart."""

from __future__ import annotations

from math import exp
from typing import Final

from llmnas.proxies.base import Evidence, UnscorableError, proxy

_K: Final = 1e-5  # the constant of the released code
MANY: Final = 100
"""Classes above which epe_nas has another formula."""
SWAP_SIZE: Final = (1500.0, 1e6)
"""μ and σ of swap_reg: a bell that rises over all sizes usual for small images. Fixed before any table was looked at;
the paper's own values per task are not known here."""


@proxy("nwot", passes={"activations"}, data="batch", cost=1.2,
       validity="grows with the number of activations; negative within the best tenth of NAS-Bench-201; the paper has "
                "ReLU only, the sign before SiLU, GELU and Hardswish is counted likewise here",
       source="Mellor et al. 2021, arXiv 2006.04647v3, section 3")
def nwot(evidence: Evidence) -> float:
    """Returns log |det K|, K = Σ over ReLUs of A Aᵀ + (1-A)(1-A)ᵀ with A = (input > 0), (B, units)."""
    import torch

    if evidence.agreement is None:
        raise UnscorableError("the network has no ReLU, SiLU, GELU or Hardswish")
    sign, logarithm = torch.linalg.slogdet(evidence.agreement)
    if float(sign) == 0.0 or not bool(torch.isfinite(logarithm)):
        raise UnscorableError("two examples of the batch switch on the same units everywhere: the kernel is singular")
    return float(logarithm)


@proxy("jacov", passes={"input_grad"}, data="batch", cost=2, transform="symlog",
       validity="best single proxy on NAS-Bench-201 with params beside it; negative on NAS-Bench-101 and DARTS cells; "
                "unreliable on shrunken networks",
       source="Mellor et al. 2020, arXiv 2006.04647v1, section 3 (jacob_cov)")
def jacov(evidence: Evidence) -> float:
    """Returns -Σ(log(v + k) + 1/(v + k)) over the eigenvalues v of the correlations of J, (B, inputs).

    J holds ∂(Σ logits)/∂x of each example, k = 1e-5; close to -B for a healthy network.
    """
    import torch

    assert evidence.input_grads is not None
    jacobian = evidence.input_grads.flatten(1).double()
    if len(jacobian) < 2:
        raise UnscorableError("jacov needs at least two examples")
    if not bool((jacobian - jacobian.mean(dim=1, keepdim=True)).any(dim=1).all()):
        raise UnscorableError("dead network: the gradient of the logits is constant over an input")
    values = torch.linalg.eigvalsh(torch.corrcoef(jacobian))
    return float(-(torch.log(values + _K) + 1 / (values + _K)).sum())


@proxy("epe_nas", passes={"input_grad"}, data="labels", cost=2,
       validity="near zero on NAS-Bench-101 and DARTS cells; .70 with 10 classes becomes .33 with 120, where the "
                "formula is another one",
       source="Lopes et al. 2021, arXiv 2102.08099; as in arXiv 2210.03230")
def epe_nas(evidence: Evidence) -> float:
    """Returns Σ_c |e_c|, e_c = Σ log(|C_c| + k) over the correlations C_c of the rows of J of class c, k = 1e-5.

    Above 100 classes: Σ over pairs of classes of ||e_c| - |e_d|| with e_c divided by its examples, over the classes.
    """
    import torch

    assert evidence.input_grads is not None
    assert evidence.labels is not None
    jacobian = evidence.input_grads.flatten(1).double()
    if not bool((jacobian - jacobian.mean(dim=1, keepdim=True)).any(dim=1).all()):
        raise UnscorableError("dead network: the gradient of the logits is constant over an input")
    scores = []
    for label in sorted(set(evidence.labels.tolist())):
        rows = jacobian[evidence.labels == label]
        correlations = torch.corrcoef(rows).reshape(len(rows), len(rows))
        score = float(torch.log(correlations.abs() + _K).sum())
        scores.append(score if evidence.network.classes <= MANY else score / len(rows))
    if evidence.network.classes <= MANY:
        return sum(abs(score) for score in scores)
    return sum(abs(one - other) for i, one in enumerate(scores) for other in scores[i + 1:]) / len(scores)


@proxy("swap", passes={"patterns"}, data="batch", cost=1,
       validity="approaches 2^16 for wide networks and then says nothing; counts units",
       source="Peng et al. 2024, arXiv 2403.04161, section 3; groups of 16 examples of one batch instead of repeats")
def swap(evidence: Evidence) -> float:
    """Returns the distinct patterns of units over 16 examples, mean over the groups of 16 in the batch."""
    if not evidence.patterns:
        raise UnscorableError("the network has no ReLU, SiLU, GELU or Hardswish")
    return sum(evidence.patterns) / len(evidence.patterns)


@proxy("swap_reg", passes={"patterns"}, data="batch", cost=1, transform="log",
       validity="says what size is wanted more than what network: its bell over the parameters decides; the paper sets "
                "the bell per task",
       source="Peng et al. 2024, arXiv 2403.04161, section 3.3")
def swap_reg(evidence: Evidence) -> float:
    """Returns swap · exp(-(P - μ)² / σ), P in thousands of parameters; μ and σ as in `SWAP_SIZE`."""
    mean, spread = SWAP_SIZE
    thousands = evidence.network.counts.params / 1e3
    return swap(evidence) * exp(-((thousands - mean) ** 2) / spread)
