"""Time: durations as people write them, the run's own clock, and the plan that divides the budget."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from math import ceil, sqrt
from typing import Final

from llmnas.errors import InputError
from llmnas.network import Network
from llmnas.records import Plan, Settings

_UNITS: Final = {"ms": 0.001, "s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "hour": 3600.0,
                 "hours": 3600.0, "d": 86400.0}
_FORMS: Final = "write 30min, 90s, 1h30, 1h30min, 2 h, 250ms or a number of seconds"

RATE_CPU: Final = 8.0
"""Nominal training rate of one CPU core in 1e9 multiply-accumulates per second, forward and backward together.

Nominal rates decide how long a short training is; they are constants, so that the same command gives the same plan on
the same kind of machine. Wall time only ends things."""
RATE_CUDA: Final = 2000.0
LAUNCH_S: Final = {"cpu": 90e-6, "cuda": 10e-6}
"""Nominal seconds a layer costs per step besides its arithmetic."""


def parse_duration(text: str) -> float:
    """Returns the seconds in a duration: ``30min``, ``90s``, ``1h30``, ``2 ms``, or a bare number of seconds.

    Raises:
        InputError: Not a duration, or not positive; the message lists the forms.
    """
    plain = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", plain):
        plain += "s"
    if hours := re.fullmatch(r"(\d+)h(\d+)", plain):
        plain = f"{hours[1]}h{hours[2]}min"
    parts = re.findall(r"(\d+(?:\.\d+)?)([a-z]+)", plain)
    if not parts or "".join(number + unit for number, unit in parts) != plain or any(u not in _UNITS for _, u in parts):
        raise InputError(f"{text!r} is not a duration", _FORMS)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise InputError(f"{text!r} is not a positive duration", _FORMS)
    return seconds


def format_duration(seconds: float) -> str:
    """Returns a duration that `parse_duration` reads back, exact to the millisecond."""
    millis = round(seconds * 1000)
    parts = []
    for unit, size in (("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)):
        count, millis = divmod(millis, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


class Clock:
    """The run's clock: it stands still while no process runs, so a resumed run keeps its budget.

    Args:
        budget_s: The whole budget.
        used_s: Seconds used by earlier processes of this run, and by this one before the clock was made.
        now: A monotonic clock; tests pass their own.
    """

    def __init__(self, budget_s: float, used_s: float = 0.0, now: Callable[[], float] = time.monotonic) -> None:
        self.budget_s = budget_s
        self._now = now
        self._zero = now() - used_s

    def t(self) -> float:
        """Returns seconds on the run's clock."""
        return self._now() - self._zero

    def left(self) -> float:
        """Returns seconds until the budget ends; negative after it."""
        return self.budget_s - self.t()

    def monotonic(self, t: float) -> float:
        """Returns the moment `t` of the run's clock on `time.monotonic`, for deadlines handed to others."""
        return self._zero + t


def step_seconds(network: Network, batch: int, kind: str, cores: int) -> float:
    """Returns the nominal seconds of one training step: 3 passes of arithmetic, and launches."""
    rate = (RATE_CPU * cores if kind == "cpu" else RATE_CUDA) * 1e9
    return 3 * network.counts.macs * batch / rate + 3 * network.counts.layers * LAUNCH_S[kind]


def make_plan(settings: Settings, reference: Network, train_examples: int, batch: int, kind: str, cores: int,
              measured_latency: bool, has_model: bool) -> Plan:
    """Returns how the budget is divided, from the settings and nominal rates alone.

    Args:
        settings: Budget, screening and workers.
        reference: A network of middling cost of the space, on this data.
        train_examples: Size of the training part.
        batch: Batch size of the recipe.
        kind: ``cpu`` or ``cuda``.
        cores: CPU cores.
        measured_latency: Whether each screened network is timed.
        has_model: Whether proposals come from a language model.
    """
    budget = settings.budget_s
    wrap_s = min(15.0, max(4.0, 0.05 * budget))  # test, export and report
    usable = max(1.0, budget - wrap_s)
    final_s = 0.35 * usable
    full_s = 0.2 * usable if budget >= 300 else 0.0
    search_s = usable - final_s - full_s
    epoch_s = max(1e-3, step_seconds(reference, batch, kind, cores) * max(1, train_examples // batch))
    wanted = 8 + 2 * sqrt(search_s / 10)  # trainings: more with more time, each of them longer too
    short_s = max(0.5, 0.75 * search_s * settings.workers / wanted)
    epochs = int(min(30, max(1, short_s // epoch_s)))
    fraction = round(min(1.0, max(0.05, short_s / epoch_s)), 3) if epochs == 1 else 1.0
    expected = epochs * fraction * epoch_s
    screen_s = _screen_seconds(reference, kind, cores, measured_latency)
    ratio = int(min(4, max(1, 0.5 * expected / screen_s)))  # screening may take half as long as training
    promote = 2
    per_promoted = expected / settings.workers + ratio * screen_s
    trainings = int(search_s / per_promoted)
    rounds = trainings // promote
    return Plan(search_s=search_s, final_s=final_s, wrap_s=wrap_s, full_s=full_s, finalists=3 if full_s else 0,
                full_epochs=max(1, int(full_s / 3 / epoch_s)) if full_s else 0,
                short_epochs=epochs, short_fraction=fraction, short_s=expected,
                train_deadline_s=max(5.0, 6 * expected), batch=promote * ratio, promote=promote, trainings=trainings,
                proposals=trainings * ratio, calls=ceil(rounds) if has_model else None,
                rate=(RATE_CPU * cores if kind == "cpu" else RATE_CUDA),
                proxies=_affordable(screen_s, expected),
                warning="" if rounds >= 3 else (
                    f"only {rounds} round{'s' if rounds != 1 else ''} of proposals fit: a budget of about "
                    f"{format_duration(ceil(budget * 3 / max(0.5, rounds)))} gives three"))


def _screen_seconds(network: Network, kind: str, cores: int, measured_latency: bool) -> float:
    """Returns nominal seconds of counting, proxies (about six passes of 64 examples) and timing one network."""
    return 2 * step_seconds(network, 64, kind, cores) + (0.35 if measured_latency else 0.0) + 0.02


def _affordable(screen_s: float, training_s: float) -> tuple[str, ...]:
    """Returns the proxies to compute: all shared-pass ones, or counts alone when a training is cheaper than that."""
    counted = ("params", "flops")
    return (*counted, "synflow", "nwot", "jacov", "grad_norm", "snip") if screen_s < training_s else counted
