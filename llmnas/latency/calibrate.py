"""Calibration of a target: what was measured on it, kept in a file, and the predictor that comes of it.

A calibration holds the networks and their milliseconds, not coefficients: whoever reads the file can check them, and a
better predictor makes better use of them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from llmnas.errors import InputError
from llmnas.graph import Frozen
from llmnas.latency.analytic import costs
from llmnas.latency.counting import Floats
from llmnas.latency.kernels import Kernel
from llmnas.latency.measure import interleaved
from llmnas.latency.microbench import interpolated, operators, time_operators
from llmnas.latency.predictor import Predictor, choose, known
from llmnas.latency.target import Target
from llmnas.latency.timing import Conditions, never
from llmnas.network import Network

SCHEMA: Final = "llmnas.calibration/1"
NETWORKS: Final = 20
BUDGET_S: Final = 30.0
_MICRO_SHARE: Final = .6  # of the budget for single operators
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Sample(Frozen):
    """A network and what it took.

    Attributes:
        name: Of the architecture, for people.
        network: `Network.to_data`.
        ms: Median milliseconds per batch.
        low: Lower end of the 90 % interval; None when not known.
        high: Upper end.
    """

    name: str
    network: dict[str, Any]
    ms: Positive
    low: Positive | None = None
    high: Positive | None = None


class Operator(Frozen):
    """A single operator and what it took.

    Attributes:
        kernel: The fields of a `Kernel`.
        ms: Median milliseconds per call.
    """

    kernel: tuple[Any, ...]
    ms: Positive


class Calibration(Frozen):
    """Everything measured on one target.

    Attributes:
        schema_: Names this form.
        target: The target's key.
        origin: ``measured`` here, or ``samples`` that a person brought; then `source` names the file.
        source: Where they come from.
        made: When, ISO 8601 in UTC.
        seconds: Wall seconds it took.
        samples: Networks.
        operators: Single operators; empty when none were timed.
        conditions: What was measured on; None for samples from elsewhere.
    """

    schema_: Literal["llmnas.calibration/1"] = Field(default=SCHEMA, alias="schema")
    target: str
    origin: Literal["measured", "samples"]
    source: str
    made: str
    seconds: float | None = None
    samples: Annotated[tuple[Sample, ...], Field(min_length=1)]
    operators: tuple[Operator, ...] = ()
    conditions: Conditions | None = None

    def predictor(self, target: Target) -> Predictor:
        """Returns the predictor for this target."""
        networks = [Network.from_data(sample.network) for sample in self.samples]
        ms: Floats = np.array([sample.ms for sample in self.samples])
        table = {_kernel(operator.kernel): operator.ms for operator in self.operators}
        micro = interpolated(table, costs(target).expected) if table else None
        return Predictor(target, known(networks), ms, micro=micro)

    def fits(self, target: Target, here: Conditions | None = None) -> str:
        """Returns why it must not be used for a target, in words; nothing when it may.

        Args:
            target: What is to be predicted.
            here: What is here, for a target that can be timed here: another processor or torch makes it void.
        """
        if self.target != target.key:
            return f"it is for {self.target}"
        if self.conditions is not None and here is not None:
            for name in ("device_name", "torch"):
                was, is_ = getattr(self.conditions, name), getattr(here, name)
                if was != is_:
                    return f"it was measured with {name} {was}, here it is {is_}"
        return ""


def calibrate(target: Target, candidates: Sequence[Network], n: int = NETWORKS, budget_s: float = BUDGET_S,
              names: Sequence[str] = (), expired: Callable[[], bool] = never) -> Calibration:
    """Measures on a target what its predictor needs: single operators, then networks chosen among candidates.

    CPU time of one thread is what counts on a CPU, so a busy machine makes it slower, not wrong.

    Args:
        target: A measurable target.
        candidates: Networks of the spaces it will predict, some hundred; those to measure are chosen among them.
        n: How many networks.
        budget_s: Wall seconds for everything.
        names: What people call the candidates.
        expired: Whether to end now.

    Raises:
        InputError: The target cannot be timed here, or nothing was measured in time.
    """
    if not target.measurable:
        raise InputError(f"target {target.key!r} cannot be timed here: {target.reason}",
                         "bring measurements: llmnas latency calibrate --samples file.csv")
    started = time.monotonic()
    pool = known(candidates)
    chosen = choose(pool, target, n)
    alone = operators(candidates, costs(target).expected)
    table = time_operators(alone, target, _MICRO_SHARE * budget_s, expired)
    left = budget_s - (time.monotonic() - started)
    networks = [candidates[place] for place in chosen]
    measured = interleaved(networks, target, max(.1, .85 * left / max(len(networks), 1)), expired)
    samples = tuple(
        Sample(name=names[place] if names else str(place), network=candidates[place].to_data(), ms=found.latency.ms,
               low=found.latency.low, high=found.latency.high)
        for place, found in zip(chosen, measured, strict=True) if found is not None)
    if not samples:
        raise InputError("nothing was measured in time", "give a longer --budget")
    return Calibration(target=target.key, origin="measured", source="this machine", made=_now(),
                       seconds=time.monotonic() - started, samples=samples,
                       operators=tuple(Operator(kernel=tuple(kernel), ms=ms) for kernel, ms in table.items()),
                       conditions=next(found.conditions for found in measured if found is not None))


def from_samples(target: Target, networks: Sequence[Network], ms: Sequence[float], names: Sequence[str],
                 source: str) -> Calibration:
    """Returns the calibration that a person's own measurements amount to.

    Args:
        target: Where they were measured.
        networks: What was measured.
        ms: Milliseconds per batch.
        names: Of the architectures.
        source: Where they come from.
    """
    samples = tuple(Sample(name=name, network=network.to_data(), ms=value)
                    for name, network, value in zip(names, networks, ms, strict=True))
    return Calibration(target=target.key, origin="samples", source=source, made=_now(), samples=samples)


def folder() -> Path:
    """Returns where calibrations are kept: ``$LLMNAS_HOME/latency``, by default below ``~/.cache/llmnas``."""
    return Path(os.environ.get("LLMNAS_HOME") or Path.home() / ".cache" / "llmnas") / "latency"


def path_of(target: Target) -> Path:
    """Returns the file that a target's calibration is kept in."""
    return folder() / (re.sub(r"[^a-z0-9_]+", "-", target.key.lower()).strip("-") + ".json")


