"""Places for the nodes of a layered drawing: generations from top to bottom, edges as points to curve through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from llmnas.graph import INPUT

Point = tuple[float, float]
Wire = Mapping[str, Sequence[str]]  # the sources of each node

_PAD = 12.0
_APART = 22.0  # between neighbours of a layer
_LANE = 16.0  # width of an edge that passes a layer by
_SWEEPS = 6


@dataclass(frozen=True)
class Layout:
    """Where things are.

    Attributes:
        width: Of the whole drawing.
        height: Of the whole drawing.
        places: Centre of each node, ``input`` included.
        paths: Per edge the points it passes.
    """

    width: float
    height: float
    places: dict[str, Point]
    paths: dict[tuple[str, str], list[Point]]


def arrange(wires: Wire, widths: Mapping[str, float], height: float, gap: float) -> Layout:
    """Returns a layout with few crossings: an edge over several layers has a lane of its own in each of them.

    Args:
        wires: The sources of each node; ``input`` is added.
        widths: Width of each node's box.
        height: Height of a box.
        gap: Between layers.
    """
    level = _levels(wires)
    rows: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    for name, at in level.items():
        rows[at].append(name)
    chains = _lanes(wires, level, rows)
    above, below = _neighbours(chains)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            _sort(row, rows, above if down else below)
    size = {name: widths.get(name, _LANE) for row in rows for name in row}
    x = _across(rows, size, above, below)
    shift = _PAD - min(x[name] - size[name] / 2 for name in x)
    total = max(x[name] + size[name] / 2 for name in x) + shift + _PAD
    y = {name: _PAD + height / 2 + index * (height + gap) for index, row in enumerate(rows) for name in row}
    places = {name: (x[name] + shift, y[name]) for name in x}
    paths = {(chain[0], chain[-1]): _points(chain, places, height) for chain in chains}
    return Layout(max(total, 160.0), len(rows) * (height + gap) - gap + 2 * _PAD,
                  {name: places[name] for name in level}, paths)


def _levels(wires: Wire) -> dict[str, int]:
    """Returns the generation of each node; nodes on a cycle come one below the other."""
    import networkx as nx

    edges: nx.DiGraph[str] = nx.DiGraph()
    edges.add_nodes_from([INPUT, *wires])
    edges.add_edges_from((source, name) for name, sources in wires.items() for source in sources)
    try:
        found = list(nx.topological_generations(edges))
    except nx.NetworkXUnfeasible:
        return {INPUT: 0} | {name: index + 1 for index, name in enumerate(wires)}
    return {name: index for index, names in enumerate(found) for name in names} | {INPUT: 0}


def _lanes(wires: Wire, level: dict[str, int], rows: list[list[str]]) -> list[list[str]]:
    """Returns each edge as a chain of names, and gives it a place in every row it crosses."""
    chains = []
    for name, sources in wires.items():
        for source in sources:
            between = [f"\0{source}\0{name}\0{at}" for at in range(level[source] + 1, level[name])]
            for lane, at in zip(between, range(level[source] + 1, level[name]), strict=True):
                rows[at].append(lane)
            chains.append([source, *between, name])
    return chains


def _neighbours(chains: list[list[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for chain in chains:
        for upper, lower in pairwise(chain):
            above.setdefault(lower, []).append(upper)
            below.setdefault(upper, []).append(lower)
    return above, below


def _sort(row: list[str], rows: list[list[str]], beside: dict[str, list[str]]) -> None:
    """Orders a row by the mean place of its neighbours (barycentre rule of Sugiyama et al., 1981)."""
    at = {name: (index + 0.5) / len(other) for other in rows for index, name in enumerate(other)}
    mean = {name: sum(at[n] for n in near) / len(near) if (near := beside.get(name)) else at[name] for name in row}
    row.sort(key=mean.__getitem__)


def _across(rows: list[list[str]], size: dict[str, float], above: dict[str, list[str]],
            below: dict[str, list[str]]) -> dict[str, float]:
    """Returns the horizontal centre of every name: pulled to its neighbours, kept apart within its row."""
    x: dict[str, float] = {}
    for row in rows:
        _spread(row, dict.fromkeys(row, 0.0), size, x)
    for sweep in range(2 * _SWEEPS):
        beside = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wish = {name: sum(x[n] for n in near) / len(near) if (near := beside.get(name)) else x[name]
                    for name in row}
            _spread(row, wish, size, x)
    return x


def _spread(row: list[str], wish: dict[str, float], size: dict[str, float], x: dict[str, float]) -> None:
    """Puts a row near its wishes, in order and without overlap, its mean error zero."""
    at = float("-inf")
    placed = []
    for name in row:
        at = max(at, wish[name] - size[name] / 2)
        placed.append(at + size[name] / 2)
        at += size[name] + _APART
    error = sum(place - wish[name] for place, name in zip(placed, row, strict=True)) / max(1, len(row))
    for place, name in zip(placed, row, strict=True):
        x[name] = place - error


def _points(chain: list[str], places: dict[str, Point], height: float) -> list[Point]:
    down = places[chain[-1]][1] >= places[chain[0]][1]
    half = height / 2 if down else -height / 2
    first, last = places[chain[0]], places[chain[-1]]
    start = (first[0], first[1] + (15.0 if chain[0] == INPUT else half))
    points = [start]
    for name in chain[1:-1]:
        x, y = places[name]
        points += [(x, y - half), (x, y + half)]
    return [*points, (last[0], last[1] - half)]
