"""The command that compares: strategies on a table, strategies on real data, or finished runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from llmnas.cli.bench_answer import say
from llmnas.cli.bench_search import Batch, ChargeBy, Llm, NoPrior, Prompt
from llmnas.cli.look import AsJson, print_json
from llmnas.cli.work import models
from llmnas.errors import InputError

TableDataset = Annotated[str | None, typer.Option(help="Data set of the table. [default: its first]",
                                                  show_default=False)]
TableDevice = Annotated[str | None, typer.Option(help="Column of latencies: also compares fronts.", show_default=False)]
TableFolder = Annotated[Path | None, typer.Option(envvar="LLMNAS_DATA", help="Folder with the tables.",
                                                  show_default=False)]
Out = Annotated[Path | None, typer.Option(help="Folder of the comparison; one that is there is gone on with. [default: "
                                               "one below runs/, by what is compared]", show_default=False)]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("compare")(compare)


def compare(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Finished runs: compares these.")] = None,
    bench: Annotated[str | None, typer.Option(help="A table: searches on it. See docs/benchmarks.md.",
                                              show_default=False)] = None,
    data: Annotated[str | None, typer.Option(help="Data as in run: really trains on them.", show_default=False)] = None,
    strategies: Annotated[str, typer.Option(
        help="By comma. A name twice, or NAME#2, is the same strategy on other random numbers: an A/A pair. "
             "NAME@PROMPT asks with that prompt set."
    )] = "random,local_search,evolution,agent",
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0; every arm runs each.", min=2)] = 20,
    evals: Annotated[int | None, typer.Option(help="Evaluations of a search. [default on a table: 60]", min=1,
                                              show_default=False)] = None,
    dataset: TableDataset = None,
    device: TableDevice = None,
    data_dir: TableFolder = None,
    screen: Annotated[int | None, typer.Option(help="Architectures whose proxies a search may look at.", min=0)] = None,
    batch: Batch = None,
    charge: ChargeBy = "distinct",
    no_prior: NoPrior = False,
    llm: Llm = None,
    prompt: Prompt = "base",
    space: Annotated[str, typer.Option(help="With --data, as in run.")] = "auto",
    budget: Annotated[str | None, typer.Option(help="With --data: wall time of one run. [default: 30min]",
                                               show_default=False)] = None,
    target: Annotated[str, typer.Option(help="With --data, as in run.")] = "cpu",
    workers: Annotated[int | None, typer.Option(help="Searches at once. [default: one per core on a table, one with "
                                                     "--data]", min=1, show_default=False)] = None,
    reference: Annotated[str | None, typer.Option(help="Arm the others are compared with. [default: random, else the "
                                                       "first]", show_default=False)] = None,
    pairs: Annotated[Literal["reference", "all"], typer.Option(help="Which pairs are tested.")] = "reference",
    by: Annotated[str | None, typer.Option(help="Measure that decides: test, validation, anytime, hv_ratio, … "
                                                "[default: test, where it is known]", show_default=False)] = None,
    goal: Annotated[float | None, typer.Option(help="Validation score to reach, 0 to 1. [default: the reference's "
                                                    "median at the end]", show_default=False)] = None,
    unlike: Annotated[bool, typer.Option("--unlike", help="Compare RUNs on different terms all the same, and say so.")
                      ] = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Compare strategies seed by seed: better, worse, or do the seeds not tell? Writes compare.html and .json."""
    from llmnas.compare import page, parse_arms, words
    from llmnas.compare.analysis import Question

    _one_source(runs, bench, data)
    if not runs and len(parse_arms(strategies)) < 2:
        raise InputError(f"a comparison needs two arms, got {strategies!r}",
                         "name two strategies, or random,random for an A/A pair")
    question = Question(reference, pairs, by, goal)
    if bench is not None:
        if space != "auto" or budget is not None:
            raise InputError("--space and --budget are for --data: a table has a space and costs no time",
                             "leave them out")
        found = on_table(bench, data_dir, dataset, device, strategies, seeds, out, question, workers,
                          evals=evals or 60, charge=charge, screen=screen or 0, batch=batch, prior=not no_prior,
                          llm=models(llm), prompt=prompt)
    elif data is not None:
        found = _on_data(strategies, seeds, out, question, workers, budget, data=data, space=space, evals=evals,
                         target=target, screen=screen, prior=not no_prior, llm=models(llm), prompt=prompt)
    else:
        found = _of_runs(runs or [], question, unlike, out)
    folder = Path(found.pop("folder"))
    document = page.complete(found, ("llmnas", *sys.argv[1:]))
    html, _ = page.write(document, folder)
    if as_json:
        print_json(document)
        return
    for line in words.lines(document):
        typer.echo(line)
    typer.echo(f"\nreport: {html}")


def _one_source(runs: list[str] | None, bench: str | None, data: str | None) -> None:
    given = [name for name, value in (("RUN", runs), ("--bench", bench), ("--data", data)) if value]
    if len(given) != 1:
        raise InputError(f"expected one of RUN…, --bench and --data, got {' and '.join(given) or 'none of them'}",
                         "examples: llmnas compare --bench nb201 --strategies random,evolution; "
                         "llmnas compare runs/a runs/b")


def on_table(bench: str, data_dir: Path | None, dataset: str | None, device: str | None, strategies: str, seeds: int,
             out: Path | None, question: Any, workers: int | None, **terms: Any) -> dict[str, Any]:
    """Returns the comparison of arms on a table, and under ``folder`` where it is kept."""
    from llmnas.bench.comparing import compare_on_table
    from llmnas.bench.meter import Terms
    from llmnas.bench.seeds import Place
    from llmnas.bench.tabular import first_dataset
    from llmnas.cli.bench_search import CORES
    from llmnas.compare import parse_arms

    folder = data_dir or Path()
    place = Place(folder, bench, dataset or first_dataset(bench, folder), device)
    return compare_on_table(place, parse_arms(strategies), Terms("", **terms), seeds, out, question, workers or CORES,
                            say)


def _on_data(strategies: str, seeds: int, out: Path | None, question: Any, workers: int | None, budget: str | None,
             **task: Any) -> dict[str, Any]:
    from dataclasses import asdict

    from llmnas.bench.comparing import digest
    from llmnas.bench.launching import Task, compare_on_data
    from llmnas.budget import parse_duration
    from llmnas.compare import parse_arms

    wanted = Task(budget_s=parse_duration(budget or "30min"), **task)
    folder = out or Path("runs") / f"compare-{Path(wanted.data).name}-{digest(asdict(wanted))}"
    found = compare_on_data(wanted, parse_arms(strategies), seeds, folder, question, workers or 1, say)
    return {**found, "folder": str(folder)}


def _of_runs(runs: list[str], question: Any, unlike: bool, out: Path | None) -> dict[str, Any]:
    import hashlib

    from llmnas.compare.of_runs import compare_runs
    from llmnas.store import find_run

    directories = list(dict.fromkeys(find_run(name) for name in runs))
    digest = hashlib.blake2b("\n".join(map(str, directories)).encode(), digest_size=4).hexdigest()
    return {**compare_runs(directories, question, unlike), "folder": str(out or Path("runs") / f"compare-{digest}")}
