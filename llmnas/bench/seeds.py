"""Many searches on published tables: over data sets, devices, strategies and seeds, on several cores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from llmnas.bench.meter import Outcome, Terms, search_once
from llmnas.bench.process import Say
from llmnas.bench.tabular import Benchmark
from llmnas.errors import InputError

CHUNK: Final = 10
"""Seeds of one job of a worker."""


@dataclass(frozen=True)
class Place:
    """Where is searched: what a `Benchmark` is made from."""

    folder: Path
    bench: str
    dataset: str
    device: str | None = None

    def open(self) -> Benchmark:
        """Opens the table."""
        return Benchmark(self.folder, self.bench, self.dataset, self.device)


@dataclass(frozen=True)
class Run:
    """All seeds of one strategy in one place.

    Attributes:
        place: Where.
        terms: How.
        outcomes: What the seeds did, from seed 0.
    """

    place: Place
    terms: Terms
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class _Job:
    place: Place
    terms: Terms
    seeds: tuple[int, ...]
    part: Path | None


def run_all(places: Sequence[tuple[Place, float | None]], strategies: Sequence[str], terms: Terms, seeds: int,
            workers: int = 1, trace: Path | None = None, say: Say = lambda _: None) -> list[Run]:
    """Returns one run per place and strategy. A seed gives the same whatever the number of workers.

    Args:
        places: Where, each with its latency cap in ms.
        strategies: Their names.
        terms: How; its strategy and cap are replaced.
        seeds: How many, from 0.
        workers: Processes.
        trace: File for one JSON line per request, in the order of places, strategies and seeds.
        say: Gets progress.

    Raises:
        InputError: `trace` cannot be written.
    """
    parts = None if trace is None else _fresh(trace)
    jobs = list(_jobs(places, strategies, terms, seeds, parts))
    found: dict[tuple[Place, Terms], list[Outcome]] = {}
    for done, (job, outcomes) in enumerate(zip(jobs, _carried_out(jobs, workers), strict=True), start=1):
        found.setdefault((job.place, job.terms), []).extend(outcomes)
        if done == len(jobs) or jobs[done].terms.strategy != job.terms.strategy or jobs[done].place != job.place:
            device = f" on {job.place.device}" if job.place.device else ""
            say(f"{job.place.dataset}{device}, {job.terms.strategy}: {seeds} seeds done")
    if trace is not None and parts is not None:
        _join(parts, trace)
    return [Run(place, one, tuple(outcomes)) for (place, one), outcomes in found.items()]


def _jobs(places: Sequence[tuple[Place, float | None]], strategies: Sequence[str], terms: Terms, seeds: int,
          parts: Path | None) -> Iterator[_Job]:
    starts = range(0, seeds, CHUNK)
    for n, ((place, cap), strategy, start) in enumerate(product(places, strategies, starts)):
        yield _Job(place, replace(terms, strategy=strategy, cap_ms=cap), tuple(range(start, min(start + CHUNK, seeds))),
                   None if parts is None else parts / f"{n:08d}.jsonl")


def _carried_out(jobs: Sequence[_Job], workers: int) -> Iterator[list[Outcome]]:
    if workers == 1 or len(jobs) == 1:
        yield from map(_carry_out, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_carry_out, jobs)


def _carry_out(job: _Job) -> list[Outcome]:
    bench = _open(job.place)
    if job.part is None:
        return [search_once(bench, job.terms, seed) for seed in job.seeds]
    with job.part.open("w", encoding="utf-8") as file:
        return [search_once(bench, job.terms, seed, file) for seed in job.seeds]


@lru_cache(maxsize=4)
def _open(place: Place) -> Benchmark:
    """Returns the table for searching; only the judge's own copy is ever closed."""
    return place.open()


def _fresh(trace: Path) -> Path:
    parts = trace.with_name(trace.name + ".parts")
    try:
        trace.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir()
        trace.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{trace} cannot be written: {error.strerror}", "give another --trace") from None
    return parts


def _join(parts: Path, trace: Path) -> None:
    with trace.open("wb") as whole:
        for part in sorted(parts.iterdir()):
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)
    shutil.rmtree(parts)
