"""``mock[:SEED]``: a model made of code, for working offline and for tests.

It sees exactly what a language model would see and reads only the block of the prompt. It answers with known-good
designs, then with edits and crossovers of the exemplars; dials make it as unreliable as wished. What it knows hangs on
the names of ops: where a prompt hides them it draws designs at random, and edits what it is shown.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from llmnas.graph import ATTRIBUTES
from llmnas.llm.base import Attempt, CallFailed, ChatModel, JsonSchema, Message, OutOfTime, Reply
from llmnas.llm.block import hides_ops, read_block
from llmnas.llm.dials import Dials
from llmnas.llm.mock_dag import DagSpace
from llmnas.llm.mock_rules import rules_from
from llmnas.llm.mock_slots import JsonNode, SlotSpace, spread
from llmnas.llm.retry import Clock, Sleep
from llmnas.records import Usage

_KNOWN, _DRAWN = "Known-good design of this size.", "Random legal design."
_REFUSAL: Final = "I am sorry, but I cannot help with that."
Made = tuple[str, list[JsonNode], str]  # rationale, nodes, output


class MockModel(ChatModel):
    """Answers propose, repair and reflect prompts; the same prompt and seeds give the same answer.

    Its known-good designs come from the names of ops: where a prompt hides them it has none, whatever its dial says.

    Args:
        seed: Seed of the mock itself.
        dials: How unreliable, slow, dear and knowing it is.
        clock: Monotonic seconds.
        sleep: Waits, for slow and late replies only.
    """

    offline = True
    priced = True  # what it costs is its own to say

    def __init__(self, seed: int = 0, dials: Dials | None = None, *, clock: Clock = time.monotonic,
                 sleep: Sleep = time.sleep) -> None:
        self.dials = dials or Dials()
        self.name = f"mock:{seed}{self.dials.says}"
        self.reason = ""
        self.instant = not self.dials.waits
        self._seed = seed
        self._clock, self._sleep = clock, sleep

    def chat(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int,
             deadline: float | None = None) -> Reply:
        """Returns an answer in the wire form; see `ChatModel.chat`."""
        rng = random.Random(f"{self._seed}:{seed}")
        if deadline is not None and self._clock() >= deadline:
            raise OutOfTime("no time left to ask the mock")
        if rng.random() < self.dials.late:
            raise self._given_up(deadline)
        waited = self._wait(self.dials.delay, deadline)
        text, finish = json.dumps(_answer(read_block(messages), schema, rng, self.dials)), "stop"
        if rng.random() < self.dials.refused:
            text, finish = _REFUSAL, "refusal"
        elif rng.random() < self.dials.truncated:
            text, finish = text[:int(len(text) * rng.uniform(0.3, 0.95))], "length"
        given, made = sum(len(message.content) for message in messages) // 4, len(text) // 4
        usage = Usage(attempts=1, input_tokens=given, cached_tokens=0, output_tokens=made, reasoning_tokens=0,
                      usd=self.dials.cost * (given + made) / 1000, seconds=waited)
        return Reply(text=text, usage=usage, finish=finish, mode="mock", model=self.name,
                     attempts=(Attempt(status="ok", mode="mock", usage=usage),))

    def punctual(self) -> MockModel:
        """Returns the same model without late replies."""
        return MockModel(self._seed, self.dials.model_copy(update={"late": 0.0}), clock=self._clock, sleep=self._sleep)

    def is_late(self, seed: int) -> bool:
        """Returns whether the answer to a question with this seed is a late one."""
        return random.Random(f"{self._seed}:{seed}").random() < self.dials.late

    def _given_up(self, deadline: float | None) -> CallFailed:
        """Returns the failure of a call whose reply is late, when its time is over; what it costs is not known."""
        waited = self._wait(self.dials.timeout, deadline)
        error = f"no reply within {self.dials.timeout:g} s"
        return CallFailed(error, status="timeout", attempts=[Attempt(
            status="timeout", mode="mock", usage=Usage(attempts=1, seconds=waited), error=error)])

    def _wait(self, seconds: float, deadline: float | None) -> float:
        """Waits and returns the seconds.

        Raises:
            OutOfTime: The deadline comes first.
        """
        left = seconds if deadline is None else max(deadline - self._clock(), 0.0)
        if seconds > 0:
            self._sleep(min(seconds, left))
        if left < seconds:
            raise OutOfTime("no reply before the deadline", usage=Usage(attempts=1, seconds=left))
        return seconds


def _answer(block: Mapping[str, Any] | None, schema: JsonSchema | None, rng: random.Random,
            dials: Dials) -> dict[str, Any]:
    if block is None:
        return {"proposals": []}
    if block.get("role") == "reflect":
        return {"rules": rules_from(block.get("trials") or [])}
    count = len(block.get("invalid") or ()) if block.get("role") == "repair" else int(block.get("count") or 1)
    make = _from_dag if block.get("topology") == "dag" else _from_slots
    made = make(block, count, 0.0 if hides_ops(block) else dials.prior, rng)
    names = _attribute_names(block, schema)
    wire = [{"rationale": why, "nodes": [_wire_node(node, names) for node in nodes], "output": output}
            for why, nodes, output in made]
    return {"proposals": _turned(wire, block, names, rng, dials)}


def _fresh(space: SlotSpace | DagSpace, sizes: Sequence[Any], count: int, prior: float,
           rng: random.Random) -> Iterator[tuple[Any, str]]:
    """Yields designs and what they are: of `prior` of them known-good ones of growing size, else random ones."""
    for design in spread(sizes, count, rng):
        yield (design, _KNOWN) if prior == 1 or rng.random() < prior else (space.drawn(rng), _DRAWN)


def _from_slots(block: Mapping[str, Any], count: int, prior: float, rng: random.Random) -> list[Made]:
    space = SlotSpace(block)
    parents = [(found, item) for item in _exemplars(block) if (found := space.read(item["nodes"])) is not None]
    broken = [space.read(_nodes(item)) for item in block.get("invalid") or ()]
    seen = [design for design, _ in parents]
    made: list[Made] = []
    for index, fresh in enumerate(_fresh(space, space.affordable(seen), count, prior, rng)):
        design, why = fresh
        if index < len(broken) and (mended := broken[index]) is not None:
            # Legal values already: then the fault lies in how they go together, and one step away may not have it.
            same = space.nodes(mended) == _bare(_nodes(block["invalid"][index]))
            design, why = space.edited(mended, rng) if same else mended, "Values moved to legal ones."
        elif parents and rng.random() < 0.7:
            parent, item = _parent(parents, rng)
            if len(parents) > 1 and rng.random() < 0.3:
                other, _ = rng.choice(parents)
                design, why = space.crossed(parent, other, rng), f"Cross of trial {item['trial']} with another."
            else:
                design, why = space.edited(parent, rng, rng.choice((1, 1, 2))), f"Edit of trial {item['trial']}."
        for _ in range(20):  # a small space may have nothing new
            if design not in seen:
                break
            design = space.edited(design, rng)
        seen.append(design)
        made.append((why, space.nodes(design), space.output))
    return made


def _from_dag(block: Mapping[str, Any], count: int, prior: float, rng: random.Random) -> list[Made]:
    space = DagSpace(block)
    parents = [((_bare(item["nodes"]), item["output"]), item) for item in _exemplars(block)
               if space.fits(item["nodes"])]
    seen = [graph[0] for graph, _ in parents]
    made: list[Made] = []
    for fresh in _fresh(space, space.sizes, count, prior, rng):
        # A broken graph is replaced: mending one takes more understanding than a mock has.
        nodes, why = fresh
        output = nodes[-1]["id"]
        if parents and rng.random() < 0.7:
            (nodes, output), item = _parent(parents, rng)
            nodes, output = space.edited(nodes, output, rng)
            why = f"Edit of trial {item['trial']}."
        for _ in range(20):
            if nodes not in seen:
                break
            nodes, output = space.edited(nodes, output, rng)
        seen.append(nodes)
        made.append((why, list(nodes), output))
    return made


def _exemplars(block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the exemplars within the limits, best first; all of them when none is."""
    found = [item for item in block.get("exemplars") or () if item.get("nodes")]
    limits = block.get("limits") or {}

    def within(item: Mapping[str, Any]) -> bool:
        return all(_keeps(item.get(name.removeprefix("max_")), top) for name, top in limits.items()
                   if name.startswith("max_"))

    return sorted([item for item in found if within(item)] or found, key=lambda item: -(
        item.get("reward", item.get("score")) or 0.0))


