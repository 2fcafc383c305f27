"""Bench commands that search on published tables: bench search, pareto, import."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from llmnas.cli.bench_answer import answer, say
from llmnas.cli.look import AsJson
from llmnas.cli.work import models
from llmnas.errors import InputError

if TYPE_CHECKING:
    from llmnas.bench.seeds import Place

DataDir = Annotated[Path | None, typer.Option(envvar="LLMNAS_DATA", show_default=False,
                                              help="Folder with the tables; see docs/benchmarks.md. conv1d needs none.")
                    ]
Bench = Annotated[str, typer.Option(help="conv1d, nb201, nbmacro, accel_nasbench, or a folder with your own.")]
Dataset = Annotated[str | None, typer.Option(help="Data sets by comma: any D with columns D_val200 and D_test200. "
                                                  "[default: the table's first]", show_default=False)]
Strategy = Annotated[str, typer.Option(help="Strategies by comma.")]
Evals = Annotated[int, typer.Option(help="Trainings a search may pay for; a part of one counts as that.", min=1)]
Seeds = Annotated[int, typer.Option(help="How many seeds, from 0.", min=1)]
Screen = Annotated[int, typer.Option(help="Architectures whose published proxies a search may look at.", min=0)]
Batch = Annotated[int | None, typer.Option(help="Proposals at once, of which one is evaluated. [default: what the "
                                                "strategy wants: 8 for the agent, 1 for most]", min=1,
                                           show_default=False)]
NoPrior = Annotated[bool, typer.Option("--no-prior", help="Without the space's known-good designs.")]
ChargeBy = Annotated[Literal["distinct", "all"], typer.Option(help="distinct: repeats are free. all: they are paid.")]
Llm = Annotated[list[str] | None, typer.Option(
    help="Language model of strategies that use one, as in run; mock works offline; several share the calls. [default: "
         "auto]", show_default=False)]
Prompt = Annotated[str, typer.Option(help="A prompt set's name or folder, likewise; what it shows may follow: "
                                          "base:exemplars=0:facts=no.")]
Workers = Annotated[int, typer.Option(help="Processes. [default: one per core]", min=1, show_default=False)]
TraceFile = Annotated[Path | None, typer.Option("--trace", help="File for one JSON line per request.",
                                                show_default=False)]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def search(
    data_dir: DataDir = None,
    bench: Bench = "nb201",
    dataset: Dataset = None,
    device: Annotated[str | None, typer.Option(help="Columns of latencies by comma.", show_default=False)] = None,
    max_latency_quantile: Annotated[float | None, typer.Option(
        help="Latency cap, as a quantile of the connected architectures' latency.", show_default=False)] = None,
    strategy: Strategy = "random",
    evals: Evals = 100,
    seeds: Seeds = 10,
    screen: Screen = 0,
    batch: Batch = None,
    no_prior: NoPrior = False,
    charge: ChargeBy = "distinct",
    llm: Llm = None,
    prompt: Prompt = "base",
    workers: Workers = CORES,
    trace: TraceFile = None,
    as_json: AsJson = False,
) -> None:
    """The best architecture a strategy finds on a published table: chosen by validation, reported by test."""
    from llmnas.bench.meter import Terms
    from llmnas.bench.searching import bench_search

    if max_latency_quantile is not None and device is None:
        raise InputError("--max-latency-quantile needs a device", "give --device COLUMN")
    found = places(data_dir, bench, dataset, names(device, "--device") if device else [None])
    terms = Terms("", evals, charge, screen, batch, not no_prior, None, models(llm), prompt)
    result = bench_search(found, names(strategy, "--strategy"), terms, seeds, max_latency_quantile, workers, trace,
                          say)
    answer("search", result, as_json, _search_lines)


def pareto(
    device: Annotated[str, typer.Option(help="Columns of latencies by comma.")],
    data_dir: DataDir = None,
    bench: Bench = "nb201",
    dataset: Dataset = None,
    strategy: Strategy = "random",
    evals: Evals = 120,
    seeds: Seeds = 10,
    screen: Screen = 0,
    batch: Batch = None,
    no_prior: NoPrior = False,
    charge: ChargeBy = "distinct",
    llm: Llm = None,
    prompt: Prompt = "base",
    workers: Workers = CORES,
    trace: TraceFile = None,
    as_json: AsJson = False,
) -> None:
    """How much of the true front of accuracy and latency a strategy finds on a published table."""
    from llmnas.bench.fronts import bench_pareto
    from llmnas.bench.meter import Terms

    found = places(data_dir, bench, dataset, names(device, "--device"))
    terms = Terms("", evals, charge, screen, batch, not no_prior, None, models(llm), prompt)
    answer("pareto", bench_pareto(found, names(strategy, "--strategy"), terms, seeds, workers, trace, say), as_json,
           _pareto_lines)


def import_(
    kind: Annotated[str, typer.Argument(help="nats: a folder of NATS-Bench. hwnb: the pickle of HW-NAS-Bench.")],
    path: Annotated[Path, typer.Argument(help="What the publisher gives.")],
    out: Annotated[Path, typer.Option(help="The data folder to write below.")],
    as_json: AsJson = False,
) -> None:
    """Publishers' own files to tables that bench reads; pickles are read as data, never run."""
    from llmnas.bench.importing import import_table

    answer("import", import_table(kind, path, out, say), as_json, _import_lines)


