"""``manual[:DIR]``: prompts go to files, replies come from files, so that a person or another program answers."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llmnas.llm.base import Attempt, ChatModel, JsonSchema, Message, OutOfTime, Reply
from llmnas.llm.retry import Clock, Sleep
from llmnas.records import Usage

POLL_S: Final = 0.5
_LOG = logging.getLogger(__name__)


class ManualModel(ChatModel):
    """Writes ``prompt-0001.md`` (and ``schema-0001.json``) and waits for ``reply-0001.json``.

    Args:
        folder: Where the files are; made when missing. Numbers continue after the files already there.
        clock: Monotonic seconds.
        sleep: Waits between looks.
    """

    offline = False
    instant = False

    def __init__(self, folder: Path, *, clock: Clock = time.monotonic, sleep: Sleep = time.sleep) -> None:
        self.name = f"manual:{folder}"
        self.reason = ""
        self._folder = folder
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()

    def chat(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int,
             deadline: float | None = None) -> Reply:
        """Returns what somebody wrote into the reply file; see `ChatModel.chat`. The seed is not used."""
        started = self._clock()
        number = self._ask(messages, schema)
        reply = self._folder / f"reply-{number:04d}.json"
        _LOG.warning("waiting for %s, the answer to prompt-%04d.md", reply, number)
        text = self._await(reply, deadline)
        # Who answers and at what price is not known, so tokens and money stay None.
        usage = Usage(attempts=1, seconds=self._clock() - started)
        if text is None:
            raise OutOfTime(f"{reply} was not written before the deadline", f"answer {self._folder} sooner",
                            usage=usage)
        return Reply(text=text, usage=usage, finish="stop", mode="manual", model=self.name,
                     attempts=(Attempt(status="ok", mode="manual", usage=usage),))

    def _ask(self, messages: Sequence[Message], schema: JsonSchema | None) -> int:
        """Writes the question and returns its number."""
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            taken = [int(match[1]) for path in self._folder.iterdir()
                     if (match := re.fullmatch(r"(?:prompt|reply)-(\d+)\.\w+", path.name))]
            number = max(taken, default=0) + 1
            if schema is not None:
                text = json.dumps(schema, indent=2)
                (self._folder / f"schema-{number:04d}.json").write_text(text + "\n", encoding="utf-8")
            prompt = self._folder / f"prompt-{number:04d}.md"
            fresh = prompt.with_suffix(".tmp")
            fresh.write_text(_prompt(number, messages, schema is not None), encoding="utf-8")
            fresh.replace(prompt)  # whoever watches for prompts sees only whole ones
        return number

    def _await(self, reply: Path, deadline: float | None) -> str | None:
        """Returns the reply once it is whole: JSON, or unchanged between two looks."""
        before: str | None = None
        while True:
            text = reply.read_text(encoding="utf-8", errors="replace") if reply.exists() else ""
            if text.strip() and (text == before or _is_json(text)):
                return text
            before = text
            left = POLL_S if deadline is None else deadline - self._clock()
            if left <= 0:
                return None
            self._sleep(min(POLL_S, left))


def _prompt(number: int, messages: Sequence[Message], has_schema: bool) -> str:
    form = f" in the form of `schema-{number:04d}.json`" if has_schema else ""
    head = f"<!-- Write the answer to `reply-{number:04d}.json`{form}. -->\n"
    return head + "".join(f"\n# {message.role}\n\n{message.content.rstrip()}\n" for message in messages)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
