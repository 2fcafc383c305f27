"""Reads the body of a chat completion, whichever field the answer is in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from llmnas.graph import Frozen

CONTEXT_SIZES: Final = frozenset(2**power for power in range(10, 18))  # 1024 to 131072 tokens


class Answer(Frozen):
    """What a chat completion says.

    Attributes:
        text: The answer; empty when there is none.
        finish: The server's finish reason.
        input_tokens: None when the server does not say.
        cached_tokens: Part of the input.
        output_tokens: None when the server does not say.
        reasoning_tokens: Part of the output.
        error: Why the body is not a chat completion; empty when it is.
    """

    text: str = ""
    finish: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    error: str = ""

    @property
    def context(self) -> int | None:
        """The context length at which prompt or reply was cut, None when nothing points to that."""
        if self.input_tokens is None:
            return None
        both = self.input_tokens + (self.output_tokens or 0)
        return next((size for size in (self.input_tokens, both) if size in CONTEXT_SIZES), None)


def read_answer(body: str) -> Answer:
    """Returns what `body` says; never raises."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return Answer(error=f"the server sent no JSON: {body[:80]!r}")
    choice = _first(_mapping(data).get("choices"))
    if choice is None:
        error = _mapping(data).get("error")
        return Answer(error=f"the server sent no choices: {json.dumps(error or data)[:200]}")
    message = _mapping(choice.get("message"))
    finish = choice.get("finish_reason")
    text = _text(message)
    if not text and isinstance(message.get("refusal"), str):
        text, finish = message["refusal"], "refusal"
    usage = _mapping(_mapping(data).get("usage"))
    return Answer(text=text, finish=finish if isinstance(finish, str) else None,
                  input_tokens=_count(usage, "prompt_tokens"), output_tokens=_count(usage, "completion_tokens"),
                  cached_tokens=_detail(usage, "prompt_tokens_details", "cached_tokens"),
                  reasoning_tokens=_detail(usage, "completion_tokens_details", "reasoning_tokens"))


def _text(message: Mapping[str, Any]) -> str:
    """Returns the first of tool call, content, reasoning that is not blank."""
    call = _first(message.get("tool_calls"))
    arguments = _mapping(call.get("function")).get("arguments") if call else None
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments)
    content = message.get("content")
    if isinstance(content, list):  # content parts
        content = "".join(str(_mapping(part).get("text", "")) for part in content)
    found = (arguments, content, message.get("reasoning_content"), message.get("reasoning"))
    return next((text for text in found if isinstance(text, str) and text.strip()), "")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(value: Any) -> Mapping[str, Any] | None:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else None


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _detail(usage: Mapping[str, Any], group: str, name: str) -> int | None:
    # A server that counts tokens and has no such line has none of them.
    found = _count(_mapping(usage.get(group)), name)
    return 0 if found is None and _count(usage, "prompt_tokens") is not None else found