COMMANDS = (search, pareto, import_)


def _import_lines(result: dict[str, Any]) -> Iterator[str]:
    yield f"{result['table']}: {result['rows']:,} rows, {len(result['columns'])} columns"


def places(data_dir: Path | None, bench: str, dataset: str | None, columns: Sequence[str | None]) -> list[Place]:
    """Returns the places of a table's data sets and columns; its first data set where none is named.

    Raises:
        InputError: The table needs a folder and there is none.
    """
    from llmnas.bench.seeds import Place
    from llmnas.bench.tabular import LAYOUTS, first_dataset

    if data_dir is None and not (bench in LAYOUTS and LAYOUTS[bench].embedded):
        raise InputError(f"bench {bench} needs a folder with its table",
                         f"give --data-dir or set LLMNAS_DATA; known: {', '.join(LAYOUTS)}, of which conv1d needs none")
    folder = data_dir or Path()
    named = names(dataset, "--dataset") if dataset is not None else [first_dataset(bench, folder)]
    return [Place(folder, bench, one, column) for one in named for column in columns]


def names(text: str, option: str) -> list[str]:
    """Returns the names in a list by comma, each once.

    Raises:
        InputError: There is none.
    """
    found = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise InputError(f"{option}: expected names by comma, got {text!r}", f"example: {option} a,b")
    return found


def _search_lines(result: dict[str, Any]) -> Iterator[str]:
    from llmnas.report.show import table

    head = ("data", "device", "strategy", "paid", "seeds", "val", "test", "regret", "repeats", "refused", "proxies")
    rows = [(row["dataset"], row["device"] or "-", row["strategy"], f"{row['cost']:.1f}", str(row["seeds"]),
             _spread(row["val_mean"], row["val_sd"], ".2f"), _spread(row["test_mean"], row["test_sd"], ".2f"),
             _spread(row["regret_mean"], None, ".2f"), f"{row['repeats']:.1f}", f"{row['refused']:.1f}",
             f"{row['proxies_charged']:.0f}") for row in result["rows"]]
    yield table([head, *rows], right=tuple(range(3, len(head))))
    yield from _said(result)


def _pareto_lines(result: dict[str, Any]) -> Iterator[str]:
    from llmnas.report.show import table

    head = ("data", "device", "strategy", "paid", "seeds", "HV ratio", "HV high", "IGD+", "IGD", "coverage")
    rows = [(*(row.get(name, "mean") for name in ("dataset", "device", "strategy")),
             f"{row['charged']:.1f}" if "charged" in row else "", str(row.get("seeds", "")),
             *(_spread(row[name], row[f"{name}_sd"], ".3f") for name in ("hv_ratio", "hv_high", "igd_plus", "igd",
                                                                         "coverage")))
            for row in (*result["rows"], *result["mean"])]
    yield table([head, *rows], right=tuple(range(3, len(head))))
    yield from _said(result)


def _said(result: dict[str, Any]) -> Iterator[str]:
    about = result["about"]
    yield f"{about['scores']}; {about['charging']}"
    if about["proxies"]:
        yield (f"proxies: {about['proxies']['source']}, taken on {about['proxies']['taken_on']}, at most "
               f"{about['proxies']['cap']} architectures a search")
    for row in result["rows"]:
        if "model" in row:
            yield _asked(row)
    if estimates := [name for name, device in about["devices"].items() if device["estimated"]]:
        yield f"estimated by a model of the device, not measured: {', '.join(estimates)}"


def _asked(row: dict[str, Any]) -> str:
    tokens = row["input_tokens"], row["output_tokens"]
    said = "unknown" if None in tokens else f"{sum(tokens):,.0f}"
    mock = ("; proposals come from the mock, by code: this says nothing about language models" if row["mock"] else "")
    return f"{row['strategy']}: model {row['model']}, {row['calls']:.1f} calls and {said} tokens a search{mock}"


def _spread(mean: float | None, deviation: float | None, form: str) -> str:
    if mean is None:
        return "-"
    return format(mean, form) + ("" if deviation is None else f" ±{format(deviation, form)}")
