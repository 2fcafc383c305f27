"""Energy without a meter: power times latency, with an interval that says how little is known of the power."""

from __future__ import annotations

from math import exp, hypot, log
from typing import Final

from llmnas.latency.datasheet import datasheet
from llmnas.latency.target import Target
from llmnas.records import Energy, Latency

POWER_SHARE: Final = 0.4
"""Share of its power limit that a device draws while a small network runs: a guess, not measured."""
POWER_FACTOR: Final = 2.0
"""The 90 % interval of that power is a factor of so much either way: a guess as well."""


def estimate_energy(latency: Latency, target: Target) -> Energy | None:
    """Returns the energy of one call in mJ: `POWER_SHARE` of the power limit in W times the latency in ms.

    Args:
        latency: Latency on the target, measured or predicted.
        target: Where the network would run.

    Returns:
        ``source="prior"``; the intervals of power and latency are combined as independent, in logarithms. None when
        the device has no power figure, or the latency is not positive.
    """
    power = datasheet(target.device).tdp_w
    if power is None or min(latency.low, latency.ms, latency.high) <= 0:
        return None
    mj = POWER_SHARE * power.value * latency.ms
    down, up = (exp(hypot(log(POWER_FACTOR), log(end / latency.ms))) for end in (latency.low, latency.high))
    return Energy(mj=mj, low=mj / down, high=mj * up, device=target.key, batch=latency.batch, runtime=latency.runtime,
                  source="prior")
