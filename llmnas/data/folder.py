"""Data sets as folders of images, one folder per class."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from llmnas.data.dataset import Array, Dataset, Labels
from llmnas.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_GRAY: Final = frozenset({"1", "L", "LA", "I", "I;16", "I;16L", "I;16B"})


@dataclass(frozen=True)
class _File:
    path: Path
    label: int


def read(root: Path, size: int | None) -> Dataset:
    """Returns the images below `root` as uint8.

    Images are gray when every file is, else RGB. Orientation tags are applied, so that an image is read as shown.

    Args:
        root: Holds one folder per class, or ``train/`` and optionally ``test/`` that do.
        size: Cut the middle square and resize it to this side; None demands that all sizes agree.

    Raises:
        InputError: No classes or images, a damaged file, sizes that differ; names the file.
    """
    base = root / "train" if any(_folders(root / "train")) else root
    names = tuple(sorted(folder.name for folder in _folders(base)
                         if base != root or folder.name != "test" or not any(_folders(folder))))
    if not names:
        raise InputError(f"{root}: no class folders", "put the images of each class into a folder of its own")
    files = _listed(base, names)
    test = _listed(root / "test", names) if base != root and any(_folders(root / "test")) else []
    images = [_opened(file.path, size) for file in files + test]
    _check_sizes([file.path for file in files + test], images)
    gray = all(image.mode in _GRAY for image in images)
    pixels = np.stack([_pixels(image, gray) for image in images])
    labels: Labels = np.array([file.label for file in files + test], dtype=np.int64)
    cut = len(files)
    return Dataset(root.name or root.resolve().name, pixels[:cut], labels[:cut], names, natural=not gray,
                   test_x=pixels[cut:] if test else None, test_y=labels[cut:] if test else None)


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _listed(base: Path, names: tuple[str, ...]) -> list[_File]:
    """Returns the image files of each class, sorted by name, so that the order is the same everywhere."""
    unknown = sorted({folder.name for folder in _folders(base)} - set(names) - {"test"})
    if unknown:
        raise InputError(f"{base}: class {unknown[0]!r} does not occur in the training part",
                         "train and test must have the same classes")
    files: list[_File] = []
    for label, name in enumerate(names):
        found = sorted(path for path in (base / name).rglob("*")
                       if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
        if not found and base.name != "test":
            raise InputError(f"{base / name}: no images", "known kinds: " + " ".join(sorted(SUFFIXES)))
        files += [_File(path, label) for path in found]
    return files


def _opened(path: Path, size: int | None) -> Image:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as fault:
        raise InputError(f"{path}: cannot be read as an image: {fault}", "repair or remove the file") from fault
    if image.mode == "F":
        raise InputError(f"{path}: floating-point images are not supported", "save them as arrays in an .npz file")
    if size is None:
        return image
    if image.mode not in _GRAY:
        image = image.convert("RGB")  # palettes cannot be resampled
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


def _check_sizes(paths: list[Path], images: list[Image]) -> None:
    wide, high = images[0].size
    for path, image in zip(paths, images, strict=True):
        if image.size != (wide, high):
            raise InputError(f"{path} is {image.size[0]}x{image.size[1]} pixels, {paths[0]} is {wide}x{high}",
                             "resize all to one size by writing @SIZE after the folder, for example photos@64")


def _pixels(image: Image, gray: bool) -> Array:
    """Returns (C, H, W) uint8."""
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion clips them at 255
        high = np.asarray(image)
        plain = (high // 257 if high.max() > 255 else high).clip(0, 255).astype(np.uint8)
        return plain[None] if gray else np.repeat(plain[None], 3, axis=0)
    if gray:
        return np.asarray(image.convert("L"), dtype=np.uint8)[None]
    return np.ascontiguousarray(np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.uint8), -1, 0))
