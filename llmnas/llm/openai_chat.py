"""Any OpenAI-compatible endpoint, through chat completions, adapted to what the server at hand really does.

Chat completions and not the newer Responses API, because local servers implement the former better. Requests are sent
by `llmnas.llm.connection`, repeated by `llmnas.llm.retry`; structured-output modes are in `llmnas.llm.modes`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from llmnas.graph import Issue
from llmnas.llm.answer import Answer, read_answer
from llmnas.llm.base import Attempt, CallFailed, ChatModel, JsonSchema, Message, Reply, total
from llmnas.llm.connection import Connection
from llmnas.llm.modes import (
    Habit,
    Mode,
    ModeMemory,
    names_mode,
    names_sampling,
    pinned,
    request_fields,
    request_messages,
    weaker,
)
from llmnas.llm.prices import Price, usd
from llmnas.llm.reading import read_object
from llmnas.llm.retry import AttemptFailed, Clock, Patience, Sleep
from llmnas.llm.schema import violations
from llmnas.records import Usage

if TYPE_CHECKING:
    import httpx2

DEFAULT_URL: Final = "https://api.openai.com/v1"


class OpenAIChat(ChatModel):
    """A model behind an OpenAI-compatible endpoint.

    Args:
        model: The model's name at the endpoint.
        base_url: The endpoint; usually ends in ``/v1``.
        api_key: Sent to the endpoint and never written anywhere; None for servers that need none.
        structured: ``auto``, or a mode of `llmnas.llm.modes` to keep to.
        temperature: None leaves it to the server.
        max_tokens: None leaves it to the server.
        prices: The user's price table.
        memory: What is known of endpoints.
        http_client: An ``httpx2.Client`` to use instead of the SDK's own; closed with this object.
        clock: Monotonic seconds.
        sleep: Waits between attempts.
    """

    offline = False
    instant = False

    def __init__(self, model: str, *, base_url: str = DEFAULT_URL, api_key: str | None = None,
                 structured: str = "auto", temperature: float | None = None, max_tokens: int | None = None,
                 prices: Mapping[str, Price] | None = None, memory: ModeMemory | None = None,
                 http_client: httpx2.Client | None = None, clock: Clock = time.monotonic,
                 sleep: Sleep = time.sleep) -> None:
        self.name = f"openai:{model}"
        self.model = model
        self._connection = Connection(base_url, api_key, http_client, clock)
        self.base_url, self.place = self._connection.base_url, self._connection.place
        self.reason = ""
        self.sampling = {key: value for key, value in (("temperature", temperature), ("max_tokens", max_tokens))
                         if value is not None}
        self._pinned = pinned(structured)
        self._prices = dict(prices or {})
        self._memory = memory or ModeMemory()
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._notices: list[str] = []
        self._bad_in_a_row = 0

    def __repr__(self) -> str:
        return f"OpenAIChat({self.model!r}, base_url={self.place!r})"

    @property
    def priced(self) -> bool:  # type: ignore[override]  # computed, because prices depend on the endpoint
        """Whether the price of this model at this endpoint is known."""
        return usd(self.model, self.base_url, self._prices, input_tokens=0, cached_tokens=0,
                   output_tokens=0) is not None

    @property
    def habit(self) -> Habit:
        """How this model is asked for JSON, and why so."""
        known = self._memory.get(self.place, self.model)
        return known if self._pinned is None else known.model_copy(
            update={"mode": self._pinned, "reason": "pinned by --structured"})

    def chat(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int,
             deadline: float | None = None) -> Reply:
        """Returns the model's answer; see `ChatModel.chat`."""
        patience = Patience(deadline, self._clock, self._sleep)
        while True:
            habit = self.habit
            mode = "text" if schema is None else habit.mode
            answer = self._ask(patience, self._fields(habit, messages, schema, seed), mode)
            if isinstance(answer, AttemptFailed):
                if not self._adapted(answer, habit, schema):
                    raise patience.failed(answer)
            elif answer.text or answer.finish == "length":
                return self._reply(answer, mode, schema, patience.attempts)
            elif schema is None or not self._step_down(habit.mode, f"{habit.mode}: the server sent empty content"):
                raise CallFailed(f"{self.model} sent an empty reply (finish reason: {answer.finish})",
                                 "try another --structured mode or another model", status="empty",
                                 attempts=patience.attempts)

    def take_notices(self) -> tuple[str, ...]:
        """Returns what was adapted since the last call: modes stepped down, parameters left out, contexts cut."""
        with self._lock:
            taken, self._notices = tuple(self._notices), []
        return taken

    def models(self, deadline: float | None = None) -> tuple[str, ...]:
        """Returns the names of the models the endpoint lists."""
        patience = Patience(deadline, self._clock, self._sleep)
        body = patience.run(lambda: self._connection.list_models(patience.left()))
        try:
            return tuple(str(entry["id"]) for entry in json.loads(body)["data"])
        except (ValueError, KeyError, TypeError):
            raise CallFailed(f"{self.place} sent no list of models", "is this the address of a model server?",
                             status="malformed", attempts=patience.attempts) from None

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _ask(self, patience: Patience, fields: dict[str, Any], mode: str) -> Answer | AttemptFailed:
        """Returns the answer to one request, retried as need be, or the refusal that another request may cure."""
        try:
            return patience.run(lambda: self._send(fields, mode, patience.left()))
        except AttemptFailed as refusal:
            return refusal

    def _fields(self, habit: Habit, messages: Sequence[Message], schema: JsonSchema | None,
                seed: int) -> dict[str, Any]:
        sampling = {**self.sampling, "seed": seed} if habit.sampling else {}
        if schema is None:
            return {"model": self.model, "messages": [message.model_dump() for message in messages], **sampling}
        return {"model": self.model, "messages": request_messages(habit.mode, messages, schema),
                **request_fields(habit.mode, schema), **sampling}

    def _send(self, fields: dict[str, Any], mode: str, left_s: float) -> tuple[Attempt, Answer]:
        """Sends one request and reads its answer."""
        attempt, body = self._connection.complete(fields, mode, left_s)
        answer = read_answer(body)
        if answer.error:
            raise self._connection.malformed(attempt, answer.error)
        counts = {"input_tokens": answer.input_tokens, "cached_tokens": answer.cached_tokens,
                  "output_tokens": answer.output_tokens}
        usage = Usage(attempts=1, **counts, reasoning_tokens=answer.reasoning_tokens,
                      usd=usd(self.model, self.base_url, self._prices, **counts), seconds=attempt.usage.seconds)
        return attempt.model_copy(update={"usage": usage}), answer

    def _adapted(self, refusal: AttemptFailed, habit: Habit, schema: JsonSchema | None) -> bool:
        """Returns whether the next request will be another one, because of what the refusal names."""
        if refusal.attempt.http not in (400, 422):
            return False
        if habit.sampling and names_sampling(refusal.said, refusal.param):
            known = self._memory.get(self.place, self.model)
            self._memory.put(self.place, self.model, known.model_copy(update={"sampling": False}))
            self._note(f"{self.model} at {self.place} refuses sampling parameters; they are left out from now on")
            return True
        return (schema is not None and names_mode(habit.mode, refusal.said, refusal.param)
                and self._step_down(habit.mode, f"{habit.mode}: {refusal}"))

    def _step_down(self, mode: Mode, reason: str) -> bool:
        """Returns whether there is a weaker mode; remembers it, and why."""
        lower = weaker(mode)
        if self._pinned is not None or lower is None:
            return False
        with self._lock:
            known = self._memory.get(self.place, self.model)
            if known.mode != mode:  # another thread did it
                return True
            self._bad_in_a_row = 0
            self._memory.put(self.place, self.model, known.model_copy(update={"mode": lower, "reason": reason}))
        self._note(f"{self.model} at {self.place}: structured output steps down to {lower} ({reason})")
        return True

    def _reply(self, answer: Answer, mode: str, schema: JsonSchema | None, attempts: Sequence[Attempt]) -> Reply:
        faults = [] if schema is None else _faults(answer.text, schema)
        finish, note = answer.finish, ""
        size = answer.context
        # A sum that lands on a context length by chance does no harm when the reply is whole.
        if size is not None and (faults or finish == "length" or size == answer.input_tokens):
            finish, note = "context", (f"context cut at {size} tokens: raise it at the server "
                                       "(Ollama: PARAMETER num_ctx in a Modelfile; llama.cpp: --ctx-size)")
            self._note(f"{self.model}: {note}")
        elif schema is not None and finish in ("stop", "tool_calls", None):
            self._judge(faults)
        return Reply(text=answer.text, usage=total(attempts), finish=finish, mode=mode, model=self.model,
                     attempts=tuple(attempts), note=note)

    def _judge(self, faults: Sequence[Issue]) -> None:
        """Counts replies outside the schema; two in a row mean that the mode is not honoured."""
        with self._lock:
            self._bad_in_a_row = self._bad_in_a_row + 1 if faults else 0
            row = self._bad_in_a_row
        if row >= 2:
            self._step_down(self.habit.mode, f"two replies in a row outside the schema: {faults[0]}")

    def _note(self, text: str) -> None:
        with self._lock:
            if text not in self._notices:
                self._notices.append(text)



def _faults(text: str, schema: JsonSchema) -> list[Issue]:
    value, issues = read_object(text)
    return issues or violations(value, schema)
