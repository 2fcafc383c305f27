"""The contract of a `ChatModel`, as a suite of tests: subclass it and override the fixture `model`.

    class TestMine(ChatModelSuite):
        @pytest.fixture
        def model(self):
            made = MyModel()
            yield made
            made.close()

The block of the suite's prompt is `BLOCK`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from llmnas.llm.base import CallFailed, ChatModel, Message, OutOfTime, Reply
from llmnas.llm.cassette import CallRecord, record

BLOCK: dict[str, Any] = {
    "role": "propose", "space": "contract", "count": 2, "topology": "slots", "output": "out",
    "slots": [{"id": "a", "inputs": ["input"], "choices": {"conv": {"channels": [8, 16, 32, 64], "kernel": [1, 3, 5]}}},
              {"id": "b", "inputs": ["a"], "choices": {"conv": {"channels": [8, 16, 32, 64], "kernel": [1, 3, 5]}}}],
    "fixed": [{"id": "out", "op": "add", "inputs": ["a", "b"]}], "limits": {}, "objective": "score up",
    "exemplars": [], "rules": []}
SCHEMA: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["proposals"], "properties": {"proposals": {
        "type": "array", "items": {
            "type": "object", "additionalProperties": False, "required": ["rationale", "nodes", "output"],
            "properties": {"rationale": {"type": "string"}, "output": {"type": "string"}, "nodes": {
                "type": "array", "items": {
                    "type": "object", "additionalProperties": False,
                    "required": ["id", "op", "inputs", "channels", "kernel"], "properties": {
                        "id": {"type": "string"}, "op": {"type": "string", "enum": ["conv", "add"]},
                        "inputs": {"type": "array", "items": {"type": "string"}},
                        "channels": {"type": ["integer", "null"], "enum": [8, 16, 32, 64, None]},
                        "kernel": {"type": ["integer", "null"], "enum": [1, 3, 5, None]}}}}}}}}}


def contract_messages() -> list[Message]:
    """Returns a small prompt with a block, as every prompt of llmnas has."""
    user = f"Propose.\n```json\n{json.dumps(BLOCK)}\n```\n"
    return [Message(role="system", content="Answer with JSON."), Message(role="user", content=user)]


class ChatModelSuite:
    """What every `ChatModel` must do.

    Attributes:
        repeats: Whether the same question with the same seed brings the same text.
    """

    repeats = True

    @pytest.fixture
    def model(self) -> Iterator[ChatModel]:
        """Gives the model under test, able to answer every call of one test; override it."""
        raise AssertionError("override model")

    def test_says_what_it_is(self, model: ChatModel) -> None:
        """A model has a name and plain flags."""
        assert isinstance(model.name, str)
        assert model.name
        assert isinstance(model.offline, bool)
        assert isinstance(model.instant, bool)
        assert isinstance(model.reason, str)

    def test_replies_with_cost(self, model: ChatModel) -> None:
        """A reply has text, a mode, the model's name and at least one attempt."""
        reply = model.chat(contract_messages(), SCHEMA, seed=0)
        assert isinstance(reply, Reply)
        assert reply.text
        assert reply.model
        assert reply.usage.attempts >= 1

    def test_repeats_itself(self, model: ChatModel) -> None:
        """The same question with the same seed brings the same text."""
        if not self.repeats:
            pytest.skip("this model does not promise it")
        texts = {model.chat(contract_messages(), SCHEMA, seed=3).text for _ in range(2)}
        assert len(texts) == 1

    def test_keeps_the_deadline(self, model: ChatModel) -> None:
        """A deadline in the past brings OutOfTime at once, or a reply from a model that needs no time."""
        started = time.monotonic()
        with contextlib.suppress(OutOfTime):
            model.chat(contract_messages(), SCHEMA, seed=0, deadline=started - 1)
            assert model.instant
        assert time.monotonic() - started < 1

    def test_can_be_recorded(self, model: ChatModel) -> None:
        """A reply survives the way to disk and back."""
        reply = model.chat(contract_messages(), SCHEMA, seed=0)
        kept = record("1", contract_messages(), SCHEMA, 0, reply, model=model.name)
        back = CallRecord.model_validate_json(kept.model_dump_json()).outcome()
        assert not isinstance(back, CallFailed)
        assert back.text == reply.text
        assert back.usage == reply.usage

    def test_notices_are_given_once(self, model: ChatModel) -> None:
        """A notice is taken once."""
        model.take_notices()
        assert model.take_notices() == ()

    def test_closes_twice(self, model: ChatModel) -> None:
        """Closing twice does no harm."""
        model.close()
        model.close()
