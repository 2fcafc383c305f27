"""Spaces with fixed wiring: a list of slots, each an op and its attributes (cells and chains)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import log10, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmnas.errors import nearest
from llmnas.graph import ATTRIBUTES, ArchGraph, Issue, Node
from llmnas.space.spec import Choices, Slot, SpaceSpec, Values

Rng = np.random.Generator
Choice = dict[str, int | bool]


class Slots:
    """The verbs of a space with fixed wiring.

    Args:
        spec: The space; its `slots()` are the decisions, in order.
    """

    def __init__(self, spec: SpaceSpec) -> None:
        self.spec = spec
        self.slots = spec.slots()
        self._nodes: dict[tuple[str, str, tuple[tuple[str, int | bool], ...]], Node] = {}
        self.fixed: tuple[Node, ...] = ()
        self.output = self.slots[-1].id
        if spec.cell is not None:
            self.output = "out"
            self.fixed = (Node(id="out", op="add", inputs=spec.cell.into(spec.cell.nodes - 1)),)

    @property
    def only_ops(self) -> bool:
        """Whether ops are all there is to choose: every attribute has one legal value."""
        return all(len(values) == 1 for slot in self.slots for domains in slot.choices.values()
                   for values in domains.values())

    # -- checking

    def issues(self, graph: ArchGraph) -> list[Issue]:
        """Returns every slot that is missing, wired otherwise, or holds an illegal op or value."""
        known = {slot.id: slot for slot in self.slots} | {node.id: node for node in self.fixed}
        found: list[Issue] = []
        for index, node in enumerate(graph.nodes):
            at = f"nodes[{index}]"
            match known.get(node.id):
                case None:
                    found.append(Issue(code="unexpected", at=f"{at}.id", says=f"this space has no node {node.id!r}",
                                       fix=f"Use exactly the nodes {', '.join(known)}."))
                case Slot() as slot:
                    found += _wiring(at, node, slot.inputs) or legal_choice(at, node, slot.choices)
                case Node() as fixed:
                    found += _wiring(at, node, fixed.inputs) or _same(at, node, fixed)
        for missing in known.keys() - graph.by_id.keys():
            found.append(Issue(code="missing", at="nodes", says=f"node {missing!r} is missing",
                               fix=f"Add a node with id {missing!r}."))
        if not found and graph.output != self.output:
            found.append(Issue(code="space", at="output", says=f"output is {graph.output!r}, not {self.output!r}",
                               fix=f"Set output to {self.output!r}."))
        return found

    # -- making

    def graph(self, nodes: list[Node]) -> ArchGraph:
        """Returns the graph with these slot nodes, in slot order; types are not checked again, as nodes have theirs."""
        return ArchGraph.model_construct(version=1, space=self.spec.name, nodes=(*nodes, *self.fixed),
                                         output=self.output)

    def node(self, slot: Slot, op: str, choice: Choice) -> Node:
        """Returns the slot's node; made once for each choice, because checking types takes most of a draw's time."""
        made = (slot.id, op, tuple(choice.items()))
        if made not in self._nodes:
            self._nodes[made] = Node(id=slot.id, op=op, inputs=slot.inputs, **choice)
        return self._nodes[made]

    def pick(self, slot: Slot, place: int) -> Node:
        """Returns the slot's node with the op at this place of its list, each attribute at its least value."""
        op = list(slot.choices)[place]
        return self.node(slot, op, {name: values[0] for name, values in slot.choices[op].items()})

    def sample(self, rng: Rng) -> ArchGraph:
        """Returns a graph drawn uniformly per slot: the op first, then each attribute."""
        return self.graph([self._draw(slot, rng) for slot in self.slots])

    def _draw(self, slot: Slot, rng: Rng) -> Node:
        op = list(slot.choices)[rng.integers(len(slot.choices))]
        return self.node(slot, op, {name: values[rng.integers(len(values))]
                                     for name, values in slot.choices[op].items()})

    def mutate(self, graph: ArchGraph, rng: Rng) -> ArchGraph:
        """Returns a graph with one decision changed: a slot's op, or one attribute of it, each equally likely."""
        decisions = [(slot, name) for slot in self.slots for name in self._open(slot, graph.by_id[slot.id])]
        slot, name = decisions[rng.integers(len(decisions))]
        options = list(self._edits(slot, graph.by_id[slot.id], name))
        return self._replace(graph, options[rng.integers(len(options))])

    def _open(self, slot: Slot, node: Node) -> list[str]:
        """Returns the decisions of a slot that have an alternative."""
        names = ["op"] if len(slot.choices) > 1 else []
        return names + [name for name, values in slot.choices[node.op].items() if len(values) > 1]

    def _edits(self, slot: Slot, node: Node, name: str) -> Iterator[Node]:
        """Yields the node with decision `name` changed, each alternative once."""
        if name != "op":
            yield from (node.model_copy(update={name: value}) for value in slot.choices[node.op][name]
                        if value != getattr(node, name))
            return
        for op, domains in slot.choices.items():
            if op != node.op:
                yield self.node(slot, op, {k: closest(values, getattr(node, k)) for k, values in domains.items()})

    def _replace(self, graph: ArchGraph, node: Node) -> ArchGraph:
        return self.graph([node if slot.id == node.id else graph.by_id[slot.id] for slot in self.slots])

    def neighbours(self, graph: ArchGraph) -> Iterator[ArchGraph]:
        """Yields every graph with exactly one decision changed, in slot order."""
        for slot in self.slots:
            node = graph.by_id[slot.id]
            for name in self._open(slot, node):
                yield from (self._replace(graph, edited) for edited in self._edits(slot, node, name))

    def crossover(self, left: ArchGraph, right: ArchGraph, rng: Rng) -> ArchGraph:
        """Returns a graph that takes each slot from either parent with equal chance."""
        return self.graph([(left, right)[rng.integers(2)].by_id[slot.id] for slot in self.slots])

    # -- describing

    def encode(self, graph: ArchGraph) -> NDArray[np.float64]:
        """Returns per slot a one-hot op and, per attribute name of the slot, its place in the legal values (0 to 1)."""
        parts: list[float] = []
        for slot in self.slots:
            node = graph.by_id[slot.id]
            parts += [float(node.op == op) for op in slot.choices]
            for name in ATTRIBUTES:
                domains = [values[name] for values in slot.choices.values() if name in values]
                if domains:
                    every = sorted({value for values in domains for value in values})
                    own = getattr(node, name)
                    parts.append(-1.0 if own is None else every.index(own) / max(1, len(every) - 1))
        return np.asarray(parts)

    def log_size(self) -> float:
        """Returns log10 of the number of graphs."""
        return sum(log10(sum(prod(map(len, domains.values())) for domains in slot.choices.values()))
                   for slot in self.slots)

    def block(self) -> dict[str, Any]:
        """Returns slots, fixed nodes and output for a prompt."""
        return {"topology": "slots",
                "slots": [{"id": slot.id, "inputs": list(slot.inputs),
                           "choices": {op: {name: list(values) for name, values in domains.items()}
                                       for op, domains in slot.choices.items()}} for slot in self.slots],
                "fixed": [{"id": node.id, "op": node.op, "inputs": list(node.inputs)} for node in self.fixed],
                "output": self.output}

    def prior(self) -> list[ArchGraph]:
        """Returns known-good designs: of a cell, of a chain of stages, or of a chain where only ops are chosen."""
        if self.spec.cell is not None:
            return list(self._cell_prior())
        return list(self._op_prior() if self.only_ops else self._chain_prior())

    def _cell_prior(self) -> Iterator[ArchGraph]:
        """A shortcut from input to output; the other edges one base op, upgraded one after another, chain first."""
        last = self.spec.cell.nodes - 1 if self.spec.cell else 0
        shortcut = f"0>{last}"
        ids = [slot.id for slot in self.slots]
        chain = [f"{u}>{u + 1}" for u in range(last)]
        upgraded = chain + [name for name in ids if name not in chain and name != shortcut]
        legal = self.slots[0].choices
        skip = next((op for op in ("skip_connect", "identity") if op in legal), next(iter(legal)))
        bases = [op for op in ("none", "skip_connect", "nor_conv_1x1") if op in legal]
        for better in (op for op in legal if "conv" in op):
            for base in bases:
                for count in range(len(upgraded) + 1):
                    ops = {name: better if name in upgraded[:count] else base for name in ids} | {shortcut: skip}
                    yield self.graph([self.node(slot, ops[slot.id], {}) for slot in self.slots])

    def _chain_prior(self) -> Iterator[ArchGraph]:
        """Per block kind: depth before width, no SE, smallest kernels.

        Positions are halved from the third slot on (residual networks for small images) or from the second (RegNet,
        arXiv 2003.13678: every stage halves).
        """
        kinds = list(dict.fromkeys(op for slot in self.slots for op in slot.choices))
        for kind, width, depth, halved in product(kinds, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), (0.0, 0.5, 1.0), (2, 1)):
            yield self.graph([self._designed(slot, kind, width, depth, i >= halved)
                              for i, slot in enumerate(self.slots)])

    def _op_prior(self) -> Iterator[ArchGraph]:
        """One layer after another gets the next op, as the file lists a slot's ops, first to last or last to first.

        Early layers see large maps, late ones many channels; which pays more is not known before training.
        """
        kinds = max(len(slot.choices) for slot in self.slots)
        n = len(self.slots)
        for kind, count, late in product(range(kinds - 1), range(n + 1), (False, True)):
            places = [kind + ((n - 1 - i if late else i) < count) for i in range(n)]
            yield self.graph([self.pick(slot, min(place, len(slot.choices) - 1))
                              for slot, place in zip(self.slots, places, strict=True)])

    def _designed(self, slot: Slot, kind: str, width: float, depth: float, halves: bool) -> Node:
        op = kind if kind in slot.choices else next(iter(slot.choices))
        share = {"channels": width, "depth": depth, "expand": 0.5, "kernel": 0.0, "se": 0.0, "groups": 0.0,
                 "stride": float(halves), "heads": 0.5}
        return self.node(slot, op, {name: values[round(share[name] * (len(values) - 1))]
                                     for name, values in slot.choices[op].items()})


