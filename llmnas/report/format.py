"""Numbers and foreign text as people read them: every number has its unit, and unknown is said, never shown as 0."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

from llmnas.records import Energy, Latency, Usage

Words = Callable[[float], str]

UNKNOWN: Final = "unknown"
UNPRICED: Final = "unpriced"
_CONTROL: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
                             r"|[\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_PERCENT: Final = ("accuracy", "top1", "top5", "recall", "precision")


def clean(text: object, limit: int = 2000) -> str:
    """Returns foreign text fit for terminals and XML: no control characters, no escape sequences, cut at `limit`."""
    plain = _CONTROL.sub("", str(text).replace("\r\n", "\n").replace("\r", "\n"))
    plain = plain.encode("utf-8", "replace").decode("utf-8")
    return plain if len(plain) <= limit else plain[:limit - 1].rstrip() + "…"


def one_line(text: object, limit: int = 200) -> str:
    """Returns foreign text on one line."""
    return clean(" ".join(clean(text, limit * 4).split()), limit)


def visible(text: str) -> str:
    """Returns a whole text, what a terminal would obey written as an escape, so that nothing is lost or obeyed."""
    shown = _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text.replace("\r", "\\r"))
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def finite(value: float | None) -> bool:
    """Whether there is a number that can be drawn and compared."""
    return value is not None and math.isfinite(value)


def duration(seconds: float | None) -> str:
    """Returns a duration: ``0.4 s``, ``42 s``, ``1 min 20 s``, ``2 h 05 min``."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"


def clock(seconds: float) -> str:
    """Returns a point on the run's clock: ``1:20``, ``1:02:03``."""
    whole = int(seconds) if math.isfinite(seconds) and seconds > 0 else 0
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count(value: float | None) -> str:
    """Returns a count in three digits: ``940``, ``12.3 k``, ``1.53 M``, ``2.1 G``."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{_three(value / size)} {unit}"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


def _three(value: float) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}"


def whole(value: int | None) -> str:
    """Returns an exact count: ``12,345``."""
    return UNKNOWN if value is None else f"{value:,}"


def percent(fraction: float | None, digits: int = 1) -> str:
    """Returns a fraction in percent: ``91.2 %``."""
    return UNKNOWN if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.{digits}f} %"


def score(value: float | None, metric: str) -> str:
    """Returns a score: accuracies in percent, others with four digits."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return percent(value) if is_percent(metric) else f"{value:.4f}"


def is_percent(metric: str) -> bool:
    """Whether people read the metric in percent."""
    return any(name in metric for name in _PERCENT)


def ms(value: float | None) -> str:
    """Returns milliseconds with three digits: ``6.42 ms``, ``0.081 ms``."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{_digits(value)} ms"


def _digits(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else UNKNOWN
    decimals = min(6, max(0, 2 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals and float(text).is_integer() else text


def latency_text(found: Latency | None) -> str:
    """Returns a latency with its interval and source; an analytic one is marked as about.

    ``6.42 ms (6.31–6.60, measured)``, ``6.42 ms (6.1–6.8, calibrated on 20)``, ``~6.4 ms (4.1–9.9, analytic)``.
    """
    if found is None:
        return UNKNOWN
    if found.source == "analytic":
        low, middle, high = (f"{_two(value)}" for value in (found.low, found.ms, found.high))
        return f"~{middle} ms ({low}–{high}, analytic)"
    source = f"calibrated on {found.n}" if found.source == "calibrated" and found.n else found.source
    return f"{_digits(found.ms)} ms ({_digits(found.low)}–{_digits(found.high)}, {source})"


def energy_text(found: Energy | None) -> str:
    """Returns an energy with its interval and source; one that was not measured is marked as about.

    ``12.4 mJ (12.1–12.7, measured)``, ``~12 mJ (6.0–24, prior)``.
    """
    if found is None:
        return UNKNOWN
    words, about = (_digits, "") if found.source == "measured" else (_two, "~")
    return f"{about}{words(found.mj)} mJ ({words(found.low)}–{words(found.high)}, {found.source})"


def cost_text(timed: Latency | None, used: Energy | None) -> str:
    """Returns a latency, and the energy that goes with it where that is known."""
    return latency_text(timed) + (f", {energy_text(used)}" if used is not None else "")


def _two(value: float) -> str:
    if not math.isfinite(value):
        return UNKNOWN
    return f"{value:.{max(0, 1 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def usd(usage: Usage) -> str:
    """Returns what calls cost; ``unpriced`` when the price is not known."""
    return dollars(usage.usd)


def dollars(value: float | None) -> str:
    """Returns US dollars: ``$0.0123``; ``unpriced`` when not known."""
    if value is None or not math.isfinite(value):
        return UNPRICED
    return f"${value:.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def priced(value: float | None) -> str:
    """Returns US dollars of calls that took place: ``$0.0123``; unknown when the price is, never 0."""
    return UNKNOWN if value is None else dollars(value)


def megabytes(value: float | None) -> str:
    """Returns megabytes of 2**20 bytes."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{_digits(value)} MB"


def shape(sizes: object) -> str:
    """Returns a tensor's shape: ``64×8×8``; unknown when it is not one."""
    return "×".join(str(size) for size in sizes) if isinstance(sizes, (tuple, list)) and sizes else UNKNOWN


def plural(n: int, noun: str) -> str:
    """Returns ``1 trial``, ``2 trials``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
