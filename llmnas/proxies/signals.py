"""Proxies of how signals and gradients spread through the layers of an untrained network."""

from __future__ import annotations

from itertools import pairwise
from math import log
from typing import TYPE_CHECKING

from llmnas.proxies.base import Evidence, UnscorableError, proxy

if TYPE_CHECKING:
    from torch import Tensor

_AZ = "Lee and Ham 2024, arXiv 2403.19232"
_AZ_VALIDITY = "a part of az_nas, to be ranked in a pool with the others; needs a network of blocks"


@proxy("zen", passes={"noise"}, data="batch", cost=2,
       validity="on NAS-Bench-201 it finds dead networks (.35) and orders live ones hardly (.10); good on plain chains",
       source="Lin et al. 2021, arXiv 2102.01063, section 4; as in arXiv 2210.03230")
def zen(evidence: Evidence) -> float:
    """Returns log E‖f(x) - f(x + .01 x')‖₁ + Σ over norms of log √(mean running variance), weights and x N(0, 1)."""
    assert evidence.noise_response is not None
    assert evidence.norm_variances is not None
    if evidence.noise_response <= 0.0:
        raise UnscorableError("dead network: the values before the pool do not depend on the input")
    return log(evidence.noise_response) + sum(log(variance) / 2 for variance in evidence.norm_variances if variance > 0)


@proxy("meco", passes={"layers"}, data="none", cost=0.1,
       validity="its sign flips where networks differ in width; about zero where channels outnumber positions",
       source="Jiang et al. 2023, MeCo (NeurIPS 2023); layers instead of all nested modules")
def meco(evidence: Evidence) -> float:
    """Returns Σ over layers of the smallest eigenvalue of the correlations of its channels, one N(0, 1) input."""
    assert evidence.least_correlations is not None
    return sum(evidence.least_correlations)


@proxy("az_expressivity", passes={"blocks"}, data="batch", cost=1, validity=_AZ_VALIDITY, source=_AZ + ", equation 4")
def az_expressivity(evidence: Evidence) -> float:
    """Returns Σ over blocks of E_l, the entropy of the normalised spectrum of the channels' covariance."""
    return sum(_entropies(evidence))


@proxy("az_progressivity", passes={"blocks"}, data="batch", cost=1, validity=_AZ_VALIDITY, source=_AZ + ", equation 6")
def az_progressivity(evidence: Evidence) -> float:
    """Returns min over blocks of E_l - E_{l-1}."""
    return min(after - before for before, after in pairwise(_entropies(evidence)))


@proxy("az_trainability", passes={"gains"}, data="batch", cost=2, validity=_AZ_VALIDITY, source=_AZ + ", equation 9")
def az_trainability(evidence: Evidence) -> float:
    """Returns mean over blocks of 2 - s - 1/s, s the largest singular value of the block's mean Jacobian."""
    assert evidence.gains is not None
    if any(gain is None for gain in evidence.gains):
        raise UnscorableError("a block passes its input on unchanged")
    gains = [gain for gain in evidence.gains if gain is not None]
    if min(gains) <= 0.0:
        raise UnscorableError("dead network: no gradient passes through a block")
    return sum(2 - gain - 1 / (gain + 1e-6) for gain in gains) / len(gains)


def _entropies(evidence: Evidence) -> list[float]:
    """Returns E_l per block.

    Raises:
        UnscorableError: A block's end is constant.
    """
    assert evidence.spectra is not None
    return [_entropy(spectrum) for spectrum in evidence.spectra]


def _entropy(spectrum: Tensor) -> float:
    total = float(spectrum.sum())
    if total <= 0.0:
        raise UnscorableError("dead network: the values at the end of a block are constant")
    shares = spectrum.clamp_min(0.0) / total
    return float(-(shares * (shares + 1e-8).log()).sum())
