"""`Space`: the verbs every strategy uses, whatever the topology behind them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmnas.graph import ArchGraph, Issue, Node, live_ids, structural_issues
from llmnas.network import Network, Shape, ShapeFault
from llmnas.ops import OPS
from llmnas.space import dag, slots, wire
from llmnas.space.lowering import lower
from llmnas.space.spec import SpaceSpec

Rng = np.random.Generator


class Topology(Protocol):
    """What a kind of wiring must be able to do; `slots.Slots` and `dag.Dag` are the two kinds."""

    def issues(self, graph: ArchGraph) -> list[Issue]:
        """Returns what breaks the space's own rules; wiring and shapes are checked elsewhere."""

    def sample(self, rng: Rng) -> ArchGraph:
        """Returns a random graph."""

    def mutate(self, graph: ArchGraph, rng: Rng) -> ArchGraph:
        """Returns a graph one edit away."""

    def crossover(self, left: ArchGraph, right: ArchGraph, rng: Rng) -> ArchGraph:
        """Returns a mix of two graphs."""

    def neighbours(self, graph: ArchGraph) -> Iterator[ArchGraph]:
        """Yields graphs one edit away."""

    def encode(self, graph: ArchGraph) -> NDArray[np.float64]:
        """Returns a vector of fixed length."""

    def prior(self) -> list[ArchGraph]:
        """Returns known-good designs of growing cost."""

    def block(self) -> dict[str, Any]:
        """Returns the topology's part of a prompt's JSON block."""

    def log_size(self) -> float | None:
        """Returns log10 of the number of graphs; None when it is not known."""


