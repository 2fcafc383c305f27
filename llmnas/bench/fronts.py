"""How much of the true front of accuracy and latency a strategy finds on a published table.

The protocol, fixed and the same for all strategies:

- Competitors are the connected cells; the disconnected ones, which are wrong in one of ten and cost nothing, would
  stretch the box. Cells that the device does not support do not compete either.
- Both objectives are scaled by their least and greatest value over all competitors, accuracy by the test column.
- The reference point is the worst corner of that box: accuracy 0 and latency 1, scaled.
- A search sees validation accuracy and latency only. The set it found is what no other row it paid for beats in both;
  the members are scored again by test accuracy, and those that are beaten by then are left out.
- ``hv_ratio`` is the hypervolume of that set over that of the true test front; ``hv_high`` the same of the part with a
  scaled accuracy of at least 0.9, with (0.9, 1) for reference. ``igd_plus`` is IGD+ (Ishibuchi et al., EMO 2015) to the
  true front, ``igd`` its Euclidean form; ``coverage`` the share of the true front's cells that are in the set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import moocore
import numpy as np
from numpy.typing import NDArray

from llmnas.bench.meter import Outcome, Terms
from llmnas.bench.process import Say
from llmnas.bench.searching import about, charged, head, moments
from llmnas.bench.seeds import Place, run_all
from llmnas.bench.tabular import Benchmark, Reported
from llmnas.errors import InputError

Points = NDArray[np.float64]
HIGH: Final = 0.9
FIGURES: Final = ("hv_ratio", "hv_high", "igd_plus", "igd", "coverage")


class Judge:
    """The true front of a closed table, and the box everything is measured in.

    Args:
        competitors: Names of the rows that compete.
        latency: Their latencies in ms.
        tested: The test scores.
    """

    def __init__(self, competitors: Sequence[str], latency: dict[str, float], tested: Reported) -> None:
        self._names = [name for name in competitors if name in tested.scores]
        self._latency, self._tested = latency, tested
        if not self._names:
            raise InputError("this table has no test accuracy: there is no true front", "use bench search")
        raw = self._raw(self._names)
        self.low, self.high = raw.min(axis=0), raw.max(axis=0)
        points = self.points(self._names)
        self.members = {name for name, kept in zip(self._names, _kept(points), strict=True) if kept}
        self.front = points[_kept(points)]
        self._volume, self._high = volume(self.front), volume(self.front, HIGH)

    def _raw(self, names: Sequence[str]) -> Points:
        return np.array([(-self._tested[name], self._latency[name]) for name in names], dtype=float).reshape(-1, 2)

    def points(self, names: Sequence[str]) -> Points:
        """Returns rows as points to minimise, (n, 2): lost accuracy and latency, 0 to 1 in the box."""
        return np.asarray((self._raw(names) - self.low) / (self.high - self.low))

    def figures(self, found: Sequence[str]) -> dict[str, float | None]:
        """Returns the figures of a set of rows; ``hv_high`` is None where the true front has nothing there."""
        points = self.points(found)
        kept = _kept(points)
        points = points[kept]
        members = {name for name, one in zip(found, kept, strict=True) if one}
        return {"hv_ratio": volume(points) / self._volume,
                "hv_high": volume(points, HIGH) / self._high if self._high else None,
                "igd_plus": float(moocore.igd_plus(points, ref=self.front)),
                "igd": float(moocore.igd(points, ref=self.front)),
                "coverage": len(members & self.members) / len(self.members)}

    @property
    def box(self) -> dict[str, Any]:
        """The box in the units of the table, the reference point, and the size of the true front."""
        return {"accuracy": [-float(self.high[0]), -float(self.low[0])],
                "latency_ms": [float(self.low[1]), float(self.high[1])],
                "reference": {"accuracy": -float(self.high[0]), "latency_ms": float(self.high[1])},
                "competitors": len(self._names), "front": len(self.members)}


def volume(points: Points, accuracy: float = 0.0) -> float:
    """Returns the hypervolume of points to minimise up to the reference (scaled accuracy, latency 1)."""
    inside = points[(points[:, 0] < 1 - accuracy) & (points[:, 1] < 1)]
    return float(moocore.hypervolume(inside, ref=[1 - accuracy, 1.0])) if len(inside) else 0.0


def _kept(points: Points) -> NDArray[np.bool_]:
    return np.asarray(moocore.is_nondominated(points), dtype=bool)


def found_by(bench: Benchmark, outcome: Outcome) -> list[str]:
    """Returns the rows paid for that no other one beats in validation accuracy and latency."""
    names = [name for name in dict.fromkeys(outcome.charged) if bench.latency(name) is not None]
    points = np.array([(-bench.validation(name), bench.latency(name)) for name in names], dtype=float).reshape(-1, 2)
    return [name for name, kept in zip(names, _kept(points), strict=True) if kept] if names else []


def bench_pareto(places: Sequence[Place], strategies: Sequence[str], terms: Terms, seeds: int, workers: int = 1,
                 trace: Path | None = None, say: Say = lambda _: None) -> dict[str, Any]:
    """Returns one row per data set, device and strategy, and the means over them by strategy.

    Args:
        places: Where to search, each with a device.
        strategies: Names of strategies.
        terms: On what terms; its strategy is filled in here.
        seeds: How many, from 0.
        workers: Processes.
        trace: File of requests.
        say: Gets progress.

    Raises:
        InputError: A table, data set, device or strategy that does not exist.
    """
    benches = {place: place.open() for place in places}
    terms = replace(terms, front=True)
    runs = run_all([(place, None) for place in places], strategies, terms, seeds, workers, trace, say)
    sets = {id(run): [found_by(benches[run.place], outcome) for outcome in run.outcomes] for run in runs}
    judges = {place: judge(bench) for place, bench in benches.items()}  # the last request was made
    rows = [{**head(run, seeds), **_mean([judges[run.place].figures(found) for found in sets[id(run)] if found]),
             "box": judges[run.place].box, **charged(run)} for run in runs]
    return {"rows": rows, "mean": [_overall(name, rows) for name in strategies],
            "about": about(benches, terms) | {"protocol": " ".join((__doc__ or "").split("- ", 1)[1].split())}}


def judge(bench: Benchmark) -> Judge:
    """Closes a table and returns its judge."""
    competitors = bench.competitors
    latency = {name: ms for name in competitors if (ms := bench.latency(name)) is not None}
    return Judge(competitors, latency, bench.close())


def _mean(figures: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    row: dict[str, float | None] = {}
    for name in FIGURES:
        row[name], row[f"{name}_sd"] = moments([value for one in figures if (value := one[name]) is not None])
    return row


def _overall(strategy: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the means over all places; ``_sd`` is the mean deviation within a place."""
    own = [row for row in rows if row["strategy"] == strategy]
    found: dict[str, Any] = {"strategy": strategy, "places": len(own)}
    for name in (one + suffix for one in FIGURES for suffix in ("", "_sd")):
        values = [row[name] for row in own if row[name] is not None]
        found[name] = fmean(values) if values else None
    return found
