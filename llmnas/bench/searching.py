"""The best architecture that a strategy finds on a published table: chosen by validation, reported by test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from llmnas.bench.meter import Outcome, Terms
from llmnas.bench.process import Say
from llmnas.bench.seeds import Place, Run, run_all
from llmnas.bench.tabular import Benchmark, Reported
from llmnas.records import is_mock


def bench_search(places: Sequence[Place], strategies: Sequence[str], terms: Terms, seeds: int,
                 quantile: float | None = None, workers: int = 1, trace: Path | None = None,
                 say: Say = lambda _: None) -> dict[str, Any]:
    """Returns one row per place and strategy: validation and test accuracy of what was chosen, regret and charge.

    Args:
        places: Where to search.
        strategies: Names of strategies.
        terms: On what terms; its strategy and its cap are filled in here.
        seeds: How many, from 0.
        quantile: Latency cap as a quantile of the connected cells' latency.
        workers: Processes.
        trace: File of requests.
        say: Gets progress.

    Raises:
        InputError: A table, data set, device, strategy or quantile that does not exist.
    """
    benches = {place: place.open() for place in places}
    caps = {place: None if quantile is None else bench.quantile_ms(quantile) for place, bench in benches.items()}
    runs = run_all([(place, caps[place]) for place in places], strategies, terms, seeds, workers, trace, say)
    chosen = {id(run): [choose(benches[run.place], outcome) for outcome in run.outcomes] for run in runs}
    values = {id(run): [benches[run.place].validation(name) for name in chosen[id(run)] if name] for run in runs}
    best = {place: bench.best(caps[place]) for place, bench in benches.items()}
    tested = {place: bench.close() for place, bench in benches.items()}  # the last request was made
    rows = [{**head(run, seeds), "max_latency_quantile": quantile, "max_latency_ms": caps[run.place],
             **_figures(values[id(run)], chosen[id(run)], tested[run.place], best[run.place]), **charged(run)}
            for run in runs]
    return {"rows": rows, "about": about(benches, terms)}


def choose(bench: Benchmark, outcome: Outcome) -> str | None:
    """Returns the row with the best validation score among those paid for, the first one of equals; None without any.

    What breaks a constraint is never paid for, so every row competes. Rows that had a part of a training only compete
    when there is no other, and then those of the largest part, by their scores after it.
    """
    furthest = max((share for _, share in outcome.brief), default=1.0)
    if outcome.charged or furthest == 1:
        return max(outcome.charged, key=bench.validation, default=None)
    rows = [name for name, share in outcome.brief if share == furthest]
    return max(rows, key=lambda name: bench.validation(name, furthest))


def _figures(values: Sequence[float], chosen: Sequence[str | None], tested: Reported, best: float) -> dict[str, Any]:
    tests = [tested[name] for name in chosen if name in tested.scores]
    val_mean, val_sd = moments(values)
    test_mean, test_sd = moments(tests)
    return {"val_mean": val_mean, "val_sd": val_sd, "test_mean": test_mean, "test_sd": test_sd,
            "test_se": None if test_sd is None else test_sd / sqrt(len(tests)),
            "regret_mean": None if val_mean is None else best - val_mean, "found_none": sum(not one for one in chosen)}


def moments(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Returns mean and sample deviation; None where they are not defined."""
    return (fmean(values) if values else None), (stdev(values) if len(values) > 1 else None)


def head(run: Run, seeds: int) -> dict[str, Any]:
    """Returns what names a row."""
    return {"bench": run.place.bench, "dataset": run.place.dataset, "device": run.place.device,
            "strategy": run.terms.strategy, "evals": run.terms.evals, "seeds": seeds}


def charged(run: Run) -> dict[str, Any]:
    """Returns what a row's searches cost, on average a seed, and what cost nothing."""
    outcomes, counts = run.outcomes, sum((outcome.counts for outcome in run.outcomes), Counter[str]())
    return {"charge": run.terms.charge, "charged": fmean(len(outcome.charged) for outcome in outcomes),
            "brief": fmean(len(outcome.brief) for outcome in outcomes), "cost": fmean(one.cost for one in outcomes),
            **{name: counts[name] / len(outcomes) for name in ("repeats", "invalid", "refused", "passed_over")},
            "predicted": fmean(outcome.predicted for outcome in outcomes),
            "proxies_charged": fmean(outcome.proxied for outcome in outcomes), "prior": run.terms.prior,
            "stopped": dict(Counter(outcome.stopped for outcome in outcomes)), **_asked(outcomes)}


def _asked(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Returns what the language model of a row's searches cost, on average a seed; nothing where there is none."""
    model = outcomes[0].model
    if model is None:
        return {}

    def mean(figures: Sequence[float | None]) -> float | None:
        known = [figure for figure in figures if figure is not None]
        return fmean(known) if len(known) == len(figures) else None

    return {"model": model, "mock": is_mock(model), "calls": fmean(outcome.calls for outcome in outcomes),
            "input_tokens": mean([outcome.usage.input_tokens for outcome in outcomes]),
            "output_tokens": mean([outcome.usage.output_tokens for outcome in outcomes]),
            "usd": mean([outcome.usage.usd for outcome in outcomes]),
            "llm_s": fmean(outcome.usage.seconds for outcome in outcomes)}


def about(benches: dict[Place, Benchmark], terms: Terms) -> dict[str, Any]:
    """Returns what must be said beside the figures."""
    first = next(iter(benches.values()))
    proxies = None if not terms.screen else {
        "cap": terms.screen, "source": "published, in place of computing them", "taken_on": first.scored_on}
    return {"scores": first.layout.about, "charging": {
        "distinct": "a row of the table is paid for once; repeats, disconnected and refused proposals cost nothing",
        "all": "every legal proposal is paid for, repeats too"}[terms.charge] + (
            "" if len(first.shares) == 1 else
            "; a part of a training costs that part of an evaluation"
            + (", going on from it the rest" if first.layout.continued else ", what comes after it begins anew")),
        "batch": terms.batch, "proxies": proxies,
        "devices": {bench.device: {"target": bench.target, "estimated": bench.estimated}
                    for bench in benches.values() if bench.device}}
