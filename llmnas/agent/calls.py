"""Metered calls: a call is on disk before its reply is read, and one that is on disk is never paid twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from llmnas.agent.disguise import Disguise
from llmnas.agent.sharing import Credit, choose, credits
from llmnas.errors import ModelError
from llmnas.llm import CallFailed, CallRecord, ChatModel, Message, Reply, members_of, record
from llmnas.records import Called, Warned
from llmnas.strategies.base import Context

CALL_SHARE: Final = 0.25
"""Of the time left: what one call may take, from `LEAST_S` to `MOST_S` seconds. A model that needs longer cannot lead
the search, and one that hangs must not end it."""
LEAST_S, MOST_S = 60.0, 600.0


class Caller:
    """Calls a model, or one of several, on behalf of one ask.

    Args:
        model: The language model; of several the next is chosen by `llmnas.agent.sharing`.
        prompt: Id of the prompt set.
        ctx: The ask's context.
        seed: Seed of the run; each call gets its own from it.
        target: Key of the target on which the front counts, by which several models are judged.
        disguise: Names that the messages have already; what is logged is what the model saw and wrote.
    """

    def __init__(self, model: ChatModel, prompt: str, ctx: Context, seed: int, target: str | None,
                 disguise: Disguise) -> None:
        self.prompt, self.ctx, self.seed, self.target, self.disguise = prompt, ctx, seed, target, disguise
        self.members = {member.name: member for member in members_of(model)}
        self.made = 0

    def call(self, role: str, messages: Sequence[Message], schema: dict[str, Any]) -> tuple[str, Reply | None]:
        """Returns the call's id and its reply in true names; None when the call failed in a way that may pass.

        A model of several that is lost drops out, with a warning, and another one is asked.

        Raises:
            ModelError: The model, or the last of several, is lost: it refused for good, or too many of its calls
                failed in a row.
        """
        shown = self.disguise.schema(schema)
        while True:
            name = f"{self.ctx.step:05d}-{role}-{self.made}"
            seed = (self.seed * 1_000_003 + self.ctx.step * 64 + self.made) % 2**31
            self.made += 1
            logged = self.ctx.reply(name)
            kept = self._paid(name, role, messages, shown, seed) if logged is None else self._logged(logged)
            outcome = kept.outcome()
            if isinstance(outcome, Reply):
                return name, outcome.model_copy(update={"text": self.disguise.text(outcome.text)})
            credit = self._credit()
            mine = credit.pop(kept.model, None)
            if not outcome.permanent and not (mine is not None and mine.lost):
                return name, None
            if choose(credit) is None:
                raise ModelError(f"{kept.model}: {outcome.message}", outcome.hint or "see `llmnas doctor`")
            if logged is None:
                self.ctx.emit(Warned(message=f"the language model {kept.model} is lost and is not asked again: "
                                             f"{outcome.message}"))

    def _credit(self) -> dict[str, Credit]:
        return credits(list(self.members), self.ctx.calls(), self.ctx.trials, self.target)

    def _next(self) -> ChatModel:
        """Returns the model to ask."""
        if len(self.members) == 1:
            return next(iter(self.members.values()))
        # All lost can only be in a run that is resumed after that: then each gets another chance.
        return self.members[choose(self._credit()) or next(iter(self.members))]

    def _paid(self, name: str, role: str, messages: Sequence[Message], schema: dict[str, Any], seed: int) -> CallRecord:
        model = self._next()
        outcome: Reply | CallFailed
        try:
            outcome = model.chat(messages, schema, seed, self._deadline(model))
        except CallFailed as failure:
            outcome = failure
        kept = record(name, messages, schema, seed, outcome, model=model.name, role=role, step=self.ctx.step,
                      prompt=self.prompt, sampling=getattr(model, "sampling", {}), notices=model.take_notices())
        self._announce(kept)
        return kept

    def _deadline(self, model: ChatModel) -> float:
        """Returns the latest moment for the answer of one call."""
        if getattr(model, "patient", False):
            return self.ctx.deadline
        now = time.monotonic()
        return min(self.ctx.deadline, now + min(MOST_S, max(LEAST_S, CALL_SHARE * (self.ctx.deadline - now))))

    def _announce(self, kept: CallRecord) -> None:
        """Writes a call down, then what a person should know of it."""
        file = self.ctx.save(kept)
        self.ctx.emit(Called(call=kept.call, step=kept.step, role=kept.role, prompt=kept.prompt, model=kept.model,
                             mode=kept.mode, status=kept.status, finish=kept.finish, usage=kept.usage,
                             message=kept.message, file=file))
        for notice in kept.notices:
            self.ctx.emit(Warned(message=notice))

    def _logged(self, kept: CallRecord) -> CallRecord:
        """Returns a call that was paid by a killed process; charges it if that was killed before it could."""
        if not any(call.call == kept.call for call in self.ctx.calls()):
            self._announce(kept)
        return kept
