"""Data sets in one ``.npz`` file: ``x_train y_train [x_test y_test] [class_names]``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np

from llmnas.data.dataset import Array, Dataset, as_examples, as_labels, numbered
from llmnas.errors import InputError

LAYOUTS: Final[dict[str, tuple[int, str]]] = {
    "nchw": (4, "n c h w"), "nhwc": (4, "n h w c"), "nhw": (3, "n h w, one channel"),
    "ncl": (3, "n c l"), "nlc": (3, "n l c"), "nl": (2, "n l, one channel")}
"""Layouts by the name used after ``@``: dimensions and axes."""

_MOST_CHANNELS: Final = 16  # an axis longer than this is not taken for channels unless the layout says so


def read(path: Path, layout: str | None) -> Dataset:
    """Returns the data set in `path`.

    Args:
        path: The file.
        layout: A name of `LAYOUTS`, or None to infer it from the shape of ``x_train``.

    Raises:
        InputError: Arrays are missing, damaged, of the wrong shape or type.
    """
    arrays = _arrays(path)
    layout = layout or _infer(arrays["x_train"].shape, f"{path}: x_train")
    x = _channels_first(as_examples(arrays["x_train"], f"{path}: x_train"), layout, f"{path}: x_train")
    raw = as_labels(arrays["y_train"], f"{path}: y_train")
    known = np.unique(raw)
    names = _class_names(arrays.get("class_names"), known, path)
    test_x = test_y = None
    if "x_test" in arrays:
        test_x = _channels_first(as_examples(arrays["x_test"], f"{path}: x_test"), layout, f"{path}: x_test")
        test_x = test_x if test_x.dtype == x.dtype else test_x.astype(np.float32)
        x = x if test_x.dtype == x.dtype else x.astype(np.float32)
        test_y = numbered(as_labels(arrays["y_test"], f"{path}: y_test"), known, f"{path}: y_test")
    return Dataset(path.stem, x, numbered(raw, known, str(path)), names, natural=x.ndim == 4 and x.shape[1] == 3,
                   test_x=test_x, test_y=test_y)


def _arrays(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
            if not {"x_train", "y_train"} <= names or ("x_test" in names) != ("y_test" in names):
                raise InputError(f"{path}: expected arrays x_train, y_train and optionally x_test, y_test, "
                                 f"got {', '.join(sorted(names)) or 'none'}",
                                 "np.savez(file, x_train=…, y_train=…)")
            return {name: archive[name] for name in ("x_train", "y_train", "x_test", "y_test", "class_names")
                    if name in names}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as fault:
        raise InputError(f"{path}: cannot be read as .npz: {fault}",
                         "write it with np.savez; arrays of Python objects are not accepted") from fault


def _infer(shape: tuple[int, ...], source: str) -> str:
    """Returns the layout that a shape suggests; refuses to guess."""
    if len(shape) == 2:
        return "nl"
    if len(shape) == 3:
        first, last = shape[1:]
        if first == last:
            return "nhw"
        if first <= _MOST_CHANNELS and last >= 4 * first:
            return "ncl"
        if last <= _MOST_CHANNELS and first >= 4 * last:
            return "nlc"
    if len(shape) == 4:
        if shape[1] <= _MOST_CHANNELS and min(shape[2:]) > shape[1]:
            return "nchw"
        if shape[3] <= _MOST_CHANNELS and min(shape[1:3]) > shape[3]:
            return "nhwc"
    if len(shape) in (3, 4):
        options = " or ".join("@" + name for name, (dims, _) in LAYOUTS.items() if dims == len(shape))
        raise InputError(f"{source} has shape {shape}: which axis holds the channels is ambiguous",
                         f"say it after the file name: {options}")
    raise InputError(f"{source} has shape {shape}: expected images (n h w c, n c h w or n h w) or sequences "
                     "(n l, n l c or n c l)", "the first axis counts the examples")


def _channels_first(x: Array, layout: str, source: str) -> Array:
    dims, axes = LAYOUTS[layout]
    if x.ndim != dims:
        raise InputError(f"{source} has shape {x.shape}, expected {dims} axes ({axes})",
                         "train and test must have one layout")
    if layout in ("nhw", "nl"):
        return x[:, None]
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if layout in ("nhwc", "nlc") else x


def _class_names(given: Array | None, known: Array, path: Path) -> tuple[str, ...]:
    if given is None:
        return tuple(str(value) for value in known)
    if given.ndim == 1 and known.dtype.kind == "i" and len(known) and known[0] >= 0 and known[-1] < len(given):
        return tuple(str(given[value]) for value in known)
    raise InputError(f"{path}: class_names has shape {given.shape}, but labels run from {known[0]} to {known[-1]}",
                     "give one name per class number, or leave class_names out")
