"""Checks a value against the portable subset of JSON schema that is sent to models.

The subset is ``type``, ``properties``, ``required``, ``additionalProperties: false``, ``items``, ``enum``: what every
server can enforce. That a server says it enforces a schema proves nothing, so every reply is checked here as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from llmnas.graph import Issue

MAX_ISSUES: Final = 20
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),),
    "integer": (int,), "number": (int, float)}


def violations(value: Any, schema: Mapping[str, Any], at: str = "reply") -> list[Issue]:
    """Returns where `value` departs from `schema`, at most `MAX_ISSUES` places."""
    return list(islice(_violations(value, schema, at), MAX_ISSUES))


def _violations(value: Any, schema: Mapping[str, Any], at: str) -> Iterator[Issue]:
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else list(wanted or _TYPES)
    if not any(_is(value, name) for name in names):
        yield _issue(at, f"expected {' or '.join(names)}, got {_shown(value)}", f"Send {' or '.join(names)} here.")
        return
    if "enum" in schema and not any(value == legal and _is_bool(value) == _is_bool(legal) for legal in schema["enum"]):
        legal = ", ".join(map(_shown, schema["enum"]))
        yield _issue(at, f"{_shown(value)} is not allowed", f"Use one of: {legal}.")
    if isinstance(value, dict):
        yield from _object(value, schema, at)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _violations(item, schema["items"], f"{at}[{index}]")


def _object(value: dict[str, Any], schema: Mapping[str, Any], at: str) -> Iterator[Issue]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield _issue(f"{at}.{name}", "missing", f"Add {name!r}; null when it is not used and null is allowed.")
    for name, item in value.items():
        if name in properties:
            yield from _violations(item, properties[name], f"{at}.{name}")
        elif schema.get("additionalProperties") is False:
            yield _issue(f"{at}.{name[:40]}", "unknown key", f"Use only: {', '.join(properties)}.")


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES.get(name, ())) or (name == "integer" and isinstance(value, float)
                                                       and value.is_integer())


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


def _issue(at: str, says: str, fix: str) -> Issue:
    return Issue(code="schema", at=at, says=says, fix=fix)
