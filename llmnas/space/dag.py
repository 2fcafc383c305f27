"""Spaces without fixed wiring: a free DAG of typed ops, kept legal by shape inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmnas.graph import ATTRIBUTES, COMBINING, INPUT, SUM, ArchGraph, Issue, Node
from llmnas.ops import OPS
from llmnas.space.slots import closest, legal_choice
from llmnas.space.spec import SpaceSpec

Rng = np.random.Generator
_JOINS = COMBINING | SUM
_TRIES = 30


class Dag:
    """The verbs of a free DAG.

    Args:
        spec: The space.
        fits: Says whether a graph is legal, shapes included.
    """

    def __init__(self, spec: SpaceSpec, fits: Callable[[ArchGraph], bool]) -> None:
        if spec.dag is None:
            raise ValueError(f"space {spec.name} has no dag")
        self.spec, self.dag, self._fits = spec, spec.dag, fits

    @cached_property
    def _designs(self) -> list[ArchGraph]:
        return self.prior()

    # -- checking

    def issues(self, graph: ArchGraph) -> list[Issue]:
        """Returns every illegal op, value, arity or size."""
        found: list[Issue] = []
        low, high = self.dag.min_nodes, self.dag.max_nodes
        if not low <= len(graph.nodes) <= high:
            found.append(Issue(code="too_large" if len(graph.nodes) > high else "missing", at="nodes",
                               says=f"{len(graph.nodes)} nodes; this space allows {low} to {high}",
                               fix=f"Use between {low} and {high} nodes."))
        for index, node in enumerate(graph.nodes):
            found += legal_choice(f"nodes[{index}]", node, self.dag.ops) or _arity(f"nodes[{index}]", node)
        return found

    # -- making

    def sample(self, rng: Rng) -> ArchGraph:
        """Returns a prior design with a random number of edits: uniform draws of free DAGs are nearly all broken."""
        designs = self._designs
        graph = designs[rng.integers(len(designs))]
        for _ in range(rng.integers(2, 9)):
            graph = self.mutate(graph, rng)
        return graph

    def mutate(self, graph: ArchGraph, rng: Rng) -> ArchGraph:
        """Returns a legal graph one edit away; the edits that do not fit are passed over."""
        edits = (self._change_value, self._change_op, self._insert, self._remove, self._shortcut)
        for _ in range(_TRIES):
            edited = edits[rng.integers(len(edits))](graph, rng)
            if edited is not None and edited.key() != graph.key() and self._fits(edited):
                return edited
        return graph

    def neighbours(self, graph: ArchGraph) -> Iterator[ArchGraph]:
        """Yields the graphs with one attribute value or one op of the same attributes changed."""
        for node in graph.nodes:
            for name, values in self.dag.ops[node.op].items():
                for value in values:
                    if value != getattr(node, name):
                        yield _replace(graph, node.model_copy(update={name: value}))
            for op in self._alternatives(node):
                yield _replace(graph, self._recast(node, op))

    def crossover(self, left: ArchGraph, right: ArchGraph, rng: Rng) -> ArchGraph:
        """Returns `left` up to one of its nodes followed by `right` from one of its own, when that fits; else a parent.

        The tail of `right` reads the cut wherever it read something before it.
        """
        for _ in range(_TRIES):
            head = left.order[: rng.integers(1, len(left.order) + 1)]
            tail = right.order[rng.integers(len(right.order)):]
            child = self._joined(head, tail, right.output)
            if child is not None and self._fits(child):
                return child
        return (left, right)[rng.integers(2)]

    def _joined(self, head: tuple[Node, ...], tail: tuple[Node, ...], output: str) -> ArchGraph | None:
        names = {node.id: f"n{len(head) + i}" for i, node in enumerate(tail)}
        renamed = {node.id: f"n{i}" for i, node in enumerate(head)}
        cut = f"n{len(head) - 1}"
        first = [node.model_copy(update={"id": renamed[node.id],
                                         "inputs": tuple(renamed.get(i, INPUT) for i in node.inputs)}) for node in head]
        rest = [node.model_copy(update={"id": names[node.id], "inputs": tuple(names.get(i, cut) for i in node.inputs)})
                for node in tail]
        return None if output not in names else self._graph([*first, *rest], names[output])

    def _graph(self, nodes: list[Node], output: str) -> ArchGraph:
        return ArchGraph(space=self.spec.name, nodes=tuple(nodes), output=output)

    def _change_value(self, graph: ArchGraph, rng: Rng) -> ArchGraph | None:
        open_values = [(node, name) for node in graph.nodes
                       for name, values in self.dag.ops[node.op].items() if len(values) > 1]
        if not open_values:
            return None
        node, name = open_values[rng.integers(len(open_values))]
        others = [value for value in self.dag.ops[node.op][name] if value != getattr(node, name)]
        return _replace(graph, node.model_copy(update={name: others[rng.integers(len(others))]}))

    def _alternatives(self, node: Node) -> list[str]:
        """Returns the other ops that take as many inputs."""
        return [op for op in self.dag.ops if op != node.op and (op in _JOINS) == (node.op in _JOINS)
                and not _arity("", node.model_copy(update={"op": op}))]

    def _recast(self, node: Node, op: str) -> Node:
        wanted = {name: closest(values, getattr(node, name)) for name, values in self.dag.ops[op].items()}
        return Node(id=node.id, op=op, inputs=node.inputs, **wanted)

    def _change_op(self, graph: ArchGraph, rng: Rng) -> ArchGraph | None:
        node = graph.nodes[rng.integers(len(graph.nodes))]
        options = self._alternatives(node)
        return _replace(graph, self._recast(node, options[rng.integers(len(options))])) if options else None

    def _insert(self, graph: ArchGraph, rng: Rng) -> ArchGraph | None:
        """Puts a new unary node on one edge."""
        if len(graph.nodes) >= self.dag.max_nodes:
            return None
        unary = [op for op in self.dag.ops if op not in _JOINS]
        target = graph.nodes[rng.integers(len(graph.nodes))]
        place = int(rng.integers(len(target.inputs)))
        op, source = unary[rng.integers(len(unary))], target.inputs[place]
        drawn = {name: values[rng.integers(len(values))] for name, values in self.dag.ops[op].items()}
        fresh = Node(id=_new_id(graph), op=op, inputs=(source,), **drawn)
        moved = target.model_copy(update={"inputs": _with(target.inputs, place, fresh.id)})
        return self._graph([*(moved if n.id == target.id else n for n in graph.nodes), fresh], graph.output)

    def _remove(self, graph: ArchGraph, rng: Rng) -> ArchGraph | None:
        """Takes a node out; its readers read its first input."""
        node = graph.nodes[rng.integers(len(graph.nodes))]
        source = node.inputs[0]
        if node.id == graph.output and source == INPUT:
            return None
        rest = [n.model_copy(update={"inputs": tuple(source if i == node.id else i for i in n.inputs)})
                for n in graph.nodes if n.id != node.id]
        return self._graph(rest, source if graph.output == node.id else graph.output)

    def _shortcut(self, graph: ArchGraph, rng: Rng) -> ArchGraph | None:
        """Joins the value of an earlier node to that of a later one, which keeps its readers."""
        joins = [op for op in self.dag.ops if op in _JOINS]
        if not joins or len(graph.nodes) >= self.dag.max_nodes or len(graph.order) < 2:
            return None
        later = int(rng.integers(1, len(graph.order)))
        early = graph.order[rng.integers(later)].id
        late = graph.order[later].id
        fresh = Node(id=_new_id(graph), op=joins[rng.integers(len(joins))], inputs=(early, late))
        moved = [n.model_copy(update={"inputs": tuple(fresh.id if i == late else i for i in n.inputs)})
                 for n in graph.nodes]
        return self._graph([*moved, fresh], fresh.id if graph.output == late else graph.output)

    # -- describing

    def encode(self, graph: ArchGraph) -> NDArray[np.float64]:
        """Returns counts per op, the mean of each attribute's log2, nodes, edges and the longest path."""
        ops = list(self.dag.ops)
        counts = [sum(node.op == op for node in graph.nodes) for op in ops]
        means = []
        for name in ATTRIBUTES:
            values = [value for node in graph.nodes if (value := getattr(node, name)) is not None]
            means.append(float(np.mean(np.log2(np.asarray(values, float) + 1))) if values else 0.0)
        depth: dict[str, int] = {INPUT: 0}
        for node in graph.order:
            depth[node.id] = 1 + max(depth[source] for source in node.inputs)
        edges = sum(len(node.inputs) for node in graph.nodes)
        return np.asarray([*counts, *means, len(graph.nodes), edges, depth[graph.output]], float)

    def log_size(self) -> None:
        """Returns None: the number of legal free DAGs is not known."""

    def block(self) -> dict[str, Any]:
        """Returns ops with arity and legal values, and the size limits, for a prompt."""
        return {"topology": "dag", "min_nodes": self.dag.min_nodes, "max_nodes": self.dag.max_nodes,
                "ops": {op: {"inputs": list(OPS[op].inputs),
                             "attributes": {name: list(values) for name, values in domains.items()}}
                        for op, domains in self.dag.ops.items()}}

    def prior(self) -> list[ArchGraph]:
        """Returns residual conv nets of growing width and depth: stem, then stages of two blocks and a shortcut."""
        return [graph for width in (8, 16, 24, 32, 48, 64) for blocks in (0, 1, 2)
                if self._fits(graph := self._residual_net(width, blocks))]

    def _residual_net(self, width: int, blocks: int) -> ArchGraph:
        nodes: list[Node] = []

        def grow(op: str, *inputs: str, **wanted: int) -> str:
            drawn = {name: closest(values, wanted.get(name, 1)) for name, values in self.dag.ops[op].items()}
            nodes.append(Node(id=f"n{len(nodes)}", op=op, inputs=inputs, **drawn))
            return nodes[-1].id

        block = next(op for op in ("conv_block", "conv", *self.dag.ops) if op in self.dag.ops)
        x = grow(block, INPUT, channels=width, kernel=3)
        for stage in range(3):
            x = grow(block, x, channels=width * 2**stage, kernel=3, stride=2 if stage else 1)
            for _ in range(blocks if "add" in self.dag.ops else 0):
                x = grow("add", x, grow(block, x, channels=width * 2**stage, kernel=3))
        return self._graph(nodes, x)


def _arity(at: str, node: Node) -> list[Issue]:
    low, high = OPS[node.op].inputs
    if node.op in SUM:
        low = 2
    if low <= len(node.inputs) <= (high or len(node.inputs)):
        return []
    wanted = str(low) if low == high else f"{low} to {high}" if high else f"at least {low}"
    return [Issue(code="arity", at=f"{at}.inputs", says=f"op {node.op!r} takes {wanted} inputs, got {len(node.inputs)}",
                  fix=f"Give {node.id!r} {wanted} inputs; use add or concat to join values.")]


def _replace(graph: ArchGraph, node: Node) -> ArchGraph:
    return graph.model_copy(update={"nodes": tuple(node if n.id == node.id else n for n in graph.nodes)})


def _with(inputs: tuple[str, ...], place: int, name: str) -> tuple[str, ...]:
    return (*inputs[:place], name, *inputs[place + 1:])


def _new_id(graph: ArchGraph) -> str:
    return next(name for i in range(len(graph.nodes) + 1) if (name := f"n{i}") not in graph.by_id)
