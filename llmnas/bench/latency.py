"""How well latency is predicted, on published tables: without samples, from a few, with intervals.

Protocol of tables: networks for calibration are chosen D-optimally among 400 drawn at random, a new draw per
repetition; errors are taken over all other networks of the column, nothing trimmed unless the row says so (``trimmed``:
without the fastest and the slowest tenth, as HELP scores). Figures are means over repetitions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from llmnas.bench.latency_tables import ESTIMATED, LAYOUTS, LatencyTable, find_column, target_of
from llmnas.bench.local import figures, local_cpu
from llmnas.bench.process import Say
from llmnas.bench.unseen import new_gpu_hwgpt, new_gpu_neusight
from llmnas.errors import InputError, nearest
from llmnas.latency.counting import Floats
from llmnas.latency.energy import fit_energy
from llmnas.latency.launches import TORCH_2020, Host, fit_launches
from llmnas.latency.predictor import Expected, Known, Predictor, choose
from llmnas.latency.target import Target, parse_target
from llmnas.records import Latency

CANDIDATES: Final = 400
DEFAULT_DRAWS: Final = 10
TRIM: Final = .1
UNKNOWN: Final = "t4"
"""Stands in for a device nothing is known of."""

Row = dict[str, Any]


class Task(NamedTuple):
    """Columns of one table and how many networks of each are measured.

    Attributes:
        table: Name of the table.
        columns: Its columns.
        n: Networks for calibration.
        trimmed: Whether trimmed figures are wanted too.
    """

    table: str
    columns: tuple[str, ...]
    n: int
    trimmed: bool = False


_GPUS: Final = ("1080ti", "titan_rtx", "titanx")
TASKS: Final[dict[str, Task]] = {
    "zero-nb201-b1": Task("nb201", tuple(f"help_{gpu}_1_ms" for gpu in _GPUS), 0),
    "zero-nb201-b256": Task("nb201", tuple(f"help_{gpu}_256_ms" for gpu in _GPUS), 0),
    "zero-fbnet-b1": Task("fbnet", tuple(f"{gpu}_1_ms" for gpu in _GPUS), 0),
    "zero-ofa-b1": Task("ofa", ("titan_rtx_1_ms", "v100_1_ms"), 0),
    "scale3-nb201": Task("nb201", tuple(f"help_{gpu}_1_ms" for gpu in _GPUS), 3),
    "scale3-fbnet": Task("fbnet", tuple(f"{gpu}_1_ms" for gpu in _GPUS), 3),
    "few-help6": Task("nb201", ("help_titan_rtx_256_ms", "help_gold_6226_ms", "hwnb_c10_fpga_latency",
                                "help_pixel2_ms", "hwnb_c10_raspi4_latency", "hwnb_c10_eyeriss_latency"), 10, True),
    "few-nb201-gpu": Task("nb201", ("help_1080ti_1_ms", "help_titan_rtx_1_ms", "help_titan_rtx_32_ms"), 10),
    "few-fbnet": Task("fbnet", ("fpga_ms", "raspi4_ms", "eyeriss_ms"), 10, True),
    "few-phones": Task("nb201", ("true_a76", "true_630", "true_640"), 20),
    "few-tx2": Task("nb201", ("hwnb_c10_edgegpu_latency",), 20),
    "hwgpt": Task("hwgpt", ("lat_P100_ms", "lat_a100_ms", "lat_a40_ms", "lat_rtx2080_ms", "lat_rtx3080_ms",
                            "lat_v100_ms"), 10),
}
"""Tasks on tables of whole networks."""


ENERGY: Final = {"a100": "a100_40g", "a40": "a40", "rtx2080": "rtx_2080", "rtx3080": "rtx_3080", "v100": "v100_pcie"}
"""GPUs of HW-GPT-Bench with energies; its P100 is left out: a third of its rows imply half the power of the others."""
ENERGY_NETWORKS: Final = 20
OTHERS: Final = ("energy-hwgpt", "new-gpu-neusight", "new-gpu-hwgpt", "local-cpu")
"""Tasks of other kinds."""


def bench_latency(folder: Path, tasks: Sequence[str] = (), column: str | None = None,
                  sizes: Sequence[int] = (0, 3, 10, 20), draws: int = DEFAULT_DRAWS, seed: int = 0,
                  trace: Path | None = None, say: Say = lambda _: None) -> dict[str, Any]:
    """Returns the rows of tasks, or of one column, what they amount to, and what a prediction costs.

    Args:
        folder: With the tables.
        tasks: Names of tasks; all when empty.
        column: A column of any table, instead of tasks.
        sizes: Numbers of samples for that column.
        draws: Repetitions.
        seed: Of the first draw.
        trace: File that gets one JSON line per prediction.
        say: Told what is going on.

    Raises:
        InputError: A table is missing, or there is no such task or column.
    """
    known_tasks = [*TASKS, *OTHERS]
    for name in tasks:
        if name not in known_tasks:
            raise InputError(f"unknown task {name!r}", nearest(name, known_tasks))
    bench = LatencyBench(folder, draws, seed, trace, say)
    rows = list(bench.column(column, sizes)) if column else [row for name in tasks or known_tasks
                                                             for row in bench.rows(name)]
    return {"draws": draws, "seed": seed, "rows": rows, "summary": summary(rows)}


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Returns means by task (trimmed rows apart), and how often 90 % intervals cover.

    Coverage is over calibrated rows of columns that were measured and not estimated by a model.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["task"] + (" trimmed" if row["trimmed"] else ""), []).append(row)
    figures = ("spearman", "mape", "within10", "coverage90", "interval", "roofline_mape")
    means = {name: {figure: float(np.mean(values)) for figure in figures
                    if (values := [row[figure] for row in group if row.get(figure) is not None])}
             for name, group in groups.items()}
    covered = [row["coverage90"] for row in rows
               if row["n_samples"] and not row["trimmed"] and not row.get("estimated")]
    return {"tasks": means, "coverage90_pooled": float(np.mean(covered)) if covered else None,
            "coverage90_least": float(min(covered)) if covered else None}


class LatencyBench:
    """The bench over a data folder.

    Args:
        folder: With the tables.
        draws: Repetitions; at least 10 for figures that are reported.
        seed: Of the first draw.
        trace: File that gets one JSON line per prediction; None for none.
        say: Told what is going on.
    """

    def __init__(self, folder: Path, draws: int = DEFAULT_DRAWS, seed: int = 0, trace: Path | None = None,
                 say: Say = lambda _: None) -> None:
        self.folder, self.draws, self.seed, self.say = folder, draws, seed, say
        self.trace = trace
        self._tables: dict[str, LatencyTable] = {}
        self._launches: dict[str, Host] = {}
        if trace is not None:
            trace.write_text("", encoding="utf-8")

    def table(self, name: str) -> LatencyTable:
        """Returns a table; it is read once."""
        if name not in self._tables:
            self.say(f"reading {LAYOUTS[name].file}")
            self._tables[name] = LatencyTable(name, self.folder)
        return self._tables[name]

    def rows(self, name: str) -> Iterator[Row]:
        """Yields the rows of a task of any kind."""
        self.say(name)
        if name in TASKS:
            yield from self.task(name)
        elif name == "energy-hwgpt":
            yield from self.energy()
        elif name == "local-cpu":
            yield from local_cpu(self.seed, self.say)
        else:
            yield from (new_gpu_neusight if name == "new-gpu-neusight" else new_gpu_hwgpt)(self.folder, self.say)

    def task(self, name: str) -> Iterator[Row]:
        """Yields the rows of one task, a row per device, and another where trimmed figures are wanted."""
        task = TASKS[name]
        for column in task.columns:
            yield from self._column(name, self.table(task.table), column, task.n, task.trimmed)

    def column(self, column: str, sizes: Sequence[int]) -> Iterator[Row]:
        """Yields the rows of one column of any table for several numbers of samples."""
        table = find_column(column, self.folder)
        self._tables[table.name] = table
        for n in sizes:
            yield from self._column("column", table, column, n, trimmed=True)

    def _column(self, task: str, table: LatencyTable, column: str, n: int, trimmed: bool) -> Iterator[Row]:
        case = _Case(self, table, column, n)
        repeats = [case.repeat(self.seed + draw) for draw in range(self.draws if n else 1)]
        for trim in (False, True) if trimmed else (False,):
            found = [repeat.figures(trim) for repeat in repeats]
            yield {"task": task, "table": table.name, "device": column, "n_samples": n, "trimmed": trim,
                   **_means(found), "draws": len(repeats), "networks": len(case.ids), "target": case.target.key,
                   "runtime_known": case.spec is not None,
                   "estimated": any(fnmatch(column, pattern) for pattern in ESTIMATED)}
        if self.trace is not None:
            with self.trace.open("a", encoding="utf-8") as file:
                for repeat in repeats:
                    file.writelines(json.dumps(line) + "\n" for line in repeat.lines(task, column, n))

    def energy(self) -> Iterator[Row]:
        """Yields per GPU how well energy follows from latency and work, after measuring a few networks."""
        table = self.table("hwgpt")
        for gpu, device in ENERGY.items():
            ms = table.ms(f"lat_{gpu}_ms")
            mj = np.array([float(row[f"energy_{gpu}_Wh"]) for row in table.rows]) * 3.6e6
            flops = np.array([float(row["flops"]) for row in table.rows])
            found = [_energy_figures(ms, flops, mj, device, self.seed + draw) for draw in range(self.draws)]
            yield {"task": "energy-hwgpt", "table": "hwgpt", "device": f"energy_{gpu}_Wh",
                   "n_samples": ENERGY_NETWORKS, "trimmed": False, **_means(found), "draws": self.draws,
                   "networks": len(ms)}

    def launches(self, besides: str) -> Host:
        """Returns launch costs of HELP's software, fitted to its GPUs other than this one."""
        if besides not in self._launches:
            self._launches[besides] = _launches(self, besides)
        return self._launches[besides]


