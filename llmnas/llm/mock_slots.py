"""Known-good designs and small edits for spaces of slots, from nothing but the block of a prompt.

A cell (an op per edge, no attributes) is built round a shortcut, its chain upgraded edge by edge. A chain of stages
grows in depth and width, residual kinds of block first.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

Choice = dict[str, Any]  # {"op": name, attribute: value, …}
Design = dict[str, Choice]  # by slot id
JsonNode = dict[str, Any]

IDENTITY: Final = frozenset({"skip_connect", "identity", "skip"})
_KINDS: Final = ("basic", "resid", "fused", "inverted", "mbconv", "bottleneck")
HEADROOM: Final = 1.5
"""Dearest proposal against the dearest exemplar within the limits."""
DEPTHWISE: Final = 10  # a multiply-accumulate of a depth-wise convolution against one of a dense one, in time
_STYLES: Final = ("plain", "se", "wide_kernel", "early", "equal")


class SlotSpace:
    """The slots of a block, with what can be put into them."""

    def __init__(self, block: Mapping[str, Any]) -> None:
        self.slots: list[dict[str, Any]] = list(block["slots"])
        self.choices: dict[str, dict[str, dict[str, list[Any]]]] = {s["id"]: s["choices"] for s in self.slots}
        self.fixed: list[JsonNode] = list(block.get("fixed") or [])
        self.output: str = block["output"]
        self.inputs: dict[str, list[str]] = {node["id"]: node["inputs"] for node in [*self.slots, *self.fixed]}
        self._sizes: list[Design] | None = None

    @property
    def is_cell(self) -> bool:
        """Whether the slots are edges of a cell: no attributes, and passing the input on is an op."""
        ops = [op for choices in self.choices.values() for op in choices.items()]
        return not any(attributes for _, attributes in ops) and any(weight(op) <= 1 for op, _ in ops)

    @property
    def sizes(self) -> list[Design]:
        """Known-good designs of growing cost, without repeats."""
        if self._sizes is None:
            designs = _cells(self) if self.is_cell else _chains(self)
            self._sizes = [design for index, design in enumerate(designs) if design not in designs[:index]]
        return self._sizes

    def affordable(self, shown: Sequence[Design]) -> list[Design]:
        """Returns the sizes that cost at most `HEADROOM` of the dearest design shown; all when none is shown."""
        limit = HEADROOM * max((self.price(design) for design in shown), default=float("inf"))
        return [design for design in self.sizes if self.price(design) <= limit] or self.sizes[:1]

    def price(self, design: Design) -> float:
        """Returns a rough cost, to compare designs of one space: channels, kernels and positions; ops of a cell."""
        total, positions = 0.0, 1.0
        for slot_id in self.choices:
            choice = design[slot_id]
            channels, positions = choice.get("channels") or 1, positions / (choice.get("stride") or 1) ** 2
            blocks, expand = choice.get("depth") or 1, choice.get("expand") or 1
            inner = channels * expand
            if self.is_cell:
                total += weight(choice["op"])
            elif "inverted" in choice["op"] or "mbconv" in choice["op"]:
                total += positions * blocks * inner * (2 * channels + DEPTHWISE * (choice.get("kernel") or 1) ** 2)
            else:
                total += positions * blocks * inner * channels * (choice.get("kernel") or 1) ** 2
        return total

    def nodes(self, design: Design) -> list[JsonNode]:
        """Returns the design as wire nodes, fixed nodes included."""
        return [{"id": slot["id"], "inputs": slot["inputs"], **design[slot["id"]]} for slot in self.slots] + self.fixed

    def read(self, nodes: Any) -> Design | None:
        """Returns the design in wire nodes, every value moved to the nearest legal one; None when a slot is empty."""
        if not isinstance(nodes, list):
            return None
        by_id = {node.get("id"): node for node in nodes if isinstance(node, dict)}
        if not all(slot_id in by_id for slot_id in self.choices):
            return None
        return {slot_id: self.nearest(slot_id, by_id[slot_id]) for slot_id in self.choices}

    def nearest(self, slot_id: str, wanted: Mapping[str, Any]) -> Choice:
        """Returns the legal choice closest to `wanted`."""
        choices = self.choices[slot_id]
        op = wanted.get("op")
        if op not in choices:
            op = sorted(choices, key=kind_rank)[0]
        return {"op": op, **{name: nearest(wanted.get(name), legal) for name, legal in choices[op].items()}}

    def drawn(self, rng: random.Random) -> Design:
        """Returns a random design: an op for every slot, and legal values for its attributes."""
        design: Design = {}
        for slot_id, choices in self.choices.items():
            op = rng.choice(sorted(choices))
            design[slot_id] = {"op": op, **_divisible({name: rng.choice(legal) for name, legal in choices[op].items()},
                                                      choices[op])}
        return design

    def edited(self, design: Design, rng: random.Random, edits: int = 1) -> Design:
        """Returns the design with `edits` slots changed in one respect."""
        changed = dict(design)
        for slot_id in rng.sample(sorted(self.choices), min(edits, len(self.choices))):
            changed[slot_id] = self._other(slot_id, design[slot_id], rng)
        return changed

    def crossed(self, one: Design, other: Design, rng: random.Random) -> Design:
        """Returns a design that takes each slot from one of two."""
        return {slot_id: (one if rng.random() < 0.5 else other)[slot_id] for slot_id in self.choices}

    def _other(self, slot_id: str, choice: Choice, rng: random.Random) -> Choice:
        choices = self.choices[slot_id]
        open_attributes = [name for name, legal in choices[choice["op"]].items() if len(legal) > 1]
        if open_attributes and (len(choices) == 1 or rng.random() < 0.75):
            name = rng.choice(open_attributes)
            return {**choice, name: _neighbour(choice[name], choices[choice["op"]][name], rng)}
        others = [op for op in choices if op != choice["op"]]
        return self.nearest(slot_id, {**choice, "op": rng.choice(others)}) if others else dict(choice)


def weight(op: str) -> float:
    """Returns how much an op of a cell costs, in rank: nothing, identity, pooling, 1×1, 3×3."""
    if op in ("none", "zero"):
        return 0
    if op in IDENTITY:
        return 1
    if "pool" in op:
        return 2
    kernel = re.search(r"(\d+)x\d+", op)
    return 3 + (int(kernel[1]) if kernel else 2)


def kind_rank(op: str) -> tuple[int, float, str]:
    """Returns the order in which kinds of block are tried: residual ones first, identities last."""
    rank = next((index for index, kind in enumerate(_KINDS) if kind in op), len(_KINDS))
    return (rank, 0, op) if weight(op) > 2 else (len(_KINDS) + 1, -weight(op), op)


def nearest(wanted: Any, legal: Sequence[Any]) -> Any:
    """Returns the legal value closest to `wanted`, the middle one when that means nothing."""
    if wanted in legal:
        return next(value for value in legal if value == wanted)
    numbers = [value for value in legal if isinstance(value, int | float) and not isinstance(value, bool)]
    if numbers and isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return min(numbers, key=lambda value: abs(value - wanted))
    return legal[(len(legal) - 1) // 2]


def _neighbour(value: Any, legal: Sequence[Any], rng: random.Random) -> Any:
    at = list(legal).index(value)
    return legal[rng.choice([i for i in (at - 1, at + 1) if 0 <= i < len(legal)])]


def _cells(space: SlotSpace) -> list[Design]:
    """Returns cells: a shortcut alone with a growing chain, then the other edges too, then the shortcut replaced."""
    ranked = {slot_id: sorted(choices, key=weight) for slot_id, choices in space.choices.items()}
    feeds_output = {space.output, *space.inputs.get(space.output, ())}
    direct = [s for s in ranked if s in feeds_output and "input" in space.inputs[s]]
    path = [s for s in _longest_path(space) if s in ranked and s not in direct]
    rest = [s for s in ranked if s not in direct and s not in path]
    now: Design = {s: {"op": ranked[s][0]} for s in ranked}
    for slot_id in [*direct, *path]:
        now[slot_id] = {"op": next((op for op in ranked[slot_id] if op in IDENTITY), ranked[slot_id][0])}
    designs: list[Design] = []
    for slot_id in [*path, *rest, *direct]:
        learned = [op for op in ranked[slot_id] if weight(op) > 2] or ranked[slot_id][-1:]
        for op in learned:
            now = {**now, slot_id: {"op": op}}
            designs.append(now)
    return designs


def _longest_path(space: SlotSpace) -> list[str]:
    """Returns the nodes on a longest way from the input to the output."""
    known: dict[str, list[str]] = {"input": []}

    def way(node: str) -> list[str]:
        if node not in known:
            known[node] = []  # an unknown or cyclic input leads nowhere
            known[node] = [*max((way(source) for source in space.inputs.get(node, ())), key=len, default=[]), node]
        return known[node]

    return way(space.output)


def _chains(space: SlotSpace) -> list[Design]:
    """Returns chains of stages, growing, every kind and style at every size."""
    kinds = sorted({op for choices in space.choices.values() for op in choices}, key=kind_rank)
    kinds = [kind for kind in kinds if weight(kind) > 2] or kinds
    sizes = [step / 6 for step in range(7)]
    return [_chain(space, kind, size, style) for size in sizes for style in _STYLES for kind in kinds]


def _chain(space: SlotSpace, kind: str, size: float, style: str) -> Design:
    design: Design = {}
    count = len(space.slots)
    for position, (slot_id, choices) in enumerate(space.choices.items()):
        op = kind if kind in choices else sorted(choices, key=kind_rank)[0]
        where = position / max(count - 1, 1)
        width = size if style == "equal" else min(1.0, size * (0.6 + 0.6 * where))
        design[slot_id] = {"op": op, **_filled(choices[op], size, width, position, style)}
    return design


def _filled(legal: Mapping[str, Sequence[Any]], size: float, width: float, position: int, style: str) -> Choice:
    """Returns the attributes of one stage."""
    values: Choice = {}
    for name, options in legal.items():
        if name == "channels":
            values[name] = options[round(width * (len(options) - 1))]
        elif name == "kernel":
            values[name] = nearest(5 if style == "wide_kernel" else 3, options)
        elif name == "stride":
            # Halve late in general: the first stage sees the full resolution.
            values[name] = nearest(2 if position > 1 or (position > 0 and style == "early") else 1, options)
        elif name == "se":
            values[name] = nearest(style == "se", options)
        elif name == "groups":
            values[name] = options[0]
        else:
            values[name] = options[round(size * (len(options) - 1))]
    return _divisible(values, legal)


def _divisible(values: Choice, legal: Mapping[str, Sequence[Any]]) -> Choice:
    """Returns the attributes with heads and groups that divide the channels, where there are such values."""
    channels = values.get("channels")
    for name in ("heads", "groups"):
        if channels is not None and name in values and channels % values[name]:
            values[name] = next((v for v in reversed(legal[name]) if v <= values[name] and channels % v == 0),
                                values[name])
    return values


def spread(sizes: Sequence[Any], count: int, rng: random.Random) -> list[Any]:
    """Returns `count` of the sizes, one from each of `count` equal parts, cheapest first."""
    edges = [round(index * len(sizes) / count) for index in range(count + 1)]
    return [sizes[min(rng.randrange(low, max(high, low + 1)), len(sizes) - 1)] for low, high in pairwise(edges)]
