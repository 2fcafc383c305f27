"""Weights learned from labels against the label-free default, on the published table of NAS-Bench-201.

The default pair of the space was chosen on this very table, so the space's own default is flattered here; the pair of
all other spaces stands beside it. No constant of the rule was chosen on this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Final, Literal

import numpy as np

from llmnas.bench.pools import published_score
from llmnas.bench.process import Say
from llmnas.bench.table import read_table
from llmnas.proxies import default_weights, rank, weights
from llmnas.proxies.validity import spearman

SETS: Final = {
    "of a run": ("params", "flops", "synflow", "nwot", "jacov", "grad_norm", "snip"),
    "all": ("params", "flops", "synflow", "nwot", "jacov", "grad_norm", "snip", "l2_norm", "fisher", "grasp", "plain",
            "zen", "epe_nas"),
}
"""Columns of the table; higher is better in all of them."""
SPACES: Final = ("nb201", "elsewhere")
"""Whose default pair is the prior."""
LABELS: Final = (20, 50, 100)
HELD_OUT: Final = 1000
PICKED: Final = 10
_FILES: Final = {"nb201.csv.gz": ("index", "ops", "ops_effective", "c10_val200", "c10_test200"),
                 "zerocost.csv.gz": ("index", *(f"c10_{name}" for name in SETS["all"]))}


@dataclass(frozen=True)
class Cell:
    """One cell without dead edges.

    Attributes:
        scores: Published proxy scores.
        label: Validation accuracy after 200 epochs, in %: what a search sees.
        truth: Test accuracy after 200 epochs on all training data, in %: what counts.
    """

    scores: dict[str, float | None]
    label: float
    truth: float


def bench_reweight(folder: Path, seeds: int = 20, say: Say = lambda _: None) -> dict[str, Any]:
    """Returns, for every prior, set of proxies and number of labels, both orders of held-out cells.

    For every seed the live cells are shuffled; the first 1,000 are held out, the next ones labelled, the fewer labels
    being part of the more.

    Raises:
        InputError: The tables are not there, or have other columns.
    """
    cells = live_cells(folder / "nb201")
    say(f"{len(cells):,} cells without dead edges")
    rows = []
    for space in SPACES:
        for name, proxies in SETS.items():
            say(f"prior of {space}, proxies: {name}")
            drawn = [_seed(cells, space, proxies, seed) for seed in range(seeds)]
            rows += [_row(space, name, n, [one[place] for one in drawn]) for place, n in enumerate(LABELS)]
    return {"cells": len(cells), "held_out": HELD_OUT, "picked": PICKED, "seeds": seeds, "rows": rows}


def live_cells(folder: Path) -> list[Cell]:
    """Returns the cells of the table that have no dead edge.

    Raises:
        InputError: The tables are not there, or have other columns.
    """
    scores = {row["index"]: row for row in read_table(folder / "zerocost.csv.gz", _FILES["zerocost.csv.gz"])}
    return [Cell({name: published_score(scores[row["index"]][f"c10_{name}"]) for name in SETS["all"]},
                 float(row["c10_val200"]), float(row["c10_test200"]))
            for row in read_table(folder / "nb201.csv.gz", _FILES["nb201.csv.gz"])
            if row["ops"] == row["ops_effective"]]


Pair = tuple[tuple[float, float], tuple[float, float]]  # Spearman and regret, by default and reweighted


def _seed(cells: Sequence[Cell], space: str, proxies: tuple[str, ...], seed: int) -> list[Pair]:
    order = np.random.default_rng(seed).permutation(len(cells))
    held = [cells[i] for i in order[:HELD_OUT]]
    directions: dict[str, Literal[1, -1]] = dict.fromkeys(proxies, 1)
    prior = default_weights(space, proxies)
    found = []
    for n in LABELS:
        taught = [cells[i] for i in order[HELD_OUT:HELD_OUT + n]]
        learned = weights([cell.scores for cell in taught], [cell.label for cell in taught], directions, prior)
        default, new = (rank([cell.scores for cell in held], directions, used) for used in (prior, learned))
        found.append((_judged(default, held), _judged(new, held)))
    return found


def _judged(order: Sequence[float], held: Sequence[Cell]) -> tuple[float, float]:
    """Returns Spearman's correlation with the truth and the regret of the ten that would be picked first, in points."""
    truth = [cell.truth for cell in held]
    first = sorted(range(len(held)), key=lambda i: -order[i])[:PICKED]
    return spearman(order, truth) or 0.0, max(truth) - max(truth[i] for i in first)


def _row(space: str, proxies: str, n: int, pairs: Sequence[Pair]) -> dict[str, Any]:
    row: dict[str, Any] = {"prior": space, "proxies": proxies, "labels": n}
    for place, name in enumerate(("spearman", "regret")):
        before, after = [old[place] for old, _ in pairs], [new[place] for _, new in pairs]
        gain = [new - old for old, new in zip(before, after, strict=True)]
        row |= {f"{name}_default": mean(before), f"{name}_reweighted": mean(after), f"{name}_change": mean(gain),
                f"{name}_change_se": stdev(gain) / len(gain) ** 0.5 if len(gain) > 1 else None}
    return row | {"better": sum(new[0] > old[0] for old, new in pairs)}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yields the result in words, one line per prior, set of proxies and number of labels."""
    for row in result["rows"]:
        error = row["spearman_change_se"]
        yield (f"prior {row['prior']:9}  proxies {row['proxies']:8}  {row['labels']:3} labels  Spearman "
               f"{row['spearman_default']:.3f} to {row['spearman_reweighted']:.3f} ({row['spearman_change']:+.3f}"
               f"{'' if error is None else f' ± {error:.3f}'}; higher in {row['better']} of {result['seeds']})  "
               f"regret@{result['picked']} {row['regret_default']:.2f} to {row['regret_reweighted']:.2f} points")
