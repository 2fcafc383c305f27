"""What strategies with a supernet find, and where that stands in a table of trained architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from llmnas.bench.process import Say
from llmnas.bench.tabular import Benchmark
from llmnas.budget import Clock, rates_for
from llmnas.data import Dataset, load, materialise, split
from llmnas.errors import InputError
from llmnas.evaluate import Rungs
from llmnas.executors import LocalExecutor
from llmnas.fitting import Fitter
from llmnas.graph import ArchGraph
from llmnas.latency import parse_targets
from llmnas.records import SUPERNET, Event, Fitted, Plan, Proposal, RunStarted, Settings, Trial
from llmnas.report.fits import agreed
from llmnas.search import Journal
from llmnas.space import Space, load_space
from llmnas.space.loading import default_space
from llmnas.space.superposed import Superposition
from llmnas.store import RunState, RunStore
from llmnas.strategies import Context, Setup, Strategy, load_strategy
from llmnas.strategies.base import FitFailed, Fits

NOMINAL: Final = 0.9
"""Of the time, what the nominal plan uses: the rest is for reading the data and for a slow machine."""


@dataclass(frozen=True)
class Terms:
    """What every seed has in common.

    Attributes:
        data: As `--data` takes it.
        space: Name of the space.
        minutes: Wall minutes of a fit.
        top: Architectures that are asked for afterwards.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads of a fit.
    """

    data: str
    space: str
    minutes: float = 5.0
    top: int = 10
    device: str = "auto"
    threads: int = 1


@dataclass(frozen=True)
class Fit:
    """What one seed did.

    Attributes:
        strategy: Its name, with options.
        seed: The seed.
        proposals: The first ones, best first by the strategy's own judgement.
        fits: The pieces of its fit.
        warnings: What the person was told.
        failed: Why there are no proposals; empty when there are.
    """

    strategy: str
    seed: int
    proposals: tuple[Proposal, ...]
    fits: tuple[Fitted, ...]
    warnings: tuple[str, ...]
    failed: str = ""


def bench_gradient(terms: Terms, strategies: Sequence[str], seeds: int, bench: Benchmark | None = None,
                   say: Say = lambda _: None) -> dict[str, Any]:
    """Returns one row per strategy and seed: what it derives, how its fit went, and its place in the table.

    Args:
        terms: On what, and for how long.
        strategies: Names, with options.
        seeds: How many, from 0.
        bench: The table; of the same space. None for none.
        say: Gets progress.

    Raises:
        InputError: Data, space or strategy that cannot be used, or a table of another space.
    """
    dataset = load(terms.data)
    space = load_space(default_space(dataset.shape) if terms.space == "auto" else terms.space)
    if bench is not None and bench.space.name != space.name:
        raise InputError(f"the table is of space {bench.space.name}, the search in {space.name}",
                         f"use --space {bench.space.name}")
    found = []
    for name in strategies:
        for seed in range(seeds):
            found.append(fitted(terms, dataset, space, name, seed))
            say(f"{name}, seed {seed}: {sum(one.seconds for one in found[-1].fits):.0f} s; "
                + (found[-1].failed or "fitted"))
    rows = [_row(space, one) | ({} if bench is None else _placed(space, bench, one)) for one in found]
    if bench is not None:
        _tested(rows, bench)
    return {"rows": rows, "about": {"data": terms.data, "space": space.name, "minutes": terms.minutes,
                                    "threads": terms.threads, "table": None if bench is None else {
                                        "bench": bench.bench, "dataset": bench.dataset, "scores": bench.layout.about}}}


def fitted(terms: Terms, dataset: Dataset, space: Space, name: str, seed: int) -> Fit:
    """Fits one strategy with one seed, and asks it for its best.

    Raises:
        InputError: The strategy does not learn by training.
    """
    settings = Settings(data=terms.data, space=space.name, strategy=name, seed=seed, budget_s=60 * terms.minutes,
                        device=terms.device)
    with TemporaryDirectory(prefix="llmnas-gradient-") as folder, LocalExecutor() as executor:
        root = Path(folder)
        data = materialise(dataset, split(dataset, seed), root / "data")
        plan = _plan(settings.budget_s, terms.threads)
        evaluator = Rungs(executor, space, data, settings, plan, parse_targets(("cpu",), cuda_available=False),
                          terms.threads, root.resolve() / "run")
        strategy = load_strategy(name)(Setup(space=space, settings=settings, shape=data.shape, classes=data.classes,
                                             targets=("cpu",), milliseconds=evaluator.milliseconds))
        if not isinstance(strategy, Fits):
            raise InputError(f"strategy {name} does not learn by training", "known: darts, one_shot")
        with RunStore(root / "run", create=True) as store:
            journal = Journal(store, Clock(settings.budget_s), _Unseen())
            journal.emit(RunStarted(run="bench", settings=settings, plan=plan, task={"sizes": data.sizes},
                                    environment={}, model=None))
            failed = ""
            try:
                strategy.fit(Fitter(journal, evaluator, NOMINAL * settings.budget_s, settings.budget_s).channel())
            except FitFailed as error:
                failed = str(error)
            asked = () if failed else tuple(_asked(strategy, seed, terms.top))
            return Fit(name, seed, asked, tuple(store.state.fits.values()), tuple(store.state.warnings), failed)


class _Unseen:
    """An observer that looks away."""

    def event(self, event: Event, state: RunState) -> None:
        """Does nothing."""

    def tick(self, state: RunState, clock_s: float, activity: str) -> None:
        """Does nothing."""


def _plan(budget_s: float, threads: int) -> Plan:
    return Plan(search_s=budget_s, final_s=0, wrap_s=0, full_s=0, finalists=0, short_s=1, train_deadline_s=1, batch=1,
                promote=1, trainings=1, proposals=1, calls=None, rates=rates_for("cpu", threads), train_batch=1,
                train_steps=1, max_epoch_s=budget_s, proxies=())


def _asked(strategy: Strategy, seed: int, count: int) -> list[Proposal]:
    """Returns the first proposals of a fitted strategy; nothing is trained in between."""
    trials: list[Trial] = []
    for step in range(count):
        context = Context(step=step, trials=tuple(trials), rules=(), deadline=float("inf"), emit=lambda body: body,
                          reply=lambda call: None, save=lambda record: "")
        proposals = strategy.ask(1, np.random.default_rng([seed, step]), context)
        if not proposals:
            break
        trials += [Trial(n=len(trials) + 1, proposal=one, status="screened", key=_graph(one).key())
                   for one in proposals]
    return [trial.proposal for trial in trials]


def _graph(proposal: Proposal) -> ArchGraph:
    if proposal.graph is None:
        raise ValueError("a strategy with a supernet proposed no graph")
    return proposal.graph


def _row(space: Space, one: Fit) -> dict[str, Any]:
    """Returns what a fit gave, without any table."""
    learnt = next((fit.result for fit in one.fits if fit.what == "supernet"), {})
    return {"strategy": one.strategy, "seed": one.seed, "failed": one.failed or None,
            "derived": list(space.choices(_graph(one.proposals[0]))) if one.proposals else None,
            "operator": one.proposals[0].origin.operator if one.proposals else None,
            "seconds": sum(fit.seconds for fit in one.fits), "nominal_s": sum(fit.nominal_s for fit in one.fits),
            **{name: learnt.get(name) for name in ("epochs", "planned", "cut", "stopped", "skips", "probabilities",
                                                   "history", "rises")}, "warnings": list(one.warnings)}


def _placed(space: Space, bench: Benchmark, one: Fit) -> dict[str, Any]:
    """Returns where the proposals stand by the table's validation score, and how shared weights rank against it."""
    names = [bench.name(_graph(proposal)) for proposal in one.proposals]
    values = {name: bench.validation(name) for name in bench.competitors}
    ordered = np.sort(list(values.values()))
    proposals = [{"name": name, "operator": proposal.origin.operator, "supernet": proposal.scores.get(SUPERNET),
                  "val": values.get(name), **_rank(ordered, values.get(name))}
                 for name, proposal in zip(names, one.proposals, strict=True)]
    first = proposals[0] if proposals else {"name": None, "val": None, "rank": None, "percentile": None}
    return {**{key: first[key] for key in ("name", "val", "rank", "percentile")}, "of": len(values),
            "regret": None if first["val"] is None else float(ordered[-1]) - first["val"], "proposals": proposals,
            "agreement": _agreements(space, bench, one, values)}


