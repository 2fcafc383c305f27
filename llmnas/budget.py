"""Time: durations as people write them, the run's own clock, and the plan that divides the budget."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from math import ceil, prod, sqrt
from statistics import fmean
from typing import Final

from llmnas.errors import InputError
from llmnas.network import Network
from llmnas.records import Plan, Rates, Settings

_UNITS: Final = {"ms": 0.001, "s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "hour": 3600.0,
                 "hours": 3600.0, "d": 86400.0}
_FORMS: Final = "write 30min, 90s, 1h30, 1h30min, 2 h, 250ms or a number of seconds"

RATES: Final[dict[str, Rates]] = {
    # Fitted to the training steps of 53 networks of all spaces (batch 64, channels last, two threads of a server CPU,
    # torch 2.13; non-negative least squares of relative errors): median error 15 %, rank correlation .98. Per core.
    "cpu": Rates(mac_s=7.6e-11, depthwise_s=9.2e-10, value_s=1.15e-9, layer_s=1.4e-4),
    # Not measured: a middling GPU at a third of its fp32 peak, six passes over each value at 300 GB/s, 30 us a layer.
    "cuda": Rates(mac_s=1.5e-12, depthwise_s=1.5e-11, value_s=8e-11, layer_s=3e-5),
}
"""Nominal rates decide how long a short training is and which networks fit the time. They are constants, so that the
same command gives the same plan on the same kind of machine. Wall time only ends things."""
SATURATED: Final = 60
"""Epochs after which more of them bring a small network little. Networks that all see as many in their final training
differ by their capacity; an equal time in a short one would favour the smallest, which sees the most epochs in it."""
COUNTED: Final = ("params", "flops")
SCREENING: Final = (*COUNTED, "synflow", "nwot", "jacov", "grad_norm", "snip")
"""Proxies computed for every screened network: all share one forward of a batch, or are cheap beside it."""
MIN_EPOCHS: Final = 12
"""Epochs that a network must be able to see in its final training to be worth a short one."""


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


def rates_for(kind: str, cores: int) -> Rates:
    """Returns the nominal rates of a device: ``cpu`` with so many cores, or ``cuda``."""
    rates = RATES[kind]
    if kind != "cpu":
        return rates
    return rates.model_copy(update={name: getattr(rates, name) / cores for name in ("mac_s", "depthwise_s", "value_s")})


def most_macs(plan: Plan, designs: Sequence[Network]) -> int | None:
    """Returns the MACs of the dearest of these networks that can be trained in the time; None when all can, or none."""
    costs = [(network.counts.macs, epoch_seconds(network, plan.rates, plan.train_batch, plan.train_steps))
             for network in designs]
    fitting = [macs for macs, seconds in costs if seconds <= plan.max_epoch_s]
    return max(fitting) if fitting and len(fitting) < len(costs) else None


def epoch_seconds(network: Network, rates: Rates, batch: int, steps: int) -> float:
    """Returns the nominal seconds of one epoch of `steps` steps of `batch` examples."""
    light = sum(layer.macs for layer in network.layers if layer.groups > 1 and layer.kind == "conv")
    values = sum(prod(layer.shape) for layer in network.layers)
    example_s = (network.counts.macs - light) * rates.mac_s + light * rates.depthwise_s + values * rates.value_s
    return steps * (batch * example_s + network.counts.layers * rates.layer_s)


def scaled_seconds(epoch_s: float, final_s: float, longest_s: float) -> float:
    """Returns the nominal seconds of a training that is the final one scaled down.

    A network whose final training reaches `SATURATED` epochs gets as many epochs as every other such network; a dearer
    one gets the same share of its final training, hence fewer.

    Args:
        epoch_s: Nominal seconds of an epoch of the network.
        final_s: Seconds of the final training.
        longest_s: Nominal seconds for the dearest networks.
    """
    return longest_s * min(1.0, SATURATED * epoch_s / final_s)


def make_plan(settings: Settings, designs: Sequence[Network], train_examples: int, batch: int, kind: str, cores: int,
              timed: float, has_model: bool) -> Plan:
    """Returns how the budget is divided, from the settings and nominal rates alone.

    Args:
        settings: Budget, screening and workers.
        designs: Known-good networks of the space on this data, cheapest first.
        train_examples: Size of the training part.
        batch: Batch size of the recipe.
        kind: ``cpu`` or ``cuda``.
        cores: CPU cores.
        timed: On how many targets each screened network is timed, on average.
        has_model: Whether proposals come from a language model.
    """
    rates, steps = rates_for(kind, cores), max(1, train_examples // batch)
    budget = settings.budget_s
    wrap_s = min(15.0, max(4.0, 0.05 * budget))  # test, export and report
    usable = max(1.0, budget - wrap_s)
    final_s = 0.35 * usable
    full_s = 0.2 * usable if budget >= 300 else 0.0
    search_s = usable - final_s - full_s

    costs = [epoch_seconds(network, rates, batch, steps) for network in designs]
    max_epoch_s = max(final_s / MIN_EPOCHS, 1.5 * min(costs))
    fitting = [place for place, cost in enumerate(costs) if cost <= max_epoch_s]
    reference = designs[fitting[(3 * len(fitting)) // 4 if len(fitting) > 1 else 0]]

    wanted = 6 + 1.5 * sqrt(search_s / 10)  # trainings: more with more time, each of them longer too
    short_s = max(0.5, 0.75 * search_s * settings.workers / wanted)
    fill = fmean(scaled_seconds(costs[place], final_s, 1.0) for place in fitting)
    screen_s = 2 * epoch_seconds(reference, rates, 64, 1) + 0.35 * timed + 0.02
    ratio = int(min(4, max(1, 0.5 * short_s / screen_s)))  # screening may take half as long as training
    promote = 2
    trainings = int(search_s / (short_s / settings.workers + ratio * screen_s))
    rounds = trainings // promote
    return Plan(search_s=search_s, final_s=final_s, wrap_s=wrap_s, full_s=full_s, finalists=3 if full_s else 0,
                short_s=short_s, longest_s=short_s / fill, train_deadline_s=max(5.0, 8 * short_s),
                batch=promote * ratio, promote=promote, trainings=trainings,
                proposals=trainings * ratio, calls=ceil(rounds) if has_model else None, rates=rates,
                train_batch=batch, train_steps=steps, max_epoch_s=max_epoch_s,
                proxies=_affordable(screen_s, short_s), warning=_warning(budget, rounds))


def _affordable(screen_s: float, training_s: float) -> tuple[str, ...]:
    """Returns the proxies to compute: all shared-pass ones, or counts alone when a training is cheaper than that."""
    return SCREENING if screen_s < training_s else COUNTED


def _warning(budget: float, rounds: int) -> str:
    if rounds >= 3:
        return ""
    enough = format_duration(ceil(budget * 3 / max(0.5, rounds)))
    return f"only {rounds} round{'s' if rounds != 1 else ''} of proposals fit: a budget of about {enough} gives three"