class Space:
    """A search space.

    Every graph that `sample`, `mutate`, `crossover`, `neighbours` and `prior` give validates. Verbs that need chance
    take a generator and use nothing else.

    Args:
        spec: What the space's file says.

    Attributes:
        spec: The same.
        name: Its name.
    """

    def __init__(self, spec: SpaceSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self._topology: Topology = dag.Dag(spec, self._fits) if spec.dag else slots.Slots(spec)

    def __repr__(self) -> str:
        return f"Space({self.name!r})"

    def validate(self, graph: ArchGraph, shape: Shape | None = None, classes: int | None = None) -> list[Issue]:
        """Returns every fault of `graph`, at the data's shape (the space's usual one when None); empty when legal."""
        if graph.space != self.name:
            return [Issue(code="space", at="space", says=f"this graph is of space {graph.space!r}, not {self.name!r}",
                          fix=f"Set space to {self.name!r} and use its ops.")]
        if issues := structural_issues(graph) or self._topology.issues(graph):
            return issues
        return self._size_issues(graph, shape, classes)

    def _size_issues(self, graph: ArchGraph, shape: Shape | None, classes: int | None) -> list[Issue]:
        if not self.spec.dag and not self.spec.max_params and not self.spec.max_macs:
            return [] if graph.output in live_ids(graph) else [_DISCONNECTED]
        try:
            layers = self.network(graph, shape, classes).layers
        except ShapeFault as fault:
            return [fault.issue]
        limits = (("params", sum(layer.params for layer in layers), self.spec.max_params),
                  ("MACs", sum(layer.macs for layer in layers), self.spec.max_macs))
        return [Issue(code="too_large", at="nodes", says=f"{value:,} {what} exceed the space's limit of {limit:,}",
                      fix="Use fewer channels, less depth or more stride.")
                for what, value, limit in limits if limit is not None and value > limit]

    def _fits(self, graph: ArchGraph) -> bool:
        return not structural_issues(graph) and not self._topology.issues(graph) and not self._size_issues(
            graph, None, None)

    def network(self, graph: ArchGraph, shape: Shape | None = None, classes: int | None = None,
                raw: bool = False) -> Network:
        """Returns the network of a legal graph for data of this shape; see `llmnas.space.lowering.lower`."""
        return lower(graph, self.spec.skeleton, shape or self.spec.shape, classes or self.spec.classes, raw)

    def choices(self, graph: ArchGraph) -> tuple[str, ...]:
        """Returns what a legal graph chose in every slot, ``nb201/0>1=conv_3x3``; empty where the wiring is free."""
        return () if self.spec.dag else tuple(
            f"{self.name}/{slot.id}={_chosen(graph.by_id[slot.id])}" for slot in self.spec.slots())

    def sample(self, rng: Rng) -> ArchGraph:
        """Returns a random legal graph; uniform over the choices of a space with fixed wiring."""
        return self._legal(lambda: self._topology.sample(rng))

    def mutate(self, graph: ArchGraph, rng: Rng) -> ArchGraph:
        """Returns a legal graph one edit away: another op or attribute value, and for a DAG a node more or less."""
        return self._legal(lambda: self._topology.mutate(graph, rng))

    def crossover(self, left: ArchGraph, right: ArchGraph, rng: Rng) -> ArchGraph:
        """Returns a legal graph with parts of both."""
        return self._legal(lambda: self._topology.crossover(left, right, rng))

    def _legal(self, draw: Any) -> ArchGraph:
        """Draws until the graph is legal: most draws are, and a redraw is charged to nobody."""
        for _ in range(1000):
            graph: ArchGraph = draw()
            if self._sound(graph):
                return graph
        raise RuntimeError(f"space {self.name}: 1000 draws in a row were not legal; are its limits too tight?")

    def neighbours(self, graph: ArchGraph) -> Iterator[ArchGraph]:
        """Yields the legal graphs one edit away, in a fixed order."""
        return (other for other in self._topology.neighbours(graph) if self._sound(other))

    def _sound(self, graph: ArchGraph) -> bool:
        """Returns whether a graph that a verb made is legal: with fixed wiring only its size and its path can fail."""
        return not (self.validate(graph) if self.spec.dag else self._size_issues(graph, None, None))

    def encode(self, graph: ArchGraph) -> NDArray[np.float64]:
        """Returns a vector of fixed length for regressors: one-hot ops, scaled attributes, log sizes for a DAG."""
        return self._topology.encode(graph)

    def prior(self) -> list[ArchGraph]:
        """Returns a few dozen known-good designs of growing cost, each once; deterministic, needs no feedback."""
        return list(self._prior)

    @cached_property
    def _prior(self) -> list[ArchGraph]:
        unique: dict[str, ArchGraph] = {}
        for graph in self._topology.prior():
            if not self.validate(graph):
                unique.setdefault(graph.key(), graph)  # the first has the fewest edits: dead edges cost time on devices
        return sorted(unique.values(), key=lambda graph: self.network(graph).counts.macs)

    def log_size(self) -> float | None:
        """Returns log10 of the number of graphs; None when it is not known."""
        return self._topology.log_size()

    def block(self) -> dict[str, Any]:
        """Returns the space's part of a prompt's JSON block: wiring and legal values."""
        return {"space": self.name, **self._topology.block()}

    def wire_schema(self) -> dict[str, Any]:
        """Returns the JSON schema of a reply with proposals: flat, portable, with this space's enums."""
        return wire.schema(self.spec)

    def describe(self) -> dict[str, Any]:
        """Returns name, title, ops with a gloss and wiring rules, for prompts and people."""
        ops = {op: self.spec.gloss.get(op, OPS[op].gloss) for op, _ in self.spec.domains()}
        return {"name": self.name, "title": self.spec.title, "about": self.spec.why.strip(), "ops": ops,
                "rules": list(self.spec.rules), "log10_size": self.log_size()}


_DISCONNECTED = Issue(code="disconnected", at="output", says="no path leads from the input to the output",
                      fix="Connect the input to the output through at least one op that is not 'none'.")


def _chosen(node: Node) -> str:
    return " ".join([node.op, *(f"{name}:{int(value)}" for name, value in node.attributes.items())])
