"""The rest of our own table, and the table itself: latency, proxies, sizes and a card beside the trainings.

Latency is CPU time of one thread at batch 1; proxies are ours, on one batch of the training part. Both are kept in the
folder of the build, one JSON line a cell, so that this goes on where it stopped, too.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from llmnas.bench.building import EPOCHS, LOOKS, SEEDS, SPACE, Line, functions, read_lines, spread
from llmnas.bench.process import Say
from llmnas.data import read, reopen
from llmnas.errors import InputError
from llmnas.latency.state import cpu_name
from llmnas.network import Network
from llmnas.proxies.evaluate import DEFAULT_SET
from llmnas.space import Digits, Space, load_space

BENCH: Final = "conv1d"
DATASET: Final = "mnist1d"
LATENCY: Final = "cpu_ms"
TOGETHER: Final = 24
"""Networks timed in turn, so that what else the machine does falls on all of them."""
TIMING_S: Final = 0.12
BATCH: Final = 64
_SCORED, _TIMED = "proxies.jsonl", "latency.jsonl"


def pack(out: Path, say: Say = lambda _: None) -> dict[str, Any]:
    """Times and scores every cell, and writes the table below ``out/conv1d``; returns its card.

    Args:
        out: The folder of a build whose trainings are complete.
        say: Gets progress.

    Raises:
        InputError: Trainings are missing.
    """
    space = load_space(SPACE)
    groups = functions(space)
    trained = _complete(out, groups)
    _append(out / _SCORED, list(groups), 1, lambda cells: [_scores(out, space, cell) for cell in cells], say)
    _append(out / _TIMED, list(groups), TOGETHER, lambda cells: _times(space, cells), say)
    folder = out / BENCH
    folder.mkdir(exist_ok=True)
    _write(folder / f"{BENCH}.csv.gz", _rows(space, groups, trained))
    _write(folder / "zerocost.csv.gz", [_named(line, f"{DATASET}_") for line in _lines(out / _SCORED)])
    _write(folder / "latency.csv.gz", _lines(out / _TIMED))
    card = _card(out, groups)
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


def _complete(out: Path, groups: Mapping[str, Sequence[str]]) -> dict[str, dict[int, Line]]:
    trained: dict[str, dict[int, Line]] = {}
    for line in read_lines(out):
        trained.setdefault(line.ops, {})[line.seed] = line
    missing = sum(SEEDS - len(trained.get(cell, {})) for cell in groups)
    if missing:
        raise InputError(f"{out}: {missing:,} trainings are missing", "run `llmnas bench build` again: it goes on")
    return trained


# -- what is measured


def _scores(out: Path, space: Space, cell: str) -> dict[str, Any]:
    from llmnas.proxies import score

    data = reopen(out / "data")
    x, y = read(data, "train")
    mean, std = data.mean[0], data.std[0]
    found = score(_network(space, cell), (x[:BATCH] - mean) / std, y[:BATCH], list(DEFAULT_SET), 0)
    return {"ops": cell, **{name: None if one.value is None else float(f"{one.value:.6g}")
                            for name, one in found.items()}}


def _times(space: Space, cells: Sequence[str]) -> list[dict[str, Any]]:
    from llmnas.latency.measure import interleaved
    from llmnas.latency.target import parse_target

    found = interleaved([_network(space, cell) for cell in cells], parse_target("cpu", False), TIMING_S)
    return [{"ops": cell, LATENCY: None if one is None else round(one.latency.ms, 5)}
            for cell, one in zip(cells, found, strict=True)]


def _network(space: Space, cell: str) -> Network:
    return space.network(Digits(space).graph(cell))


def _append(path: Path, cells: Sequence[str], together: int, measure: Callable[[Sequence[str]], list[dict[str, Any]]],
            say: Say) -> None:
    """Measures what is not in the file yet, so many at once, and appends it."""
    done = {line["ops"] for line in _lines(path)}
    left = [cell for cell in cells if cell not in done]
    with path.open("a", encoding="utf-8") as file:
        for start in range(0, len(left), together):
            file.writelines(json.dumps(line) + "\n" for line in measure(left[start:start + together]))
            file.flush()
            if start // 240 != (start + together) // 240:
                say(f"{path.name}: {len(done) + start + together:,} of {len(cells):,}")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


# -- what is written


def _rows(space: Space, groups: Mapping[str, Sequence[str]],
          trained: Mapping[str, Mapping[int, Line]]) -> Iterator[dict[str, Any]]:
    for cell, equal in groups.items():
        lines = [trained[cell][seed] for seed in range(SEEDS)]
        counts = _network(space, cell).counts
        yield {"ops": cell, "equal": " ".join(equal[1:]),
               **{f"val_s{n}": _percent(line.curve[-1]) for n, line in enumerate(lines)},
               **{f"test_s{n}": _percent(line.test) for n, line in enumerate(lines)},
               **{f"val_{100 * (look + 1) // LOOKS}": _percent(lines[0].curve[look]) for look in range(LOOKS - 1)},
               "params": counts.params, "macs": counts.macs,
               f"{DATASET}_train_s": round(sum(line.cpu_s for line in lines) / SEEDS, 3)}


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _named(line: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name if name == "ops" else prefix + name: value for name, value in line.items()}


def _write(path: Path, rows: Iterator[dict[str, Any]] | Sequence[dict[str, Any]]) -> None:
    """Writes a gzipped CSV file; equal rows give equal bytes."""
    text = io.StringIO(newline="")
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def _card(out: Path, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Returns what must be known of the table: what was trained on what, how well it tells cells apart, and where."""
    data = reopen(out / "data")
    return {"bench": BENCH, "space": SPACE, "functions": len(groups), "cells": sum(map(len, groups.values())),
            "seeds": SEEDS, "epochs": EPOCHS, "recipe": "the recipe of every training (docs/recipe.md)",
            "data": {"name": data.name, "sizes": data.sizes, "digests": data.digests},
            "validation": spread(out),
            "latency": {"column": LATENCY, "target": "cpu", "batch": 1, "runtime": "eager",
                        "clock": "CPU time of one thread", "cpu": cpu_name()},
            "proxies": {"names": list(DEFAULT_SET), "batch": BATCH, "part": "train", "seed": 0},
            "made": {"on": datetime.now(UTC).date().isoformat(), "torch": version("torch"),
                     "python": platform.python_version(), "command": "llmnas bench build DIR"}}
