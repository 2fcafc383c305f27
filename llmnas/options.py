"""Options behind a name, ``darts:order=2:partial=4`` or ``base:exemplars=0``: one grammar for both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from llmnas.errors import InputError, nearest

Options = TypeVar("Options", bound=BaseModel)


def written_options(what: str, kind: type[BaseModel], text: str) -> dict[str, str | int | float]:
    """Returns the options in ``order=2:partial=4``, numbers as numbers; values are not checked yet.

    Args:
        what: Whose options they are, as in ``strategy darts``.
        kind: Its fields are the options there are.
        text: What follows the name and the colon.

    Raises:
        InputError: There is no such option, or it has no value.
    """
    known = list(kind.model_fields)
    pairs = [part.partition("=") for part in text.split(":")]
    for option, equals, value in pairs:
        if option not in known:
            raise InputError(f"{what} has no option {option!r}", nearest(option, known))
        if not equals or not value:
            raise InputError(f"{what}: expected {option}=VALUE, got {option!r}",
                             f"as in {what.rsplit(maxsplit=1)[-1]}:{option}=…")
    return {option: _value(value) for option, _, value in pairs}


def checked_options(what: str, kind: type[Options], values: Mapping[str, Any], text: str, hint: str) -> Options:
    """Returns the options as a model.

    Raises:
        InputError: A value does not fit; says which, and what would.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        at = fault["loc"][0] if fault["loc"] else text
        raise InputError(f"{what}, option {at}: {fault['msg'].removeprefix('Value error, ')}, got "
                         f"{fault['input'] if fault['loc'] else text!r}", hint) from None


def _value(text: str) -> str | int | float:
    """Returns a number where the text is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
