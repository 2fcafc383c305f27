"""synflow, computed so that no depth overflows it."""

from __future__ import annotations

from math import log

from llmnas.proxies.base import Evidence, UnscorableError, proxy


@proxy("synflow", passes={"synflow"}, data="none", cost=0.1,
       validity="grows with depth and width; weak on DARTS cells (.18) and off image classification",
       source="Tanaka et al. 2020, arXiv 2006.05467; natural log as in arXiv 2210.03230")
def synflow(evidence: Evidence) -> float:
    """Returns ln Σ |W · ∂R/∂W|, R = Σ f(1) with absolute weights and without norms, in double precision."""
    assert evidence.flow is not None
    total = float(sum(float(part.sum()) for part in evidence.flow))
    if total <= 0.0:
        raise UnscorableError("dead network: nothing flows from the input to the logits")
    return evidence.flow_log_scale + log(total)
