"""Reading pickles of strangers: data only. A pickle that names anything else is refused before it can be called."""

from __future__ import annotations

import bz2
import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmnas.errors import InputError

MOST_BYTES: Final = 4 * 2**30
"""Bytes of a decompressed file above which it is not read: the publishers' whole benchmark is about half of it."""
_CHUNK: Final = 2**20


class _Dtype:
    """Stands in for a numpy type while it is unpickled: only the names of plain numbers, only the order of bytes."""

    def __init__(self, name: object, align: object = False, copy: object = False) -> None:
        if not isinstance(name, str) or re.fullmatch(r"[fiub][1248]", name) is None:
            raise pickle.UnpicklingError(f"a numpy type that is not a plain number: {name!r}")
        self._name, self._order = name, "<"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("a numpy type with a state that is not understood")
        self._order = state[1]

    def number(self, content: bytes) -> float | int | bool:
        """Returns the number that these bytes are."""
        found: float | int | bool = np.frombuffer(content, np.dtype(self._order + self._name), count=1).item()
        return found


def _scalar(dtype: object, content: object = None) -> float | int | bool:
    """Returns a number that numpy pickled; numpy's own function would unpickle objects in turn."""
    raw = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
        raise pickle.UnpicklingError("a numpy scalar that is not a plain number")
    return dtype.number(raw)


ALLOWED: Final[dict[tuple[str, str], Callable[..., Any] | type]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}
"""What the publishers' files are made of beside plain Python values. No arrays and no tensors: there are none."""


class _DataOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Returns what is allowed by its exact name, our own stand-in where numpy's would do more than make a number.

        Raises:
            UnpicklingError: It is not allowed.
        """
        found = ALLOWED.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}")
        return found


def read_pickle(path: Path, most: int = MOST_BYTES) -> Any:
    """Returns the content of a pickle, compressed by bz2 if its name ends with ``.pbz2`` or ``.bz2``.

    Args:
        path: The file.
        most: Bytes, decompressed, above which it is refused.

    Raises:
        InputError: It cannot be read, is too large, or holds more than numbers, texts and containers.
    """
    try:
        return _DataOnly(io.BytesIO(_content(path, most))).load()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}",
                         "give the file as it was published") from None
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  # a hostile pickle can make pickle raise anything
        raise InputError(f"{path}: refused: {error}",
                         "only pickles of plain numbers, texts, lists and dictionaries are read") from None


def _content(path: Path, most: int) -> bytes:
    """Returns the bytes; reads no further than `most`, so that a small file cannot fill the memory."""
    opener = bz2.open if path.suffix in (".pbz2", ".bz2") else open
    found = bytearray()
    with opener(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            found += chunk
            if len(found) > most:
                raise InputError(f"{path}: more than {most:,} bytes when decompressed", "is it the right file?")
    return bytes(found)
