"""Architectures whose accuracy others published, with label-free scores: published ones, or computed here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmnas.bench.process import Say
from llmnas.bench.table import read_table
from llmnas.data import load
from llmnas.errors import InputError, nearest
from llmnas.graph import ArchGraph
from llmnas.network import Network
from llmnas.proxies import find_proxy, score
from llmnas.space import Digits, load_space

Scores = dict[str, float | None]

PUBLISHED: Final = ("epe_nas", "fisher", "flops", "grad_norm", "grasp", "jacov", "l2_norm", "nwot", "params", "plain",
                    "snip", "synflow", "zen")
"""Proxies in the published table of scores; higher is better for all of them."""
NO_SCORE: Final = -1e8
"""What that table has where a proxy could not be computed."""
BATCH: Final = 64
_DATASETS: Final = ("c10", "c100")
IMAGES: Final = Path("cifar10") / "cifar10_10k_2k.npz"
_SAY_EVERY: Final = 50

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Pool:
    """Architectures with accuracies and scores.

    Attributes:
        bench: The space's name.
        accuracy: Per data set, in %, (n,).
        scores: Per architecture and proxy; None where there is none.
        names: Proxies to judge one by one.
        about: What the figures rest on, for the result.
    """

    bench: str
    accuracy: dict[str, NDArray[np.float64]]
    scores: list[Scores]
    names: tuple[str, ...]
    about: dict[str, Any] = field(default_factory=dict)


def nb201_pool(folder: Path, names: Sequence[str]) -> Pool:
    """Returns the live cells of ``nb201/nb201.csv.gz`` with the scores of ``nb201/zerocost.csv.gz``.

    Args:
        folder: The folder above ``nb201``.
        names: Proxies that must be in the table.

    Raises:
        InputError: A table is missing or has other columns, or there is no score of a name.
    """
    if unknown := [name for name in names if name not in PUBLISHED]:
        raise InputError(f"there are no published scores of {unknown[0]!r}", nearest(unknown[0], list(PUBLISHED)))
    targets = {dataset: f"{dataset}_test200" for dataset in _DATASETS}
    path, listed = folder / "nb201" / "nb201.csv.gz", folder / "nb201" / "zerocost.csv.gz"
    live = [row for row in read_table(path, ("index", "ops", "ops_effective", *targets.values()))
            if row["ops"] == row["ops_effective"]]
    accuracy = {dataset: np.array(_numbers(live, column, path)) for dataset, column in targets.items()}
    return Pool("nb201", accuracy, _published(listed, [row["index"] for row in live]), PUBLISHED, {
        "architectures": "cells without dead edges", "accuracy": "test, 200 epochs, mean of seeds",
        "scores": "published, taken on CIFAR-10 for both data sets"})


def _published(path: Path, indices: Sequence[str]) -> list[Scores]:
    """Returns the scores of the cells with these indices."""
    columns = [f"c10_{name}" for name in PUBLISHED]
    by_index = {row["index"]: row for row in read_table(path, ("index", *columns))}
    if missing := [index for index in indices if index not in by_index]:
        raise InputError(f"{path}: there is no row with index {missing[0]}", "take the table as it was published")
    rows = [by_index[index] for index in indices]
    values = zip(*(_numbers(rows, column, path, str(NO_SCORE)) for column in columns), strict=True)
    return [{name: None if value == NO_SCORE else value for name, value in zip(PUBLISHED, row, strict=True)}
            for row in values]


def published_score(text: str) -> float | None:
    """Returns a score of the published table; None where it has nothing, or its sentinel for a failure."""
    return None if text == "" or float(text) == NO_SCORE else float(text)


def nbmacro_pool(folder: Path, names: Sequence[str], n: int, seed: int, say: Say = lambda _: None) -> Pool:
    """Returns `n` nets drawn from ``nbmacro/nb_macro.csv.gz`` and scored on images of CIFAR-10.

    Rows that only move an identity are one net; every net is equally likely to be drawn.

    Args:
        folder: The folder above ``nbmacro`` and ``cifar10``.
        names: Proxies to compute.
        n: How many nets.
        seed: Of the draw, the batch and the initial weights.
        say: Gets progress.

    Raises:
        InputError: A file is missing or other than expected, an unknown proxy, or `n` beyond the table.
    """
    for name in names:
        find_proxy(name)
    space = load_space("nbmacro")
    graphs, accuracy = _distinct(Digits(space), folder / "nbmacro" / "nb_macro.csv.gz")
    if n > len(graphs):
        raise InputError(f"the table has {len(graphs):,} different nets, {n:,} cannot be drawn", "give a smaller --n")
    drawn = np.random.default_rng(seed).permutation(len(graphs))[:n]
    networks = [space.network(graphs[index]) for index in drawn]
    scores, seconds = _score(networks, image_batch(folder / IMAGES, seed), names, seed, say)
    return Pool("nbmacro", {"c10": accuracy[drawn]}, scores, tuple(names), {
        "architectures": f"{n} drawn from {len(graphs)} different nets",
        "accuracy": "test (the table has no validation accuracy), mean of 3 seeds",
        "scores": f"computed here on {BATCH} images",
        "best_in_table": float(accuracy.max()), "seconds_per_net": seconds / n})


def _distinct(codec: Digits, path: Path) -> tuple[list[ArchGraph], NDArray[np.float64]]:
    """Returns the first graph of each key in the table, and their accuracies."""
    rows = read_table(path, ("arch", "mean_acc"))
    first: dict[str, tuple[ArchGraph, float]] = {}
    for row, value in zip(rows, _numbers(rows, "mean_acc", path), strict=True):
        graph = codec.graph(row["arch"])
        first.setdefault(graph.key(), (graph, value))
    return [graph for graph, _ in first.values()], np.array([value for _, value in first.values()])


def _numbers(rows: Sequence[dict[str, str]], column: str, path: Path, empty: str = "") -> list[float]:
    """Returns a column as numbers, with `empty` read in empty fields; by default there may be none."""
    try:
        return [float(row[column] or empty) for row in rows]
    except ValueError as error:
        raise InputError(f"{path}: column {column!r}: {error}", "take the table as it was published") from None


def image_batch(path: Path, seed: int) -> Batch:
    """Returns the first `BATCH` of a shuffle of the training images, normalised per channel, and their labels.

    Args:
        path: An .npz as ``--data`` takes it.
        seed: Of the shuffle.

    Returns:
        Images (B, C, H, W) float32 of mean 0 and deviation 1 over the training images, labels (B,).

    Raises:
        InputError: The file is missing or not such a file.
    """
    data = load(str(path))
    pixels = np.moveaxis(data.x, 1, 0).reshape(data.shape[0], -1)  # one channel at a time: float64 is 8 times as large
    moments = np.array([(channel.mean(dtype=np.float64), channel.std(dtype=np.float64)) for channel in pixels])
    mean, std = moments.T.reshape(2, 1, -1, 1, 1)
    chosen = np.random.default_rng(seed).permutation(len(data.y))[:BATCH]
    return ((data.x[chosen] - mean) / std).astype(np.float32), data.y[chosen]


def _score(networks: Sequence[Network], batch: Batch, names: Sequence[str], seed: int,
           say: Say) -> tuple[list[Scores], float]:
    started, scores = time.perf_counter(), []
    for done, network in enumerate(networks, 1):
        scores.append({name: found.value for name, found in score(network, *batch, names, seed).items()})
        if done % _SAY_EVERY == 0:
            say(f"scored {done} of {len(networks)} nets")
    return scores, time.perf_counter() - started
