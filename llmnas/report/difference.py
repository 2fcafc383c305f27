"""What one architecture changed of another: nodes added, removed and changed, as data and as lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from llmnas.graph import ATTRIBUTES, COMBINING, COMMUTATIVE, ArchGraph, Node
from llmnas.records import Trial
from llmnas.report import draw
from llmnas.report import format as say
from llmnas.store import RunState

SAME: Final = "the same nodes, attributes and wiring"
Pairs = Mapping[int, int]  # place of a node in the child: place of its counterpart in the parent


@dataclass(frozen=True)
class Change:
    """A node that both graphs have, and in what it differs.

    Attributes:
        id: Its id in the child.
        was: Its id in the parent.
        fields: ``op``, ``inputs`` and attributes that differ: the value before and after. An attribute that is not
            set is None. Inputs are named as in the child; those the child does not have, as in the parent with a
            leading ``-``.
    """

    id: str
    was: str
    fields: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Difference:
    """What turns a parent into a child.

    Attributes:
        added: Nodes that only the child has.
        removed: Nodes that only the parent has.
        changed: Nodes that both have and that differ in more than their name.
        output: The output before and after, named like inputs; None when it is the same.
        renamed: Nodes that both have under another id, whether they differ otherwise or not.
    """

    added: tuple[Node, ...] = ()
    removed: tuple[Node, ...] = ()
    changed: tuple[Change, ...] = ()
    output: tuple[str, str] | None = None
    renamed: int = 0

    @property
    def size(self) -> int:
        """How much differs: two for a node more or less, one for every field of a node and for the output."""
        return (2 * (len(self.added) + len(self.removed)) + sum(len(one.fields) for one in self.changed)
                + (self.output is not None))


def difference(parent: ArchGraph, child: ArchGraph) -> Difference:
    """Returns what the child changed of the parent; graphs that are not legal are compared as far as it makes sense.

    Nodes are paired by id, which is all there is to it in spaces whose ids name fixed places. Where the ids differ, a
    proposer may have numbered the nodes anew; then they are also paired in order, inputs first: by runs of equal ops
    and attributes, then of equal ops, then by id. The pairing that leaves less to say is taken.
    """
    old, new = _ordered(parent), _ordered(child)
    by_id = _compared(parent, child, old, new, _by_id(old, new))
    if {node.id for node in old} == {node.id for node in new}:
        return by_id
    return min(by_id, _compared(parent, child, old, new, _by_order(old, new)), key=lambda one: one.size)


def _ordered(graph: ArchGraph) -> Sequence[Node]:
    try:
        return graph.order
    except (ValueError, KeyError):  # a cycle or an id that is not there
        return graph.nodes


def _by_id(old: Sequence[Node], new: Sequence[Node]) -> Pairs:
    places: dict[str, list[int]] = {}  # an illegal graph may have an id several times
    for place, node in enumerate(old):
        places.setdefault(node.id, []).append(place)
    return {place: places[node.id].pop(0) for place, node in enumerate(new) if places.get(node.id)}


def _by_order(old: Sequence[Node], new: Sequence[Node]) -> Pairs:
    before, after = ([(node.op, *node.attributes.items()) for node in nodes] for nodes in (old, new))
    pairs: dict[int, int] = {}
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            pairs |= dict(zip(range(c, d), range(a, b), strict=True))
        elif kind == "replace":
            pairs |= _same_ops(old, new, range(a, b), range(c, d))
    left = {node.id: place for place, node in enumerate(old) if place not in set(pairs.values())}
    return pairs | {place: left.pop(node.id) for place, node in enumerate(new)
                    if place not in pairs and node.id in left}


def _same_ops(old: Sequence[Node], new: Sequence[Node], before: Sequence[int], after: Sequence[int]) -> Pairs:
    """Returns the pairs of nodes with one op, in order."""
    found = SequenceMatcher(None, [old[place].op for place in before], [new[place].op for place in after],
                            autojunk=False).get_matching_blocks()
    return {after[match.b + i]: before[match.a + i] for match in found for i in range(match.size)}


def _compared(parent: ArchGraph, child: ArchGraph, old: Sequence[Node], new: Sequence[Node],
              pairs: Pairs) -> Difference:
    names = {old[then].id: new[now].id for now, then in pairs.items()}
    gone = {node.id for node in old} - set(names)
    names |= {name: f"-{name}" for name in gone}
    found = [Change(new[now].id, old[then].id, _fields(old[then], new[now], names)) for now, then in pairs.items()]
    left = names.get(parent.output, parent.output)
    return Difference(
        added=tuple(node for place, node in enumerate(new) if place not in pairs),
        removed=tuple(node for place, node in enumerate(old) if place not in set(pairs.values())),
        changed=tuple(one for one in found if one.fields),
        output=None if left == child.output else (left, child.output),
        renamed=sum(one.id != one.was for one in found))


def _fields(before: Node, after: Node, names: Mapping[str, str]) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {} if before.op == after.op else {"op": (before.op, after.op)}
    found |= {name: (old, new) for name in ATTRIBUTES
              if (old := getattr(before, name)) != (new := getattr(after, name))}
    old_inputs, new_inputs = tuple(names.get(name, name) for name in before.inputs), after.inputs
    ordered = after.op in COMBINING - COMMUTATIVE
    if old_inputs != new_inputs if ordered else Counter(old_inputs) != Counter(new_inputs):
        found["inputs"] = (old_inputs, new_inputs)
    return found


def lines(found: Difference) -> list[str]:
    """Returns a difference as lines: ``+`` added, ``-`` removed, ``~`` changed; one line when nothing differs."""
    said = [f"- {_node(node)}" for node in found.removed]
    said += [f"+ {_node(node)}" for node in found.added]
    said += [f"~ {_name(one.id)}{'' if one.id == one.was else f' (was {_name(one.was)})'}: "
             + "; ".join(f"{field} {_value(old)} → {_value(new)}" for field, (old, new) in one.fields.items())
             for one in found.changed]
    said += [f"~ output: {_name(found.output[0])} → {_name(found.output[1])}"] if found.output else []
    if not said:
        return [f"{SAME}, {say.plural(found.renamed, 'node')} renamed" if found.renamed else SAME]
    return said


def to_parents(state: RunState, trial: Trial) -> list[tuple[str, list[str]]]:
    """Returns every parent of a trial in words, and the lines of the difference to it."""
    return [(f"trial {n}" if n is not None else say.one_line(key, 60),
             ["not a trial of this run"] if n is None else ["no graph to compare"] if found is None else lines(found))
            for key, n, found in _parents(state, trial)]


def parents_json(state: RunState, trial: Trial) -> list[dict[str, Any]]:
    """Returns the difference of a trial to each of its parents as JSON values; null where there is none."""
    return [{"key": key, "n": n, "difference": as_json(found) if found else None}
            for key, n, found in _parents(state, trial)]


def _parents(state: RunState, trial: Trial) -> list[tuple[str, int | None, Difference | None]]:
    found = []
    for key in trial.proposal.origin.parents:
        n = state.first.get(key)
        graph = state.trial(n).proposal.graph if n is not None else None
        child = trial.proposal.graph
        found.append((key, n, difference(graph, child) if graph is not None and child is not None else None))
    return found


def as_json(found: Difference) -> dict[str, Any]:
    """Returns a difference as JSON values; an attribute that is not set is null."""
    return {"added": [node.model_dump(mode="json", exclude_none=True) for node in found.added],
            "removed": [node.model_dump(mode="json", exclude_none=True) for node in found.removed],
            "changed": [{"id": one.id, "was": one.was,
                         "fields": {field: {"before": old, "after": new} for field, (old, new) in one.fields.items()}}
                        for one in found.changed],
            "output": {"before": found.output[0], "after": found.output[1]} if found.output else None,
            "renamed": found.renamed}


def _node(node: Node) -> str:
    words = " ".join(filter(None, (say.one_line(node.op, 40), draw.attributes(node))))
    return f"{_name(node.id)}: {words} of {_value(node.inputs)}"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return " + ".join(map(_name, value)) or "nothing"
    return "unset" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else _name(value)


def _name(name: object) -> str:
    return say.one_line(name, 60)
