"""How every bench command answers: progress on stderr, one JSON document or lines on stdout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import typer

from llmnas.cli.look import print_json


def say(text: str) -> None:
    """Tells the person what is going on."""
    typer.echo(text, err=True)


def answer(name: str, result: dict[str, Any], as_json: bool, lines: Callable[[dict[str, Any]], Iterable[str]]) -> None:
    """Prints the result of bench `name`, as JSON with its schema or as lines."""
    if as_json:
        print_json({"schema": f"llmnas.bench.{name}/1", **result})
        return
    for text in lines(result):
        typer.echo(text)
