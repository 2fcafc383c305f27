"""Proxies that ask whether an untrained network tells the examples of a batch apart."""

from __future__ import annotations

from llmnas.proxies.base import Evidence, UnscorableError, proxy

_K = 1e-5  # the constant of the released code


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
