"""What `llmnas latency check` does and says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmnas.cli.calibrating import Wanted
from llmnas.cli.here import Machine, kept, note, probe, run_job
from llmnas.cli.samples import Subject, drawn, read_samples
from llmnas.errors import CheckFailed, InputError
from llmnas.executors import Executor, Job, LocalExecutor
from llmnas.latency import Target
from llmnas.latency.calibrate import Calibration, Sample
from llmnas.latency.check import check as compared
from llmnas.latency.predictor import Expected, Predictor, counted, passes_of
from llmnas.network import Network
from llmnas.records import Latency
from llmnas.space import list_spaces

SCHEMA: Final = "llmnas.latency.check/1"


def answer(wanted: Wanted, n: int, budget_s: float, samples: Path | None, calibration: Path | None) -> dict[str, Any]:
    """Returns predictions against fresh measurements or held-out samples, as the command's JSON document.

    Raises:
        InputError: There is no calibration that fits, or nothing to compare it with.
    """
    with LocalExecutor() as executor:
        machine = Machine(probe(executor))
        target = machine.targets([wanted.target])[0]
        used = kept(target, machine.here(target), calibration)
        if used.calibration is None:
            raise InputError(f"there is no calibration of {target.key}" + (f": {used.why}" if used.why else ""),
                             f"llmnas latency calibrate --target {target.key}")
        fresh = _measured(executor, target, wanted, used.calibration, n, budget_s) if samples is None else _held_out(
            samples, wanted, used.calibration)
    found = compared(_expected(used.predictor, fresh), [one.ms for one in fresh])
    return {"schema": SCHEMA, "target": target.key, "basis": used.says, "against":
            "measured now" if samples is None else str(samples), **found.model_dump(), "order": found.order,
            "intervals": found.intervals}


def _measured(executor: Executor, target: Target, wanted: Wanted, calibration: Calibration, n: int,
              budget_s: float) -> list[Sample]:
    """Returns random networks that the calibration was not made from, measured now in turn."""
    if not target.measurable:
        raise InputError(f"target {target.key!r} cannot be timed here: {target.reason}",
                         "bring held-out measurements: --samples FILE.csv")
    used = _networks(calibration)
    shapes = wanted.shapes or tuple(sorted(calibration.shapes))
    pool = drawn(wanted.spaces or _spaces(calibration), shapes, wanted.classes, n + len(used), wanted.seed)
    fresh = [one for one in pool if one.network not in used][:n]
    payload = {"networks": [one.network.to_data() for one in fresh], "target": target.model_dump(mode="json"),
               "budget_s": budget_s / max(len(fresh), 1), "interleave": True}
    found = run_job(executor, Job(kind="measure", payload=payload), "timing")["latencies"]
    samples = [_sample(one, Latency.model_validate(latency)) for one, latency in zip(fresh, found, strict=True)
               if "error" not in latency]
    if not samples:
        raise InputError("nothing was measured: " + next(iter(one["error"] for one in found), "no fresh network"),
                         "give a longer --budget, or another --space")
    return samples


def _spaces(calibration: Calibration) -> tuple[str, ...]:
    """Returns the spaces a calibration is of; empty when it does not say.

    Raises:
        InputError: One of them is a file of a person's own.
    """
    if own := sorted(set(calibration.spaces) - set(list_spaces())):
        raise InputError(f"the calibration is of space {own[0]!r}, whose file is not known",
                         "give --space FILE.yaml")
    return calibration.spaces


def _sample(subject: Subject, found: Latency) -> Sample:
    return Sample(name=subject.name, network=subject.network.to_data(), ms=found.ms, low=found.low, high=found.high,
                  choices=subject.choices)


def _held_out(file: Path, wanted: Wanted, calibration: Calibration) -> list[Sample]:
    """Returns a person's measurements of networks that the calibration was not made from."""
    samples, notes = read_samples(file, wanted.reading(), wanted.average)
    used = _networks(calibration)
    left = [sample for sample in samples if Network.from_data(sample.network) not in used]
    for text in notes:
        note(text)
    if len(left) < len(samples):
        note(f"{len(samples) - len(left)} of {len(samples)} samples are left out: the calibration was made from them")
    if not left:
        raise InputError(f"{file}: the calibration was made from every one of these networks",
                         "measure others, which tell how it does on new ones")
    return left


def _networks(calibration: Calibration) -> set[Network]:
    return {Network.from_data(sample.network) for sample in calibration.samples}


def _expected(predictor: Predictor, samples: Sequence[Sample]) -> Expected:
    genes = [predictor.genes(sample.choices) for sample in samples]
    told = [one for one in genes if one is not None]
    return predictor.expect(counted([passes_of(Network.from_data(sample.network)) for sample in samples],
                                    np.array(told) if len(told) == len(samples) else None))


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yields the answer in words."""
    n = found["n"]
    yield f"{found['target']}: {found['basis']}"
    yield f"  against {n} network{'s' if n != 1 else ''} that it was not made from, {found['against']}"
    yield f"  order: {_order(found)}"
    yield f"  mean error {100 * found['mape']:.1f} %; within 10 %: {round(n * found['within_10'])} of {n}"
    yield (f"  90 % intervals: {found['covered']} of {n} hold (95 % interval of that share "
           f"{100 * found['covered_low']:.0f}–{100 * found['covered_high']:.0f} %): {found['intervals']}")


def _order(found: dict[str, Any]) -> str:
    if found["spearman"] is None:
        return "not decided: nothing varies"
    if found["spearman_low"] is None:
        return f"not decided by {found['n']} networks"
    return (f"{found['order']}: Spearman {found['spearman']:.3f} (95 % interval {found['spearman_low']:.3f} to "
            f"{found['spearman_high']:.3f})")


def judged(found: dict[str, Any], max_mape: float | None) -> None:
    """Raises when the mean error is above a limit.

    Raises:
        CheckFailed: It is.
    """
    if max_mape is not None and found["mape"] > max_mape:
        raise CheckFailed(f"the mean error {found['mape']:.3f} is above --max-mape {max_mape:g}",
                          f"llmnas latency calibrate --target {found['target']}, with more networks")