def closest(values: Values, wanted: int | bool | None) -> int | bool:
    """Returns the legal value nearest to `wanted`; the middle one when nothing is wanted."""
    if wanted is None:
        return values[len(values) // 2]
    return min(values, key=lambda value: (abs(value - wanted), value))


def _wiring(at: str, node: Node, inputs: tuple[str, ...]) -> list[Issue]:
    if sorted(node.inputs) == sorted(inputs):
        return []
    return [Issue(code="arity", at=f"{at}.inputs", says=f"node {node.id!r} must read {list(inputs)}, "
                  f"got {list(node.inputs)}", fix=f"Set inputs to {list(inputs)}; the wiring of this space is fixed.")]


def _same(at: str, node: Node, fixed: Node) -> list[Issue]:
    if node.op == fixed.op and node.attributes == fixed.attributes:
        return []
    return [Issue(code="space", at=at, says=f"node {node.id!r} is fixed to op {fixed.op!r}",
                  fix=f"Copy the fixed node: op {fixed.op!r}, inputs {list(fixed.inputs)}, no attributes.")]


def legal_choice(at: str, node: Node, choices: Choices) -> list[Issue]:
    """Returns the faults of a node's op and attributes against the legal ones."""
    if node.op not in choices:
        return [Issue(code="unknown_op", at=f"{at}.op", says=f"op {node.op!r} is not legal here",
                      fix=f"Use one of {', '.join(choices)} ({nearest(node.op, list(choices)).split(';')[0]}).")]
    domains, found = choices[node.op], []
    for name, values in domains.items():
        value = getattr(node, name)
        listed = ", ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in values)
        if value is None:
            found.append(Issue(code="missing", at=f"{at}.{name}", says=f"op {node.op!r} needs {name}",
                               fix=f"Set {name} to one of {listed}."))
        elif value not in values:
            found.append(Issue(code="range", at=f"{at}.{name}", says=f"{name} {value} is not legal for {node.op!r}",
                               fix=f"Set {name} to one of {listed}."))
    for name in node.attributes.keys() - domains.keys():
        found.append(Issue(code="unexpected", at=f"{at}.{name}", says=f"op {node.op!r} has no {name}",
                           fix=f"Leave {name} out or set it to null."))
    return found
