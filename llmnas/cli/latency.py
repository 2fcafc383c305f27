"""`llmnas latency`: devices, predict, calibrate, check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from llmnas.cli.catalogue import parse_shape
from llmnas.cli.look import AsJson, print_json
from llmnas.errors import InputError

Targets = Annotated[list[str] | None, typer.Option("--target", help="As in run. [default: cpu]", show_default=False)]
OneTarget = Annotated[str, typer.Option("--target", help="As in run.")]
Spaces = Annotated[list[str] | None, typer.Option(
    "--space", help="Spaces to draw networks from; may be repeated. [default: nb201 and convnet, for sequences conv1d]",
    show_default=False)]
Shapes = Annotated[list[str] | None, typer.Option(
    "--shape", help="Input shape of the networks, 3x32x32; may be repeated. [default: each space's usual one]",
    show_default=False)]
Classes = Annotated[int | None, typer.Option(help="Classes. [default: the space's usual number]", show_default=False,
                                             min=2)]
Seed = Annotated[int, typer.Option(help="Seed of the drawn networks.", min=0)]
Average = Annotated[bool, typer.Option(help="Take the mean of several measurements of one network.")]
CalibrationFile = Annotated[Path | None, typer.Option(
    "--calibration", help="Use this file instead of the kept one.", show_default=False)]
CSV = "CSV with columns architecture, ms [, low, high]; an architecture is a graph's JSON or file, or digits."


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    latency = typer.Typer(help="Hardware latency: predict it, calibrate a target, check the calibration.",
                          no_args_is_help=True)
    for command in (devices, predict, calibrate, check):
        latency.command(command.__name__)(command)
    app.add_typer(latency, name="latency")


def devices(as_json: AsJson = False) -> None:
    """List the devices whose latency can be predicted."""
    from llmnas.latency import datasheets

    sheets = datasheets().values()
    if as_json:
        print_json({"schema": "llmnas.devices/1", "devices": [
            {"key": sheet.key, "name": sheet.name, "kind": sheet.kind, "aliases": list(sheet.aliases)}
            for sheet in sheets]})
        return
    for kind, title in (("gpu", "GPUs"), ("cpu", "CPUs")):
        typer.echo(f"{title:24} {'':44} other names")
        for sheet in sheets:
            if sheet.kind == kind:
                typer.echo(f"  {sheet.key:22} {sheet.name:44} {', '.join(sheet.aliases)}".rstrip())


def predict(
    files: Annotated[list[Path] | None, typer.Argument(help="JSON files with graphs.", show_default=False)] = None,
    target: Targets = None,
    space: Annotated[str | None, typer.Option(help="For graphs that name no space. [default: nb201]",
                                              show_default=False)] = None,
    shape: Annotated[str | None, typer.Option(help="Input shape, 3x32x32; the space's usual one by default.")] = None,
    classes: Classes = None,
    module: Annotated[list[str] | None, typer.Option(
        help="A function that returns a torch module, package.file:function; needs --shape. May be repeated.",
        show_default=False)] = None,
    calibration: CalibrationFile = None,
    explain: Annotated[bool, typer.Option(help="Also what share of the time the analytic model gives every node.")
                       ] = False,
    as_json: AsJson = False,
) -> None:
    """Predict latency and energy of graphs or modules, with intervals; nothing is run."""
    from llmnas.cli.predicting import answer, lines

    found = answer(files or [], module or [], target or ["cpu"], space, parse_shape(shape), classes, calibration,
                   explain)
    _show(found, as_json, lines)


def calibrate(
    target: OneTarget = "cpu",
    space: Spaces = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Networks to measure.", min=1)] = 20,
    budget: Annotated[str, typer.Option(help="Wall time of the measurements.")] = "30s",
    samples: Annotated[Path | None, typer.Option(
        help=f"Measurements of your own instead. {CSV}", show_default=False)] = None,
    proxy: Annotated[str | None, typer.Option(
        help="Another device's measurements, FILE or TARGET=FILE, likewise: a feature beside this target's own.",
        show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write it. [default: where all commands look for it]",
                                             show_default=False)] = None,
    shape: Shapes = None,
    classes: Classes = None,
    seed: Seed = 0,
    average: Average = False,
    as_json: AsJson = False,
) -> None:
    """Measure a target, or take measurements of it, so that its latency is predicted from them."""
    from llmnas.budget import parse_duration
    from llmnas.cli.calibrating import Wanted, answer, lines

    found = answer(Wanted(target, tuple(space or ()), _shapes(shape), classes, seed, average), n,
                   parse_duration(budget), samples, proxy, out)
    _show(found, as_json, lines)


def check(
    target: OneTarget = "cpu",
    space: Spaces = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Fresh networks to measure.", min=1)] = 30,
    budget: Annotated[str, typer.Option(help="Wall time of the measurements.")] = "30s",
    samples: Annotated[Path | None, typer.Option(
        help=f"Measurements of your own instead, of networks that were not calibrated on. {CSV}",
        show_default=False)] = None,
    calibration: CalibrationFile = None,
    max_mape: Annotated[float | None, typer.Option(
        help="Exit with code 7 when the mean error is above this share, 0.1.", show_default=False, min=0)] = None,
    shape: Shapes = None,
    classes: Classes = None,
    seed: Seed = 1,
    average: Average = False,
    as_json: AsJson = False,
) -> None:
    """Compare the calibration of a target with networks it was not made from, by default of its spaces and shapes."""
    from llmnas.budget import parse_duration
    from llmnas.cli.calibrating import Wanted
    from llmnas.cli.checking import answer, judged, lines

    found = answer(Wanted(target, tuple(space or ()), _shapes(shape), classes, seed, average), n,
                   parse_duration(budget), samples, calibration)
    _show(found, as_json, lines)
    judged(found, max_mape)


def _show(found: dict[str, Any], as_json: bool, lines: Callable[[dict[str, Any]], Iterable[str]]) -> None:
    """Prints an answer as one JSON document or as lines."""
    if as_json:
        print_json(found)
        return
    for line in lines(found):
        typer.echo(line)


def _shapes(texts: list[str] | None) -> tuple[tuple[int, ...], ...]:
    shapes = tuple(shape for text in texts or () if (shape := parse_shape(text)) is not None)
    for shape in shapes:
        if len(shape) not in (2, 3):
            raise InputError(f"{list(shape)} is not a shape of images or sequences", "write 3x32x32 or 1x40")
    return shapes
