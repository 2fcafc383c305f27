"""`DataRef`: a split data set on disk, as other processes find it.

The folder holds ``train_x.npy train_y.npy val_x.npy val_y.npy``, ``data.json`` (the `DataRef` itself) and a folder
``test`` whose arrays can only be read with a reason; every such read adds a line to ``test_reads.txt``.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from llmnas.data.dataset import Array, Dataset, Labels
from llmnas.data.split import Part, Split
from llmnas.errors import InputError, LlmnasError
from llmnas.graph import Frozen

_LOG: Final = "test_reads.txt"
_CHUNK: Final = 4096  # examples at a time, so that statistics of a large set need little memory


class DataRef(Frozen):
    """Where a split data set lies and what it is.

    Attributes:
        name: Name of the data set.
        directory: Absolute path of the folder.
        shape: Shape of one example: (C, H, W) or (C, L).
        classes: Number of classes.
        class_names: Their names.
        sizes: Examples per part.
        natural: Whether the mirror image of an example has the same class.
        mean: Per channel, of the training part, in the units of the stored arrays (0 to 255 for uint8 images).
        std: Likewise; 1 for a constant channel. A network is fed ``(x - mean) / std``.
        digests: ``data`` (content) and the ids of ``train``, ``val`` and ``test``.
        seed: Seed of the split.
    """

    name: str
    directory: str
    shape: tuple[int, ...]
    classes: int
    class_names: tuple[str, ...]
    sizes: dict[Part, int]
    natural: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digests: dict[str, str]
    seed: int


def materialise(dataset: Dataset, split: Split, directory: Path) -> DataRef:
    """Writes the parts below `directory` and returns the reference to them.

    Args:
        dataset: What to write.
        split: How it is divided.
        directory: Made if it is not there; files of an earlier call are replaced.
    """
    (directory / "test").mkdir(parents=True, exist_ok=True)
    own = dataset.test_x is not None and dataset.test_y is not None and split.own_test
    train = dataset.x[split.train]
    _save(directory, "train", train, dataset.y[split.train])
    _save(directory, "val", dataset.x[split.val], dataset.y[split.val])
    test_x, test_y = (dataset.test_x, dataset.test_y) if own else (dataset.x, dataset.y)
    assert test_x is not None
    assert test_y is not None
    _save(directory, "test", test_x[split.test], test_y[split.test])
    mean, std = _moments(train)
    ref = DataRef(name=dataset.name, directory=str(directory.resolve()), shape=dataset.shape, classes=dataset.classes,
                  class_names=dataset.class_names, natural=dataset.natural, mean=mean, std=std, seed=split.seed,
                  sizes={"train": len(split.train), "val": len(split.val), "test": len(split.test)},
                  digests={"data": dataset.digest, **split.digests})
    _replace(directory / "data.json", ref.model_dump_json(indent=1).encode())
    return ref


def reopen(directory: Path) -> DataRef:
    """Returns the reference that `materialise` left in `directory`, wherever that folder is now.

    Raises:
        InputError: There is none, or it is damaged.
    """
    path = directory / "data.json"
    try:
        ref = DataRef.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as fault:
        raise InputError(f"{path}: cannot be read as a data reference: {fault}", "prepare the data again") from fault
    return ref.model_copy(update={"directory": str(directory.resolve())})


def read(ref: DataRef, part: Part, mmap: bool = True, reason: str | None = None) -> tuple[Array, Labels]:
    """Returns examples and labels of one part.

    Args:
        ref: The data.
        part: ``train``, ``val`` or ``test``.
        mmap: Whether examples are mapped from the file (read-only) instead of copied into memory.
        reason: Why the test part is read; written down with the time. Only for ``test``, and required there.

    Raises:
        LlmnasError: The test part without a reason.
        InputError: The files are missing or damaged.
    """
    if part == "test":
        if not reason:
            raise LlmnasError("reading the test part needs a reason", "it may be read once, after selection")
        _note(Path(ref.directory) / _LOG, reason)
    base = _base(Path(ref.directory), part)
    try:
        x: Array = np.load(base / f"{part}_x.npy", mmap_mode="r" if mmap else None, allow_pickle=False)
        y: Labels = np.load(base / f"{part}_y.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        raise InputError(f"{base}: the {part} part cannot be read: {fault}", "prepare the data again") from fault
    return x, y


def reads_of_test(ref: DataRef) -> list[str]:
    """Returns one line per read of the test part: time, process and reason."""
    log = Path(ref.directory) / _LOG
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def _note(log: Path, reason: str) -> None:
    line = f"{datetime.now(UTC).isoformat(timespec='seconds')} pid {os.getpid()} {' '.join(reason.split())}\n"
    with log.open("a", encoding="utf-8") as file:
        file.write(line)


def _base(directory: Path, part: Part) -> Path:
    return directory / "test" if part == "test" else directory


def _save(directory: Path, part: Part, x: Array, y: Labels) -> None:
    for name, values in (("x", x), ("y", y)):
        final = _base(directory, part) / f"{part}_{name}.npy"
        partial = final.with_suffix(".tmp")
        with partial.open("wb") as file:
            np.save(file, np.ascontiguousarray(values), allow_pickle=False)
        partial.replace(final)


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_bytes(content)
    partial.replace(path)


def _moments(x: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel; 1 for a channel that does not vary."""
    axes = (0, *range(2, x.ndim))
    count = x.size / x.shape[1]
    total: NDArray[np.float64] = np.zeros(x.shape[1])
    for start in range(0, len(x), _CHUNK):
        total += x[start:start + _CHUNK].sum(axis=axes, dtype=np.float64)
    mean = total / count
    squares: NDArray[np.float64] = np.zeros(x.shape[1])
    for start in range(0, len(x), _CHUNK):
        chunk: NDArray[Any] = x[start:start + _CHUNK].astype(np.float64)
        squares += ((chunk - mean.reshape(-1, *[1] * (x.ndim - 2))) ** 2).sum(axis=axes)
    std = np.sqrt(squares / count)
    std[std < 1e-8 * np.maximum(1.0, np.abs(mean))] = 1.0
    return tuple(map(float, mean)), tuple(map(float, std))
