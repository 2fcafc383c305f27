"""The bench command that trains our own table: bench build."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from llmnas.cli.bench_answer import answer, say
from llmnas.cli.look import AsJson


def build(
    out: Annotated[Path, typer.Argument(help="The folder; what is trained there already is kept.")],
    workers: Annotated[int, typer.Option(help="Processes, each with one thread.", min=1)] = 1,
    limit: Annotated[int | None, typer.Option(help="Trainings at most, this time.", min=1, show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Train every function of space conv1d_cell three times on MNIST-1D, and pack the table that llmnas brings.

    About 6,700 trainings of a good second each. Ended early, it goes on where it stopped.
    """
    from llmnas.bench.building import bench_build
    from llmnas.bench.packing import pack

    result = bench_build(out, workers, limit, say)
    answer("build", {**result, "card": pack(out, say) if result["complete"] else None}, as_json, _lines)


COMMANDS = (build,)


def _lines(result: dict[str, Any]) -> Iterator[str]:
    yield f"{result['folder']}: {result['trainings']:,} of {result['of']:,} trainings"
    if result["ratio"] is not None:
        yield (f"validation accuracy: standard deviation {100 * result['between_sd']:.2f} points between "
               f"architectures, {100 * result['seed_sd']:.2f} between seeds of one; ratio {result['ratio']:.2f}")
    yield ("the table is in " + f"{result['folder']}/conv1d") if result["card"] else "run it again to go on"