class _Case:
    """A column and a number of samples."""

    def __init__(self, bench: LatencyBench, table: LatencyTable, column: str, n: int) -> None:
        self.bench, self.table, self.column, self.n = bench, table, column, n
        self.ms = table.ms(column)
        self.ids = np.flatnonzero(np.isfinite(self.ms))
        self.spec = target_of(column, bench.folder)
        self.target = _target(self.spec)
        fitted = self.spec is not None and self.target.kind == "gpu"
        self.host = bench.launches(self.target.device) if fitted else TORCH_2020

    @cached_property
    def known(self) -> Known:
        """The networks of the whole table."""
        return Known(self.table.counted, self.table.genes)

    def repeat(self, seed: int) -> _Repeat:
        """Returns what comes of one draw."""
        sampled = self._sampled(seed)
        samples = self.known.take(sampled) if self.n else None
        predictor = Predictor(self.target, samples, self.ms[sampled], runtime_known=self.spec is not None,
                              host=self.host)
        tested = np.setdiff1d(self.ids, sampled)
        return _Repeat(seed, tested, sampled, self.ms[tested], predictor.expect(self.known.take(tested)))

    def _sampled(self, seed: int) -> np.ndarray:
        if not self.n:
            return np.array([], dtype=np.intp)
        drawn = np.random.default_rng(seed).choice(self.ids, min(CANDIDATES, len(self.ids)), replace=False)
        return np.asarray(drawn[choose(self.known.take(drawn), self.target, self.n, self.host, self.spec is not None)])


