"""JSON lines that keep what a long bench has paid for, so that an interrupted one goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmnas.errors import RunError


class Ledger:
    """Steps that are done, by name, one JSON line each.

    Args:
        path: The file; read when it is there. A torn last line is dropped.
        setup: What the bench was asked for; a file of another setup is refused.

    Raises:
        RunError: The file belongs to another setup, or is damaged.
    """

    def __init__(self, path: Path, setup: dict[str, Any]) -> None:
        self.path = path
        self.done: dict[str, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            self._read()
        if self.done.setdefault("setup", setup) != setup:
            raise RunError(f"{path} is of a bench with other options: {self.done['setup']}", "choose another --out")
        if not path.is_file() or not path.stat().st_size:
            self._append("setup", setup)

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[:content.rfind(b"\n") + 1]
        if whole != content:
            self.path.write_bytes(whole)
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                self.done[row["step"]] = row["value"]
            except (ValueError, KeyError, TypeError):
                raise RunError(f"{self.path}:{number}: not a row of a bench", "choose another --out") from None

    def once(self, step: str, work: Callable[[], Any]) -> Any:
        """Returns the value of a step: the one in the file, else that of `work`, which is on disk when this returns."""
        if step not in self.done:
            self._append(step, work())
        return self.done[step]

    def _append(self, step: str, value: Any) -> None:
        line = json.dumps({"step": step, "value": value})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.done[step] = json.loads(line)["value"]
