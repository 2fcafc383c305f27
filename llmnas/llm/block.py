"""The block: the one fenced JSON object in a prompt that holds all of its facts in a form code can read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from llmnas.llm.base import Message

OP_CODE: Final = r"op_[a-z]+"
"""What ops are called in a prompt that hides what they are."""
_BLOCK: Final = re.compile(r"^```json[ \t]*\r?\n(.*?)\r?\n```[ \t]*$", re.DOTALL | re.MULTILINE)


def blocks_in(text: str) -> list[str]:
    """Returns the JSON text of every fenced block."""
    return _BLOCK.findall(text)


def read_block(messages: Sequence[Message]) -> dict[str, Any] | None:
    """Returns the block of the last user message that has exactly one, None when there is none."""
    for message in reversed(messages):
        found = blocks_in(message.content) if message.role == "user" else []
        if len(found) == 1:
            try:
                value = json.loads(found[0])
            except ValueError:
                return None
            return value if isinstance(value, dict) else None
    return None


def hides_ops(block: Mapping[str, Any]) -> bool:
    """Returns whether a block says nothing of what its ops are: all go by codes."""
    ops = {op for slot in block.get("slots") or () for op in slot["choices"]} | set(block.get("ops") or {})
    return bool(ops) and all(re.fullmatch(OP_CODE, op) for op in ops)


def role_of(messages: Sequence[Message]) -> str:
    """Returns the role a prompt asks for, empty when it has no block."""
    role = (read_block(messages) or {}).get("role")
    return role if isinstance(role, str) else ""
