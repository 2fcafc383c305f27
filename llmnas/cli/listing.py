"""What stands in the lists of strategies and models, and where every entry of a list comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import typer

from llmnas.cli.look import AsJson, print_json
from llmnas.errors import InputError
from llmnas.plugins import KINDS, Kind, plugins

OWN: Final = "llmnas"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for name, command, about in (("strategies", strategies_list, "Search strategies."),
                                 ("models", models_list, "Language models.")):
        group = typer.Typer(help=about, no_args_is_help=True)
        group.command("list")(command)
        group.callback()(lambda: None)  # a group of one command keeps the command's name
        app.add_typer(group, name=name)


def strategies_list(as_json: AsJson = False) -> None:
    """List the strategies, and where they come from."""
    from llmnas.strategies.base import GLOSSES

    _print("strategies", [{"name": name, "about": gloss, "from": OWN} for name, gloss in GLOSSES.items()], as_json)


def models_list(as_json: AsJson = False) -> None:
    """List what --llm takes, and where it comes from."""
    from llmnas.llm import SPECS

    _print("models", [{"name": spec, "about": about, "from": OWN} for spec, about in SPECS.items()], as_json)


def _print(kind: Kind, rows: list[dict[str, Any]], as_json: bool) -> None:
    rows = [*rows, *plugged(kind)]
    if as_json:
        print_json({"schema": f"llmnas.{kind}/1", kind: rows})
        return
    wide = max(len(row["name"]) for row in rows)
    for row in rows:
        typer.echo(f"{row['name']:{wide}}  {row['about']}{origin(row)}")


def plugged(kind: Kind) -> Iterator[dict[str, Any]]:
    """Yields a row for every plug-in of a kind: the first line of its docstring, or why it cannot be used."""
    for name, plugin in plugins(kind).items():
        row: dict[str, Any] = {"name": name, "about": "", "from": plugin.package, "path": plugin.path}
        if problem := fault(kind, name):
            row["problem"] = problem
        else:
            row["about"] = (getattr(plugin.load(), "__doc__", None) or "").strip().split("\n")[0]
        yield row


def fault(kind: Kind, name: str) -> str:
    """Returns in one line why a plug-in cannot be used; empty when it can."""
    if name in _own(kind):
        return f"its name is taken by the {KINDS[kind]} {name!r} of llmnas"
    try:
        _used(kind, name)
    except InputError as error:
        return " ".join(error.message.split())
    return ""


def origin(row: dict[str, Any]) -> str:
    """Returns what a list says behind an entry of another package: the package, and what is wrong with it."""
    problem = f": cannot be used: {row['problem']}" if row.get("problem") else ""
    return "" if row["from"] == OWN else f"  [{row['from']}{problem}]"


def _used(kind: Kind, name: str) -> None:
    """Loads a plug-in as its users do."""
    match kind:
        case "proxies":
            from llmnas.proxies import find_proxy

            find_proxy(name)
        case "spaces":
            from llmnas.space import load_space

            load_space(name)
        case _:
            plugins(kind)[name].load()


def _own(kind: Kind) -> list[str]:
    match kind:
        case "proxies":
            from llmnas.proxies import PROXIES

            return [name for name, proxy in PROXIES.items() if proxy.score.__module__.startswith("llmnas.proxies.")]
        case "spaces":
            from llmnas.space import list_spaces

            return list_spaces()
        case "models":
            from llmnas.llm import SPECS

            return [spec.partition(":")[0].partition("[")[0] for spec in SPECS]
        case _:
            from llmnas.strategies import STRATEGIES

            return list(STRATEGIES)
