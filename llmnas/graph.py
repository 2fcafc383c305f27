"""Architectures as data: `Node`, `ArchGraph`, `Issue`, and `key()`, the name of the function a graph computes.

An `ArchGraph` is a directed acyclic graph of typed operations. The id ``input`` is the tensor that comes in. A node
with several inputs receives their sum, except for the ops that combine inputs themselves (`COMBINING`). Nothing here
imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

INPUT: Final = "input"
IDENTITY: Final = frozenset({"skip_connect", "identity"})  # passes its input on
ZERO: Final = frozenset({"none"})  # passes nothing on
SUM: Final = frozenset({"add"})  # the sum of its inputs
COMBINING: Final = frozenset({"concat", "mul"})  # needs its inputs one by one
COMMUTATIVE: Final = frozenset({"mul"})

ATTRIBUTES: Final = ("channels", "kernel", "stride", "expand", "depth", "groups", "heads", "se")
"""The attributes a node may carry; which of them an op needs is in `llmnas.ops` and in the space."""

IssueCode = Literal["json", "schema", "unknown_op", "unknown_node", "duplicate_id", "arity", "cycle", "shape", "range",
                    "missing", "unexpected", "disconnected", "too_large", "space", "constraint"]


class Frozen(BaseModel):
    """A value that crosses borders: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Issue(Frozen):
    """One fault of a proposal, with its fix.

    Attributes:
        code: What kind of fault.
        at: Where, as a path: ``nodes[2].kernel``.
        says: What is wrong: expected and got.
        fix: One sentence that tells a person or a model what to change.
    """

    code: IssueCode
    at: str
    says: str
    fix: str

    def __str__(self) -> str:
        return f"{self.at}: {self.says}. {self.fix}"


NodeId = Annotated[str, Field(min_length=1, max_length=40)]
Attribute = Annotated[int, Field(strict=True, ge=1, le=65536)]


class Node(Frozen):
    """One operation. Attributes an op does not have are None.

    Attributes:
        id: Unique in its graph; never ``input``.
        op: A name from the space's ops.
        inputs: Ids of earlier nodes, or ``input``.
        channels: Output channels.
        kernel: Kernel size, square for images.
        stride: Stride of the first layer.
        expand: Expansion ratio of the hidden channels.
        depth: How many times the block is repeated.
        groups: Groups of a convolution.
        heads: Attention heads.
        se: Whether the block has squeeze-and-excitation.
    """

    id: NodeId
    op: str
    inputs: tuple[str, ...]
    channels: Attribute | None = None
    kernel: Attribute | None = None
    stride: Attribute | None = None
    expand: Attribute | None = None
    depth: Attribute | None = None
    groups: Attribute | None = None
    heads: Attribute | None = None
    se: Annotated[bool, Field(strict=True)] | None = None

    @property
    def attributes(self) -> dict[str, int | bool]:
        """The attributes that are set, in the order of `ATTRIBUTES`."""
        return {name: value for name in ATTRIBUTES if (value := getattr(self, name)) is not None}


class ArchGraph(Frozen):
    """A whole architecture as data.

    Attributes:
        version: Version of this format.
        space: Name of the space that gives the skeleton and the legal values.
        nodes: The operations, in any order.
        output: Id of the node whose value leaves the graph.
    """

    version: Literal[1] = 1
    space: str
    nodes: tuple[Node, ...]
    output: str

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Returns a copy; what was derived from the old nodes is not carried over."""
        copy = super().model_copy(update=update, deep=deep)
        for name in ("by_id", "order", "_key"):
            copy.__dict__.pop(name, None)
        return copy

    @cached_property
    def by_id(self) -> Mapping[str, Node]:
        """Nodes by id."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """Nodes in an order where inputs come first.

        Raises:
            ValueError: The graph has a cycle or a dangling input; `structural_issues` says where.
        """
        return _topological(self)

    @cached_property
    def _key(self) -> str:
        return "g1:" + hashlib.blake2b(certificate(self).encode(), digest_size=16).hexdigest()

    def key(self) -> str:
        """Returns the name of the function this graph computes: ``g1:`` and a 128-bit digest.

        Dead branches are gone, identities are transparent, the order of summed inputs and the names of nodes do
        not matter; which module instance produced a term does. Two graphs with one key compute the same function
        class with the same parameters. The converse holds up to the order of ``concat`` inputs.
        """
        return self._key

    def live(self) -> ArchGraph:
        """Returns the graph without dead nodes: those fed only by zeros and those that never reach the output."""
        keep = live_ids(self)
        nodes = tuple(node if set(node.inputs) <= keep | {INPUT}
                      else node.model_copy(update={"inputs": tuple(i for i in node.inputs if i in keep or i == INPUT)})
                      for node in self.nodes if node.id in keep)
        return self if len(nodes) == len(self.nodes) and nodes == self.nodes else self.model_copy(
            update={"nodes": nodes})

    def to_json(self, indent: int | None = None) -> str:
        """Returns the graph as JSON, attributes that are not set left out."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=indent)


