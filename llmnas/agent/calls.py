"""Metered calls: a call is on disk before its reply is read, and one that is on disk is never paid twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from llmnas.agent.disguise import Disguise
from llmnas.errors import ModelError
from llmnas.llm import CallFailed, CallRecord, ChatModel, Message, Reply, record
from llmnas.records import Called
from llmnas.strategies.base import Context

BREAKER: Final = 5
"""Failed calls in a row after which the model counts as lost."""


class Caller:
    """Calls a model on behalf of one ask.

    Args:
        model: The language model.
        prompt: Id of the prompt set.
        ctx: The ask's context.
        seed: Seed of the run; each call gets its own from it.
        disguise: Names that the messages have already; what is logged is what the model saw and wrote.
    """

    def __init__(self, model: ChatModel, prompt: str, ctx: Context, seed: int, disguise: Disguise) -> None:
        self.model, self.prompt, self.ctx, self.seed, self.disguise = model, prompt, ctx, seed, disguise
        self.made = 0

    def call(self, role: str, messages: Sequence[Message], schema: dict[str, Any]) -> tuple[str, Reply | None]:
        """Returns the call's id and its reply in true names; None when the call failed in a way that may pass.

        Raises:
            ModelError: The model is lost: it refused for good, or `BREAKER` calls in a row failed.
        """
        name = f"{self.ctx.step:05d}-{role}-{self.made}"
        seed = (self.seed * 1_000_003 + self.ctx.step * 64 + self.made) % 2**31
        self.made += 1
        logged = self.ctx.reply(name)
        if logged is None:
            logged = self._paid(name, role, messages, self.disguise.schema(schema), seed)
        outcome = logged.outcome()
        if isinstance(outcome, Reply):
            return name, outcome.model_copy(update={"text": self.disguise.text(outcome.text)})
        if outcome.permanent or self._failures() >= BREAKER:
            raise ModelError(f"{self.model.name}: {outcome.message}", outcome.hint or "see `llmnas doctor`")
        return name, None

    def _paid(self, name: str, role: str, messages: Sequence[Message], schema: dict[str, Any], seed: int) -> CallRecord:
        outcome: Reply | CallFailed
        try:
            outcome = self.model.chat(messages, schema, seed, self.ctx.deadline)
        except CallFailed as failure:
            outcome = failure
        kept = record(name, messages, schema, seed, outcome, model=self.model.name, role=role, step=self.ctx.step,
                      prompt=self.prompt)
        file = self.ctx.save(kept)
        self.ctx.emit(Called(call=name, step=self.ctx.step, role=role, prompt=self.prompt, model=self.model.name,
                             mode=kept.mode, status=kept.status, finish=kept.finish, usage=kept.usage,
                             message=kept.message, file=file))
        return kept

    def _failures(self) -> int:
        """Returns how many calls in a row failed, the last ones of the run."""
        count = 0
        for call in reversed(self.ctx.calls()):
            if call.status == "ok":
                break
            count += 1
        return count
