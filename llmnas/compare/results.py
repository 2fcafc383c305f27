"""Finished searches of a comparison on disk, one JSON line each, so that one that was killed goes on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from pydantic import ValidationError

from llmnas.compare.trajectory import Trajectory
from llmnas.errors import RunError
from llmnas.store import to_json_file

TERMS: Final = "terms.json"
RESULTS: Final = "results.jsonl"


class Agreed:
    """The folder of a comparison, used by one process at a time, always on the same terms.

    Args:
        folder: Made when it does not exist.
        terms: What all searches have in common and a folder holds once; arms and seeds are not in it, they may grow.

    Raises:
        RunError: The folder belongs to other terms, is in use, or is damaged.
    """

    def __init__(self, folder: Path, terms: Mapping[str, Any]) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder)
        except OSError as error:
            raise RunError(f"{folder} cannot be written: {error.strerror}", "give another --out") from None
        try:
            self._agree(json.loads(json.dumps(terms)))
        except RunError:
            self._lock.close()
            raise

    def _agree(self, terms: dict[str, Any]) -> None:
        path = self.folder / TERMS
        if not path.exists():
            to_json_file(path, terms)
            return
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{path}: not JSON: {error}", "give another --out") from None
        if differs := [f"{name}: {kept.get(name)!r} there, {terms.get(name)!r} asked for"
                       for name in sorted(kept.keys() | terms.keys()) if kept.get(name) != terms.get(name)]:
            raise RunError(f"{self.folder} holds a comparison on other terms: {'; '.join(differs)}",
                           "give another --out; only strategies and seeds may be added to one")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._lock.close()


class Results(Agreed):
    """A folder of finished searches on tables.

    Attributes:
        done: Finished searches by arm and seed.
    """

    def __init__(self, folder: Path, terms: Mapping[str, Any]) -> None:
        super().__init__(folder, terms)
        path = folder / RESULTS
        try:
            self.done = {(one.arm, one.seed): one for one in read_results(path)}
        except RunError:
            self._lock.close()
            raise
        self._file: IO[bytes] = path.open("ab")

    def add(self, trajectory: Trajectory) -> None:
        """Puts a finished search on disk."""
        self._file.write(trajectory.model_dump_json().encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done[trajectory.arm, trajectory.seed] = trajectory

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._file.close()
        super().__exit__(kind, error, trace)


def read_results(path: Path) -> Iterator[Trajectory]:
    """Yields the finished searches of a file; a line that a kill tore is dropped from it.

    Raises:
        RunError: A line that is not the last is damaged.
    """
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            yield Trajectory.model_validate_json(line)
        except ValidationError as error:
            raise RunError(f"{path}:{number}: not a finished search: {error.errors()[0]['msg']}",
                           "the file is damaged, or written by another version of llmnas; give another --out"
                           ) from None


def _locked(folder: Path) -> IO[str]:
    lock = (folder / ".lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise RunError(f"{folder} is in use by another comparison", "wait for it, or give another --out") from None
    return lock