def structural_issues(graph: ArchGraph) -> list[Issue]:
    """Returns every fault of the wiring alone: ids, inputs, output, cycles. Knows no space."""
    issues: list[Issue] = []
    seen = Counter(node.id for node in graph.nodes)
    for index, node in enumerate(graph.nodes):
        if node.id == INPUT or seen[node.id] > 1:
            issues.append(Issue(code="duplicate_id", at=f"nodes[{index}].id", says=f"id {node.id!r} is already taken",
                                fix="Give every node an id of its own; 'input' is reserved for the incoming tensor."))
        for j, source in enumerate(node.inputs):
            if source != INPUT and source not in seen:
                issues.append(Issue(code="unknown_node", at=f"nodes[{index}].inputs[{j}]",
                                    says=f"there is no node {source!r}",
                                    fix="Use 'input' or the id of a node in this graph."))
        if not node.inputs:
            issues.append(Issue(code="arity", at=f"nodes[{index}].inputs", says=f"node {node.id!r} has no inputs",
                                fix="Give it at least one input: 'input' or the id of another node."))
    if graph.output not in seen:
        issues.append(Issue(code="unknown_node", at="output", says=f"there is no node {graph.output!r}",
                            fix="Set output to the id of the last node."))
    if not issues and (cycle := find_cycle(graph)):
        issues.append(Issue(code="cycle", at="nodes", says="the nodes form a cycle: " + " -> ".join(cycle),
                            fix="Let every node take its inputs from nodes that do not depend on it."))
    return issues


def find_cycle(graph: ArchGraph) -> list[str]:
    """Returns the ids along one cycle, first id repeated at the end; empty when there is none."""
    try:
        _ = graph.order  # kept, and needed later anyway
    except ValueError:
        return _a_cycle(graph)
    return []


def _a_cycle(graph: ArchGraph) -> list[str]:
    import networkx as nx

    edges = ((source, node.id) for node in graph.nodes for source in node.inputs)
    try:
        found = nx.find_cycle(nx.DiGraph(list(edges)))
    except nx.NetworkXNoCycle:
        return []
    return [edge[0] for edge in found] + [found[0][0]]


def _topological(graph: ArchGraph) -> tuple[Node, ...]:
    waiting = {node.id: len(set(node.inputs) - {INPUT}) for node in graph.nodes}
    consumers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for source in set(node.inputs) - {INPUT}:
            consumers.setdefault(source, []).append(node)
    ready = [node for node in graph.nodes if waiting[node.id] == 0]
    order: list[Node] = []
    for node in ready:  # grows while it is walked
        order.append(node)
        for consumer in consumers.get(node.id, ()):
            waiting[consumer.id] -= 1
            if waiting[consumer.id] == 0:
                ready.append(consumer)
    if len(order) != len(graph.nodes):
        raise ValueError("the graph has a cycle or an unknown input")
    return tuple(order)


def live_ids(graph: ArchGraph) -> frozenset[str]:
    """Returns the ids of nodes that carry something from the input to the output."""
    fed: set[str] = {INPUT}
    for node in graph.order:
        if node.op in ZERO:
            continue
        sources = [source in fed for source in node.inputs]
        if all(sources) if node.op in COMMUTATIVE else any(sources):
            fed.add(node.id)
    wanted = {graph.output} & fed
    for node in reversed(graph.order):
        if node.id in wanted:
            wanted |= set(node.inputs) & fed
    return frozenset(wanted - {INPUT})


# --- the certificate behind key() -------------------------------------------------------------------------------
# A value is a multiset of terms: the input (index -1) and the instances of ops that are not transparent. An instance
# is a label and its slots, each slot a value: one slot for ops that see the sum of their inputs, one per input for
# the combining ops. The certificate lists the instances in a canonical order, so equal certificates mean equal
# functions; instances that compute the same term from the same value stay two instances, because their weights differ.

Value = tuple[tuple[int, int], ...]  # sorted (term, multiplicity)
Instance = tuple[str, tuple[Value, ...]]


