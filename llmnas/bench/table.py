"""The whole published table of NAS-Bench-201: do parameters, MACs and keys agree with it?"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any, Final

from llmnas.bench.process import Say
from llmnas.errors import InputError
from llmnas.graph import ArchGraph
from llmnas.space import Space, load_space
from llmnas.space.lowering import dead_free_string

CELLS: Final = 15_625
STRINGS: Final = 9_445
"""Different cells after dead branches are removed."""
KEYS: Final = 5_425
"""Different functions."""
_COLUMNS: Final = ("ops", "c10_params_M", "c10_flops_M")


def cell(space: Space, digits: str) -> ArchGraph:
    """Returns the cell whose edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3 have these ops, by their place in the space's list."""
    if space.spec.cell is None:
        raise ValueError(f"space {space.name} has no cell")
    ops = {slot.id: space.spec.cell.ops[int(digit)] for slot, digit in zip(space.spec.slots(), digits, strict=True)}
    base = space.prior()[0]
    return base.model_copy(update={"nodes": tuple(
        node.model_copy(update={"op": ops[node.id]}) if node.id in ops else node for node in base.nodes)})


def agrees(space: Space, row: dict[str, str]) -> tuple[bool, bool]:
    """Returns whether parameters and MACs equal a row's columns to their last digit (1 and 10)."""
    counts = space.network(cell(space, row["ops"]), raw=True).counts
    return (f"{counts.params / 1e6:.6f}" == f"{float(row['c10_params_M']):.6f}",
            f"{counts.macs / 1e6:.5f}" == f"{float(row['c10_flops_M']):.5f}")


def bench_table(folder: Path, say: Say = lambda _: None) -> dict[str, Any]:
    """Returns how many rows of ``nb201/nb201.csv.gz`` below `folder` agree exactly, and the numbers of keys.

    Raises:
        InputError: The table is not there, or has other columns.
    """
    rows = _rows(folder / "nb201" / "nb201.csv.gz")
    say(f"checking {len(rows):,} cells against the table")
    space = load_space("nb201")
    found = [agrees(space, row) for row in rows]
    cells = [cell(space, row["ops"]) for row in rows]
    edges = [slot.id for slot in space.spec.slots()]
    strings = len({dead_free_string(graph, edges) for graph in cells})
    keys = len({graph.key() for graph in cells})
    params, macs = sum(one for one, _ in found), sum(two for _, two in found)
    return {"rows": len(rows), "params_agree": params, "macs_agree": macs, "strings": strings, "keys": keys,
            "expected": {"rows": CELLS, "strings": STRINGS, "keys": KEYS},
            "ok": (len(rows), params, macs, strings, keys) == (CELLS, CELLS, CELLS, STRINGS, KEYS)}


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}", "give --data-dir or set LLMNAS_DATA") from None
    if missing := [name for name in _COLUMNS if not rows or name not in rows[0]]:
        raise InputError(f"{path}: there is no column {missing[0]!r}")
    return rows
