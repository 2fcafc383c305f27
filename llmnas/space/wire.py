"""The wire form: what a model sends, its JSON schema, and reading it without trust."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from llmnas.graph import ATTRIBUTES, ArchGraph, Issue, IssueCode
from llmnas.space.spec import SpaceSpec

MAX_NODES = 512  # no space is near; keeps a hostile document from costing time


def schema(spec: SpaceSpec) -> dict[str, Any]:
    """Returns the schema of ``{"proposals": [{rationale, nodes, output}]}`` in the portable subset.

    Only type, properties, required, additionalProperties, items and enum are used; every field is required and
    attributes are nullable, because strict servers refuse anything else. Sizes are checked by `read_proposals`.
    """
    fixed = ["add"] if spec.cell else []
    ops = sorted({op for op, _ in spec.domains()} | set(fixed))
    node = {"id": {"type": "string"}, "op": {"type": "string", "enum": ops},
            "inputs": {"type": "array", "items": {"type": "string"}}} | _attributes(spec)
    proposal = {"rationale": {"type": "string"}, "nodes": {"type": "array", "items": _object(node)},
                "output": {"type": "string"}}
    return _object({"proposals": {"type": "array", "items": _object(proposal)}})


def _attributes(spec: SpaceSpec) -> dict[str, Any]:
    legal: dict[str, set[int | bool]] = {}
    for _, domains in spec.domains():
        for name, values in domains.items():
            legal.setdefault(name, set()).update(values)
    return {name: {"type": ["boolean" if name == "se" else "integer", "null"], "enum": [*sorted(legal[name]), None]}
            for name in ATTRIBUTES if name in legal}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_proposals(value: Any, space: str) -> list[tuple[Any, ArchGraph | None, list[Issue], str]]:
    """Returns (raw, graph or None, issues, rationale) for every proposal in a reply; never raises on any JSON value.

    A document that is not ``{"proposals": [...]}`` counts as one unreadable proposal.
    """
    listed = value.get("proposals") if isinstance(value, dict) else None
    if not isinstance(listed, list) or not listed:
        return [(value, None, [_fault("schema", "proposals", "expected an object with a list 'proposals'",
                                      'Answer with {"proposals": [{"rationale", "nodes", "output"}]}.')], "")]
    return [_read_one(raw, space) for raw in listed]


def _read_one(raw: Any, space: str) -> tuple[Any, ArchGraph | None, list[Issue], str]:
    if not isinstance(raw, dict):
        return raw, None, [_fault("schema", "proposal", f"expected an object, got {type(raw).__name__}",
                                  "Give rationale, nodes and output.")], ""
    rationale = raw.get("rationale")
    graph, issues = parse_graph({key: item for key, item in raw.items() if key != "rationale"}, space)
    return raw, graph, issues, rationale if isinstance(rationale, str) else ""


def parse_graph(value: Any, space: str) -> tuple[ArchGraph | None, list[Issue]]:
    """Returns the graph in a JSON value, or None and the issues; attributes that are null count as left out.

    Args:
        value: ``{"nodes": [...], "output": id}``; ``version`` and ``space`` may be there.
        space: The space when the value names none.
    """
    if not isinstance(value, dict):
        return None, [_fault("schema", "graph", f"expected an object, got {type(value).__name__}",
                             "Give nodes and output.")]
    nodes = value.get("nodes")
    if isinstance(nodes, list) and len(nodes) > MAX_NODES:
        return None, [_fault("too_large", "nodes", f"{len(nodes)} nodes", f"Use at most {MAX_NODES} nodes.")]
    try:
        return ArchGraph.model_validate({"space": space, **value, **({"nodes": [_without_nulls(n) for n in nodes]}
                                                                     if isinstance(nodes, list) else {})}), []
    except ValidationError as error:
        return None, [_as_issue(fault) for fault in error.errors(include_url=False)]
    except RecursionError:
        return None, [_fault("schema", "graph", "the document is nested too deeply", "Give nodes as flat objects.")]


def _without_nulls(node: Any) -> Any:
    return {key: item for key, item in node.items() if item is not None} if isinstance(node, dict) else node


_CODES: dict[str, IssueCode] = {"missing": "missing", "extra_forbidden": "unexpected", "greater_than_equal": "range",
                                "less_than_equal": "range", "too_long": "too_large"}


def _as_issue(fault: Any) -> Issue:
    at = ""
    for part in fault["loc"]:
        at += f"[{part}]" if isinstance(part, int) else f".{part}" if at else str(part)
    fixes = {"missing": f"Add {at}.", "extra_forbidden": f"Leave {at} out; a node has id, op, inputs and attributes."}
    return _fault(_CODES.get(fault["type"], "schema"), at or "graph", str(fault["msg"])[:200],
                  fixes.get(fault["type"], f"Give {at or 'the graph'} a value of the right type."))


def _fault(code: IssueCode, at: str, says: str, fix: str) -> Issue:
    return Issue(code=code, at=at[:200], says=says, fix=fix)
