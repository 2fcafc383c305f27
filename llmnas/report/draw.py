"""Drawings of an architecture: layered SVG, text for terminals, Mermaid for READMEs. No graphviz.

Ops ``none`` and their edges are not drawn. Nodes that reach nothing are drawn faded. A graph that is not legal is
drawn as far as it makes sense; nothing here raises on a proposal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llmnas.graph import INPUT, ZERO, ArchGraph, Node
from llmnas.network import Network
from llmnas.report import svg
from llmnas.report.format import clean, count, one_line, shape
from llmnas.report.layers import Layout, arrange

Labels = Mapping[str, tuple[tuple[int, ...], int, int]]  # per node: shape, parameters, MACs

_FAMILY: Final = {
    "stem": "stem", "conv": "conv", "conv_block": "conv", "basic": "conv", "bottleneck": "conv", "fused": "conv",
    "nor_conv_1x1": "light", "nor_conv_3x3": "conv", "nor_conv_1": "light", "nor_conv_7": "conv",
    "dwconv": "light", "inverted": "light", "se": "act",
    "projection": "light", "mb3_k3": "light", "mb6_k5": "light",
    "avg_pool_3x3": "pool", "avg_pool_3": "pool", "max_pool": "pool", "avg_pool": "pool",
    "skip_connect": "skip", "identity": "skip",
    "add": "join", "concat": "join", "mul": "join", "attention": "attend", "norm": "act", "relu": "act",
    "silu": "act", "gelu": "act", "sigmoid": "act"}
_SHORT: Final = {"channels": "{} ch", "kernel": "k{}", "stride": "stride {}", "expand": "expand {}", "depth": "×{}",
                 "groups": "{} groups", "heads": "{} heads", "se": "SE"}
_HEIGHT: Final = 46
_GAP: Final = 30


def family(op: str) -> str:
    """Returns the family an op is coloured by: stem, conv, light, pool, skip, join, attend or act."""
    return _FAMILY.get(op, "join")


def attributes(node: Node) -> str:
    """Returns the main attributes on one line: ``64 ch · k3 · ×2``. A stride or group of 1 is not worth a word."""
    shown = [_SHORT[name].format(value) for name, value in node.attributes.items()
             if value is not False and not (value == 1 and name in {"stride", "groups", "depth"} and value is not True)]
    return " · ".join(shown)


def labels_of(network: Network | None) -> Labels:
    """Returns the labels of a network's nodes; none when there is no network."""
    return {} if network is None else network.by_node()


def drawn(graph: ArchGraph) -> tuple[list[Node], set[str]]:
    """Returns the nodes worth drawing, inputs first where the wiring allows it, and the ids that reach the output."""
    try:
        nodes, live = list(graph.order), {node.id for node in graph.live().nodes}
    except (ValueError, KeyError):
        nodes = list({node.id: node for node in graph.nodes}.values())
        live = {node.id for node in nodes}
    kept = [node for node in nodes if node.op not in ZERO or node.id == graph.output]
    known = {INPUT} | {node.id for node in kept}
    return [node.model_copy(update={"inputs": tuple(dict.fromkeys(i for i in node.inputs if i in known))})
            for node in kept], live


def to_svg(graph: ArchGraph, labels: Labels | None = None, heading: str = "Architecture") -> str:
    """Returns the graph as a layered picture, input on top.

    Args:
        graph: What to draw.
        labels: Per node shape, parameters and MACs, as `Network.by_node` gives them.
        heading: Title of the picture.
    """
    nodes, live = drawn(graph)
    found = labels or {}
    widths = {node.id: _width(node, found) for node in nodes} | {INPUT: 90.0}
    layout = arrange({node.id: node.inputs for node in nodes}, widths, _HEIGHT, _GAP)
    faded = {node.id for node in nodes} - live
    edges = "".join(_edge(path, path_of[0] in faded or path_of[1] in faded) for path_of, path in layout.paths.items())
    boxes = "".join(_box(node, layout, widths[node.id], found, faded=node.id in faded) for node in nodes)
    body = _STYLE + edges + _input_box(layout) + boxes
    return svg.document(layout.width, layout.height, heading, describe(graph), body)


_STYLE: Final = ("<style>.ln .box{fill:var(--card);stroke:var(--line)}.ln .edge{fill:none;stroke:var(--soft);"
                 "stroke-width:1.6;opacity:.75}.ln .dead{opacity:.38}.ln .dead .box,"
                 ".ln .edge.dead{stroke-dasharray:4 3}</style>")


def describe(graph: ArchGraph) -> str:
    """Returns the graph in a sentence per node, as the text alternative of its picture."""
    nodes, live = drawn(graph)
    said = [f"{node.id}: {node.op}{' ' + attributes(node) if node.attributes else ''} of "
            f"{' + '.join(node.inputs) or 'nothing'}{'' if node.id in live else ' (not used)'}" for node in nodes]
    return f"{len(nodes)} nodes of space {graph.space}. " + "; ".join(said) + f". The output is {graph.output}."


def _width(node: Node, labels: Labels) -> float:
    first = len(node.op) * 8.2 + len(node.id) * 7 + 16
    second = (len(attributes(node)) + len(_cost(node, labels)) + 3) * 6.6
    return min(360.0, max(124.0, first, second) + 26)


def _cost(node: Node, labels: Labels) -> str:
    if node.id not in labels:
        return ""
    sizes, params, _ = labels[node.id]
    return shape(sizes) + (f" · {count(params)}" if params else "")


