"""One model call as a file: everything that was asked and answered, so that it can be audited and replayed.

A cassette holds no key and no header, only messages, schema, sampling and the outcome.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from llmnas.errors import RunError
from llmnas.graph import Frozen
from llmnas.llm.base import Attempt, CallFailed, JsonSchema, Message, Reply, Status
from llmnas.records import Usage


class CallRecord(Frozen):
    """One call and its outcome.

    Attributes:
        version: Version of this format.
        call: Id of the call in its run.
        key: Name of the question: ``c1:`` and a digest of model, messages, schema, sampling and seed.
        role: propose, repair, reflect.
        step: The ask it belongs to.
        prompt: ``name@hash`` of the prompt.
        model: Name of the model that was asked.
        messages: The conversation.
        answer_schema: JSON schema that was asked for.
        sampling: Sampling parameters other than the seed.
        seed: Sampling seed.
        status: ``ok`` or the kind of failure.
        text: The reply as it came; None when there was none.
        finish: The server's finish reason.
        mode: Structured-output mode that produced the reply.
        answered_by: The model that answered, in the endpoint's words.
        usage: What it cost.
        attempts: Every request.
        message: The error, when it failed.
        hint: What can be done about it.
        note: What a person should know about the reply.
        notices: What was adapted on the way: a mode stepped down, parameters left out.
    """

    version: Literal[1] = 1
    call: str
    key: str
    role: str = ""
    step: int = 0
    prompt: str = ""
    model: str
    messages: tuple[Message, ...]
    answer_schema: dict[str, Any] | None = None
    sampling: dict[str, Any] = Field(default_factory=dict)
    seed: int
    status: Status
    text: str | None = None
    finish: str | None = None
    mode: str = ""
    answered_by: str = ""
    usage: Usage
    attempts: tuple[Attempt, ...] = ()
    message: str = ""
    hint: str = ""
    note: str = ""
    notices: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The question without the model and its sampling, by which a replay finds the answer."""
        return question_key(self.messages, self.answer_schema, self.seed)

    def outcome(self) -> Reply | CallFailed:
        """Returns what the call brought: its reply, or its failure."""
        if self.status != "ok" or self.text is None:
            return CallFailed(self.message, self.hint, status=self.status, attempts=self.attempts, usage=self.usage)
        return Reply(text=self.text, usage=self.usage, finish=self.finish, mode=self.mode, model=self.answered_by,
                     attempts=self.attempts, note=self.note)

    def write(self, path: Path) -> None:
        """Writes the record; it is either whole on disk or not there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".tmp")
        fresh.write_text(json.dumps(self.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)

    @classmethod
    def read(cls, path: Path) -> CallRecord:
        """Returns the record in `path`.

        Raises:
            RunError: The file is not a record of a call.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            fault = error.errors()[0]
            at = ".".join(map(str, fault["loc"]))
            raise RunError(f"{path}: not the record of a model call: {at}: {fault['msg']}",
                           "the file was changed or comes from another version") from None


def record(call: str, messages: Sequence[Message], schema: JsonSchema | None, seed: int, outcome: Reply | CallFailed,
           *, model: str, role: str = "", step: int = 0, prompt: str = "",
           sampling: Mapping[str, Any] | None = None, notices: Sequence[str] = ()) -> CallRecord:
    """Returns the record of a call that ended with `outcome`, a reply or a failure."""
    sampling = dict(sampling or {})
    common = {"call": call, "key": call_key(model, messages, schema, sampling, seed), "role": role, "step": step,
              "prompt": prompt, "model": model, "messages": tuple(messages), "seed": seed, "sampling": sampling,
              "answer_schema": None if schema is None else dict(schema), "usage": outcome.usage,
              "attempts": outcome.attempts, "notices": tuple(notices)}
    if isinstance(outcome, Reply):
        return CallRecord(**common, status="ok", text=outcome.text, finish=outcome.finish, mode=outcome.mode,
                          answered_by=outcome.model, note=outcome.note)
    return CallRecord(**common, status=outcome.status, message=outcome.message, hint=outcome.hint)


def call_key(model: str, messages: Sequence[Message], schema: JsonSchema | None, sampling: Mapping[str, Any],
             seed: int) -> str:
    """Returns the name of a question to one model; timeouts and retries are not part of it."""
    return _digest("c1:", [model, *_content(messages, schema), dict(sampling), seed])


def question_key(messages: Sequence[Message], schema: JsonSchema | None, seed: int) -> str:
    """Returns the name of a question, whoever answers it."""
    return _digest("q1:", [*_content(messages, schema), seed])


def _content(messages: Sequence[Message], schema: JsonSchema | None) -> list[Any]:
    return [[message.model_dump() for message in messages], None if schema is None else dict(schema)]


def _digest(tag: str, value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return tag + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
