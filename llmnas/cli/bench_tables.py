"""Bench commands that compare llmnas with published tables: bench proxies, throughput, reweight, ranking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from llmnas.cli.bench_answer import answer, say
from llmnas.cli.look import AsJson

DataDir = Annotated[Path, typer.Option(envvar="LLMNAS_DATA", help="Folder with the tables; see docs/proxies.md.",
                                       show_default=False)]
Seed = Annotated[int, typer.Option(help="Seed.", min=0)]


def proxies(
    data_dir: DataDir,
    n: Annotated[int, typer.Option("--n", "-n", help="Cells of NAS-Bench-201.", min=3)] = 60,
    seed: Seed = 0,
    cells: Annotated[str, typer.Option(help="live: connected, without dead edges, those with published scores; or all."
                                       )] = "live",
    only: Annotated[str | None, typer.Option(help="Proxies, by comma. [default: all]", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Our proxies against the published scores and accuracies of NAS-Bench-201."""
    from llmnas.bench.proxies import Population, bench_proxies
    from llmnas.errors import InputError
    from llmnas.proxies import PROXIES, find_proxy

    names = [find_proxy(name).name for name in only.split(",")] if only else list(PROXIES)
    if cells not in ("live", "all"):
        raise InputError(f"unknown cells {cells!r}", "live or all")
    population: Population = "live" if cells == "live" else "all"
    answer("proxies", bench_proxies(data_dir, n, seed, names, say, population), as_json, _proxy_lines)


def throughput(
    data_dir: DataDir,
    n: Annotated[int, typer.Option("--n", "-n", help="Cells for the default set.", min=3)] = 60,
    screen: Annotated[int, typer.Option(help="Cells for the subset of a run.", min=3)] = 500,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Seconds a network: the default set of proxies together and one by one, by batch size; and a run's screening."""
    from llmnas.bench.proxies import bench_throughput

    answer("throughput", bench_throughput(data_dir, n, seed, screen, say), as_json, _throughput_lines)


def reweight(
    data_dir: DataDir,
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0.", min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """Proxy weights learned from labels against the label-free default, on NAS-Bench-201."""
    from llmnas.bench.reweight import bench_reweight, lines

    answer("reweight", bench_reweight(data_dir, seeds, say), as_json, lines)


def ranking(
    data_dir: DataDir,
    bench: Annotated[Literal["nb201", "nbmacro"], typer.Option(
        help="nb201: published scores of all cells. nbmacro: nets drawn and scored here.")] = "nb201",
    sets: Annotated[str, typer.Option(help="Sets of proxies to judge beside the default one, joined by + and commas.")
                    ] = "jacov+params,nwot+params",
    n: Annotated[int, typer.Option("--n", "-n", help="Nets drawn (nbmacro).", min=30)] = 200,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The order before anything was trained against published accuracies: how well does it find the good ones?"""
    from llmnas.bench.ranking import bench_ranking, parse_sets

    result = bench_ranking(bench, data_dir, parse_sets(sets), n, seed, say)
    answer("ranking", result, as_json, _ranking_lines)


def latency(
    data_dir: DataDir,
    task: Annotated[list[str] | None, typer.Option(help="A task; repeatable. [default: all]",
                                                   show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="A column of any table instead of tasks.",
                                               show_default=False)] = None,
    n: Annotated[str, typer.Option("--n", "-n", help="Numbers of samples for --device, by comma.")] = "0,3,10,20",
    draws: Annotated[int, typer.Option(help="Repetitions, each with other networks measured.", min=1)] = 10,
    seed: Seed = 0,
    trace: Annotated[Path | None, typer.Option(help="File for one JSON line per prediction.",
                                               show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Predicted against published latencies: without samples, from a few, on GPUs never timed, and on this CPU."""
    from llmnas.bench.latency import bench_latency
    from llmnas.errors import InputError

    sizes = n.split(",")
    if not all(size.strip().isdigit() for size in sizes):
        raise InputError(f"--n: expected numbers by comma, got {n!r}", "example: --n 0,3,10,20")
    result = bench_latency(data_dir, task or (), device, [int(size) for size in sizes], draws, seed, trace, say)
    answer("latency", result, as_json, _latency_lines)


COMMANDS = (proxies, throughput, reweight, ranking, latency)


def _proxy_lines(result: dict[str, Any]) -> Iterator[str]:
    yield f"{result['n']} cells ({result['population']}), batch {result['batch']}; Spearman with"
    yield f"{'proxy':18} {'published':>9} {'accuracy':>9} {'itself':>9} {'ms alone':>9}"
    for row in result["rows"]:
        cells = (row["spearman_published"], row["spearman_accuracy"], row["self_agreement"])
        yield (f"{row['proxy']:18} " + " ".join(f"{_number(value, '.3f'):>9}" for value in cells)
               + f" {_number(row['ms'], '.0f'):>9}")


def _throughput_lines(result: dict[str, Any]) -> Iterator[str]:
    yield f"{len(result['proxies'])} proxies, {result['n']} cells, {result['threads']} threads"
    for row in result["rows"]:
        agree = ", ".join(f"{name} {_number(value, '.2f')}" for name, value in row["agreement"].items())
        yield (f"batch {row['batch']}: {row['seconds']:.2f} s a network, {row['networks_s']:.2f} a second, process "
               f"peak {_number(row['peak_mb'], '.0f')} MB; agreement with batch 64: {agree}")
    yield (f"each proxy by itself: {result['separate_seconds']:.2f} s a network; together takes "
           f"{result['share']:.2f} of that")
    yield f"screening with {', '.join(result['screen']['proxies'])}: {result['screen']['cells_s']:.1f} cells a second"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _ranking_lines(result: dict[str, Any]) -> Iterator[str]:
    from llmnas.report.show import table

    head = ("data", "ranker", "n", "Spearman", "Kendall", "regret 1", "regret 10", "top tenth", "Spearman in it")
    rows = [(row["dataset"], row["ranker"] + (" *" if row["default"] else ""), f"{row['n']:,}",
             _number(row["spearman"], "+.3f"), _number(row["kendall"], "+.3f"), f"{row['regret1']:.2f}",
             f"{row['regret10']:.2f}",
             f"{100 * row['precision']:.0f} %", _number(row["spearman_top"], "+.3f")) for row in result["rows"]]
    yield table([head, *rows], right=tuple(range(2, len(head))))
    yield "* the default; regrets in percentage points below the best of the pool"
    yield from (f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}"
                for name, value in result["about"].items())


def _latency_lines(result: dict[str, Any]) -> Iterator[str]:
    from llmnas.report.show import table

    head = ("task", "device", "n", "Spearman", "error", "within 10 %", "90 % covers", "width", "roofline")
    rows = [(row["task"] + (" trimmed" if row["trimmed"] else ""), f"{row['device']} {row.get('kernel') or ''}",
             str(row["n_samples"]), _number(row["spearman"], "+.3f"), _percent(row["mape"]), _percent(row["within10"]),
             _percent(row["coverage90"]), _percent(row["interval"]), _percent(row.get("roofline_mape")))
            for row in result["rows"]]
    yield table([head, *rows], right=tuple(range(2, len(head))))
    for name, means in result["summary"]["tasks"].items():
        yield f"mean of {name}: " + ", ".join(f"{figure} {value:.3f}" for figure, value in means.items())
    yield (f"90 % intervals of calibrated rows cover {_percent(result['summary']['coverage90_pooled'])} pooled, "
           f"{_percent(result['summary']['coverage90_least'])} at least")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
