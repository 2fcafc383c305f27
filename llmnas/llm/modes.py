"""Structured-output modes: how a server is asked for JSON, from the strongest way to the weakest, with a memory.

No server supports all modes and many say they do and do not. The client starts at the strongest, steps down when a
mode is refused or does not work, and remembers per (base URL, model), so that the price is paid once.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from llmnas.errors import InputError, nearest
from llmnas.graph import Frozen
from llmnas.llm.base import JsonSchema, Message

Mode = Literal["json_schema_strict", "json_schema", "tool", "json_object", "prompted"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
SAMPLING: Final = ("temperature", "top_p", "seed", "max_tokens")
ANSWER: Final = "answer"  # name of the schema and of the forced tool

_NAMED_BY: Final[dict[Mode, str]] = {
    "json_schema_strict": r"response_format|json_schema|schema|strict|grammar|structured",
    "json_schema": r"response_format|json_schema|schema|grammar|structured",
    "tool": r"tools?|tool_choice|functions?|schema|grammar",
    "json_object": r"response_format|json_object|json_schema",
    "prompted": r"(?!)"}
_SAMPLING_NAMES = re.compile(r"\b(temperature|top_p|seed|max_tokens)\b")


class Habit(Frozen):
    """What is known of one model at one endpoint.

    Attributes:
        mode: The mode to use.
        reason: Why this one and no stronger one.
        sampling: Whether sampling parameters may be sent.
    """

    mode: Mode = "json_schema_strict"
    reason: str = "not tried yet"
    sampling: bool = True


class ModeMemory:
    """Habits by (base URL, model), in memory and, when a file is given, on disk.

    Args:
        file: JSON file to read now and rewrite on each change.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._habits: dict[str, Habit] = _load(file) if file is not None and file.exists() else {}

    def get(self, base_url: str, model: str) -> Habit:
        """Returns what is known, or the strongest mode when nothing is."""
        return self._habits.get(f"{base_url} {model}", Habit())

    def put(self, base_url: str, model: str, habit: Habit) -> None:
        """Remembers `habit`."""
        with self._lock:
            self._habits[f"{base_url} {model}"] = habit
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps({key: known.model_dump() for key, known in self._habits.items()}, indent=2)
                fresh = self._file.with_suffix(".tmp")
                fresh.write_text(text + "\n", encoding="utf-8")
                fresh.replace(self._file)


def _load(file: Path) -> dict[str, Habit]:
    try:
        return TypeAdapter(dict[str, Habit]).validate_json(file.read_bytes())
    except ValidationError as error:
        raise InputError(f"{file}: not a file of remembered endpoint modes: {error.errors()[0]['msg']}",
                         "delete it; it is written anew") from None


def pinned(structured: str) -> Mode | None:
    """Returns the mode `structured` pins, None for ``auto``."""
    if structured == "auto":
        return None
    for mode in MODES:
        if mode == structured:
            return mode
    raise InputError(f"unknown structured-output mode {structured!r}", nearest(structured, ["auto", *MODES]))


def weaker(mode: Mode) -> Mode | None:
    """Returns the next mode down, None below the last."""
    index = MODES.index(mode) + 1
    return MODES[index] if index < len(MODES) else None


def names_mode(mode: Mode, message: str, param: str | None) -> bool:
    """Returns whether a refusal is about the parameters of `mode`."""
    return re.search(rf"\b({_NAMED_BY[mode]})\b", f"{param or ''} {message}".lower()) is not None


def names_sampling(message: str, param: str | None) -> bool:
    """Returns whether a refusal is about a sampling parameter."""
    return param in SAMPLING or (param is None and _SAMPLING_NAMES.search(message) is not None)


def request_fields(mode: Mode, schema: JsonSchema) -> dict[str, Any]:
    """Returns the request fields that ask for `schema` in `mode`."""
    if mode in ("json_schema_strict", "json_schema"):
        strict = {"strict": True} if mode == "json_schema_strict" else {}
        return {"response_format": {"type": "json_schema",
                                    "json_schema": {"name": ANSWER, "schema": dict(schema), **strict}}}
    if mode == "tool":
        tool = {"name": ANSWER, "description": "Sends the answer.", "parameters": dict(schema)}
        return {"tools": [{"type": "function", "function": tool}],
                "tool_choice": {"type": "function", "function": {"name": ANSWER}}}
    return {"response_format": {"type": "json_object"}} if mode == "json_object" else {}


def request_messages(mode: Mode, messages: Sequence[Message], schema: JsonSchema) -> list[dict[str, str]]:
    """Returns the messages; the modes in which the server does not see the schema get it as text."""
    sent: list[dict[str, str]] = [message.model_dump() for message in messages]
    if mode in ("json_object", "prompted"):
        text = json.dumps(schema, separators=(",", ":"))
        # Behind the last message and not as another one: some chat templates refuse two user messages in a row.
        sent[-1]["content"] += f"\n\nAnswer with one JSON object and nothing else. Its JSON schema: {text}\n"
    return sent