def save(calibration: Calibration, path: Path) -> None:
    """Writes a calibration, replacing an older one whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(calibration.model_dump_json(by_alias=True, indent=1), encoding="utf-8")
    part.replace(path)


def read(path: Path) -> Calibration:
    """Returns the calibration in a file.

    Raises:
        InputError: It is not there, or is none.
    """
    try:
        return Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, ValueError) as fault:
        raise InputError(f"{path}: not a calibration: {fault}", "make it anew: llmnas latency calibrate") from fault


def stored(target: Target, here: Conditions | None = None) -> tuple[Calibration | None, str]:
    """Returns the calibration kept for a target, if there is one that fits, and why not if not.

    Args:
        target: What is to be predicted.
        here: As of `Calibration.fits`.
    """
    path = path_of(target)
    if not path.exists():
        return None, "there is none"
    found = read(path)
    why = found.fits(target, here)
    return (None, f"{path} is not used: {why}") if why else (found, "")


def predictor_for(target: Target, here: Conditions | None = None) -> Predictor:
    """Returns the best predictor there is for a target: from its kept calibration, else the analytic one."""
    calibration, _ = stored(target, here)
    return Predictor(target) if calibration is None else calibration.predictor(target)


def _kernel(fields: Sequence[Any]) -> Kernel:
    return Kernel(*fields)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
