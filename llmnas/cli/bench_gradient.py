"""The bench command for strategies that learn by training a supernet: bench gradient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from llmnas.cli.bench_answer import answer, say
from llmnas.cli.look import AsJson


def gradient(
    data: Annotated[str, typer.Option(help="What the supernets are trained on, as in run.")],
    space: Annotated[str, typer.Option(help="A space where only ops are chosen; auto chooses by the data.")] = "auto",
    strategy: Annotated[str, typer.Option(help="darts and one_shot with their options, by comma: "
                                               "darts:order=2:partial=4,one_shot.")] = "darts",
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0.", min=1)] = 3,
    minutes: Annotated[float, typer.Option(help="Wall minutes of a fit.", min=0.05)] = 5.0,
    top: Annotated[int, typer.Option(help="Architectures asked for after a fit.", min=1)] = 10,
    bench: Annotated[str | None, typer.Option(help="A table of that space that says what they are worth, as in bench "
                                                   "search. [default: none]", show_default=False)] = None,
    data_dir: Annotated[Path | None, typer.Option(envvar="LLMNAS_DATA", help="Folder with the table.",
                                                  show_default=False)] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set of the table. [default: its first]",
                                                show_default=False)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of a fit.", min=1)] = 1,
    as_json: AsJson = False,
) -> None:
    """What darts and one_shot derive on your data, how their fits went, and the rank of it in a table."""
    from llmnas.bench.gradient import Terms, bench_gradient
    from llmnas.cli.bench_search import names, places

    table = None if bench is None else places(data_dir, bench, dataset, [None])[0].open()
    terms = Terms(data, space, minutes, top, device, threads)
    answer("gradient", bench_gradient(terms, names(strategy, "--strategy"), seeds, table, say), as_json, _lines)


COMMANDS = (gradient,)


def _lines(result: dict[str, Any]) -> Iterator[str]:
    from llmnas.report.show import table

    head = ("strategy", "seed", "derived", "rank", "percentile", "val", "test", "skips", "eigenvalue", "epochs",
            "seconds")
    yield table([head, *map(_cells, result["rows"])], right=tuple(range(3, len(head))))
    for row in result["rows"]:
        for which, found in row.get("agreement", {}).items():
            if found["spearman"] is not None:
                yield (f"{row['strategy']}, seed {row['seed']}: shared weights against the table, {which} "
                       f"({found['n']}): Spearman {found['spearman']:+.2f}, Kendall {found['kendall']:+.2f}")
        yield from (f"{row['strategy']}, seed {row['seed']}: {text}" for text in row["warnings"])
    if result["about"]["table"]:
        yield f"rank among {result['rows'][0]['of']:,} architectures: {result['about']['table']['scores']}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    values = [one["eigenvalue"] for one in row["history"] or () if one.get("eigenvalue") is not None]
    if row["failed"]:
        derived = row["failed"]
    else:
        derived = row.get("name") or " ".join(text.partition("/")[2] for text in row["derived"] or ())
    return (row["strategy"], str(row["seed"]), derived, _text(row.get("rank"), ","),
            _text(row.get("percentile"), ".1f"), _text(row.get("val"), ".2f"), _text(row.get("test"), ".2f"),
            _text(row["skips"], "d"),
            f"{values[0]:.3g} to {values[-1]:.3g}" if values else "-", _text(row["epochs"], "d"),
            f"{row['seconds']:.0f}")


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
