"""CIFAR-10 as published: the Python or the binary version, packed or extracted.

Format: https://www.cs.toronto.edu/~kriz/cifar.html. The Python version is made of pickles; they are read by an
unpickler that can construct numpy arrays and nothing else.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from llmnas.data.dataset import Array, Dataset, Labels
from llmnas.errors import InputError

CLASSES: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PARTS: Final = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_PIXELS: Final = 3 * 32 * 32


def _allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    """Returns the only things a pickle may name: what a pickled array is made of."""
    reconstruct = np.empty(0).__reduce__()[0]
    assert callable(reconstruct)
    return {("numpy.core.multiarray", "_reconstruct"): reconstruct,  # numpy 1
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,  # numpy 2
            ("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler of plain containers and numpy arrays; anything else in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns one of the few allowed constructors.

        Raises:
            pickle.UnpicklingError: The file names anything else.
        """
        allowed = _allowed()
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which is not part of a data file")
        return allowed[module, name]


def recognises(path: Path) -> bool:
    """Returns whether `path` is an archive, or a folder with CIFAR-10's files."""
    if path.is_dir():
        return any((path / f"data_batch_1{suffix}").is_file() for suffix in ("", ".bin"))
    return path.name.endswith((".tar.gz", ".tgz", ".tar"))


def read(path: Path) -> Dataset:
    """Returns CIFAR-10: 50,000 training images and the 10,000 test images as its own test part.

    Raises:
        InputError: A file is missing or damaged; names it.
    """
    files = _files(path)
    binary = "data_batch_1.bin" in files
    parts: list[tuple[Array, Labels]] = []
    for part in _PARTS:
        name = part + ".bin" if binary else part
        if name not in files:
            raise InputError(f"{path}: {name} is missing", "this reads CIFAR-10 only; download the archive again")
        parts.append(_part(files[name], binary, f"{path}: {name}"))
    x, y = (np.concatenate([part[which] for part in parts[:-1]]) for which in (0, 1))
    return Dataset("cifar10", x, y, CLASSES, natural=True, test_x=parts[-1][0], test_y=parts[-1][1])


def _files(path: Path) -> dict[str, bytes]:
    wanted = {name + suffix for name in _PARTS for suffix in ("", ".bin")}
    if path.is_dir():
        return {entry.name: entry.read_bytes() for entry in path.iterdir() if entry.name in wanted}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:  # in memory: nothing from the archive is written to disk
                name = PurePosixPath(member.name).name
                if name in wanted and member.isfile() and (stream := archive.extractfile(member)):
                    found[name] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as fault:
        raise InputError(f"{path}: damaged archive: {fault}", "download it again") from fault
    return found


def _part(raw: bytes, binary: bool, source: str) -> tuple[Array, Labels]:
    pixels, labels = _from_binary(raw, source) if binary else _from_pickle(raw, source)
    if not len(labels) or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise InputError(f"{source}: labels must be 0 to 9", "download the archive again")
    return pixels.reshape(-1, 3, 32, 32), labels


def _from_binary(raw: bytes, source: str) -> tuple[Array, Labels]:
    if len(raw) % (_PIXELS + 1):
        raise InputError(f"{source}: {len(raw)} bytes are not a whole number of {_PIXELS + 1}-byte images",
                         "download the archive again")
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(-1, _PIXELS + 1)
    return rows[:, 1:], rows[:, 0].astype(np.int64)


def _from_pickle(raw: bytes, source: str) -> tuple[Array, Labels]:
    try:
        content = ArrayUnpickler(io.BytesIO(raw), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as fault:
        raise InputError(f"{source}: cannot be read: {fault}", "download the archive again") from fault
    content = content if isinstance(content, dict) else {}
    pixels = content.get(b"data", content.get("data"))
    labels = np.asarray(content.get(b"labels", content.get("labels", [])))
    if (not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (len(labels), _PIXELS)
            or labels.dtype.kind not in "iu"):
        raise InputError(f"{source}: expected data (n, {_PIXELS}) uint8 and n labels", "download the archive again")
    return pixels, labels.astype(np.int64)
