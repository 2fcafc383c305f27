"""Finding spaces by name or path."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from llmnas.errors import InputError, nearest
from llmnas.space.space import Space
from llmnas.space.spec import read_spec


def shipped_folder(name: str) -> Path:
    """Returns the folder `name` (``spaces`` or ``prompts``): the checkout's own, else the one in the wheel."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / name
    in_checkout = checkout.is_dir() and (package.parent / "pyproject.toml").is_file()
    return checkout if in_checkout else package / "_files" / name


def list_spaces() -> list[str]:
    """Returns the names of the spaces that ship with llmnas, sorted."""
    return sorted(path.stem for path in shipped_folder("spaces").glob("*.yaml"))


@cache
def load_space(name_or_path: str) -> Space:
    """Returns the space named so, or described by the file at that path.

    Raises:
        InputError: There is no such space, or its file is faulty (with file and line).
    """
    if name_or_path in list_spaces():
        return Space(read_spec(shipped_folder("spaces") / f"{name_or_path}.yaml"))
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        return Space(read_spec(path))
    raise InputError(f"unknown space {name_or_path!r}",
                     nearest(name_or_path, list_spaces()) + "; or give a path ending in .yaml")


def default_space(shape: tuple[int, ...]) -> str:
    """Returns the space for data of this shape: sequences, images below 32 pixels, larger images."""
    if len(shape) == 2:
        return "conv1d"
    return "nb201" if min(shape[1:]) < 32 else "convnet"
