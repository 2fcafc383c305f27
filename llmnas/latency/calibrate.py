"""Calibration of a target: what was measured on it, kept in a file, and the predictor that comes of it.

A calibration holds the networks and their milliseconds, not coefficients: whoever reads the file can check them, and a
better predictor makes better use of them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from pydantic import Field, ValidationError

from llmnas.errors import InputError
from llmnas.graph import Frozen
from llmnas.latency.analytic import costs
from llmnas.latency.counting import Floats
from llmnas.latency.estimate import Never, Stop
from llmnas.latency.genes import Choices, encoded, genes_of
from llmnas.latency.kernels import Kernel
from llmnas.latency.measure import interleaved
from llmnas.latency.microbench import interpolated, operators, time_operators
from llmnas.latency.predictor import MEASUREMENT, Predictor, choose, known
from llmnas.latency.target import Target, parse_target
from llmnas.latency.timing import BETWEEN_ROUNDS, Conditions, never
from llmnas.network import Network, Shape

SCHEMA: Final = "llmnas.calibration/1"
NETWORKS: Final = 20
BUDGET_S: Final = 30.0
LEAST_S: Final = 20.0
"""Wall seconds that the networks may take, whatever is left of the budget: on a busy machine none would be measured."""
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
        choices: What was chosen in every slot; empty where the wiring is free.
    """

    name: str
    network: dict[str, Any]
    ms: Positive
    low: Positive | None = None
    high: Positive | None = None
    choices: Choices = ()


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
        proxy: Measurements of another device, whose predictions are a feature of this one's.
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
    proxy: Calibration | None = None

    @property
    def shapes(self) -> frozenset[Shape]:
        """Input shapes of the samples."""
        return frozenset(tuple(sample.network["input_shape"]) for sample in self.samples)

    @property
    def spaces(self) -> tuple[str, ...]:
        """Names of the spaces of the samples; empty when some are of no space with fixed slots."""
        named = [sample.choices[0].partition("/")[0] if sample.choices else "" for sample in self.samples]
        return tuple(sorted(set(named))) if all(named) else ()

    @property
    def says(self) -> str:
        """What it is, in words."""
        by = "measured here" if self.origin == "measured" else f"samples of {self.source}"
        return f"{len(self.samples)} network{'s' if len(self.samples) != 1 else ''}, {by}, {self.made[:10]}"

    def predictor(self, target: Target) -> Predictor:
        """Returns the predictor for this target."""
        chosen = [sample.choices for sample in self.samples]
        networks = [Network.from_data(sample.network) for sample in self.samples]
        ms: Floats = np.array([sample.ms for sample in self.samples])
        table = {_kernel(operator.kernel): operator.ms for operator in self.operators}
        micro = interpolated(table, costs(target).expected) if table else None
        proxy = None if self.proxy is None else self.proxy.predictor(_target(self.proxy.target))
        repeats = BETWEEN_ROUNDS if self.origin == "measured" else MEASUREMENT
        return Predictor(target, known(networks, encoded(chosen)), ms, micro=micro, proxy=proxy, code=genes_of(chosen),
                         measurement=repeats)

    def fits(self, target: Target, here: Conditions | Here | None = None, shape: Shape | None = None) -> str:
        """Returns why it must not be used for a target, in words; nothing when it may.

        Args:
            target: What is to be predicted.
            here: What is here, for a target that can be timed here: another processor or torch makes it void.
            shape: Of the examples; for a target that can be timed here it must be one of the samples', because there
                a measurement is always to be had. None does not ask.
        """
        if self.target != target.key:
            return f"it is for {self.target}"
        if self.conditions is not None and here is not None and target.measurable:
            for name, of in (("device_name", "on"), ("torch", "with torch")):
                was, is_ = getattr(self.conditions, name), getattr(here, name)
                if was != is_:
                    return f"made {of} {was}, here {is_}"
        if target.measurable and shape is not None and shape not in self.shapes:
            return f"made on inputs of {_sizes(self.shapes)}, here {_sizes([shape])}"
        return ""


class Here(NamedTuple):
    """What is here, as far as it makes a calibration void.

    Attributes:
        device_name: What the hardware calls itself.
        torch: Its version.
    """

    device_name: str
    torch: str


def here_for(target: Target, machine: Mapping[str, Any]) -> Here:
    """Returns what is here.

    Args:
        target: For what kind of device.
        machine: What the ``probe`` job found.
    """
    gpus = machine["gpus"]
    return Here(gpus[0] if target.kind == "gpu" and gpus else machine["cpu"], machine["torch"])


