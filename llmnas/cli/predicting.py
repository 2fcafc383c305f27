"""What `llmnas latency predict` computes and says."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from llmnas.cli.here import Kept, Machine, kept, probe
from llmnas.cli.samples import Reading, Subject, subjects_of
from llmnas.errors import InputError
from llmnas.executors import LocalExecutor
from llmnas.latency import Target, estimate_energy
from llmnas.latency.analytic import breakdown
from llmnas.latency.predictor import Known, Passes, Predictor, counted, passes_of, passes_of_calls
from llmnas.network import Network, Shape
from llmnas.records import Energy, Latency
from llmnas.report.format import energy_text, latency_text
from llmnas.report.show import table

SCHEMA: Final = "llmnas.latency.predict/1"
_SEEN: Final = .005  # a share of strange operators that is not worth a word


class Asked(NamedTuple):
    """One thing to predict.

    Attributes:
        name: For people.
        passes: Its calls, by execution.
        choices: How it was chosen.
        network: None for a module.
    """

    name: str
    passes: Passes
    choices: tuple[str, ...] = ()
    network: Network | None = None


def answer(files: Sequence[Path], modules: Sequence[str], specs: Sequence[str], space: str | None,
           shape: Shape | None, classes: int | None, calibration: Path | None, explain: bool) -> dict[str, Any]:
    """Returns the predictions for graphs and modules on targets, as the command's JSON document.

    Raises:
        InputError: Nothing to predict, or something that cannot be.
    """
    asked = [*map(_of_subject, subjects_of(files, Reading(space, shape, classes))),
             *(_of_module(spec, shape) for spec in modules)]
    if not asked:
        raise InputError("nothing to predict", "give files with graphs, or --module package.file:function --shape …")
    with LocalExecutor() as executor:
        machine = Machine(probe(executor))
    targets = machine.targets(specs)
    if calibration is not None and len(targets) > 1:
        raise InputError("--calibration is of one target", "give one --target")
    used = {target.key: kept(target, machine.here(target), calibration) for target in targets}
    if calibration is not None and used[targets[0].key].calibration is None:
        raise InputError(used[targets[0].key].why, "give the calibration of this target, or make it anew")
    found = {target.key: _on(target, used[target.key], asked, explain) for target in targets}
    return {"schema": SCHEMA, "names": [one.name for one in asked], "targets": found}


def _of_subject(subject: Subject) -> Asked:
    return Asked(subject.name, passes_of(subject.network), subject.choices, subject.network)


def _of_module(spec: str, shape: Shape | None) -> Asked:
    """Returns the traced calls of what a function returns.

    Raises:
        InputError: There is no such function, it returns no module, or there is no shape.
    """
    from torch import nn

    from llmnas.latency.trace import traced

    if shape is None:
        raise InputError(f"--module {spec}: the shape of one example is not known", "give --shape 3x32x32")
    file, _, function = spec.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = getattr(import_module(file), function)()
    except Exception as fault:  # a person's own code may raise anything
        raise InputError(f"--module {spec}: {type(fault).__name__}: {fault}",
                         "give package.file:function, a function without arguments that returns a module") from fault
    if not isinstance(module, nn.Module):
        raise InputError(f"--module {spec}: expected a torch module, got {type(module).__name__}",
                         "return the module itself")
    return Asked(spec, passes_of_calls(*traced(module, shape)))


def _on(target: Target, used: Kept, asked: Sequence[Asked], explain: bool) -> dict[str, Any]:
    networks = _known(used.predictor, asked)
    latencies = [used.predictor.latencies(_known(used.predictor, [one]))[0] for one in asked]
    energies = [estimate_energy(latency, target) for latency in latencies]
    rows = [{"latency": latency.model_dump(mode="json"), "energy": None if energy is None else energy.model_dump(
        mode="json"), "outside": float(strange), "beyond": float(beyond), "explained": _explained(one, target)
        if explain else None} for one, latency, energy, strange, beyond in zip(
            asked, latencies, energies, used.predictor.strange(networks), used.predictor.beyond(networks),
            strict=True)]
    return {"basis": used.says, "rows": rows, "faster": used.predictor.odds(networks).tolist()}


def _known(predictor: Predictor, asked: Sequence[Asked]) -> Known:
    genes = [predictor.genes(one.choices) for one in asked]
    told = [one for one in genes if one is not None]
    return counted([one.passes for one in asked], np.array(told) if len(told) == len(asked) else None)


def _explained(one: Asked, target: Target) -> dict[str, float] | None:
    """Returns the share of the analytic latency of every graph node; None for a module."""
    if one.network is None:
        return None
    parts = breakdown(one.network, target)
    whole = sum(parts.values())
    return {node or "skeleton": ms / whole for node, ms in sorted(parts.items(), key=lambda part: -part[1])}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yields the answer in words: every latency with its interval and source, never alone."""
    for key, on in found["targets"].items():
        yield f"{key}: {on['basis']}"
        for place, (name, row) in enumerate(zip(found["names"], on["rows"], strict=True), start=1):
            yield f"  {place}  {name}"
            yield from (f"     {line}" for line in _row(row))
        yield from _odds(on["faster"])


def _row(row: dict[str, Any]) -> Iterator[str]:
    energy = "energy unknown" if row["energy"] is None else energy_text(Energy.model_validate(row["energy"]))
    yield f"{latency_text(Latency.model_validate(row['latency']))}, {energy}"
    if row["outside"] > _SEEN:
        yield (f"outside the calibration: {100 * row['outside']:.0f} % of the expected time is in operators that no "
               "sample has; the interval is wider")
    if row["beyond"] > _SEEN:
        yield (f"outside the calibration: by a factor of {np.exp(row['beyond']):.2f} beyond the latencies of its "
               "samples; the interval is wider")
    for node, share in (row["explained"] or {}).items():
        yield f"{100 * share:5.1f} % {node}"


def _odds(faster: list[list[float]]) -> Iterator[str]:
    """Yields which is faster, with what probability."""
    n = len(faster)
    if n == 2:
        yield f"  P(1 is faster than 2) = {_percent(faster[0][1])}"
    elif n > 2:
        yield "  P(row is faster than column)"
        head = ("", *(str(column + 1) for column in range(n)))
        yield table([head, *((str(row + 1), *("" if row == column else _percent(faster[row][column])
                                               for column in range(n))) for row in range(n))],
                    right=tuple(range(1, n + 1)))


def _percent(share: float) -> str:
    return "< 1 %" if share < .01 else "> 99 %" if share > .99 else f"{100 * share:.0f} %"
