"""Numbers as people read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmnas.records import Energy, Latency, Usage
from llmnas.report import format as say


@pytest.mark.parametrize(("seconds", "text"), [
    (None, "unknown"), (math.nan, "unknown"), (0.44, "0.4 s"), (9.97, "10 s"), (59.6, "1 min"), (80, "1 min 20 s"),
    (1800, "30 min"), (7500, "2 h 05 min"), (3599.9, "1 h")])
def test_duration(seconds, text):
    """A duration never says 60 s or 60 min."""
    assert say.duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [
    (None, "unknown"), (0, "0"), (940, "940"), (999.7, "1.00 k"), (12_345, "12.3 k"), (1_530_000, "1.53 M"),
    (999_999, "1.00 M"), (2.1e9, "2.10 G"), (math.inf, "unknown")])
def test_count(value, text):
    """A count has three digits and a unit prefix."""
    assert say.count(value) == text


def test_latency_always_says_interval_and_source():
    """Measured figures are exact, analytic ones are about."""
    about = Latency(ms=6.4, low=4.12, high=9.88, device="t4", source="analytic")
    assert say.latency_text(about) == "~6.4 ms (4.1–9.9, analytic)"
    exact = Latency(ms=6.42, low=6.31, high=6.6, device="cpu", source="measured", n=50)
    assert say.latency_text(exact) == "6.42 ms (6.31–6.60, measured)"
    assert say.latency_text(None) == "unknown"


def test_energy_says_interval_and_source():
    """A prior is about, a measured figure exact; beside a latency energy stands only when known."""
    prior = Energy(mj=12.4, low=6.02, high=24.3, device="t4", source="prior")
    timed = Latency(ms=6.42, low=6.31, high=6.6, device="cpu", source="measured", n=50)
    assert say.energy_text(prior) == "~12 mJ (6.0–24, prior)"
    assert say.energy_text(prior.model_copy(update={"source": "measured"})) == "12.4 mJ (6.02–24.3, measured)"
    assert say.energy_text(None) == "unknown"
    assert say.cost_text(timed, prior) == "6.42 ms (6.31–6.60, measured), ~12 mJ (6.0–24, prior)"
    assert say.cost_text(timed, None) == "6.42 ms (6.31–6.60, measured)"


def test_unknown_money_is_unpriced():
    """No price is not a price of zero."""
    assert say.usd(Usage(usd=None)) == "unpriced"
    assert say.usd(Usage(usd=0.0)) == "$0.00"
    assert say.usd(Usage(usd=0.01234)) == "$0.0123"


@given(st.text(st.characters(exclude_categories=()), max_size=80), st.integers(2, 40))
def test_clean_text_is_fit_for_terminals(text, limit):
    """No control character but tab and newline survives, and it can be encoded."""
    plain = say.clean(text, limit)
    plain.encode("utf-8")
    assert len(plain) <= limit
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in plain)


@given(st.floats())
def test_no_number_breaks_a_formatter(value):
    """Any float has words."""
    for words in (say.duration, say.count, say.percent, say.ms, say.dollars, say.megabytes, say.clock):
        assert words(value)
    assert say.latency_text(Latency(ms=value, low=value, high=value, device="x", source="analytic"))
    assert say.latency_text(Latency(ms=value, low=value, high=value, device="x", source="measured"))
    assert say.energy_text(Energy(mj=value, low=value, high=value, device="x", source="prior"))