def _keeps(value: Any, top: Any) -> bool:
    """Returns whether a figure, or each of several by name, is at most its limit; unknown ones are."""
    if isinstance(top, Mapping):
        return all(_keeps(value.get(name) if isinstance(value, Mapping) else None, most) for name, most in top.items())
    return value is None or top is None or bool(value <= top)


def _parent(parents: Sequence[tuple[Any, Mapping[str, Any]]], rng: random.Random) -> tuple[Any, Mapping[str, Any]]:
    return rng.choices(parents, weights=[1 / (rank + 1) for rank in range(len(parents))])[0]


def _nodes(invalid: Mapping[str, Any]) -> Any:
    proposal = invalid.get("proposal")
    return proposal.get("nodes") if isinstance(proposal, dict) else None


def _bare(nodes: Any) -> Any:
    """Returns wire nodes without the attributes that are null."""
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        return nodes
    return [{name: value for name, value in node.items() if value is not None} for node in nodes]


def _attribute_names(block: Mapping[str, Any], schema: JsonSchema | None) -> list[str]:
    """Returns the attributes every node has on the wire: those of the schema, else those of the block."""
    try:
        proposal = (schema or {})["properties"]["proposals"]["items"]
        return [name for name in proposal["properties"]["nodes"]["items"]["properties"]
                if name not in ("id", "op", "inputs")]
    except (KeyError, TypeError):
        pass
    tables = [attributes for slot in block.get("slots") or () for attributes in slot["choices"].values()]
    tables += [op.get("attributes") or {} for op in (block.get("ops") or {}).values() if isinstance(op, dict)]
    tables += [{k: v for k, v in node.items() if k in ATTRIBUTES} for node in block.get("fixed") or ()]
    return [name for name in ATTRIBUTES if any(name in table for table in tables)]


