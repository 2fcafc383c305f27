"""`Dataset`: examples and labels in memory, checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmnas.errors import InputError

Array = NDArray[Any]
Labels = NDArray[np.int64]

MIN_EXAMPLES: Final = 20
"""Fewer training examples than this give splits that measure nothing."""
MIN_PER_CLASS: Final = 3
"""One example of every class for each of train, validation and test."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples.

    Attributes:
        name: Short name for reports.
        x: Examples, (N, C, H, W) or (N, C, L), uint8 or float32.
        y: Class of each example, (N,) int64 from 0.
        class_names: Name of each class.
        natural: Whether these are images of the world, whose mirror image has the same class.
        test_x: The data set's own test examples, or None.
        test_y: Their classes, or None.
    """

    name: str
    x: Array
    y: Labels
    class_names: tuple[str, ...]
    natural: bool = False
    test_x: Array | None = None
    test_y: Labels | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W) or (C, L)."""
        return tuple(self.x.shape[1:])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def digest(self) -> str:
        """Digest of the content: ``b2:`` and 128 bits over shapes, types, values and class names."""
        digest = hashlib.blake2b(repr(self.class_names).encode(), digest_size=16)
        for array in (self.x, self.y, self.test_x, self.test_y):
            if array is not None:
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return "b2:" + digest.hexdigest()


def checked(data: Dataset, source: str) -> Dataset:
    """Returns `data` after checking that it can be learnt from.

    Args:
        data: What was read.
        source: The file or name it came from, for messages.

    Raises:
        InputError: Lengths differ, values are not finite, too few classes or examples.
    """
    _check_part(data.x, data.y, f"{source}: training part")
    if data.test_x is not None and data.test_y is not None:
        _check_part(data.test_x, data.test_y, f"{source}: test part")
        if data.test_x.shape[1:] != data.x.shape[1:]:
            raise InputError(f"{source}: test examples have shape {data.test_x.shape[1:]}, training examples "
                             f"{data.x.shape[1:]}", "give both the same shape")
        if len(data.test_y) == 0:
            raise InputError(f"{source}: the test part is empty", "leave it out to have one split off")
    if data.classes < 2:
        raise InputError(f"{source}: only one class, {data.class_names[0]!r}" if data.class_names else
                         f"{source}: no classes", "a classifier needs examples of at least two classes")
    _check_counts(data, source)
    return data


def _check_part(x: Array, y: Labels, source: str) -> None:
    if len(x) != len(y):
        raise InputError(f"{source}: {len(x)} examples but {len(y)} labels", "give every example one label")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))[0])
        raise InputError(f"{source}: example {row} contains NaN or infinity", "remove or fill such values first")


def _check_counts(data: Dataset, source: str) -> None:
    counts = np.bincount(data.y, minlength=data.classes)
    need = MIN_PER_CLASS if data.test_y is None else MIN_PER_CLASS - 1
    rare = int(np.argmin(counts))
    if counts[rare] < need:
        raise InputError(f"{source}: class {data.class_names[rare]!r} has {counts[rare]} training examples, "
                         f"at least {need} are needed", "add examples, or leave the class out")
    if len(data.y) < MIN_EXAMPLES:
        raise InputError(f"{source}: {len(data.y)} training examples, at least {MIN_EXAMPLES} are needed",
                         "add examples")


def as_examples(values: Array, source: str) -> Array:
    """Returns examples as uint8 where nothing is lost, else as float32.

    Raises:
        InputError: The values are not numbers.
    """
    if values.dtype.kind not in "biuf":
        raise InputError(f"{source}: expected numbers, got {values.dtype}", "save it as uint8 or float32")
    if values.dtype.kind in "biu" and (not values.size or (values.min() >= 0 and values.max() <= 255)):
        return np.ascontiguousarray(values, dtype=np.uint8)
    with np.errstate(over="ignore"):  # what overflows float32 becomes infinite, and `checked` says where
        return np.ascontiguousarray(values, dtype=np.float32)


def as_labels(values: Array, source: str) -> Array:
    """Returns labels as (N,) integers or strings, as they are in the file.

    Raises:
        InputError: The labels are not whole numbers or strings, or not one per example.
    """
    flat = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if flat.ndim != 1:
        raise InputError(f"{source}: expected one label per example, got shape {values.shape}",
                         "one-hot labels: save y.argmax(axis=1)")
    if flat.dtype.kind == "f" and not (np.isfinite(flat).all() and (flat == np.floor(flat)).all()):
        raise InputError(f"{source}: labels are not whole numbers", "save class numbers; regression is not supported")
    if flat.dtype.kind not in "biufU":
        raise InputError(f"{source}: expected whole numbers or strings as labels, got {flat.dtype}",
                         "save y as int64, or as a numpy array of strings")
    return flat.astype(np.int64) if flat.dtype.kind in "biuf" else flat


def numbered(labels: Array, known: Array, source: str) -> Labels:
    """Returns the position of each label in the sorted values `known`.

    Raises:
        InputError: A label is not among them.
    """
    found = np.searchsorted(known, labels)
    found = np.minimum(found, len(known) - 1)
    wrong = np.flatnonzero(known[found] != labels)
    if len(wrong):
        raise InputError(f"{source}: label {labels[wrong[0]]!s} does not occur in the training part",
                         "train and test must have the same classes")
    return found.astype(np.int64)
