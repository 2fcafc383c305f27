"""Checkpoints of a supernet: files named by their digest, and a list of them that another process can follow."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Final, cast

from llmnas.errors import InputError

if TYPE_CHECKING:
    import torch

EVERY_S: Final = 5.0
"""Seconds between checkpoints, and an epoch at least: what a kill costs."""
RESERVE_S: Final = 1.5
"""Seconds before its deadline in which a job begins no further step: it has a result to write."""


class Saves:
    """Where a job leaves its checkpoints.

    A file is whole or not there. Its line in ``NAME.jsonl`` comes after it: file, digest and what to say.

    Args:
        place: Folder and name; None keeps nothing.
    """

    def __init__(self, place: str | None) -> None:
        self._place = None if place is None else Path(place)
        self._kept = time.monotonic()

    def keep(self, state: Callable[[], dict[str, Any]], says: str, last: bool) -> None:
        """Writes a checkpoint: the last one always, others when `EVERY_S` have passed since the one before.

        Args:
            state: Returns what is to be kept.
            says: How far it is.
            last: Whether it is the last.
        """
        if self._place is None or not (last or time.monotonic() - self._kept >= EVERY_S):
            return
        import torch

        self._place.parent.mkdir(parents=True, exist_ok=True)
        partial = self._place.with_name(self._place.name + ".tmp")
        torch.save(state(), partial)
        digest = digest_of(partial)
        final = self._place.with_name(f"{self._place.name}-{digest[3:15]}.pt")
        partial.replace(final)
        with self._place.with_name(self._place.name + ".jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"file": str(final), "digest": digest, "says": says}) + "\n")
        self._kept = time.monotonic()


def load(path: str, device: torch.device) -> dict[str, Any]:
    """Returns a checkpoint; only tensors and plain values are read, never code.

    Raises:
        InputError: It is missing or damaged.
    """
    import torch

    try:
        return cast(dict[str, Any], torch.load(path, map_location=device, weights_only=True))
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as fault:
        raise InputError(f"{path}: not a checkpoint of a supernet: {str(fault).splitlines()[0]}",
                         "delete it to fit anew") from fault


def digest_of(path: Path) -> str:
    """Returns ``b2:`` and the 128-bit digest of a file's content."""
    with path.open("rb") as file:
        return "b2:" + hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
