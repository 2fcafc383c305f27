"""``manual[:DIR]``: prompts go to files, replies come from files, so that a person or another program answers.

The files are all there is: a killed run that asks again finds its question with the number it had, and the answer, if
somebody wrote one meanwhile. On a terminal a prompt is shown as well, and what is pasted goes to its reply file.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llmnas.llm.base import Attempt, ChatModel, JsonSchema, Message, OutOfTime, Reply
from llmnas.llm.cassette import question_key
from llmnas.llm.retry import Clock, Sleep
from llmnas.llm.terminal import Terminal, is_json
from llmnas.records import Usage

POLL_S: Final = 0.2
_LOG = logging.getLogger(__name__)


class ManualModel(ChatModel):
    """Writes ``prompt-0001.md`` (and ``schema-0001.json``) and waits for ``reply-0001.json``.

    Several questions may be open at once, of this process and of others: a number is given once. The same question,
    asked by a later process, keeps its number and is answered by the reply that is there.

    Args:
        folder: Where the files are; made when missing. Numbers continue after the files already there.
        terminal: Shows prompts and takes pasted replies; None where there is none.
        clock: Monotonic seconds.
        sleep: Waits between looks.
    """

    offline = False
    instant = False
    patient = True

    def __init__(self, folder: Path, *, terminal: Terminal | None = None, clock: Clock = time.monotonic,
                 sleep: Sleep = time.sleep) -> None:
        self.name = f"manual:{folder}"
        self.reason = ""
        self._folder, self._terminal = folder, terminal
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._taken: set[int] = set()  # numbers that this process asks or has asked

    def chat(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int,
             deadline: float | None = None) -> Reply:
        """Returns what somebody wrote into the reply file; see `ChatModel.chat`. The seed only names the question."""
        started = self._clock()
        number = self._ask(messages, schema, seed)
        reply = self._folder / f"reply-{number:04d}.json"
        if self._terminal is None:
            _LOG.warning("waiting for %s, the answer to prompt-%04d.md", reply, number)
        else:
            self._terminal.ask(reply.with_name(f"prompt-{number:04d}.md"), reply)
        text = self._await(reply, deadline)
        if self._terminal is not None:
            self._terminal.over(reply)
        # Who answers and at what price is not known, so tokens and money stay None.
        usage = Usage(attempts=1, seconds=self._clock() - started)
        if text is None:
            raise OutOfTime(f"{reply} was not written before the deadline", f"answer {self._folder} sooner",
                            usage=usage)
        return Reply(text=text, usage=usage, finish="stop", mode="manual", model=self.name,
                     attempts=(Attempt(status="ok", mode="manual", usage=usage),))

    def _ask(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int) -> int:
        """Returns the number of the question: the one it has already, or that under which it is written now."""
        question = question_key(messages, schema, seed)
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            number = self._asked_before(question) or self._written(question, messages, schema)
            self._taken.add(number)
        return number

    def _asked_before(self, question: str) -> int | None:
        """Returns the number that another process gave this question; None when there is none."""
        for prompt in sorted(self._folder.glob("prompt-*.md")):
            number = _number(prompt)
            if number is not None and number not in self._taken and question in _first_line(prompt):
                return number
        return None

    def _written(self, question: str, messages: Sequence[Message], schema: JsonSchema | None) -> int:
        number = max((n for path in self._folder.iterdir() if (n := _number(path)) is not None), default=0)
        fresh = self._folder / f".{os.getpid()}-{id(self)}.tmp"
        while True:
            number += 1
            fresh.write_text(_prompt(number, question, messages, schema is not None), encoding="utf-8")
            try:  # whoever watches for prompts sees only whole ones, and no two processes take one number
                os.link(fresh, self._folder / f"prompt-{number:04d}.md")
            except FileExistsError:
                continue
            fresh.unlink()
            if schema is not None:
                text = json.dumps(schema, indent=2)
                (self._folder / f"schema-{number:04d}.json").write_text(text + "\n", encoding="utf-8")
            return number

    def _await(self, reply: Path, deadline: float | None) -> str | None:
        """Returns the reply once it is whole: JSON, or unchanged between two looks."""
        before: str | None = None
        while True:
            text = reply.read_text(encoding="utf-8", errors="replace") if reply.exists() else ""
            if text.strip() and (text == before or is_json(text)):
                return text
            before = text
            left = POLL_S if deadline is None else deadline - self._clock()
            if left <= 0:
                return None
            self._sleep(min(POLL_S, left))


def _number(path: Path) -> int | None:
    found = re.fullmatch(r"(?:prompt|reply)-(\d+)\.\w+", path.name)
    return int(found[1]) if found else None


def _first_line(prompt: Path) -> str:
    with prompt.open(encoding="utf-8", errors="replace") as file:
        return file.readline()


def _prompt(number: int, question: str, messages: Sequence[Message], has_schema: bool) -> str:
    form = f" in the form of `schema-{number:04d}.json`" if has_schema else ""
    head = f"<!-- Write the answer to `reply-{number:04d}.json`{form}. Question {question}. -->\n"
    return head + "".join(f"\n# {message.role}\n\n{message.content.rstrip()}\n" for message in messages)