def _rank(ordered: np.ndarray[Any, Any], value: float | None) -> dict[str, Any]:
    """Returns the rank among all rows, 1 best, and the share of rows that are worse, in %."""
    if value is None:
        return {"rank": None, "percentile": None}
    worse, not_better = np.searchsorted(ordered, value, "left"), np.searchsorted(ordered, value, "right")
    return {"rank": int(len(ordered) - not_better) + 1, "percentile": 100 * float(worse) / len(ordered)}


def _agreements(space: Space, bench: Benchmark, one: Fit, values: dict[str, float]) -> dict[str, Any]:
    """Returns how shared weights rank against the table: random paths, all that were scored, the best ones."""
    scored: dict[str, list[tuple[str, float]]] = {"random": [], "all": []}
    if any("choices" in fit.result for fit in one.fits):
        whole = Superposition(space)
        for fit in one.fits:
            for path, score in zip(fit.result.get("choices", ()), fit.result.get("scores", ()), strict=True):
                if score is not None:
                    pair = (bench.name(whole.graph(path)), float(score))
                    scored["all"].append(pair)
                    scored["random"] += [pair] if fit.what == "generation0" else []
    scored["top"] = [(bench.name(_graph(proposal)), proposal.scores[SUPERNET]) for proposal in one.proposals
                     if SUPERNET in proposal.scores]
    found = {}
    for which, pairs in scored.items():
        listed = [(score, values[name]) for name, score in pairs if name in values]
        found[which] = asdict(agreed([score for score, _ in listed], [value for _, value in listed]))
    return found


def _tested(rows: list[dict[str, Any]], bench: Benchmark) -> None:
    """Adds the test scores: the last request for validation was made."""
    reported = bench.close()
    for row in rows:
        row["test"] = reported.scores.get(row["name"]) if row["name"] is not None else None
