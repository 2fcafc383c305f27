"""Broken documents by the ten thousand: reading one never raises, and every fault has a code and a fix."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import numpy as np

from llmnas.bench.mangle import MANGLES, mangled
from llmnas.bench.process import Say
from llmnas.graph import ArchGraph, Issue
from llmnas.llm.reading import read_object
from llmnas.network import Shape
from llmnas.space import Space, list_spaces, load_space, read_proposals

SEEDS_PER_SPACE: Final = 60
"""Legal graphs per space that documents are made from."""
KEPT: Final = 5
"""Exceptions that are reported in full."""
_EVERY: Final = 10_000


@dataclass
class Tally:
    """What came of the documents so far.

    Attributes:
        documents: Documents read, by the way they were made.
        no_object: Documents in which there was no JSON object.
        proposals: Proposals found in the others.
        valid: Of those, legal graphs.
        keys: Different keys among them.
        issues: Issues by code.
        exceptions: By class.
        examples: The first few exceptions, with their documents.
        slowest_ms: The longest that one document took, and how that one was made.
    """

    documents: Counter[str] = field(default_factory=Counter)
    no_object: int = 0
    proposals: int = 0
    valid: int = 0
    keys: set[str] = field(default_factory=set)
    issues: Counter[str] = field(default_factory=Counter)
    exceptions: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)
    slowest_ms: tuple[float, str] = (0.0, "")


class BrokenPromise(Exception):
    """Reading returned neither a graph nor a reason, or a reason without a fix."""


def bench_fuzz(n: int, seed: int = 0, say: Say = lambda _: None) -> dict[str, Any]:
    """Returns what came of `n` random and mutated documents over all spaces."""
    rng, tally = Random(seed), Tally()
    spaces = [load_space(name) for name in list_spaces()]
    pool = {space.name: _graphs(space, seed) for space in spaces}
    spent = 0.0
    for i in range(n):
        space = spaces[i % len(spaces)]
        how = rng.choice(MANGLES)
        text = mangled(how, pool[space.name], rng)
        start = time.perf_counter()
        _read(text, how, space, _shape(space, rng), tally)
        took = time.perf_counter() - start
        spent += took
        tally.slowest_ms = max(tally.slowest_ms, (1e3 * took, how))
        if (i + 1) % _EVERY == 0:
            say(f"{i + 1:,} documents, {sum(tally.exceptions.values())} exceptions")
    return _summary(n, seed, tally, spent)


def _summary(n: int, seed: int, tally: Tally, spent: float) -> dict[str, Any]:
    exceptions = sum(tally.exceptions.values())
    return {"n": n, "seed": seed, "documents": dict(sorted(tally.documents.items())), "no_object": tally.no_object,
            "proposals": tally.proposals, "valid": tally.valid, "keys": len(tally.keys),
            "issues": dict(tally.issues.most_common()), "exceptions": exceptions,
            "exceptions_by_class": dict(tally.exceptions), "examples": tally.examples,
            "documents_per_s": n / spent if spent else None,
            "slowest": {"ms": tally.slowest_ms[0], "made": tally.slowest_ms[1]}, "ok": exceptions == 0}


def _graphs(space: Space, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    graphs = [*space.prior()[:SEEDS_PER_SPACE // 3], *(space.sample(rng) for _ in range(SEEDS_PER_SPACE))]
    return [graph.model_dump(mode="json", exclude_none=True) for graph in graphs[:SEEDS_PER_SPACE]]


def _shape(space: Space, rng: Random) -> Shape | None:
    """Returns the shape of the data: the space's usual one, or an odd and small one."""
    if rng.random() < 0.5:
        return None
    return (2, 41) if space.spec.input == "sequence" else (1, 8, 11)


def _read(text: str, how: str, space: Space, shape: Shape | None, tally: Tally) -> None:
    tally.documents[how] += 1
    try:
        _follow(text, space, shape, tally)
    except Exception as error:  # noqa: BLE001  # what this bench looks for
        tally.exceptions[type(error).__name__] += 1
        if len(tally.examples) < KEPT:
            tally.examples.append({"space": space.name, "made": how, "error": f"{type(error).__name__}: {error}"[:500],
                                   "document": text[:2000]})


def _follow(text: str, space: Space, shape: Shape | None, tally: Tally) -> None:
    """Takes one document the whole way a reply goes."""
    value, issues = read_object(text)
    _count(value, issues, tally)
    if value is None:
        tally.no_object += 1
        return
    for _, graph, faults, _ in read_proposals(value, space.name):
        tally.proposals += 1
        _count(graph, faults, tally)
        if graph is not None:
            _validate(graph, space, shape, tally)


def _validate(graph: ArchGraph, space: Space, shape: Shape | None, tally: Tally) -> None:
    issues = space.validate(graph, shape)
    _count(None if issues else graph, issues, tally)
    if not issues:
        tally.valid += 1
        tally.keys.add(graph.key())


def _count(found: object, issues: list[Issue], tally: Tally) -> None:
    if (found is None) != bool(issues):
        raise BrokenPromise("neither a result nor an issue, or both")
    for issue in issues:
        if not (issue.says and issue.fix):
            raise BrokenPromise(f"an issue of code {issue.code} without words or fix")
        tally.issues[issue.code] += 1
