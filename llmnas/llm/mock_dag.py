"""Known-good designs and small edits for open graphs: convolution, norm and activation in a row, with residual adds."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from llmnas.llm.block import hides_ops
from llmnas.llm.mock_slots import JsonNode, nearest

_NORMS: Final = ("norm", "bn")
_ACTIVATIONS: Final = ("relu", "silu", "gelu", "act")
HALVINGS: Final = 2
MORE_NODES: Final = 8
"""Nodes that a random graph may have beyond the least."""


class DagSpace:
    """The ops of a block, with the parts good graphs are made of."""

    def __init__(self, block: Mapping[str, Any]) -> None:
        self.ops: dict[str, dict[str, Any]] = dict(block["ops"])
        self.max_nodes = int(block.get("max_nodes") or 24)
        self.min_nodes = int(block.get("min_nodes") or 1)
        self.hidden = hides_ops(block)
        self.main = self._main()
        self.whole = "block" in self.main  # has norm and activation inside
        self.depthwise = self._one(("dwconv", "depthwise"), 1)
        self.norm, self.activation = self._one(_NORMS, 1), self._one(_ACTIVATIONS, 1)
        self.add, self.pool = self._one(("add",), 2), self._one(("pool",), 1)
        self._sizes: list[list[JsonNode]] | None = None

    @property
    def sizes(self) -> list[list[JsonNode]]:
        """Known-good graphs of growing cost, each in order with the output last."""
        if self._sizes is None:
            widths = self.legal(self.main, "channels") or [0]
            plans = [(width, stages, units, light) for width in widths for stages in (1, 2, 3) for units in (0, 1, 2)
                     for light in ([False, True] if self.depthwise else [False])]
            plans.sort(key=lambda plan: plan[0] ** 2 * plan[1] * (1 + 2 * plan[2]) * (0.5 if plan[3] else 1))
            graphs = [self._net(*plan) for plan in plans]
            fitting = [graph for graph in graphs if self.min_nodes <= len(graph) <= self.max_nodes]
            self._sizes = [g for i, g in enumerate(fitting) if g not in fitting[:i]] or [self._line()]
        return self._sizes

    def legal(self, op: str, name: str) -> list[Any]:
        """Returns the legal values of an attribute, none when the op has no such attribute."""
        return list(self._attributes(op).get(name, ()))

    def fits(self, nodes: Any) -> bool:
        """Returns whether every node has a known op, legal attributes and a legal number of inputs."""
        if not isinstance(nodes, list) or not self.min_nodes <= len(nodes) <= self.max_nodes:
            return False
        ids = {node.get("id") for node in nodes if isinstance(node, dict)} | {"input"}
        return all(isinstance(node, dict) and self._node_fits(node, ids) for node in nodes)

    def drawn(self, rng: random.Random) -> list[JsonNode]:
        """Returns random ops in a row with random legal values; the map is halved at most `HALVINGS` times."""
        nodes: list[JsonNode] = []
        last, halvings = "input", 0
        ops = sorted(op for op in self.ops if self.takes(op, 1))
        for _ in range(rng.randint(self.min_nodes, min(self.max_nodes, self.min_nodes + MORE_NODES))):
            op = rng.choice(ops)
            values = self._values(op, rng)
            halvings += (values.get("stride") or 1) > 1
            # Even kernels change the size of the map, and groups and heads must divide a width that is not known here.
            values |= {"groups": 1, "heads": 1, "kernel": values.get("kernel", 3) | 1,
                       **({"stride": 1} if halvings > HALVINGS else {})}
            last = self._node(nodes, op, [last], **values)
        return nodes

    def edited(self, nodes: Sequence[JsonNode], output: str, rng: random.Random) -> tuple[list[JsonNode], str]:
        """Returns the graph with one change that keeps its shapes: a kernel, a width, or a residual unit more.

        Where names are hidden nobody can tell what keeps shapes: then one value of one node, or its op, changes.
        """
        edits = [self._any_other] if self.hidden else [self._other_attribute, self._other_width, self._longer]
        rng.shuffle(edits)
        for edit in edits:
            changed = edit(nodes, output, rng)
            if changed is not None and self.fits(changed[0]):
                return changed
        return list(nodes), output

    def _main(self) -> str:
        """Returns the op that learns: a convolution block, a plain convolution, or whatever has channels."""
        names = [op for op in self.ops if self.legal(op, "channels")] or list(self.ops)
        convolutions = [op for op in names if "conv" in op and not op.startswith(("dw", "sep", "dil"))]
        return sorted(convolutions or names, key=lambda op: "block" not in op)[0]

    def _one(self, words: Sequence[str], inputs: int) -> str | None:
        for word in words:
            for op in self.ops:
                if word in op and op != self.main and self.takes(op, inputs):
                    return op
        return None

    def takes(self, op: str, inputs: int) -> bool:
        """Returns whether an op takes so many inputs."""
        low, high = self.ops[op].get("inputs") or (1, 1)
        return low <= inputs and (high is None or inputs <= high)

    def _node_fits(self, node: JsonNode, ids: set[Any]) -> bool:
        op, inputs = node.get("op"), node.get("inputs")
        if op not in self.ops or not isinstance(inputs, list) or not set(inputs) <= ids:
            return False
        return self.takes(op, len(inputs)) and all(
            node.get(name) in legal for name, legal in self._attributes(op).items())

    def _node(self, nodes: list[JsonNode], op: str, inputs: Sequence[str], **wanted: Any) -> str:
        """Appends a node and returns its id."""
        usual = {"kernel": 3, "stride": 1, "groups": 1, "se": False, **wanted}
        attributes = {name: nearest(usual.get(name), legal) for name, legal in self._attributes(op).items()}
        taken = {node["id"] for node in nodes}
        name = next(f"n{i}" for i in range(1, len(nodes) + 2) if f"n{i}" not in taken)
        nodes.append({"id": name, "op": op, "inputs": list(inputs), **attributes})
        return name

    def _row(self, nodes: list[JsonNode], source: str, width: int, stride: int = 1, active: bool = True) -> str:
        """Appends convolution, norm and activation; returns the id of the last."""
        last = self._node(nodes, self.main, [source], channels=width, stride=stride)
        if self.norm and not self.whole:
            last = self._node(nodes, self.norm, [last])
        if self.activation and active and not self.whole:
            last = self._node(nodes, self.activation, [last])
        return last

    def _unit(self, nodes: list[JsonNode], source: str, width: int, light: bool) -> str:
        """Appends a residual unit that keeps the shape; returns the id of its sum."""
        if light and self.depthwise:
            last = self._node(nodes, self.depthwise, [source], channels=width)
            if self.norm:
                last = self._node(nodes, self.norm, [last])
            last = self._node(nodes, self.main, [last], channels=width, kernel=1)
        else:
            last = self._row(nodes, self._row(nodes, source, width), width, active=False)
        return self._node(nodes, self.add, [source, last]) if self.add else last

    def _net(self, width: int, stages: int, units: int, light: bool) -> list[JsonNode]:
        """Returns a stem and stages that double the width and halve the resolution."""
        nodes: list[JsonNode] = []
        last, strided = "input", 2 in self.legal(self.main, "stride")
        for stage in range(stages):
            wide = nearest(width * 2**stage, self.legal(self.main, "channels") or [width])
            if stage and not strided and self.pool:
                last = self._node(nodes, self.pool, [last], kernel=2, stride=2)
            last = self._row(nodes, last, wide, stride=2 if stage and strided else 1)
            for _ in range(units):
                last = self._unit(nodes, last, wide, light)
        return nodes

    def _line(self) -> list[JsonNode]:
        """Returns the shortest legal row of the main op, for spaces too small for a net."""
        nodes: list[JsonNode] = []
        last = "input"
        for _ in range(max(self.min_nodes, 1)):
            last = self._node(nodes, self.main, [last])
        return nodes

    def _attributes(self, op: str) -> dict[str, list[Any]]:
        """Returns the legal values of the attributes of an op."""
        return self.ops[op].get("attributes") or {}

    def _values(self, op: str, rng: random.Random) -> JsonNode:
        """Returns random legal values for the attributes of an op."""
        return {name: rng.choice(legal) for name, legal in self._attributes(op).items()}

    def _any_other(self, nodes: Sequence[JsonNode], output: str,
                   rng: random.Random) -> tuple[list[JsonNode], str] | None:
        """Changes one attribute of one node, or its op, to any other legal one."""
        edits: list[tuple[int, JsonNode]] = []
        for place, node in enumerate(nodes):
            edits += [(place, {**node, name: value}) for name, legal in self._attributes(node["op"]).items()
                      for value in legal if value != node.get(name)]
            edits += [(place, {"id": node["id"], "op": op, "inputs": node["inputs"], **self._values(op, rng)})
                      for op in sorted(self.ops) if op != node["op"] and self.takes(op, len(node["inputs"]))]
        if not edits:
            return None
        place, changed = rng.choice(edits)
        return [*nodes[:place], changed, *nodes[place + 1:]], output

    def _other_attribute(self, nodes: Sequence[JsonNode], output: str,
                         rng: random.Random) -> tuple[list[JsonNode], str] | None:
        """Changes a kernel, a number of heads or the like; not widths and strides, on which shapes hang."""
        places = [(index, name) for index, node in enumerate(nodes)
                  for name in ("kernel", "heads", "expand", "depth", "se") if len(self.legal(node["op"], name)) > 1
                  and node.get("stride") in (None, 1)]
        if not places:
            return None
        index, name = rng.choice(places)
        node = nodes[index]
        # An even kernel changes the size of the map.
        others = [value for value in self.legal(node["op"], name)
                  if value != node[name] and (name != "kernel" or value % 2)]
        changed = [*nodes]
        changed[index] = {**node, name: rng.choice(others or [node[name]])}
        return changed, output

    def _other_width(self, nodes: Sequence[JsonNode], output: str,
                     rng: random.Random) -> tuple[list[JsonNode], str] | None:
        """Moves every node of one width to another, so that sums keep equal shapes."""
        widths = sorted({node["channels"] for node in nodes if node.get("channels")})
        if not widths:
            return None
        old = rng.choice(widths)
        users = [node["op"] for node in nodes if node.get("channels") == old]
        legal = [v for v in self.legal(users[0], "channels") if all(v in self.legal(op, "channels") for op in users)]
        around = [value for value in legal if value != old and old / 3 <= value <= 3 * old]
        if not around:
            return None
        new = rng.choice(around)
        return [{**node, "channels": new} if node.get("channels") == old else node for node in nodes], output

    def _longer(self, nodes: Sequence[JsonNode], output: str,
                rng: random.Random) -> tuple[list[JsonNode], str] | None:
        """Adds a residual unit behind the last node, in the width that arrives there."""
        widths = [node["channels"] for node in nodes if node.get("channels")]
        if not widths or nodes[-1]["id"] != output:
            return None
        longer = list(nodes)
        return longer, self._unit(longer, output, widths[-1], light=rng.random() < 0.3)
