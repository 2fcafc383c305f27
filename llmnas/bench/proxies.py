"""Our proxies against published scores and accuracies of NAS-Bench-201, and their speed.

Everything is computed: full-size networks, one batch of real CIFAR-10 images. Nothing here is used to choose anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from statistics import fmean
from typing import Any, Final, Literal

from scipy.stats import spearmanr

from llmnas.bench.loop import peak_mb
from llmnas.bench.pools import BATCH, IMAGES, image_batch, published_score
from llmnas.bench.process import Say
from llmnas.bench.table import read_table
from llmnas.budget import SCREENING
from llmnas.network import Network
from llmnas.proxies.composites import COMPOSITES, composite
from llmnas.proxies.evaluate import DEFAULT_SET, score
from llmnas.space import Digits, load_space

TIMED: Final = 8
"""Cells on which each proxy is timed alone in `bench_proxies`."""
Pool = list[dict[str, float | None]]
Population = Literal["live", "all"]


@dataclass(frozen=True)
class Cell:
    """A cell of the table.

    Attributes:
        ops: Its digits.
        network: Its network on CIFAR-10, dead branches included, as published scores have it.
        published: Published scores by proxy name; None where there is none.
        accuracy: CIFAR-10 test accuracy in percent, 200 epochs, mean over seeds.
    """

    ops: str
    network: Network
    published: Mapping[str, float | None]
    accuracy: float


def bench_proxies(folder: Path, n: int, seed: int, names: Sequence[str], say: Say = lambda _: None,
                  population: Population = "live") -> dict[str, Any]:
    """Returns one row a proxy: agreement with published scores, with accuracy and with itself under another seed.

    Args:
        folder: With ``nb201/`` and ``cifar10/`` as in the documentation.
        n: Cells drawn.
        seed: Of the draw, and of the first initialisation and batch; those of the second scoring are of ``seed + 1``.
        names: Proxies.
        say: Told what is going on.
        population: What is drawn from; see `draw`.
    """
    cells = draw(folder, n, seed, population)
    pools = []
    for init in (seed, seed + 1):
        say(f"scoring {len(cells)} cells with initialisation and batch {init}")
        batch = image_batch(folder / IMAGES, init)
        pools.append([scored(one.network, batch, names, init) for one in cells])
    alone = timed_alone([one.network for one in cells[:TIMED]], batch, names)
    rows = [_row(name, cells, column(name, pools[0]), column(name, pools[1]), alone.get(name))
            for name in (*names, *(name for name, made in COMPOSITES.items() if set(made.parts) <= set(names)))]
    return {"bench": "nb201", "dataset": "c10", "population": population, "n": len(cells), "seed": seed,
            "batch": BATCH, "rows": rows}


def _row(name: str, cells: Sequence[Cell], ours: Sequence[float], again: Sequence[float],
         ms: float | None) -> dict[str, Any]:
    published = [nan if (value := one.published.get(name)) is None else value for one in cells]
    return {"proxy": name, "n": sum(isfinite(value) for value in ours),
            "spearman_published": spearman(ours, published),
            "spearman_accuracy": spearman(ours, [one.accuracy for one in cells]),
            "self_agreement": spearman(ours, again), "ms": ms}


def column(name: str, pool: Pool) -> list[float]:
    """Returns a proxy's raw scores, or a composite's in this pool; NaN where there is none."""
    if name in COMPOSITES:
        return composite(name, pool)
    return [nan if (value := member.get(name)) is None else value for member in pool]


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Returns the rank correlation over the members that both know; None with fewer than three or without spread."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if isfinite(a) and isfinite(b)]
    if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def scored(network: Network, batch: tuple[Any, Any], names: Sequence[str], seed: int) -> dict[str, float | None]:
    """Returns the scores of a network, None where there is none."""
    return {name: result.value for name, result in score(network, *batch, names, seed).items()}


def timed_alone(networks: Sequence[Network], batch: tuple[Any, Any], names: Sequence[str]) -> dict[str, float]:
    """Returns the milliseconds a network of each proxy scored by itself, building the network included."""
    return {name: 1e3 * mean_seconds(networks, lambda network, name=name: scored(network, batch, [name], 0))  # type: ignore[misc]
            for name in names}


def mean_seconds(networks: Sequence[Network], work: Callable[[Network], Any]) -> float:
    """Returns the mean wall seconds of `work` on a network; the first one is done once before, unmeasured."""
    work(networks[0])
    seconds = []
    for network in networks:
        begun = time.perf_counter()
        work(network)
        seconds.append(time.perf_counter() - begun)
    return fmean(seconds)


# -- speed

def bench_throughput(folder: Path, n: int, seed: int, screen: int, say: Say = lambda _: None) -> dict[str, Any]:
    """Returns seconds a network: the default set together and one by one, at three batch sizes, and the cheap subset.

    Args:
        folder: As in `bench_proxies`.
        n: Cells for the default set.
        seed: Of the draw.
        screen: Cells for the cheap subset.
        say: Told what is going on.
    """
    import torch

    cells = draw(folder, n, seed)
    networks = [one.network for one in cells]
    whole = image_batch(folder / IMAGES, seed)
    rows: list[dict[str, Any]] = []
    pools: dict[int, Pool] = {}
    for size in (BATCH, 32, 16):
        say(f"scoring {n} cells with batch {size}")
        batch = (whole[0][:size], whole[1][:size])
        pool: Pool = []
        seconds = mean_seconds(networks, lambda network, batch=batch, pool=pool: pool.append(  # type: ignore[misc]
            scored(network, batch, DEFAULT_SET, seed)))
        pools[size] = pool[1:]
        rows.append({"batch": size, "seconds": seconds, "networks_s": 1 / seconds, "peak_mb": peak_mb(),
                     "agreement": {name: spearman(column(name, pools[size]), column(name, pools[BATCH]))
                                   for name in DEFAULT_SET}})
    say("scoring each proxy in a pass of its own")
    alone = timed_alone(networks, whole, DEFAULT_SET)
    say(f"screening {screen} cells with the subset of a run")
    screened = draw(folder, screen, seed + 1)
    cheap = mean_seconds([one.network for one in screened], lambda network: scored(network, whole, SCREENING, seed))
    separate, together = sum(alone.values()) / 1e3, float(rows[0]["seconds"])
    return {"n": n, "proxies": list(DEFAULT_SET), "threads": torch.get_num_threads(), "rows": rows,
            "alone_ms": alone, "separate_seconds": separate, "together": together, "share": together / separate,
            "screen": {"n": screen, "proxies": list(SCREENING), "cells_s": 1 / cheap}}


# -- the tables

def draw(folder: Path, n: int, seed: int, population: Population = "live") -> list[Cell]:
    """Returns `n` cells drawn by seed.

    Args:
        folder: As in `bench_proxies`.
        n: How many.
        seed: Of the draw.
        population: ``live``: connected and without dead edges, the cells with published scores; or ``all``.

    Raises:
        InputError: The tables are not there.
    """
    import numpy as np

    space = load_space("nb201")
    codec = Digits(space)
    scores = {row["index"]: row for row in read_table(folder / "nb201" / "zerocost.csv.gz", ("index",))}
    columns = ("index", "ops", "ops_effective", "c10_test200")
    rows = [row for row in read_table(folder / "nb201" / "nb201.csv.gz", columns)
            if population == "all" or (row["ops"] == row["ops_effective"] and row["ops"] != "000000")]
    chosen = [rows[i] for i in sorted(np.random.default_rng(seed).permutation(len(rows))[:n])]
    return [Cell(row["ops"], space.network(codec.graph(row["ops"]), raw=True),
                 {name.removeprefix("c10_"): published_score(text) for name, text in scores[row["index"]].items()
                  if name.startswith("c10_")}, float(row["c10_test200"]))
            for row in chosen]
