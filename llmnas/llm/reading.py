"""Reads one JSON object out of whatever text a model sent, and says exactly why when there is none.

Tolerated: fences, prose around the object, a ``<think>`` section, a tool call written as text. Not tolerated, because
fixing them would be guessing: trailing commas, repeated keys, NaN, a cut end.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from llmnas.graph import Issue

MAX_CHARS: Final = 2_000_000
MAX_STARTS: Final = 200  # places in a text where an object is looked for; bounds the work on hostile text
END: Final = "reply.end"

_FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n(.*?)```", re.DOTALL)
_NAMES = frozenset({"name", "arguments", "parameters", "id", "type", "index", "function", "tool_calls"})


class _RejectedError(ValueError):
    """JSON that is well formed but ambiguous."""


def read_object(text: str) -> tuple[dict[str, Any] | None, list[Issue]]:
    """Returns the JSON object in `text`, or None and why there is none. Never raises.

    When the text holds several objects the largest counts.
    """
    if len(text) > MAX_CHARS:
        return None, [_issue(f"the reply has {len(text)} characters, more than {MAX_CHARS}",
                             "Answer with one JSON object and nothing else.")]
    body = text.rpartition("</think>")[2].strip()
    problems: list[Issue] = []
    for candidate in _candidates(body):
        value, problem = _parse(candidate)
        if isinstance(value, dict):
            return _unwrapped(value)
        if problem is not None:
            problems.append(problem)
        elif value is not None:
            return None, [_issue(f"expected one JSON object, got {_kind(value)}",
                                 "Answer with one JSON object, with the keys of the required form.")]
    found, problem = _scan(body)
    if found is not None:
        return _unwrapped(found)
    return None, [problem or next(iter(problems), _NOTHING)]


def cut_off(issues: list[Issue]) -> bool:
    """Returns whether the reply stopped before its JSON did."""
    return any(issue.at == END for issue in issues)


def _candidates(body: str) -> Iterator[str]:
    if body.startswith(("{", "[")):
        yield body
    yield from sorted((match.group(1).strip() for match in _FENCE.finditer(body)), key=len, reverse=True)


def _parse(text: str) -> tuple[Any, Issue | None]:
    """Returns the value of a text that is JSON from end to end, or an issue; neither when it is prose."""
    try:
        return _checked(_DECODER.decode(text)), None
    except json.JSONDecodeError:
        return None, None
    except (ValueError, RecursionError) as error:
        return None, _rejection(error)


def _scan(body: str) -> tuple[dict[str, Any] | None, Issue | None]:
    """Returns the largest object that starts somewhere in `body`, or the most telling problem."""
    best: tuple[int, dict[str, Any]] | None = None
    problem: Issue | None = None
    at = body.find("{")
    for _ in range(MAX_STARTS):
        if at < 0:
            break
        end = at + 1
        try:
            value, end = _DECODER.raw_decode(body, at)
            _checked(value)
            if best is None or end - at > best[0]:
                best = (end - at, value)
        except json.JSONDecodeError as error:
            if _is_cut(error, body):
                # Objects inside an object without an end are not answers.
                return (best[1], None) if best else (None, _CUT)
            problem = problem or _issue(f"not JSON at character {error.pos}: {error.msg}",
                                        "Answer with one valid JSON object; no comments, no trailing commas.")
            end = max(error.pos, end)
        except (ValueError, RecursionError) as error:
            return None, _rejection(error)
        at = body.find("{", end)
    return (best[1], None) if best else (None, problem)


def _is_cut(error: json.JSONDecodeError, body: str) -> bool:
    return error.msg.startswith("Unterminated string") or error.pos >= len(body.rstrip().rstrip("`").rstrip())


def _checked(value: Any) -> Any:
    # A lone surrogate cannot be written to a file or sent back to a model.
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _RejectedError("a string holds half of a surrogate pair") from None
    return value


def _unwrapped(value: dict[str, Any]) -> tuple[dict[str, Any] | None, list[Issue]]:
    """Returns the arguments when `value` is a tool call written as text, else `value`."""
    if not value or not set(value) <= _NAMES:
        return value, []
    calls = value.get("tool_calls")
    if isinstance(calls, list) and calls and isinstance(calls[0], dict):
        return _unwrapped(calls[0])
    if isinstance(value.get("function"), dict):
        return _unwrapped(value["function"])
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        inner, problem = _parse(arguments)
        return (inner, []) if isinstance(inner, dict) else (None, [problem or _NOTHING])
    return (arguments, []) if isinstance(arguments, dict) else (value, [])


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RejectedError(f"the key {twice[:40]!r} appears twice in one object")
    return value


def _constant(name: str) -> Any:
    raise _RejectedError(f"{name} is not a JSON number")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RejectedError(f"the number {text[:20]} is too large")
    return value


def _rejection(error: BaseException) -> Issue:
    if isinstance(error, RecursionError):
        return _issue("the JSON is nested too deeply", "Answer in the required form, which is five levels deep.")
    says = str(error) if isinstance(error, _RejectedError) else "a number has too many digits"
    return _issue(says, "Write every key once, and plain finite numbers.")


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "something else")


def _issue(says: str, fix: str, at: str = "reply") -> Issue:
    return Issue(code="json", at=at, says=says, fix=fix)


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_number)
_NOTHING = _issue("no JSON object in the reply", "Answer with one JSON object and nothing else.")
_CUT = _issue("the reply ends before its JSON does", "Send fewer proposals or fewer nodes, so that the reply fits.",
              at=END)
