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
from llmnas.records import JOIN, is_mock


class ReplayModel(ChatModel):
    """Serves each logged reply once, in the logged order.

    A question is found by its messages, schema and seed. When the messages differ, because a measured time in them
    does, the next unused call of the same role and seed answers, and a notice says so. Failures are replayed as
    failures; the usage is the one the original call was charged, so that decisions based on it repeat.

    Args:
        run: Directory of the run, or of its calls.
        exact: Whether a question with other messages is refused instead.
        waits: Whether a question without a reply is never answered, as it was in a run whose time was over.
        names: The models of the run, some of which it may not have asked; those that it did when empty.

    Attributes:
        members: One for every model of the run, under its name.

    Raises:
        RunError: There are no calls, or a file of them is damaged.
    """

    priced = True

    def __init__(self, run: Path, *, exact: bool = False, waits: bool = False, names: Sequence[str] = ()) -> None:
        records = _records(run)
        if not records and not names:
            raise RunError(f"{run} holds no logged model calls", "name a run directory that has a calls folder")
        names = names or list(dict.fromkeys(record.model for record in records))
        self.run = f"replay:{run}"
        self.name = f"{self.run} of {JOIN.join(names)}"
        self.reason = ""
        self.offline, self.instant = is_mock(self.name), not waits
        self.members = tuple(_Voice(name, self, records) for name in names)
        self._exact, self._closed = exact, threading.Event()
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
        if found is None:
            if not self.instant:
                self._closed.wait()
            raise CallFailed(f"{self.run} holds no unused reply for {role_of(messages) or 'this'} question "
                             f"{question_key(messages, schema, seed)}, seed {seed}",
                             "replay with the settings of the run it was recorded in", status="missing_reply")
        outcome = found.outcome()
        if isinstance(outcome, Reply):
            return outcome
        if outcome.status == "out_of_time":
            raise OutOfTime(outcome.message, outcome.hint, attempts=outcome.attempts, usage=outcome.usage)
        raise outcome

    def take_notices(self) -> tuple[str, ...]:
        """Returns the notices of the calls served, and which were served although their messages differ."""
        with self._lock:
            taken, self._notices = tuple(self._notices), []
        return taken

    def close(self) -> None:
        """Ends the wait for replies that never came."""
        self._closed.set()

    def _find(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int) -> CallRecord | None:
        question, role = question_key(messages, schema, seed), role_of(messages)
        found = self._next(self._by_question[question])
        if found is None and not self._exact:
            found = self._next(self._by_role[f"{role} {seed}"])
            if found is not None:
                self._notices.append(f"{self.run}: call {found.call} answers a {role} question with other messages")
        if found is not None:
            self._notices.extend(found.notices)
        return found

    def _next(self, queue: deque[CallRecord]) -> CallRecord | None:
        while queue:
            found = queue.popleft()
            if found.call not in self._used:
                self._used.add(found.call)
                return found
        return None


class _Voice(ChatModel):
    """One model of a replayed run, under its own name, so that calls are charged and credited as they were."""

    def __init__(self, name: str, replay: ReplayModel, records: Sequence[CallRecord]) -> None:
        self.name, self.offline, self.priced, self.reason = name, replay.offline, True, ""
        self.instant = replay.instant
        self.sampling = next((record.sampling for record in records if record.model == name), {})
        self._replay = replay

    def chat(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int,
             deadline: float | None = None) -> Reply:
        """Returns the logged reply; see `ChatModel.chat`."""
        return self._replay.chat(messages, schema, seed, deadline)

    def take_notices(self) -> tuple[str, ...]:
        """Returns the notices of the calls served."""
        return self._replay.take_notices()


def _queues(pairs: Iterable[tuple[str, CallRecord]]) -> defaultdict[str, deque[CallRecord]]:
    queues: defaultdict[str, deque[CallRecord]] = defaultdict(deque)
    for key, record in pairs:
        queues[key].append(record)
    return queues


def _records(run: Path) -> list[CallRecord]:
    folder = run / "calls" if (run / "calls").is_dir() or (run / "events.jsonl").is_file() else run
    records = [CallRecord.read(file) for file in folder.glob("*.json")]
    return sorted(records, key=lambda record: (record.step, _count(record.call), record.call))


def _count(call: str) -> int:
    """Returns the number at the end of a call's id: calls of one step are counted on, whatever their role."""
    last = call.rpartition("-")[2]
    return int(last) if last.isdigit() else 0
