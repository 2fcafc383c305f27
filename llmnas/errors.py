"""Errors a person can act on: a message, a hint and the exit code the command line ends with.

A bad proposal is data (`llmnas.graph.Issue`), never an exception. These errors are for broken input, broken
systems and wrong usage; `llmnas.cli` turns each into one line on stderr and the documented exit code.
"""

from __future__ import annotations

import importlib.util
from typing import Final

EXIT_CODES: Final[dict[int, str]] = {
    0: "ok",
    1: "a fault in llmnas: the traceback is in a file, which the last line names",
    2: "wrong usage of the command line",
    3: "bad input: data, space, graph, prompt or configuration",
    4: "the language model is unreachable or refused the request",
    5: "ended without a trained model",
    6: "the run directory is locked, already exists or is incompatible",
    7: "a check that was asked for failed: latency check --max-mape",
    130: "interrupted; everything paid for is saved",
}
ONNX_PACKAGES: Final = ("onnx", "onnxscript", "onnxruntime")  # the extra llmnas[onnx]


class LlmnasError(Exception):
    """An error with a fix.

    Attributes:
        message: What was expected and what came.
        hint: What to do about it; empty when the message already says so.
        exit_code: The process exit code (see `EXIT_CODES`).
    """

    exit_code: int = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(LlmnasError):
    """Data, a space, a graph, a prompt or a setting that cannot be used."""

    exit_code = 3


class ModelError(LlmnasError):
    """The language model could not be reached, or refused for good (authentication, unknown model)."""

    exit_code = 4


class NoModelFound(LlmnasError):
    """The run ended and nothing was trained."""

    exit_code = 5


class RunError(LlmnasError):
    """A run directory that is locked, already there, incompatible or damaged."""

    exit_code = 6


class CheckFailed(LlmnasError):
    """Something is worse than the limit that a person asked to be told about."""

    exit_code = 7


class MissingExtra(LlmnasError):
    """An optional dependency is not installed."""

    exit_code = 3

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional dependency that is not installed",
                         f"pip install 'llmnas[{extra}]'")


def need_extra(what: str, extra: str, *modules: str) -> None:
    """Checks that the modules of an extra are installed, without importing them.

    Raises:
        MissingExtra: One is not.
    """
    if not all(map(importlib.util.find_spec, modules)):
        raise MissingExtra(what, extra)


_LISTED: Final = 24


def nearest(name: str, known: list[str]) -> str:
    """Returns a hint naming the known name closest to `name`, if one is close, and the known names.

    Of a long list the closest names stand for all.
    """
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listed = ", ".join(sorted(known))
    if len(known) > _LISTED:
        shown = difflib.get_close_matches(name, known, n=_LISTED // 2, cutoff=0.0)
        listed = f"{', '.join(sorted(shown))} and {len(known) - len(shown)} more"
    return f"did you mean {close[0]!r}? known: {listed}" if close else f"known: {listed}"
