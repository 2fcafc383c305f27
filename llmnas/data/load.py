"""`load`: from what a person writes after ``--data`` to a `Dataset`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from llmnas.data import builtin, cifar, folder, npz
from llmnas.data.dataset import Dataset, checked
from llmnas.errors import InputError, nearest

NAMES: Final[dict[str, Callable[[int], Dataset]]] = {"digits": builtin.digits, "mnist1d": builtin.mnist1d}
"""Data sets that need no file: name → function of the seed."""

_LAYOUTS: Final = frozenset(npz.LAYOUTS)
_FLIPS: Final = {"flip": True, "noflip": False}


@dataclass(frozen=True)
class Options:
    """What may follow ``@`` in a spec, separated by commas.

    Attributes:
        size: Side of the square images are resized to (``@64``), or None.
        layout: Axes of the arrays of an npz file (``@nhwc``), or None to infer them.
        natural: Whether the mirror image keeps the class (``@flip``, ``@noflip``), or None to decide by the data.
    """

    size: int | None = None
    layout: str | None = None
    natural: bool | None = None


def load(spec: str, seed: int = 0) -> Dataset:
    """Returns the data set that `spec` names.

    Args:
        spec: ``digits``, ``mnist1d``, or a path: a folder with one folder of images per class (optionally below
            ``train/`` and ``test/``), an ``.npz`` file with ``x_train y_train [x_test y_test]``, or CIFAR-10 as
            published (archive or extracted folder, Python or binary version). ``@`` and options may follow a path,
            see `Options`: ``photos@64,noflip``.
        seed: Seed of data that are generated (mnist1d; 0 gives the published set). Files do not depend on it.

    Raises:
        InputError: There is no such data set, or it cannot be used; names the file.
    """
    if spec in NAMES:
        return checked(NAMES[spec](seed), spec)
    path, options = _parse(spec)
    if not path.exists():
        raise _unknown(spec)
    data = checked(_read(path, options), str(path))
    return data if options.natural is None else replace(data, natural=options.natural)


def _parse(spec: str) -> tuple[Path, Options]:
    """Returns path and options; an ``@`` that no known options follow belongs to the path."""
    name, at, tail = spec.rpartition("@")
    words = tail.lower().split(",")
    if not at or Path(spec).expanduser().exists():
        return Path(spec).expanduser(), Options()
    if not all(re.fullmatch(r"\d+", word) or word in _LAYOUTS or word in _FLIPS for word in words):
        return Path(spec).expanduser(), Options()
    size = next((int(word) for word in words if word.isdigit()), None)
    if size is not None and not 4 <= size <= 1024:
        raise InputError(f"image size must be 4 to 1024, got {size} in {spec!r}", "for example photos@64")
    return Path(name).expanduser(), Options(size, next((word for word in words if word in _LAYOUTS), None),
                                            next((_FLIPS[word] for word in words if word in _FLIPS), None))


def _read(path: Path, options: Options) -> Dataset:
    if cifar.recognises(path):
        return cifar.read(path)
    if path.is_dir():
        return folder.read(path, options.size)
    if path.suffix == ".npz":
        if options.size is not None:
            raise InputError(f"{path}: a size can only be given for folders of images", "resize the arrays instead")
        return npz.read(path, options.layout)
    raise InputError(f"{path}: not a kind of data that can be read",
                     "give a folder of class folders, an .npz file, or CIFAR-10's archive (cifar-10-*.tar.gz)")


def _unknown(spec: str) -> InputError:
    if "/" in spec or "." in spec or "\\" in spec:
        return InputError(f"no such file or folder: {spec}", "check the path; known names: " + ", ".join(NAMES))
    return InputError(f"unknown data set {spec!r}", nearest(spec, list(NAMES)) + "; or give a path")
