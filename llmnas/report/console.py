"""Watching a run: a live panel on a terminal, plain lines elsewhere, JSON lines for programs, or nothing.

stdout belongs to the answer: only ``json`` writes there. A console never ends a run: whatever goes wrong while
showing is dropped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

from llmnas.errors import InputError, nearest
from llmnas.records import Event, Warned
from llmnas.report import facts
from llmnas.report import format as say
from llmnas.report.lines import line
from llmnas.store import RunState

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

Mode = Literal["auto", "live", "plain", "quiet", "json"]


class Console(Protocol):
    """What watches a run."""

    def started(self, state: RunState) -> None:
        """Begins, with a new run or a resumed one."""

    def event(self, event: Event, state: RunState) -> None:
        """Shows an event that `state` has already taken in."""

    def tick(self, state: RunState, clock_s: float, activity: str) -> None:
        """Shows that time passes, about four times a second."""

    def close(self, state: RunState) -> None:
        """Ends; may be called twice."""


def open_console(mode: Mode | str = "auto", *, stdout: TextIO | None = None, stderr: TextIO | None = None,
                 environment: Mapping[str, str] | None = None) -> Console:
    """Returns the console for a mode.

    Args:
        mode: ``auto`` is ``live`` on a terminal, and ``plain`` when stderr is none or CI or NO_COLOR is set.
        stdout: Where ``json`` writes; the process's own when None.
        stderr: Where ``live`` and ``plain`` write; likewise.
        environment: Variables; likewise.

    Raises:
        InputError: There is no such mode.
    """
    out, err = stdout or sys.stdout, stderr or sys.stderr
    if mode == "auto":
        mode = "live" if _can_draw(err, os.environ if environment is None else environment) else "plain"
    match mode:
        case "live":
            return LiveConsole(err)
        case "plain":
            return PlainConsole(err)
        case "json":
            return JsonConsole(out)
        case "quiet":
            return QuietConsole()
    raise InputError(f"unknown progress mode {mode!r}", nearest(str(mode), ["auto", "live", "plain", "quiet", "json"]))


def _can_draw(stream: TextIO, environment: Mapping[str, str]) -> bool:
    with suppress(Exception):
        return stream.isatty() and not any(environment.get(name) for name in ("CI", "NO_COLOR")) and (
            environment.get("TERM") != "dumb")
    return False


class QuietConsole:
    """Shows nothing."""

    def started(self, state: RunState) -> None:
        """Does nothing."""

    def event(self, event: Event, state: RunState) -> None:
        """Does nothing."""

    def tick(self, state: RunState, clock_s: float, activity: str) -> None:
        """Does nothing."""

    def close(self, state: RunState) -> None:
        """Does nothing."""


class PlainConsole(QuietConsole):
    """One line per event on `stream`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def event(self, event: Event, state: RunState) -> None:
        """Writes a line."""
        with suppress(Exception):
            _write(self._stream, line(event, state))


class JsonConsole(QuietConsole):
    """Events as JSON lines on `stream`, as they are in ``events.jsonl``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def event(self, event: Event, state: RunState) -> None:
        """Writes a line."""
        with suppress(Exception):
            _write(self._stream, event.model_dump_json())


def _write(stream: TextIO, text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()


class LiveConsole(QuietConsole):
    """A panel on a terminal: budget, phase, best so far, the last trials, what the model cost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live: Live | None = None
        self._clock_s, self._activity = 0.0, "starting"

    def started(self, state: RunState) -> None:
        """Opens the panel."""
        with suppress(Exception):
            self._clock_s = state.clock_s
            self._open().update(self._panel(state), refresh=True)

    def event(self, event: Event, state: RunState) -> None:
        """Draws the panel anew; a warning is printed above it, where it stays."""
        with suppress(Exception):
            self._clock_s = max(self._clock_s, event.t_s)
            live = self._open()
            if isinstance(event.body, Warned):
                from rich.text import Text

                live.console.print(Text(line(event, state), style="yellow"))
            live.update(self._panel(state), refresh=True)

    def tick(self, state: RunState, clock_s: float, activity: str) -> None:
        """Draws the panel anew."""
        with suppress(Exception):
            self._clock_s, self._activity = clock_s, say.one_line(activity, 120)
            self._open().update(self._panel(state), refresh=True)

    def close(self, state: RunState) -> None:
        """Leaves the last panel on the screen and gives the terminal back."""
        live, self._live = self._live, None
        if live is not None:
            with suppress(Exception):
                self._activity = facts.status(state)
                live.update(self._panel(state), refresh=True)
            with suppress(Exception):
                live.stop()

    def _open(self) -> Live:
        if self._live is None:
            from rich.console import Console as Terminal
            from rich.live import Live

            terminal = Terminal(file=self._stream)
            self._live = Live(console=terminal, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        return self._live

    def _panel(self, state: RunState) -> RenderableType:
        from llmnas.report.panel import panel

        return panel(state, self._clock_s, self._activity)
