"""What the mock can do when names say nothing: random designs, and random changes of what it is shown."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from llmnas.llm.mock_dag import DagSpace
from llmnas.llm.mock_slots import Design, JsonNode, SlotSpace

LONGEST: Final = 12  # nodes of a random graph at most: longer ones are hardly ever legal


def random_design(space: SlotSpace, rng: random.Random) -> Design:
    """Returns a design drawn uniformly slot by slot: the op first, then each attribute."""
    design: Design = {}
    for slot_id, choices in space.choices.items():
        op = rng.choice(sorted(choices))
        design[slot_id] = {"op": op, **{name: rng.choice(legal) for name, legal in choices[op].items()}}
    return design


def random_graph(space: DagSpace, rng: random.Random) -> list[JsonNode]:
    """Returns a random row of nodes: ops, attributes and further inputs uniform; each reads the one before it.

    Shapes are not looked at: without knowing what an op does nobody can.
    """
    nodes: list[JsonNode] = []
    for place in range(rng.randint(space.min_nodes, max(space.min_nodes, min(space.max_nodes, LONGEST)))):
        op = rng.choice(sorted(space.ops))
        low, high = space.ops[op].get("inputs") or (1, 1)
        earlier = ["input", *(node["id"] for node in nodes)]
        wanted = min(rng.randint(low, max(low, high or low + 1)), len(earlier))
        inputs = [earlier[-1], *rng.sample(earlier[:-1], wanted - 1)]
        nodes.append({"id": f"n{place + 1}", "op": op, "inputs": inputs, **_drawn(space, op, rng)})
    return nodes


def randomly_edited(space: DagSpace, nodes: Sequence[JsonNode], output: str,
                    rng: random.Random) -> tuple[list[JsonNode], str]:
    """Returns the graph with one attribute of one node, or its op, changed to another legal one."""
    edits: list[JsonNode] = []
    places: list[int] = []
    for place, node in enumerate(nodes):
        for name, legal in (space.ops[node["op"]].get("attributes") or {}).items():
            edits += [{**node, name: value} for value in legal if value != node.get(name)]
        edits += [{"id": node["id"], "op": op, "inputs": node["inputs"], **_drawn(space, op, rng)}
                  for op in sorted(space.ops) if op != node["op"] and space.takes(op, len(node["inputs"]))]
        places += [place] * (len(edits) - len(places))
    if not edits:
        return list(nodes), output
    at = rng.randrange(len(edits))
    changed = list(nodes)
    changed[places[at]] = edits[at]
    return changed, output


def _drawn(space: DagSpace, op: str, rng: random.Random) -> JsonNode:
    return {name: rng.choice(legal) for name, legal in (space.ops[op].get("attributes") or {}).items()}