def calibrate(target: Target, candidates: Sequence[Network], n: int = NETWORKS, budget_s: float = BUDGET_S,
              names: Sequence[str] = (), choices: Sequence[Choices] = (),
              expired: Callable[[], bool] = never) -> Calibration:
    """Measures on a target what its predictor needs: single operators, then networks chosen among candidates.

    CPU time of one thread is what counts on a CPU, so a busy machine makes it slower, not wrong.

    Args:
        target: A measurable target.
        candidates: Networks of the spaces it will predict, some hundred; those to measure are chosen among them.
        n: How many networks.
        budget_s: Wall seconds for everything; three runs of every network are made whatever it is.
        names: What people call the candidates.
        choices: How they were chosen.
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
    networks = [candidates[place] for place in chosen]
    each_s = max(.1, .85 * (started + budget_s - time.monotonic()) / max(len(networks), 1))
    measured = interleaved(networks, target, each_s, expired)
    samples = tuple(
        Sample(name=names[place] if names else str(place), network=candidates[place].to_data(), ms=found.latency.ms,
               low=found.latency.low, high=found.latency.high, choices=choices[place] if choices else ())
        for place, found in zip(chosen, measured, strict=True) if found is not None)
    if not samples:
        raise InputError("nothing was measured in time", "give a longer --budget")
    return Calibration(target=target.key, origin="measured", source="this machine", made=_now(),
                       seconds=time.monotonic() - started, samples=samples,
                       operators=tuple(Operator(kernel=tuple(kernel), ms=ms) for kernel, ms in table.items()),
                       conditions=next(found.conditions for found in measured if found is not None))


def calibrate_job(payload: dict[str, Any], stop: Stop | None = None) -> dict[str, Any]:
    """Calibrates in a child process.

    Args:
        payload: ``networks`` (list of `Network.to_data`), ``target`` (a dumped `Target`), ``n``, ``budget_s``,
            ``names`` and ``choices``: the arguments of `calibrate`.
        stop: Asked between runs whether to end; what is measured until then counts.

    Returns:
        ``calibration``: a dumped `Calibration`.
    """
    networks = [Network.from_data(data) for data in payload["networks"]]
    choices = [tuple(chosen) for chosen in payload["choices"]]
    found = calibrate(Target.model_validate(payload["target"]), networks, payload["n"], payload["budget_s"],
                      payload["names"], choices, (stop or Never()).expired)
    return {"calibration": found.model_dump(mode="json", by_alias=True)}


def from_samples(target: Target, samples: Sequence[Sample], source: str,
                 proxy: Calibration | None = None) -> Calibration:
    """Returns the calibration that a person's own measurements amount to.

    Args:
        target: Where they were measured.
        samples: What was measured.
        source: Where they come from.
        proxy: Likewise for another device.
    """
    return Calibration(target=target.key, origin="samples", source=source, made=_now(), samples=tuple(samples),
                       proxy=proxy)


def folder() -> Path:
    """Returns where calibrations are kept: ``$LLMNAS_HOME/latency``, by default below ``~/.cache/llmnas``."""
    return Path(os.environ.get("LLMNAS_HOME") or Path.home() / ".cache" / "llmnas") / "latency"


def path_of(target: Target, below: Path | None = None) -> Path:
    """Returns the file that a target's calibration is kept in, in `folder` or another one."""
    return (below or folder()) / (re.sub(r"[^a-z0-9_]+", "-", target.key.lower()).strip("-") + ".json")


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


def stored(target: Target, here: Conditions | Here | None = None,
           shape: Shape | None = None) -> tuple[Calibration | None, str]:
    """Returns the calibration kept for a target, if there is one that fits, and why not if not.

    Args:
        target: What is to be predicted.
        here: As of `Calibration.fits`.
        shape: Likewise.
    """
    path = path_of(target)
    if not path.exists():
        return None, ""
    found = read(path)
    why = found.fits(target, here, shape)
    return (None, f"the calibration {path} is not used: {why}") if why else (found, "")


def predictor_for(target: Target, here: Conditions | Here | None = None) -> Predictor:
    """Returns the best predictor there is for a target: from its kept calibration, else the analytic one."""
    calibration, _ = stored(target, here)
    return Predictor(target) if calibration is None else calibration.predictor(target)


def _kernel(fields: Sequence[Any]) -> Kernel:
    return Kernel(*fields)


def _target(key: str) -> Target:
    """Returns a target of which only predictions are wanted."""
    return parse_target(key, False)


def _sizes(shapes: Iterable[Shape]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in sorted(shapes))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