class _Repeat(NamedTuple):
    """Predictions of one draw, against what was measured."""

    seed: int
    tested: np.ndarray
    sampled: np.ndarray
    ms: Floats
    expected: Expected

    def figures(self, trim: bool) -> dict[str, float]:
        low, high = np.quantile(self.ms, [TRIM, 1 - TRIM]) if trim else (-np.inf, np.inf)
        kept = (self.ms >= low) & (self.ms <= high)
        return figures(self.ms[kept], Expected(*(part[kept] for part in self.expected)))

    def lines(self, task: str, column: str, n: int) -> Iterator[dict[str, Any]]:
        common = {"task": task, "device": column, "n_samples": n, "seed": self.seed}
        yield {**common, "sampled": self.sampled.tolist()}
        for place, row in enumerate(self.tested.tolist()):
            yield {**common, "row": row, "ms": float(self.ms[place]), "predicted": float(self.expected.ms[place]),
                   "low": float(self.expected.low[place]), "high": float(self.expected.high[place])}


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def _target(spec: str | None) -> Target:
    try:
        return parse_target(spec or UNKNOWN, False)
    except InputError:
        return parse_target(UNKNOWN, False)


def _energy_figures(ms: Floats, flops: Floats, mj: Floats, device: str, seed: int) -> dict[str, float]:
    """Returns the figures of one draw, for all networks that the fit has not seen."""
    drawn = np.random.default_rng(seed).choice(len(ms), ENERGY_NETWORKS, replace=False)
    model = fit_energy(ms[drawn].tolist(), flops[drawn].tolist(), mj[drawn].tolist())
    rest = np.setdiff1d(np.arange(len(ms)), drawn)
    found = [model.energy(Latency(ms=t, low=t, high=t, device=device, source="measured"), work)
             for t, work in zip(ms[rest].tolist(), flops[rest].tolist(), strict=True)]
    expected = Expected(*(np.array([getattr(one, name) for one in found]) for name in ("mj", "low", "high")))
    return _Repeat(seed, rest, drawn, mj[rest], expected).figures(trim=False)


def _launches(bench: LatencyBench, device: str) -> Host:
    columns = []
    for task in ("zero-nb201-b1", "zero-fbnet-b1"):
        table = bench.table(TASKS[task].table)
        for column in TASKS[task].columns:
            if parse_target(str(target_of(column, bench.folder)), False).device != device:
                ids = np.random.default_rng(0).choice(len(table.rows), 300, replace=False)
                ids = ids[np.isfinite(table.ms(column)[ids])]
                columns.append((table.counted[0].take(ids), table.ms(column)[ids]))
    return fit_launches(columns, "HELP, NAS-Bench-201 and FBNet on other GPUs, batch 1, eager torch of 2020")
