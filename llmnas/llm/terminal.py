"""The terminal of ``manual``: shows prompts one at a time, and writes what is pasted into the reply file."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Final, TextIO

RULER: Final = "─" * 78


class Terminal:
    """Prompts and pasted replies.

    A pasted reply ends with an empty line behind valid JSON, or with Ctrl-D, which takes it as it is. It answers the
    oldest prompt that is open; the next one is shown then. A reply that comes as a file closes its prompt likewise.

    Args:
        lines: Where replies are pasted; read on a thread from the first prompt on.
        show: Where prompts are shown.
    """

    def __init__(self, lines: TextIO, show: TextIO) -> None:
        self._lines, self._show = lines, show
        self._lock = threading.Lock()
        self._open: list[tuple[Path, Path]] = []  # prompt and reply, the oldest first
        self._reader: threading.Thread | None = None

    def ask(self, prompt: Path, reply: Path) -> None:
        """Takes a prompt in; shows it when no other is open."""
        with self._lock:
            self._open.append((prompt, reply))
            if len(self._open) == 1:
                self._present()
            if self._reader is None:
                self._reader = threading.Thread(target=self._read, name="llmnas-terminal", daemon=True)
                self._reader.start()

    def over(self, reply: Path) -> None:
        """Closes the prompt with this reply file; one that is closed already is passed over."""
        with self._lock:
            first = self._open[0][1] if self._open else None
            self._open = [pair for pair in self._open if pair[1] != reply]
            if self._open and first == reply:
                self._present()

    def _present(self) -> None:
        prompt, reply = self._open[0]
        more = f"; {len(self._open) - 1} more wait" if len(self._open) > 1 else ""
        self._say(f"\n{RULER}\n{prompt.read_text(encoding='utf-8')}\n{RULER}\n{prompt}{more}\nPaste the answer and end "
                  f"it with an empty line, or with Ctrl-D; or write it to {reply.name}.\n")

    def _say(self, text: str) -> None:
        self._show.write(text)
        self._show.flush()

    def _read(self) -> None:
        pasted: list[str] = []
        ended = 0
        while ended < 2:  # a terminal goes on after Ctrl-D; a pipe that has ended stays so
            line = self._lines.readline()
            ended = 0 if line else ended + 1
            text = "".join(pasted)
            if line.strip() or (line and not is_json(text)):
                pasted.append(line)
            elif text.strip():
                pasted, ended = [], 0
                self._answer(text)

    def _answer(self, text: str) -> None:
        with self._lock:
            if not self._open:
                self._say("No prompt is open; what was pasted is not used.\n")
                return
            _, reply = self._open[0]
        fresh = reply.with_suffix(".tmp")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(reply)
        self._say(f"written to {reply.name}\n")
        self.over(reply)


def terminal_here() -> Terminal | None:
    """Returns the terminal of this process; None when a person cannot both see and paste."""
    return Terminal(sys.stdin, sys.stderr) if sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty() \
        else None


def is_json(text: str) -> bool:
    """Returns whether a text is one whole JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
