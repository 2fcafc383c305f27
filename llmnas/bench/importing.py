"""Publishers' own files to tables in the layout that `llmnas bench` reads."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from llmnas.bench.columns import read_texts
from llmnas.bench.process import Say
from llmnas.bench.safe_pickle import read_pickle
from llmnas.bench.tabular import LATENCIES
from llmnas.errors import InputError, nearest
from llmnas.space import Digits, load_space
from llmnas.space.lowering import dead_free_string

Record = dict[str, str]

_OPS: Final = {"none": "0", "skip_connect": "1", "nor_conv_1x1": "2", "nor_conv_3x3": "3", "avg_pool_3x3": "4"}
_SPLITS: Final = {"c10_val": ("cifar10-valid", "x-valid"), "c10_test": ("cifar10", "ori-test"),
                  "c100_val": ("cifar100", "x-valid"), "c100_test": ("cifar100", "x-test"),
                  "in16_val": ("ImageNet16-120", "x-valid"), "in16_test": ("ImageNet16-120", "x-test")}
"""Column → data set of the training and split of the evaluation, as NATS-Bench names them. c10_val was trained on half
of the training images, c10_test on all of them."""
_SIZES: Final = {"c10": "cifar10", "c100": "cifar100", "in16": "ImageNet16-120"}
_SAY_EVERY: Final = 500


def import_nats(folder: Path, out: Path, say: Say = lambda _: None) -> Path:
    """Writes a folder of NATS-Bench (``NATS-tss-…-simple``, ``NATS-sss-…-simple``) as one table.

    Topology cells go to ``nb201/nb201.csv.gz``, sizes to ``natssss/natssss.csv.gz``. Accuracies are the mean over the
    seeds in a file after its last epoch, in %: ``c10_val200`` of the training of 200 epochs, and so on.

    Args:
        folder: The publisher's folder, with one ``NNNNNN.pickle.pbz2`` an architecture.
        out: The data folder to write below.
        say: Gets progress.

    Raises:
        InputError: It is not such a folder, or a file is damaged or holds more than data.
    """
    files = sorted(path for path in folder.glob("*.pickle.pbz2") if path.name.split(".")[0].isdigit())
    if not files:
        raise InputError(f"{folder}: there is no file like 000000.pickle.pbz2", "give the folder NATS-tss-…-simple")
    rows = []
    for done, path in enumerate(files, start=1):
        rows.append(_nats_row(path))
        if done % _SAY_EVERY == 0:
            say(f"read {done:,} of {len(files):,} architectures")
    name = "nb201" if "ops" in rows[0] else "natssss"
    return write_table(out / name / f"{name}.csv.gz", rows)


def _nats_row(path: Path) -> Record:
    index = int(path.name.split(".")[0])
    with _laid_out(path, "NATS-Bench"):
        trained = read_pickle(path)
        first = next(iter(trained.values()))
        row = {"index": str(index), **_named(str(first["arch_str"]))}
        for epochs, one in trained.items():
            row |= _accuracies(one["all_results"], str(int(epochs)))
        return row | _sizes(first["all_results"])


@contextmanager
def _laid_out(path: Path, publisher: str) -> Iterator[None]:
    """Turns any surprise in a publisher's file into words."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, IndexError) as error:
        raise InputError(f"{path}: not laid out as {publisher} publishes it: {error!r}",
                         "give the file as it was published") from None


def _named(architecture: str) -> Record:
    """Returns the columns that name an architecture: a cell's string and digits, or a net's widths."""
    if "|" not in architecture:
        return {"channels": architecture}
    ops = cell_digits(architecture)
    space = load_space("nb201")
    live = dead_free_string(Digits(space).graph(ops), [slot.id for slot in space.spec.slots()])
    return {"arch_str": architecture, "ops": ops, "ops_effective": "".join(_OPS[op] for op in live)}


