"""Ways to break a reply: at the level of text, and at the level of values."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any, Final

_WORDS: Final = ("proposals", "nodes", "id", "op", "inputs", "output", "channels", "kernel", "stride", "se", "groups",
                 "depth", "expand", "heads", "space", "version", "rationale", "zz")
_JUNK: Final[tuple[Any, ...]] = (None, -1, 0, 1, 3, 10**9, 10**400, 2.5, 1e308, float("nan"), "x", "", "input", "out",
                                 "n3", "ghost", "é\u200f", "\ud800", [], ["input"], [["input"]], {}, {"id": "a"}, True)
_STRANGE: Final = ("[" * 3000, '{"a":' * 3000, "{" * 500, '{"proposals":[' + "[" * 990 + "]" * 990 + "]}", "", " ",
                   "null", "[]", "{}", '{"proposals": null}', '{"proposals": [{}]}', '{"a": 1, "a": 2}', '{"a": NaN}',
                   '{"x": 1e999}', '{"x": ' + "9" * 5000 + "}", "```json\n```", "</think>", '{"arguments": "{"}',
                   '{"tool_calls": [{"function": {"arguments": {"proposals": []}}}]}', "\x00\x01\ufeff{}")

Graphs = list[dict[str, Any]]


def mangled(how: str, graphs: Graphs, rng: Random) -> str:
    """Returns a document made from legal graphs in the way named `how`, a member of `MANGLES`."""
    return _WAYS[how](graphs, rng)


def reply(graphs: Graphs, rng: Random) -> dict[str, Any]:
    """Returns a legal reply of one to three proposals, as a value of its own."""
    chosen = [copy.deepcopy(rng.choice(graphs)) for _ in range(rng.randint(1, 3))]
    return {"proposals": [{"rationale": "because", "nodes": one["nodes"], "output": one["output"]} for one in chosen]}


def _text(graphs: Graphs, rng: Random) -> str:
    return json.dumps(reply(graphs, rng))


def _whole(graphs: Graphs, rng: Random) -> str:
    text = _text(graphs, rng)
    frames = ("{}", "```json\n{}\n```", "Here it is:\n{}\nI hope it helps.", "<think>{{ maybe [</think>{}",
              "{}\n{{\"note\": 1}}", '{{"name": "propose", "arguments": {}}}')
    return rng.choice(frames).format(text)


def _truncated(graphs: Graphs, rng: Random) -> str:
    text = _text(graphs, rng)
    return text[:rng.randrange(len(text))]


def _spliced(graphs: Graphs, rng: Random) -> str:
    left, right = _text(graphs, rng), _text(graphs, rng)
    return left[:rng.randrange(len(left))] + right[rng.randrange(len(right)):]


def _flipped(graphs: Graphs, rng: Random) -> str:
    content = bytearray(_text(graphs, rng).encode())
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content.decode("utf-8", errors=rng.choice(("replace", "surrogateescape")))


def _inserted(graphs: Graphs, rng: Random) -> str:
    text = _text(graphs, rng)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text))
        piece = rng.choice(("{", "}", "[", "]", ",", '"', ":", "\\", "NaN", "// no", "\n", "\x00", text[at:at + 40]))
        text = text[:at] + piece + text[at:]
    return text


def _deleted(graphs: Graphs, rng: Random) -> str:
    text = _text(graphs, rng)
    at = rng.randrange(len(text))
    return text[:at] + text[at + rng.choice((1, 1, 2, 10, 100)):]


def _values(graphs: Graphs, rng: Random) -> str:
    value = reply(graphs, rng)
    for _ in range(rng.randint(1, 3)):
        _break(value, rng)
    return json.dumps(value)


def _break(value: dict[str, Any], rng: Random) -> None:
    """Breaks one place of a reply: an attribute, the wiring, a node, or a field of the proposal."""
    proposal = rng.choice(value["proposals"]) if value.get("proposals") else None
    nodes = proposal.get("nodes") if isinstance(proposal, dict) else None
    node = rng.choice(nodes) if isinstance(nodes, list) and nodes else None
    junk = copy.deepcopy(rng.choice(_JUNK))
    match rng.randrange(6):
        case 0 | 1 if isinstance(node, dict):
            node[rng.choice(_WORDS)] = junk
        case 2 if isinstance(node, dict) and isinstance(node.get("inputs"), list):
            node["inputs"] = [*node["inputs"], rng.choice(("input", "out", "ghost", junk, _id(nodes, rng)))]
        case 3 if isinstance(nodes, list) and node is not None:
            nodes.remove(node) if rng.random() < 0.5 else nodes.append(copy.deepcopy(node))
        case 4 if isinstance(proposal, dict):
            proposal[rng.choice(("output", "space", "version", "nodes", "rationale"))] = junk
        case 5 if isinstance(node, dict):
            node.pop(rng.choice(list(node)), None) if node else None
        case _:
            value[rng.choice(_WORDS[1:])] = junk


def _id(nodes: Any, rng: Random) -> Any:
    """Returns the id of some node: an edge to it may close a cycle."""
    node = rng.choice(nodes)
    return node.get("id") if isinstance(node, dict) else node


def _random(graphs: Graphs, rng: Random) -> str:
    value = _value(rng, 4)
    return json.dumps({"proposals": value} if rng.random() < 0.6 else value)


def _value(rng: Random, depth: int) -> Any:
    kind = rng.randrange(4) if depth else 0
    if kind < 2:
        return rng.choice(_JUNK)
    if kind == 2:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(5))]
    return {rng.choice(_WORDS): _value(rng, depth - 1) for _ in range(rng.randrange(6))}


def _large(graphs: Graphs, rng: Random) -> str:
    """Many nodes that read each other: a cost bomb for anything that is not linear."""
    n = rng.choice((50, 200, 511, 600))
    op = rng.choice(graphs)["nodes"][0]["op"]
    nodes = [{"id": f"n{i}", "op": op, "inputs": sorted({f"n{rng.randrange(i)}" for _ in range(3)}) if i else ["input"]}
             for i in range(n)]
    return json.dumps({"proposals": [{"rationale": "", "nodes": nodes, "output": f"n{n - 1}"}]})


def _strange(graphs: Graphs, rng: Random) -> str:
    return rng.choice(_STRANGE)


_WAYS: Final[dict[str, Callable[[Graphs, Random], str]]] = {
    "whole": _whole, "truncated": _truncated, "spliced": _spliced, "flipped": _flipped, "inserted": _inserted,
    "deleted": _deleted, "values": _values, "random": _random, "large": _large, "strange": _strange}
MANGLES: Final = ("whole", "truncated", "spliced", "flipped", "flipped", "inserted", "deleted", "values", "values",
                  "values", "values", "values", "random", "random", "strange") * 6 + ("large",)
"""Ways by how often they are used."""
