"""Running the command line itself, as a person does, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

Say = Callable[[str], None]

KILLED: Final = -int(signal.SIGKILL)
_LOOK_S: Final = 0.2  # between two looks at a child that may be halted
_TAIL: Final = 400  # characters of stderr that are kept


@dataclass(frozen=True)
class Ended:
    """A command that ended.

    Attributes:
        code: Exit code; minus the signal's number when a signal ended it.
        seconds: Wall time from start to exit.
        says: The end of what it wrote to stderr.
    """

    code: int
    seconds: float
    says: str


def llmnas(arguments: list[str], log: Path, kill_after_s: float | None = None, limit_s: float | None = None,
           own_environment: bool = False, halt: Event | None = None) -> Ended:
    """Runs ``llmnas ARGUMENTS`` and waits for its end.

    Args:
        arguments: After the program's name.
        log: File that gets its output.
        kill_after_s: When given, the process (not its children) gets SIGKILL this many seconds after its start, unless
            it has ended by then.
        limit_s: Wall seconds after which it is killed with everything it started: a bench must not hang.
        own_environment: Whether it sees the settings of models and data in this process's environment.
        halt: When set from another thread, it is killed likewise.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "llmnas", *arguments], stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=out, env=None if own_environment else _clean(), start_new_session=True)
        try:
            if halt is None:
                _await(process, kill_after_s, limit_s)
            else:
                _await_or_halt(process, limit_s, halt)
        finally:
            if process.poll() is None:  # this process was interrupted
                _end_group(process)
    return Ended(process.returncode, time.monotonic() - start, _tail(log))


def _await(process: subprocess.Popen[bytes], kill_after_s: float | None, limit_s: float | None) -> None:
    try:
        process.wait(kill_after_s if kill_after_s is not None else limit_s)
    except subprocess.TimeoutExpired:
        if kill_after_s is None:
            _end_group(process)
        else:
            process.kill()
            process.wait()


def _await_or_halt(process: subprocess.Popen[bytes], limit_s: float | None, halt: Event) -> None:
    end = time.monotonic() + (limit_s if limit_s is not None else float("inf"))
    while process.poll() is None:
        if halt.wait(_LOOK_S) or time.monotonic() > end:
            _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _clean() -> dict[str, str]:
    """Returns the environment without models and data that are configured there: a bench is the same everywhere."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI", "LLMNAS"))}


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip()
