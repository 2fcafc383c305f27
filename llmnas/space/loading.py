"""Finding spaces by name or path."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from llmnas.errors import InputError, nearest
from llmnas.plugins import is_path, load_path, plugins
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
    if plugin := plugins("spaces").get(name_or_path):
        return _made(plugin.load(), plugin.name, plugin.name)
    if is_path(name_or_path):
        return _made(load_path(name_or_path, "the space"), name_or_path, None)
    raise InputError(f"unknown space {name_or_path!r}", nearest(name_or_path, [*list_spaces(), *plugins("spaces")])
                     + "; or give a path ending in .yaml")


def _made(what: object, called: str, name: str | None) -> Space:
    """Returns the space another package gives: a `Space`, the path of its file, or a function that returns one.

    Args:
        what: What was loaded.
        called: What the person called it.
        name: What the space must call itself, so that its graphs lead back to it; None for any name.

    Raises:
        InputError: It is something else, or has another name.
    """
    try:
        found = what() if callable(what) else what
    except Exception as error:
        raise InputError(f"space {called!r} cannot be made: {type(error).__name__}: {error}",
                         "mend or remove the package that brings it") from error
    space = Space(read_spec(Path(found))) if isinstance(found, (str, Path)) else found
    if not isinstance(space, Space):
        raise InputError(f"space {called!r}: expected a Space or the path of its file, got {type(space).__name__}",
                         "docs/plugins.md shows one of each kind")
    if name is not None and space.name != name:
        raise InputError(f"space {called!r} calls itself {space.name!r}", "give the entry point the space's own name")
    return space


def default_space(shape: tuple[int, ...]) -> str:
    """Returns the space for data of this shape: sequences, images below 32 pixels, larger images."""
    if len(shape) == 2:
        return "conv1d"
    return "nb201" if min(shape[1:]) < 32 else "convnet"
