"""Measurements that a person brings, and graphs to measure, as networks."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from io import StringIO
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

import numpy as np

from llmnas.cli.catalogue import read_graphs
from llmnas.errors import InputError
from llmnas.graph import ArchGraph
from llmnas.latency.calibrate import Sample
from llmnas.latency.genes import Choices
from llmnas.network import Network, Shape
from llmnas.space import Digits, Space, load_space, parse_graph

COLUMNS: Final = ("architecture", "ms", "low", "high")
_FORM: Final = "the first line names the columns: architecture,ms[,low,high]"
IMAGES: Final = ("nb201", "convnet")
SEQUENCES: Final = ("conv1d",)


class Subject(NamedTuple):
    """A network, and what is known of where it comes from.

    Attributes:
        name: For people.
        network: What runs.
        choices: What was chosen in every slot.
    """

    name: str
    network: Network
    choices: Choices = ()


class Reading(NamedTuple):
    """How architectures in a file become networks.

    Attributes:
        space: For digits, and graphs that name no space; None when nobody said.
        shape: Of one example; None takes the space's usual one.
        classes: Likewise.
    """

    space: str | None = None
    shape: Shape | None = None
    classes: int | None = None

    def subject(self, name: str, graph: ArchGraph, space: Space, raw: bool = False) -> Subject:
        """Returns the network of a graph.

        Raises:
            InputError: The graph is not legal in its space on this shape.
        """
        if issues := space.validate(graph, self.shape, self.classes):
            raise InputError("; ".join(map(str, issues)))
        return Subject(name, space.network(graph, self.shape, self.classes, raw), space.choices(graph))


def subjects_of(files: Sequence[Path], reading: Reading) -> list[Subject]:
    """Returns the graphs in JSON files as networks.

    Raises:
        InputError: With the file.
    """
    found = []
    for file in files:
        graphs = read_graphs(file, reading.space or "nb201")
        for place, (space, graph) in enumerate(graphs, start=1):
            name = f"{file}:{place}" if len(graphs) > 1 else str(file)
            try:
                found.append(reading.subject(name, graph, load_space(space)))
            except InputError as fault:
                raise InputError(f"{name}: {fault.message}", fault.hint) from None
    return found


def read_samples(path: Path, reading: Reading, average: bool = False) -> tuple[list[Sample], list[str]]:
    """Returns the measurements in a CSV file, and what there is to say of them.

    An architecture is a graph's JSON, the path of a file with one graph (relative to the CSV), or the digits of a table
    space; digits name the network of the published table, with its dead branches.

    Args:
        path: The file, columns `COLUMNS`; low and high may be missing or empty.
        reading: How architectures are read.
        average: Whether several measurements of one network are averaged.

    Raises:
        InputError: With file and line.
    """
    found: dict[Network, list[tuple[int, Sample]]] = {}
    for line, row in _rows(path):
        try:
            subject = _subject(row["architecture"].strip(), path.parent, reading)
            sample = _sample(subject, row)
        except InputError as fault:
            raise InputError(f"{path}, line {line}: {fault.message}", fault.hint) from None
        found.setdefault(subject.network, []).append((line, sample))
    if not found:
        raise InputError(f"{path}: no samples, expected at least one line after the first", _FORM)
    return _distinct(path, list(found.values()), average)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(f"{path}: cannot be read: {fault}", "give a CSV file of measurements") from None
    reader = csv.DictReader(StringIO(text, newline=""), strict=True, skipinitialspace=True)
    names = [name.strip() for name in reader.fieldnames or ()]
    if unknown := [name for name in names if name not in COLUMNS]:
        raise InputError(f"{path}, line 1: unknown column {unknown[0]!r}", _FORM)
    if missing := [name for name in COLUMNS[:2] if name not in names]:
        raise InputError(f"{path}, line 1: there is no column {missing[0]!r}", _FORM)
    reader.fieldnames = names
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InputError(f"{path}, line {reader.line_num}: expected {len(names)} values",
                                 "quote a graph's JSON and double the quotes in it")
            yield reader.line_num, row
    except csv.Error as fault:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {fault}", _FORM) from None


def _subject(text: str, folder: Path, reading: Reading) -> Subject:
    if text.startswith("{"):
        return _graph(text, reading)
    if text.isdigit():
        return _digits(text, reading)
    if not text:
        raise InputError("no architecture", _FORM)
    graphs = read_graphs(folder / text, reading.space or "nb201")
    if len(graphs) != 1:
        raise InputError(f"{text} has {len(graphs)} graphs, expected one", "write one file a graph")
    return reading.subject(text, graphs[0][1], load_space(graphs[0][0]))


def _graph(text: str, reading: Reading) -> Subject:
    try:
        body = json.loads(text)
    except ValueError as fault:
        raise InputError(f"not JSON: {fault}", "see docs/graphs.md for the form") from None
    body.pop("meta", None)
    space = load_space(str(body.get("space", reading.space or "nb201")))
    graph, issues = parse_graph(body, space.name)
    if graph is None:
        raise InputError("; ".join(map(str, issues)), "see docs/graphs.md for the form")
    return reading.subject(graph.key(), graph, space)


def _digits(text: str, reading: Reading) -> Subject:
    if reading.space is None:
        raise InputError(f"{text!r} are digits, of no space", "say which: --space nb201")
    space = load_space(reading.space)
    return reading.subject(text, Digits(space).graph(text), space, raw=True)


def _sample(subject: Subject, row: dict[str, str]) -> Sample:
    ms, low, high = (_positive(name, row.get(name, "")) for name in COLUMNS[1:])
    if ms is None:
        raise InputError("no ms", "leave the line out when nothing was measured")
    if (low is not None and low > ms) or (high is not None and high < ms):
        raise InputError(f"{ms:g} ms is not between {low} and {high}", "low and high are the ends of its interval")
    return Sample(name=subject.name, network=subject.network.to_data(), ms=ms, low=low, high=high,
                  choices=subject.choices)


def _positive(name: str, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (isfinite(value) and value > 0):
        raise InputError(f"{name} {text.strip()!r} is not a positive number", "write milliseconds per batch, 6.42")
    return value


def _distinct(path: Path, groups: list[list[tuple[int, Sample]]], average: bool) -> tuple[list[Sample], list[str]]:
    """Returns one sample a network."""
    samples, notes = [], []
    for group in groups:
        lines, first = " and ".join(str(line) for line, _ in group), group[0][1]
        if len(group) > 1 and not average:
            raise InputError(f"{path}: lines {lines} measure the same network", "pass --average to take their mean")
        if len(group) > 1:
            mean = fmean(sample.ms for _, sample in group)
            first = first.model_copy(update={"ms": mean, "low": None, "high": None})
            notes.append(f"lines {lines} measure the same network: their mean counts, {first.name}")
        samples.append(first)
    return samples, notes


def drawn(spaces: Sequence[str], shapes: Sequence[Shape], classes: int | None, n: int, seed: int) -> list[Subject]:
    """Returns random networks of spaces on input shapes, in equal parts and in turn, each once.

    Args:
        spaces: Names; none takes those usual for each shape.
        shapes: Input shapes; none takes each space's usual one.
        classes: None takes each space's usual number.
        n: How many at most.
        seed: Seed.
    """
    pairs = [(load_space(name), shape) for name, shape in _pairs(spaces, shapes)]
    rng = np.random.default_rng(seed)
    found: dict[Network, Subject] = {}
    for i in range(4 * n):
        if len(found) == n:
            break
        space, shape = pairs[i % len(pairs)]
        graph = space.sample(rng)
        if not space.validate(graph, shape, classes):
            network = space.network(graph, shape, classes)
            found.setdefault(network, Subject(f"{space.name} {graph.key()}", network, space.choices(graph)))
    if not found:
        raise InputError(f"no network of {', '.join(space.name for space, _ in pairs)} fits the shape",
                         "leave --shape out, or give another one")
    return list(found.values())


def _pairs(spaces: Sequence[str], shapes: Sequence[Shape]) -> list[tuple[str, Shape | None]]:
    if not shapes:
        return [(space, None) for space in spaces or IMAGES]
    pairs = [(space, shape) for shape in shapes for space in spaces or (SEQUENCES if len(shape) == 2 else IMAGES)]
    for space, shape in pairs:
        wanted = load_space(space).spec.input
        if wanted != ("sequence" if len(shape) == 2 else "image"):
            raise InputError(f"space {space!r} is for {wanted} data, not of shape {list(shape)}",
                             "give channels and positions, 1x40, or channels, height and width, 3x32x32")
    return [*pairs]