def _wire_node(node: JsonNode, names: Sequence[str]) -> JsonNode:
    return {"id": node["id"], "op": node["op"], "inputs": list(node["inputs"]),
            **{name: node.get(name) for name in names}}


def _turned(wire: list[dict[str, Any]], block: Mapping[str, Any], names: Sequence[str], rng: random.Random,
            dials: Dials) -> list[dict[str, Any]]:
    """Returns the proposals with duplicates and faults where the dials want them."""
    earlier = [{"rationale": "Repeats an exemplar.", "nodes": [_wire_node(node, names) for node in item["nodes"]],
                "output": item["output"]} for item in _exemplars(block) if item.get("output")]
    turned: list[dict[str, Any]] = []
    for item in wire:
        roll, again = rng.random(), rng.random()
        known = [*earlier, *turned]
        if roll < dials.invalid:
            turned.append(_spoilt(item, rng))
        else:
            turned.append(rng.choice(known) if known and again < dials.duplicate else item)
    return turned


def _spoilt(item: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Returns the proposal with one of the faults real models make."""
    nodes = [dict(node) for node in item["nodes"]]
    at = rng.randrange(len(nodes))
    fault = rng.randrange(4)
    if fault == 0:
        nodes[at]["op"] = "conv_9x9_magic"
    elif fault == 1:
        nodes[at]["inputs"] = ["nowhere"]
    elif fault == 2:
        nodes[at]["inputs"] = [nodes[at]["id"]]
    else:
        nodes.append(dict(nodes[at]))
    return {**item, "nodes": nodes}
