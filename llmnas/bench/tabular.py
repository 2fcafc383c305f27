"""Published tables that answer in place of a training.

A `Benchmark` serves validation scores, one architecture at a time, for as long as a search lasts. The test column is
read by `Benchmark.close` and by nothing else; a closed benchmark serves no more. So nothing that searches can see it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

import numpy as np

from llmnas.bench.columns import Column, numbers, read_header, read_texts
from llmnas.bench.latency_tables import ESTIMATED, MISLABELLED, target_of
from llmnas.bench.pools import NO_SCORE, PUBLISHED
from llmnas.bench.stages import QUALITY, Stages, Surrogate
from llmnas.errors import InputError, nearest
from llmnas.graph import ArchGraph, live_ids
from llmnas.proxies import PROXIES
from llmnas.space import Digits, Space, load_space

SCORES: Final = "zerocost.csv.gz"
LATENCIES: Final = "latency.csv.gz"
VAL, TEST = "_val200", "_test200"
EMBEDDED: Final = Path(__file__).with_name("tables")
"""The tables that come with llmnas."""


class Layout(NamedTuple):
    """Where a benchmark lies below the data folder, and how its columns are read.

    Attributes:
        table: The file with the accuracies, in %.
        space: The space its rows are of.
        named: The column with the digits of an architecture (`llmnas.space.Digits`); several by comma, whose parts make
            a name together (`llmnas.bench.stages.Stages`).
        fixed: For a table that has no columns ``D_val200`` and ``D_test200``: data set → the column a search sees and
            the columns whose mean is reported.
        about: What must be said beside every figure.
        surrogate: Whether predictions stand in for architectures of the space that are not listed.
        embedded: Whether it comes with llmnas, so that no data folder is needed.
        partial: Share of the training → column of the validation accuracies after it, in %, ``{dataset}`` standing for
            the data set; those that the table has count.
        continued: Whether these are of the one training on its way, so that it can go on from there; else each is of a
            shorter training of its own, and a longer one begins anew.
    """

    table: str
    space: str
    named: str
    fixed: Mapping[str, tuple[str, tuple[str, ...]]] = {}
    about: str = ""
    surrogate: bool = False
    embedded: bool = False
    partial: Mapping[float, str] = {}
    continued: bool = False

    def path(self, data: Path) -> Path:
        """Returns the table, for a data folder; the other files lie beside it."""
        return (EMBEDDED if self.embedded else data) / self.table


LAYOUTS: Final[dict[str, Layout]] = {
    "conv1d": Layout("conv1d/conv1d.csv.gz", "conv1d_cell", "ops",
                     {"mnist1d": ("val_s0", ("test_s0", "test_s1", "test_s2"))},
                     "our own trainings on MNIST-1D (docs/benchmarks.md): a search sees the validation accuracy of one "
                     "training, reported is the mean test accuracy of three", embedded=True,
                     partial={.25: "val_25", .5: "val_50", .75: "val_75"}, continued=True),
    "nb201": Layout("nb201/nb201.csv.gz", "nb201", "ops", {},
                    "a search sees the validation accuracy after 200 epochs, the mean of the seeds; test is reported",
                    partial={12 / 200: "{dataset}_val12"}),
    "nbmacro": Layout("nbmacro/nb_macro.csv.gz", "nbmacro", "arch", {"c10": ("acc0", ("acc1", "acc2"))},
                      "the table has test accuracies of three seeds only: a search sees the first seed's, reported is "
                      "the mean of the other two"),
    "accel_nasbench": Layout("accel_nasbench/accel_nasbench.csv.gz", "accel", "e,k,l,se",
                             {"imagenet": ("val_top1", ())},
                             "ImageNet top-1 of a shortened training; the table has no test accuracy. Architectures "
                             "that are not listed get the prediction of a ridge regression on choices and pairs (five "
                             f"folds: Spearman {QUALITY['spearman']}, mean error {QUALITY['mean_error']} points), "
                             "marked in the trace and counted", surrogate=True),
}
_OWN: Final = 'example: {"space": "nb201", "named": "ops", "about": "what must be said beside the figures"}'
SPACELESS: Final = {"hwgpt": "its rows are language models of up to 12 layers with a choice of heads and width each"}
"""Tables that are known but served to no search yet, and why."""


@dataclass(frozen=True)
class Reported:
    """What a closed benchmark gives: the test scores, in %, by the name of the row."""

    scores: Column

    def __getitem__(self, name: str) -> float:
        """Returns the test score of a row."""
        return self.scores[name]


class Benchmark:
    """The validation side of a published table.

    Args:
        folder: The data folder.
        bench: A key of `LAYOUTS`, or the name of a folder with a table like that of ``nb201``.
        dataset: A data set that the table has.
        device: A column of latencies, in ms; None for none.

    Attributes:
        space: The space of its rows.

    Raises:
        InputError: There is no such table, data set or column.
    """

    def __init__(self, folder: Path, bench: str = "nb201", dataset: str = "c10", device: str | None = None) -> None:
        self.folder, self.bench, self.dataset, self.device = folder, bench, dataset, device
        self.layout = layout_of(bench, folder)
        self.path = self.layout.path(folder)
        self.space: Space = load_space(self.layout.space)
        self._codec: Digits | Stages = Stages(self.space) if self.layout.surrogate else Digits(self.space)
        self._seen, self._reported = self._columns()
        self._names = row_names(self.path, self.layout.named)
        self._equal = _equal(self.path, self.layout.named)
        self._values: Column | None = self._column(self._seen)
        header = read_header(self.path)
        named = {share: column.format(dataset=dataset) for share, column in self.layout.partial.items()}
        self._partial = {share: self._column(column) for share, column in sorted(named.items()) if column in header}
        self._latency = self._latencies() if device is not None else {}

    def _columns(self) -> tuple[str, tuple[str, ...]]:
        """Returns the column a search sees, and those that are reported."""
        known = {**self.layout.fixed, **{name: (name + VAL, (name + TEST,)) for name in datasets(self.path)}}
        if self.dataset not in known:
            raise InputError(f"{self.path} has no data set {self.dataset!r}", nearest(self.dataset, sorted(known)))
        return known[self.dataset]

    def _latencies(self) -> Column:
        """Returns the latencies of the column; without those that a device does not support (zero or below)."""
        device = self.device or ""
        path, known = self.path.parent / LATENCIES, devices(self.bench, self.folder)
        if device in MISLABELLED or device not in known:
            raise InputError(f"no table of {self.bench} has a column of latencies {device!r}", nearest(device, known))
        return {name: value for name, value in _joined(self.path, self.layout.named, path, (device,))[device].items()
                if value > 0}

    # -- what a search may know

    def name(self, graph: ArchGraph) -> str:
        """Returns the name of the row of a legal graph; there may be no such row."""
        digits = self._codec.digits(graph)
        return self._equal.get(digits, digits)

    def graph(self, name: str) -> ArchGraph:
        """Returns the graph of a row."""
        return self._codec.graph(name)

    def has(self, name: str) -> bool:
        """Returns whether there is such a row, with a validation score after every share."""
        listed = name in self._served and all(name in column for column in self._partial.values())
        return listed or self.layout.surrogate

    def listed(self, name: str) -> bool:
        """Returns whether somebody trained it."""
        return name in self._served

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of a training after which there are scores, rising to 1."""
        return (*self._partial, 1.0)

    def cost(self, share: float, before: float = 0.0) -> float:
        """Returns what the score after a share of a training costs, in trainings, when that after another is known."""
        return share - before if self.layout.continued else share

    def validation(self, name: str, share: float = 1.0) -> float:
        """Returns the validation score of a row, in %; a prediction where nobody trained it and the layout has one.

        Args:
            name: The row.
            share: Share of the training; one of `shares`.

        Raises:
            KeyError: There is no such row.
            InputError: The table has no scores after such a share.
            RuntimeError: The benchmark is closed.
        """
        served = self._served
        if share != 1:
            if share not in self._partial:
                raise InputError(f"{self.path} has no scores after {share:g} of a training",
                                 "it has those after " + ", ".join(f"{one:g}" for one in self.shares))
            return self._partial[share][name]
        return self._surrogate(name) if name not in served and self.layout.surrogate else served[name]

    @cached_property
    def _surrogate(self) -> Surrogate:
        return Surrogate(self._served)

    def latency(self, name: str) -> float | None:
        """Returns the latency of a row in ms; None where the device does not support it, or none was asked for."""
        return self._latency.get(name)

    @property
    def _served(self) -> Column:
        if self._values is None:
            raise RuntimeError("this benchmark is closed: it serves no more")
        return self._values

    @property
    def estimated(self) -> bool:
        """Whether the latencies come from a model of the device, not from a measurement."""
        from fnmatch import fnmatch

        return self.device is not None and any(fnmatch(self.device, pattern) for pattern in ESTIMATED)

    @property
    def target(self) -> str | None:
        """The device, batch and runtime of the column as `--target` writes them; None where the column does not say."""
        return None if self.device is None else target_of(self.device, self.folder)

    @cached_property
    def proxies(self) -> dict[str, dict[str, float]]:
        """Published scores without training, by row and proxy, higher is better; empty where there are none.

        A cell with dead edges takes the scores of the cell without them, which computes the same.
        """
        path = self.path.parent / SCORES
        if not path.exists():
            return {}
        header = read_header(path)
        prefix = self.scored_on
        columns = [f"{prefix}_{name}" for name in dict.fromkeys((*PUBLISHED, *PROXIES)) if f"{prefix}_{name}" in header]
        found = _joined(self.path, self.layout.named, path, columns)
        scores: dict[str, dict[str, float]] = {}
        for column, values in found.items():
            for name, value in values.items():
                if value != NO_SCORE:
                    scores.setdefault(name, {})[column.removeprefix(f"{prefix}_")] = value
        return {**self._inherited(scores), **scores}

    @cached_property
    def scored_on(self) -> str | None:
        """The data set that the published scores were taken on: this one, else the first found."""
        path = self.path.parent / SCORES
        if not path.exists():
            return None
        found = [column.removesuffix("_" + PUBLISHED[0]) for column in read_header(path)
                 if column.endswith("_" + PUBLISHED[0])]
        return self.dataset if self.dataset in found else next(iter(found), None)

    def _inherited(self, scores: Mapping[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        effective = "ops_effective"
        if effective not in read_header(self.path):
            return {}
        pairs = read_texts(self.path, (self.layout.named, effective))
        return {name: scores[live] for name, live in pairs if live in scores and name != live}

    # -- what the judge knows

    @cached_property
    def competitors(self) -> list[str]:
        """The rows that a search can pay for: connected, with a score, and with a latency if there is a device."""
        rows = [name for name in dict.fromkeys(self._names)
                if name in self._served and (self.device is None or name in self._latency)]
        return [name for name in rows if _connected(self.graph(name))]

    def quantile_ms(self, share: float) -> float:
        """Returns the latency below which this share of the competitors lies, in ms (linear interpolation).

        Raises:
            InputError: No device was asked for, or the share is not in (0, 1].
        """
        if self.device is None or not 0 < share <= 1:
            raise InputError(f"expected a quantile in (0, 1] and a device, got {share:g} and {self.device}",
                             "give --device COLUMN --max-latency-quantile 0.25")
        return float(np.quantile([self._latency[name] for name in self.competitors], share))

    def best(self, cap_ms: float | None = None) -> float:
        """Returns the best validation score under a latency cap, in %."""
        return max(self._served[name] for name in self.competitors if cap_ms is None or self._latency[name] <= cap_ms)

    def close(self) -> Reported:
        """Ends the service and opens the test scores: from here on no search can ask for anything."""
        _ = self.competitors
        each = [self._column(column) for column in self._reported]
        self._values = None
        return Reported({name: fmean(column[name] for column in each) for name in self._names
                         if each and all(name in column for column in each)})

    def _column(self, column: str) -> Column:
        return numbers(self._names, [row[0] for row in read_texts(self.path, (column,))], self.path, column)


def layout_of(bench: str, folder: Path) -> Layout:
    """Returns the layout of a benchmark: a known one, or that of ``nb201`` in a folder of another name.

    Raises:
        InputError: There is neither.
    """
    if bench in LAYOUTS:
        return LAYOUTS[bench]
    if bench in SPACELESS:
        raise InputError(f"{bench} cannot be searched: {SPACELESS[bench]}, and no space of llmnas has them",
                         f"known: {', '.join(LAYOUTS)}")
    own = _own_layout(bench, folder)
    if not (folder / own.table).exists():
        raise InputError(f"there is no benchmark {bench!r}: it is none of {', '.join(LAYOUTS)}, and "
                         f"{folder / own.table} does not exist", "docs/benchmarks.md shows the layout of an own table")
    return own


def _own_layout(bench: str, folder: Path) -> Layout:
    """Returns the layout of a table of one's own: as ``bench.json`` beside it says, else as that of ``nb201``."""
    own = LAYOUTS["nb201"]._replace(table=f"{bench}/{bench}.csv.gz", partial={})
    path = folder / bench / "bench.json"
    if not path.exists():
        return own
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        space, named, about = (said.get(key, default) for key, default in (
            ("space", own.space), ("named", own.named), ("about", own.about)))
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path}: not such a file: {error}", _OWN) from None
    if not all(isinstance(value, str) for value in (space, named, about)):
        raise InputError(f"{path}: expected texts", _OWN)
    beside = path.parent / space
    own = own._replace(partial=_shares(said.get("partial", {}), path), continued=said.get("continued") is True)
    return own._replace(space=str(beside) if space.endswith((".yaml", ".yml")) else space, named=named, about=about)


def _shares(said: object, path: Path) -> dict[float, str]:
    """Returns the columns of ``partial`` by their share."""
    try:
        found = {float(share): str(column) for share, column in dict(said).items()}  # type: ignore[call-overload]
    except (TypeError, ValueError):
        found = {0.0: ""}
    if not all(0 < share < 1 for share in found):
        raise InputError(f'{path}: "partial" must map shares between 0 and 1 to columns, got {json.dumps(said)}',
                         'example: "partial": {"0.25": "{dataset}_val_25"}')
    return found


def datasets(path: Path) -> list[str]:
    """Returns the data sets of a table: the prefixes that have both ``D_val200`` and ``D_test200``."""
    header = read_header(path)
    return [name.removesuffix(VAL) for name in header if name.endswith(VAL)
            and name.removesuffix(VAL) + TEST in header]


def first_dataset(bench: str, folder: Path) -> str:
    """Returns the first data set of a benchmark."""
    layout = layout_of(bench, folder)
    return next(iter((*layout.fixed, *datasets(layout.path(folder)))), "c10")


def devices(bench: str, folder: Path) -> list[str]:
    """Returns the columns of a benchmark that are latencies."""
    path = layout_of(bench, folder).path(folder).with_name(LATENCIES)
    header = read_header(path) if path.exists() else []
    return [name for name in header[1:] if "energy" not in name and "intensity" not in name]


def _equal(path: Path, named: str) -> dict[str, str]:
    """Returns the row of every other architecture that computes the same, where a table has a column ``equal``."""
    if "equal" not in read_header(path):
        return {}
    return {other: name for name, others in read_texts(path, (named, "equal")) for other in others.split()}


def _connected(graph: ArchGraph) -> bool:
    return graph.output in live_ids(graph)


def row_names(path: Path, named: str) -> list[str]:
    """Returns the names of a table's rows."""
    return ["-".join(row) for row in read_texts(path, named.split(","))]


def _joined(table: Path, named: str, other: Path, columns: Sequence[str]) -> dict[str, Column]:
    """Returns columns of a file by the names of `table`: matched by the shared column ``index``, or by the name."""
    header = read_header(other)
    if set(named.split(",")) <= set(header):
        names = row_names(other, named)
    else:
        by_index = {row[0]: row[1] for row in read_texts(table, ("index", named))}
        indices = [row[0] for row in read_texts(other, ("index",))]
        if unknown := [index for index in indices if index not in by_index]:
            raise InputError(f"{other}: {table.name} has no row with index {unknown[0]}", "number rows alike in both")
        names = [by_index[index] for index in indices]
    texts = read_texts(other, columns)
    return {column: numbers(names, [row[i] for row in texts], other, column) for i, column in enumerate(columns)}
