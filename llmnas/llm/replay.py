"""``replay:RUN``: answers from the calls a run has logged, without a model and without spending anything."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from llmnas.errors import RunError
from llmnas.llm.base import CallFailed, ChatModel, JsonSchema, Message, OutOfTime, Reply
from llmnas.llm.block import role_of
from llmnas.llm.cassette import CallRecord, question_key


class ReplayModel(ChatModel):
    """Serves each logged reply once, in the logged order.

    A question is found by its messages, schema and seed. When the messages differ, because a measured time in them
    does, the next unused call of the same role and seed answers, and a notice says so. Failures are replayed as
    failures; the usage is the one the original call was charged, so that decisions based on it repeat.

    Args:
        run: Directory of the run, or of its calls.
        exact: Whether a question with other messages is refused instead.
    """

    offline = False
    instant = True
    priced = True

    def __init__(self, run: Path, *, exact: bool = False) -> None:
        self.name = f"replay:{run}"
        self.reason = ""
        records = _records(run)
        self._exact = exact
        self._lock = threading.Lock()
        self._notices: list[str] = []
        self._used: set[str] = set()
        self._by_question = _queues((record.question, record) for record in records)
        self._by_role = _queues((f"{record.role} {record.seed}", record) for record in records)

    def chat(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int,
             deadline: float | None = None) -> Reply:
        """Returns the logged reply; see `ChatModel.chat`. The deadline is not looked at."""
        with self._lock:
            found = self._find(messages, schema, seed)
        outcome = found.outcome()
        if isinstance(outcome, Reply):
            return outcome
        if outcome.status == "out_of_time":
            raise OutOfTime(outcome.message, attempts=outcome.attempts, usage=outcome.usage)
        raise outcome

    def take_notices(self) -> tuple[str, ...]:
        """Returns which calls were answered although their messages differ."""
        with self._lock:
            taken, self._notices = tuple(self._notices), []
        return taken

    def _find(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int) -> CallRecord:
        question, role = question_key(messages, schema, seed), role_of(messages)
        found = self._next(self._by_question[question])
        if found is None and not self._exact:
            found = self._next(self._by_role[f"{role} {seed}"])
            if found is not None:
                self._notices.append(f"{self.name}: call {found.call} answers a {role} question with other messages")
        if found is None:
            raise CallFailed(f"{self.name} holds no unused reply for {role or 'this'} question {question}, seed {seed}",
                             "replay with the settings of the run it was recorded in", status="missing_reply")
        return found

    def _next(self, queue: deque[CallRecord]) -> CallRecord | None:
        while queue:
            found = queue.popleft()
            if found.call not in self._used:
                self._used.add(found.call)
                return found
        return None


def _queues(pairs: Iterable[tuple[str, CallRecord]]) -> defaultdict[str, deque[CallRecord]]:
    queues: defaultdict[str, deque[CallRecord]] = defaultdict(deque)
    for key, record in pairs:
        queues[key].append(record)
    return queues


def _records(run: Path) -> list[CallRecord]:
    folder = run / "calls" if (run / "calls").is_dir() else run
    files = sorted(folder.glob("*.json"))
    if not files:
        raise RunError(f"{run} holds no logged model calls", "name a run directory that has a calls folder")
    return [CallRecord.read(file) for file in files]
