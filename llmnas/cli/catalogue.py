"""Commands that list and check what there is: spaces, proxies; and score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from llmnas.cli.listing import OWN, origin, plugged
from llmnas.cli.look import AsJson, Run, print_json
from llmnas.errors import InputError


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    spaces = typer.Typer(help="Search spaces.", no_args_is_help=True)
    spaces.command("list")(spaces_list)
    spaces.command("show")(spaces_show)
    spaces.command("sample")(spaces_sample)
    spaces.command("validate")(spaces_validate)
    app.add_typer(spaces, name="spaces")
    proxies = typer.Typer(help="Zero-cost proxies.", no_args_is_help=True)
    proxies.command("list")(proxies_list)
    proxies.command("validate")(proxies_validate)
    app.add_typer(proxies, name="proxies")
    app.command("score")(score)


def spaces_list(as_json: AsJson = False) -> None:
    """List the spaces, and where they come from."""
    from llmnas.space import list_spaces, load_space

    described = [load_space(name).describe() | {"from": OWN} for name in list_spaces()]
    others = [row if "problem" in row else load_space(row["name"]).describe() | row for row in plugged("spaces")]
    if as_json:
        print_json({"schema": "llmnas.spaces/1", "spaces": [*described, *others]})
        return
    for one in (*described, *others):
        length = one.get("log10_size")
        size = "-" if "problem" in one else f"10^{length:.1f}" if length is not None else "open"
        typer.echo(f"{one['name']:11}  {size:>7}  {one.get('title', '')}{origin(one)}")


def spaces_show(space: Annotated[str, typer.Argument(help="A name or a path.")], as_json: AsJson = False) -> None:
    """Show a space: why, ops, rules, legal values."""
    from llmnas.space import load_space

    found = load_space(space)
    described = {**found.describe(), "block": found.block(), "source": found.spec.source}
    if as_json:
        print_json({"schema": "llmnas.space/1", **described})
        return
    typer.echo(f"{described['name']}: {described['title']}\n{described['about']}\nsource: {described['source']}\n\nops")
    for op, gloss in described["ops"].items():
        typer.echo(f"  {op:14} {gloss}")
    typer.echo("\nrules")
    for rule in described["rules"]:
        typer.echo(f"  {rule}")


def spaces_sample(
    space: Annotated[str, typer.Argument(help="A name or a path.")],
    n: Annotated[int, typer.Option("-n", help="How many.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Seed.", min=0)] = 0,
    prior: Annotated[bool, typer.Option(help="The known-good designs instead of random draws.")] = False,
) -> None:
    """Print legal graphs as JSON, one a line."""
    import numpy as np

    from llmnas.space import load_space

    found, rng = load_space(space), np.random.default_rng(seed)
    graphs = found.prior()[:n] if prior else [found.sample(rng) for _ in range(n)]
    for graph in graphs:
        typer.echo(graph.to_json())


def spaces_validate(
    file: Annotated[Path, typer.Argument(help="A space's YAML, or a JSON file with a graph.")],
    space: Annotated[str, typer.Option(help="For a graph that names no space.")] = "nb201",
) -> None:
    """Check a space file or a graph file; says line or place, and the fix."""
    from llmnas.space import load_space

    if file.suffix in {".yaml", ".yml"}:
        found = load_space(str(file))
        typer.echo(f"{file}: a legal space with {len(found.prior())} known-good designs")
        return
    graphs = read_graphs(file, space)
    faults = [f"{file}: {issue}" for name, graph in graphs for issue in load_space(name).validate(graph)]
    if faults:
        raise InputError("\n".join(faults))
    typer.echo(f"{file}: {len(graphs)} legal graph{'s' if len(graphs) != 1 else ''}")


def read_graphs(file: Path, space: str) -> list[tuple[str, Any]]:
    """Returns the graphs in a JSON file, each with the name of its space, `space` where it names none.

    Raises:
        InputError: The file cannot be read, or what is in it is no graph.
    """
    from llmnas.space import parse_graph

    try:
        text = file.read_text(encoding="utf-8")
        value = [json.loads(line) for line in text.splitlines() if line.strip()] if _lines(text) else json.loads(text)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}", "give a JSON file of graphs") from None
    except ValueError as error:
        raise InputError(f"{file}: not JSON: {error}", "see docs/graphs.md for the form") from None
    graphs = []
    for item in value if isinstance(value, list) else [value]:
        body = {key: part for key, part in item.items() if key != "meta"} if isinstance(item, dict) else item
        name = str(body.get("space", space)) if isinstance(body, dict) else space
        graph, issues = parse_graph(body, name)
        if graph is None:
            raise InputError(f"{file}: " + "; ".join(map(str, issues)))
        graphs.append((name, graph))
    return graphs


def _lines(text: str) -> bool:
    """Returns whether a text is JSON lines: several documents, one a line."""
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) > 1 and all(line.startswith("{") and line.rstrip().endswith("}") for line in lines)


def proxies_list(as_json: AsJson = False) -> None:
    """List the proxies: direction, transform, passes, needs, cost, where they mislead, source; and composites."""
    from llmnas.proxies import all_proxies
    from llmnas.proxies.composites import COMPOSITES

    others = {row["name"]: row for row in plugged("proxies")}
    rows: list[dict[str, Any]] = [{"name": proxy.name, "direction": proxy.direction, "transform": proxy.transform,
             "passes": sorted(proxy.passes), "data": proxy.data, "cost_forwards": proxy.cost,
             "formula": proxy.formula, "validity": proxy.validity, "source": proxy.source,
             "from": others.get(proxy.name, {}).get("from", OWN)}
            for proxy in all_proxies().values()]
    broken = [row for row in others.values() if "problem" in row]
    made = [{"name": name, "parts": list(each.parts), "source": each.source} for name, each in COMPOSITES.items()]
    if as_json:
        print_json({"schema": "llmnas.proxies/2", "proxies": rows, "composites": made, "broken": broken})
        return
    for row in rows:
        typer.echo(f"{row['name']}: {row['formula']}{origin(row)}\n"
                   f"    {'higher' if row['direction'] == 1 else 'lower'} is better; needs {row['data']}; about "
                   f"{row['cost_forwards']:g} forwards ({', '.join(row['passes']) or 'no pass'}); transform "
                   f"{row['transform']}\n    misleads: {row['validity']}\n    {row['source']}")
    for one in made:
        typer.echo(f"{one['name']}: ranks of {', '.join(one['parts'])} in a pool\n    {one['source']}")
    for one in broken:
        typer.echo(f"{one['name']}{origin(one)}")


def proxies_validate(run: Run, as_json: AsJson = False) -> None:
    """Compare the proxies of a run with what its trained candidates reached: helps, misleads or not decided."""
    from llmnas.report import signals
    from llmnas.store import find_run, read_run

    state = read_run(find_run(run))
    print_json(signals.validate_json(state)) if as_json else typer.echo(signals.validate_text(state))


def score(
    files: Annotated[list[Path], typer.Argument(help="JSON files with graphs.")],
    space: Annotated[str, typer.Option(help="For graphs that name no space.")] = "nb201",
    target: Annotated[list[str] | None, typer.Option(help="As in run. [default: cpu]", show_default=False)] = None,
    shape: Annotated[str | None, typer.Option(help="Input shape such as 3x32x32; the space's usual one by default.")
                     ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and of the noise batch.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Score graphs without training: size, proxies on a noise batch, latency."""
    from llmnas.cli.scoring import score_graphs

    graphs = [(file, name, graph) for file in files for name, graph in read_graphs(file, space)]
    rows = score_graphs(graphs, tuple(target or ["cpu"]), parse_shape(shape), seed)
    if as_json:
        print_json({"schema": "llmnas.score/1", "graphs": rows})
        return
    for row in rows:
        typer.echo(f"{row['file']}  {row['key']}  {row['params']:,} params  {row['macs']:,} MACs")
        for key, ms in row["latency"].items():
            typer.echo(f"  {key}: {ms}")
        typer.echo("  " + "  ".join(f"{name}={value:.6g}" for name, value in row["scores"].items()))
        for name, problem in row["unscored"].items():
            typer.echo(f"  {name}: {problem}")


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """Returns the shape in ``3x32x32`` or ``3,32,32``; None for None.

    Raises:
        InputError: Not such a shape.
    """
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.lower().replace(",", "x").split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise InputError(f"{text!r} is not a shape", "write 3x32x32 or 1x40")
    return shape