def _box(node: Node, layout: Layout, width: float, labels: Labels, *, faded: bool) -> str:
    x, y = layout.places[node.id]
    left, top = x - width / 2, y - _HEIGHT / 2
    colour = f"var(--{family(node.op)})"
    params, total = labels[node.id][1] if node.id in labels else 0, sum(made for _, made, _ in labels.values())
    share = params / total if total else 0.0
    parts = [
        svg.title(f"{node.id}: {node.op} {attributes(node)} {_cost(node, labels)}"
                  + (f", {share:.0%} of the parameters" if share else "") + (", not used" if faded else "")),
        svg.element("rect", x=left, y=top, width=width, height=_HEIGHT, rx=9, class_="box"),
        svg.element("rect", x=left, y=top + 8, width=4, height=_HEIGHT - 16, rx=2, style=f"fill:{colour}"),
        svg.text(left + 14, top + 19, node.op, "bold"),
        svg.text(left + width - 11, top + 19, node.id, "soft small", "end"),
        svg.text(left + 14, top + 35, attributes(node), "soft small"),
        svg.text(left + width - 11, top + 35, _cost(node, labels), "soft small", "end"),
    ]
    if share > 0:
        parts.append(svg.element("rect", x=left + 14, y=top + _HEIGHT - 5, width=max(1.0, share * (width - 25)),
                                 height=2.5, rx=1.2, style=f"fill:{colour}"))
    return svg.element("g", "".join(parts), class_="dead" if faded else None)


def _input_box(layout: Layout) -> str:
    x, y = layout.places[INPUT]
    return (svg.element("rect", x=x - 45, y=y - 15, width=90, height=30, rx=15, style="fill:var(--ink)")
            + svg.text(x, y + 4, "input", "bold", "middle", style="fill:var(--card)"))


def _edge(points: list[tuple[float, float]], faded: bool) -> str:
    x, y = points[0]
    steps = [f"M{x:.1f} {y:.1f}"]
    for to_x, to_y in points[1:]:
        middle = (y + to_y) / 2
        steps.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    return svg.element("path", d="".join(steps), class_="edge dead" if faded else "edge")


def to_text(graph: ArchGraph, labels: Labels | None = None) -> str:
    """Returns the graph as lines for a terminal: one node a line, rails for the values on their way."""
    nodes, live = drawn(graph)
    left = {source: sum(source in node.inputs for node in nodes) for source in [INPUT, *(node.id for node in nodes)]}
    rails: list[str | None] = [INPUT]
    rows = [("●", INPUT, "", "")]
    for node in nodes:
        rail = _rail(node, rails, left)
        rows.append((rail, one_line(node.id, 40), f"{one_line(node.op, 40)} {attributes(node)}".strip(),
                     _cost(node, labels or {}) + ("" if node.id in live else "  (not used)")))
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{rail:<{wide[0]}}  {name:<{wide[1]}}  {op:<{wide[2]}}  {cost}".rstrip() for rail, name, op, cost in rows]
    return "\n".join([*lines, f"output: {one_line(graph.output, 40)}"])


def _rail(node: Node, rails: list[str | None], left: dict[str, int]) -> str:
    """Returns the rails beside a node's line and moves them on."""
    sources = [column for column, name in enumerate(rails) if name in node.inputs]
    ending = {column for column in sources if left[rails[column] or ""] == 1}
    for name in node.inputs:
        left[name] -= 1
    last = sources[-1] if sources else -1
    own = last if last in ending else next((c for c in range(last + 1, len(rails)) if rails[c] is None), len(rails))
    rails += [None] * (own + 1 - len(rails))
    first = sources[0] if sources else own
    cells = []
    for column, held in enumerate(rails):
        inside = first < column < own
        if column == own:
            mark = "●"
        elif column in sources:
            mark = ("┴" if inside else "╰") if column in ending else ("┼" if inside else "├")
        else:
            mark = ("┼" if inside else "│") if held is not None else ("─" if inside else " ")
        cells.append(mark + ("─" if first <= column < own else " "))
    for column in ending:
        rails[column] = None
    rails[own] = node.id if left[node.id] > 0 else None
    return "".join(cells).rstrip()


def to_mermaid(graph: ArchGraph) -> str:
    """Returns the graph as a Mermaid flowchart."""
    nodes, _ = drawn(graph)
    names = {INPUT: "input_"} | {node.id: f"n{index}" for index, node in enumerate(nodes)}
    lines = ["flowchart TD", '    input_(["input"])']
    for node in nodes:
        said = "<br/>".join(filter(None, (_mermaid(node.op), _mermaid(attributes(node)))))
        lines.append(f'    {names[node.id]}["{said}"]:::{family(node.op)}')
    lines += [f"    {names[source]} --> {names[node.id]}" for node in nodes for source in node.inputs]
    used = sorted({family(node.op) for node in nodes})
    return "\n".join(lines + [f"    classDef {name} stroke:{_MERMAID_COLOUR[name]},stroke-width:2px" for name in used])


_MERMAID_COLOUR: Final = {"stem": "#5f3dc4", "conv": "#2563eb", "light": "#0e8fa3", "pool": "#b7791f",
                          "skip": "#7b8494", "join": "#475569", "attend": "#c026a3", "act": "#2f9e44"}


def _mermaid(text: str) -> str:
    return "".join(c if c.isalnum() or c in " _×·." else f"#{ord(c)};" for c in clean(text, 80))