def cell_digits(architecture: str) -> str:
    """Returns the digits of a cell string of NAS-Bench-201, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

    Raises:
        ValueError: It is not one.
    """
    found = []
    for number, node in enumerate(architecture.split("+"), start=1):
        edges = [edge.split("~") for edge in node.strip("|").split("|")]
        if [edge[1:] for edge in edges] != [[str(source)] for source in range(number)]:
            raise ValueError(f"not a cell: {architecture!r}")
        found += [_OPS[op] for op, _ in edges]
    if len(found) != 6:
        raise ValueError(f"not a cell of four nodes: {architecture!r}")
    return "".join(found)


def _accuracies(results: Mapping[tuple[str, int], Any], epochs: str) -> Record:
    row: Record = {}
    for column, (dataset, split) in _SPLITS.items():
        values = [value for (name, _), one in results.items() if name == dataset
                  for value in [_last(one, split)] if value is not None]
        if values:
            row[f"{column}{epochs}"] = f"{fmean(values):.6f}"
    return row


def _last(result: Mapping[str, Any], split: str) -> float | None:
    found = result["eval_acc1es"].get(f"{split}@{int(result['epochs']) - 1}")
    return None if found is None else float(found)


def _sizes(results: Mapping[tuple[str, int], Any]) -> Record:
    row: Record = {}
    for prefix, dataset in _SIZES.items():
        found = next((one for (name, _), one in results.items() if name == dataset), None)
        if found is not None:
            row |= {f"{prefix}_params_M": f"{float(found['params']):.6f}",
                    f"{prefix}_flops_M": f"{float(found['flop']):.6f}"}
    return row


def import_hwnb(file: Path, out: Path, say: Say = lambda _: None) -> Path:
    """Writes the pickle of HW-NAS-Bench (``HW-NAS-Bench-v1_0.pickle``) as ``nb201/latency.csv.gz``.

    The pickle is ``{"nasbench201": {data set: {metric: [one number a cell, in the order of the index]}}}``. Columns are
    ``hwnb_c10_edgegpu_latency`` (ms), ``hwnb_c10_edgegpu_energy`` (mJ), and so on; −1 is kept: not supported.

    Args:
        file: The publisher's file.
        out: The data folder to write below.
        say: Gets progress.

    Raises:
        InputError: It is not such a file, or holds more than data.
    """
    with _laid_out(file, "HW-NAS-Bench"):
        tables = read_pickle(file)["nasbench201"]
        columns = {f"hwnb_{prefix}_{metric}": [repr(float(value)) for value in values]
                   for prefix, dataset in _SIZES.items() if dataset in tables
                   for metric, values in tables[dataset].items()
                   if metric.endswith(("_latency", "_energy", "_arithmetic_intensity"))}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise InputError(f"{file}: expected columns of one length, got {sorted(lengths)}",
                         "give the file as it was published")
    say(f"{len(columns)} columns of {lengths.pop():,} cells")
    rows = [{"index": str(index), **dict(zip(columns, values, strict=True))}
            for index, values in enumerate(zip(*columns.values(), strict=True))]
    return write_table(out / "nb201" / LATENCIES, rows)


IMPORTERS: Final[dict[str, Callable[[Path, Path, Say], Path]]] = {"nats": import_nats, "hwnb": import_hwnb}


def import_table(kind: str, path: Path, out: Path, say: Say = lambda _: None) -> dict[str, Any]:
    """Returns what was written from a publisher's files: the table, its rows and columns.

    Raises:
        InputError: An unknown kind, files that are not what they should be, or a table that is there already.
    """
    if kind not in IMPORTERS:
        raise InputError(f"unknown kind {kind!r}", nearest(kind, list(IMPORTERS)))
    written = IMPORTERS[kind](path, out, say)
    with gzip.open(written, "rt", encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    return {"kind": kind, "table": str(written), "rows": len(read_texts(written, header[:1])), "columns": header}


def write_table(path: Path, rows: Sequence[Record]) -> Path:
    """Writes rows as gzipped CSV, the same bytes for the same rows; a field nothing is known of is empty.

    Raises:
        InputError: The file is there already, or cannot be written.
    """
    if path.exists():
        raise InputError(f"{path} is there already", "move it away, or give another --out")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".tmp")
        partial.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", "give another --out") from None
    return path