def certificate(graph: ArchGraph) -> str:
    """Returns a canonical text of the function the graph computes (see `ArchGraph.key`)."""
    instances, output = _instances(graph)
    order = _canonical_order(instances, output)
    return graph.space + "\n" + json.dumps(_relabel(instances, output, order), separators=(",", ":"))


def _instances(graph: ArchGraph) -> tuple[list[Instance], Value]:
    live = live_ids(graph)
    instances: list[Instance] = []
    values: dict[str, Value] = {INPUT: ((-1, 1),)}
    for node in graph.order:
        if node.id not in live:
            continue
        if node.op in COMBINING:
            slots = tuple(values.get(source, ()) for source in node.inputs)
            slots = tuple(sorted(slots)) if node.op in COMMUTATIVE else slots
        else:
            slots = (_sum(values[source] for source in node.inputs if source in values),)
        if node.op in IDENTITY or node.op in SUM:
            values[node.id] = slots[0]
        else:
            label = node.op + "".join(f" {name}={value}" for name, value in node.attributes.items())
            instances.append((label, slots))
            values[node.id] = ((len(instances) - 1, 1),)
    return instances, values.get(graph.output, ())


def _sum(values: Iterable[Value]) -> Value:
    total: Counter[int] = Counter()
    for value in values:
        for term, times in value:
            total[term] += times
    return tuple(sorted(total.items()))


def _relabel(instances: list[Instance], output: Value, order: list[int]) -> list[Any]:
    place = {old: new for new, old in enumerate(order)} | {-1: -1}

    def moved(value: Value) -> list[tuple[int, int]]:
        return sorted((place[term], times) for term, times in value)

    listed = []
    for old in order:
        label, slots = instances[old]
        listed.append([label, sorted(map(moved, slots)) if label in COMMUTATIVE else [moved(slot) for slot in slots]])
    return [listed, moved(output)]


def _canonical_order(instances: list[Instance], output: Value) -> list[int]:
    consumers: list[list[tuple[int, int, int]]] = [[] for _ in instances]  # (consumer, slot, multiplicity)
    for index, (label, slots) in enumerate(instances):
        for position, slot in enumerate(slots):
            for term, times in slot:
                if term >= 0:
                    consumers[term].append((index, 0 if label in COMMUTATIVE else position, times))
    leaves = dict(output)
    start = _ranks([(label, leaves.get(index, 0)) for index, (label, _) in enumerate(instances)])

    def refine(colours: list[int]) -> list[int]:
        """Splits colours by the colours of what feeds an instance and of what it feeds, until nothing splits."""
        colours = _ranks(colours)
        while True:
            split = _ranks([
                (colours[index],
                 _slot_colours(label, slots, colours),
                 tuple(sorted((colours[user], slot, times) for user, slot, times in consumers[index])))
                for index, (label, slots) in enumerate(instances)])
            if max(split, default=0) == max(colours, default=0):
                return split
            colours = split

    def finish(colours: list[int], exhaustive: bool) -> tuple[str, list[int]]:
        """Breaks the ties that refinement leaves: every member of a tied class is tried, and the least text wins.

        Members whose first completion gives the same text are images of each other under a symmetry, so one of
        them is enough; a family of k equal branches costs k² completions instead of k!.
        """
        tied = next((colour for colour, count in sorted(Counter(colours).items()) if count > 1), None)
        if tied is None:
            order = sorted(range(len(instances)), key=colours.__getitem__)
            return json.dumps(_relabel(instances, output, order)), order
        members = [index for index, colour in enumerate(colours) if colour == tied]
        branches = [refine([2 * c + (c == tied and i != chosen) for i, c in enumerate(colours)]) for chosen in members]
        if not exhaustive:
            return finish(branches[0], exhaustive=False)
        distinct = {finish(branch, exhaustive=False)[0]: branch for branch in branches}
        return min(finish(branch, exhaustive=True) for branch in distinct.values())

    return finish(refine(start), exhaustive=True)[1]


def _slot_colours(label: str, slots: tuple[Value, ...], colours: list[int]) -> tuple[Any, ...]:
    coloured = [tuple(sorted((colours[term] if term >= 0 else -1, times) for term, times in slot)) for slot in slots]
    return tuple(sorted(coloured)) if label in COMMUTATIVE else tuple(coloured)


def _ranks(values: list[Any]) -> list[int]:
    rank = {value: index for index, value in enumerate(sorted(set(values)))}
    return [rank[value] for value in values]
