"""The whole published table of NAS-Bench-201: do parameters, MACs and keys agree with it?"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from llmnas.bench.process import Say
from llmnas.errors import InputError
from llmnas.space import Digits, Space, load_space
from llmnas.space.lowering import dead_free_string

CELLS: Final = 15_625
STRINGS: Final = 9_445
"""Different cells after dead branches are removed."""
KEYS: Final = 5_425
"""Different functions."""
_COLUMNS: Final = ("ops", "c10_params_M", "c10_flops_M")


def agrees(space: Space, row: dict[str, str]) -> tuple[bool, bool]:
    """Returns whether parameters and MACs equal a row's columns to their last digit (1 and 10)."""
    counts = space.network(Digits(space).graph(row["ops"]), raw=True).counts
    return (f"{counts.params / 1e6:.6f}" == f"{float(row['c10_params_M']):.6f}",
            f"{counts.macs / 1e6:.5f}" == f"{float(row['c10_flops_M']):.5f}")


def bench_table(folder: Path, say: Say = lambda _: None) -> dict[str, Any]:
    """Returns how many rows of ``nb201/nb201.csv.gz`` below `folder` agree exactly, and the numbers of keys.

    Raises:
        InputError: The table is not there, or has other columns.
    """
    rows = read_table(folder / "nb201" / "nb201.csv.gz", _COLUMNS)
    say(f"checking {len(rows):,} cells against the table")
    space = load_space("nb201")
    found = [agrees(space, row) for row in rows]
    digits = Digits(space)
    cells = [digits.graph(row["ops"]) for row in rows]
    edges = [slot.id for slot in space.spec.slots()]
    strings = len({dead_free_string(graph, edges) for graph in cells})
    keys = len({graph.key() for graph in cells})
    params, macs = sum(one for one, _ in found), sum(two for _, two in found)
    return {"rows": len(rows), "params_agree": params, "macs_agree": macs, "strings": strings, "keys": keys,
            "expected": {"rows": CELLS, "strings": STRINGS, "keys": KEYS},
            "ok": (len(rows), params, macs, strings, keys) == (CELLS, CELLS, CELLS, STRINGS, KEYS)}


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Returns the rows of a gzipped CSV file, every value as text.

    Raises:
        InputError: It is not there or not such a file, or lacks one of `columns`.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        says = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {says}", "give --data-dir or set LLMNAS_DATA") from None
    if missing := [name for name in columns if not rows or name not in rows[0]]:
        raise InputError(f"{path}: there is no column {missing[0]!r}", "take the table as it was published")
    return rows
