"""What other packages add: strategies, proxies, spaces and language models, by entry point or as ``module:attribute``.

A plug-in is loaded when it is used. One that cannot be loaded is an `InputError` for whoever names it, a line in
`llmnas doctor`, and nothing to anybody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, Literal

from llmnas.errors import InputError

Kind = Literal["strategies", "proxies", "spaces", "models"]
KINDS: Final[dict[Kind, str]] = {"strategies": "strategy", "proxies": "proxy", "spaces": "space",
                                 "models": "language model"}
"""Kinds, each the entry-point group ``llmnas.KIND``, and the word for one."""


@dataclass(frozen=True)
class Plugin:
    """Something another package adds.

    Attributes:
        kind: What it is.
        name: What a person calls it.
        path: Where it is, ``module:attribute``.
        package: Name and version of the package that brings it.
    """

    kind: Kind
    name: str
    path: str
    package: str

    def load(self) -> Any:
        """Returns the object.

        Raises:
            InputError: It cannot be imported; whatever its module raised is in the message.
        """
        return load_path(self.path, f"{KINDS[self.kind]} {self.name!r} of package {self.package}")


@cache
def plugins(kind: Kind) -> dict[str, Plugin]:
    """Returns the plug-ins of a kind by name; of several with one name the first package in the alphabet has it."""
    found = [Plugin(kind, point.name, point.value, _package(point.dist)) for point in entry_points(
        group=f"llmnas.{kind}")]
    return {one.name: one for one in sorted(found, key=lambda one: (one.package, one.path), reverse=True)}


def _package(dist: Any) -> str:
    return f"{dist.name} {dist.version}" if dist is not None else "unknown"


def load_path(path: str, what: str) -> Any:
    """Returns the object at ``module:attribute``.

    Args:
        path: Where it is.
        what: What it is, for the message.

    Raises:
        InputError: It cannot be imported.
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:
        says = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"cannot load {what} from {path!r}: {says}",
                         "give module:Class with an importable module, or mend or remove the package") from error


def is_path(name: str) -> bool:
    """Returns whether a name has the form ``module:attribute``."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))
