"""Energy as power times latency: its interval, its source, and where it is unknown."""

from math import exp, hypot, log

import pytest

from llmnas.latency import estimate_energy, parse_target
from llmnas.latency.datasheet import datasheet
from llmnas.records import Latency


def test_power_times_latency():
    """Millijoules are watts times milliseconds; the interval is that of latency and power together."""
    target = parse_target("t4@batch=32", False)
    found = estimate_energy(Latency(ms=2.0, low=1.0, high=6.0, device=target.key, batch=32, source="analytic"), target)
    assert found.mj == pytest.approx(0.4 * datasheet("t4").tdp_w.value * 2.0)
    assert found.mj / found.low == pytest.approx(exp(hypot(log(2), log(2))))
    assert found.high / found.mj == pytest.approx(exp(hypot(log(2), log(3))))
    assert (found.source, found.device, found.batch, found.n) == ("prior", "t4@batch=32", 32, None)


def test_unknown_power_is_unknown_energy():
    """No power figure, or no latency to speak of, gives None and never 0."""
    cpu = parse_target("cpu", False)
    assert estimate_energy(Latency(ms=2.0, low=1.0, high=6.0, device="cpu", source="measured"), cpu) is None
    t4 = parse_target("t4", False)
    assert estimate_energy(Latency(ms=0.0, low=0.0, high=0.0, device="t4", source="measured"), t4) is None
