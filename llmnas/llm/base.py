"""The nouns of a model call: `Message`, `Attempt`, `Reply`, the `ChatModel` protocol and the typed failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

from llmnas.errors import ModelError
from llmnas.graph import Frozen
from llmnas.records import Usage

JsonSchema = Mapping[str, Any]

Status = Literal["ok", "auth", "not_found", "quota", "bad_request", "context", "rate_limited", "server_error",
                 "unreachable", "timeout", "out_of_time", "too_large", "malformed", "empty", "missing_reply"]
"""How an attempt or a call ended; everything but ``ok`` is a failure."""

PERMANENT: Final[frozenset[str]] = frozenset({"auth", "not_found", "quota", "missing_reply"})
"""Failures that asking again cannot cure."""

CUT: Final = frozenset({"length", "context"})
"""Finish reasons of a reply that lost its end, or whose prompt lost its beginning."""


class Message(Frozen):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Attempt(Frozen):
    """One request and how it ended.

    Attributes:
        status: How it ended.
        http: HTTP status; None when no answer came.
        mode: Structured-output mode of the request.
        wait_s: Seconds waited before it.
        usage: What it cost. A refusal costs nothing; what a request costs that was never answered is unknown.
        error: The server's words, without any key; empty when it succeeded.
    """

    status: Status
    http: int | None = None
    mode: str = ""
    wait_s: float = 0.0
    usage: Usage = Usage(attempts=1)
    error: str = ""


class Reply(Frozen):
    """What a model answered, as it came: nothing in it has been believed yet.

    Attributes:
        text: The answer, from whichever field of the message held it.
        usage: What the call cost, failed attempts included.
        finish: The server's finish reason; ``context`` when prompt or reply was cut at the context length.
        mode: Structured-output mode that produced it.
        model: The model that answered.
        attempts: Every request that was sent for it.
        note: What a person should know about it, for example where the context was cut.
    """

    text: str
    usage: Usage
    finish: str | None
    mode: str
    model: str
    attempts: tuple[Attempt, ...] = ()
    note: str = ""

    @property
    def cut(self) -> bool:
        """Whether the end of the reply, or the start of the prompt, is missing."""
        return self.finish in CUT


def total(attempts: Sequence[Attempt]) -> Usage:
    """Returns the cost of a call: the sum over its attempts.

    Tokens and money are None when an answered request did not say, or when none was answered. A request that was
    never answered counts as an attempt with its time; its tokens are not known and not in the sum.
    """

    def known(field: str) -> Any:
        values = [getattr(attempt.usage, field) for attempt in attempts if attempt.http is not None]
        return None if not values or None in values else sum(values)

    return Usage(attempts=len(attempts), input_tokens=known("input_tokens"), cached_tokens=known("cached_tokens"),
                 output_tokens=known("output_tokens"), reasoning_tokens=known("reasoning_tokens"), usd=known("usd"),
                 wait_s=sum(attempt.wait_s for attempt in attempts),
                 seconds=sum(attempt.usage.seconds + attempt.wait_s for attempt in attempts))


class CallFailed(ModelError):
    """A call that brought no reply. It is charged and logged like any other call.

    Attributes:
        status: Why.
        attempts: Every request that was sent.
        usage: What they cost together.
    """

    def __init__(self, message: str, hint: str = "", *, status: Status, attempts: Sequence[Attempt] = (),
                 usage: Usage | None = None) -> None:
        super().__init__(message, hint)
        self.status: Status = status
        self.attempts = tuple(attempts)
        self.usage = total(self.attempts) if usage is None else usage

    @property
    def permanent(self) -> bool:
        """Whether asking again cannot help, so that a run should stop asking at once."""
        return self.status in PERMANENT


class OutOfTime(CallFailed):
    """The deadline came before a reply did."""

    def __init__(self, message: str, hint: str = "", *, attempts: Sequence[Attempt] = (),
                 usage: Usage | None = None) -> None:
        super().__init__(message, hint, status="out_of_time", attempts=attempts, usage=usage)


class ChatModel(Protocol):
    """Anything that answers messages.

    Attributes:
        name: The spec it was opened with, for example ``openai:NAME`` or ``mock:7``.
        offline: Whether its answers come from code instead of a language model.
        instant: Whether it answers at once, so that there is no waiting worth overlapping.
        reason: Why this model was chosen, when llmnas chose it.
        priced: Whether its replies carry their price.
        patient: Whether a call may take all the time there is, because a person answers.
    """

    name: str
    offline: bool
    instant: bool
    reason: str = ""
    priced: bool = False
    patient: bool = False

    def chat(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int,
             deadline: float | None = None) -> Reply:
        """Returns the answer to `messages`.

        Args:
            messages: The conversation.
            schema: JSON schema the answer should satisfy; None for free text. Whether it does is for the caller
                to check.
            seed: Sampling seed and sample index: the same messages with another seed ask for another answer.
            deadline: Latest moment on `time.monotonic`.

        Raises:
            OutOfTime: The deadline came first.
            CallFailed: No reply; `status` says why.
        """
        ...

    def take_notices(self) -> tuple[str, ...]:
        """Returns what a person should be told since the last call of this method."""
        return ()

    def close(self) -> None:
        """Frees what the model holds; safe to call twice."""
        return None  # noqa: RET501  # an empty body would make it abstract
