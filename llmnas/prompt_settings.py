"""What ``prompt.toml`` says: what a prompt set shows and hides, and where its templates come from."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from llmnas.errors import InputError, nearest
from llmnas.graph import Frozen

TEMPLATES: Final = ("system", "propose", "repair", "reflect")


class Shows(Frozen):
    """What a prompt tells the model beside space, task and objective: the dials of an experiment.

    Attributes:
        exemplars: Most measured architectures shown; 0 for none.
        rules: Most rules of the knowledge base shown; 0 for none, and then nobody is asked for rules.
        facts: Whether shapes and shares of cost are shown layer by layer for the exemplars.
        failures: Whether the most frequent faults of recent proposals are shown.
        constraint: Whether limits (latency, parameters, memory, energy, time) are told. They hold all the same.
    """

    exemplars: Annotated[int, Field(ge=0, le=12)] = 3
    rules: Annotated[int, Field(ge=0, le=10)] = 10
    facts: bool = True
    failures: bool = True
    constraint: bool = True


class About(Frozen):
    """What ``prompt.toml`` says.

    Attributes:
        description: One line for a list.
        version: The author's own count.
        extends: Name of a prompt set, or a folder relative to this one, whose templates stand in for missing ones.
        hides: ``ops``: ops, attributes and the space have names that say nothing, another one each run.
        reflects: Whether the model is asked for rules.
        shows: What the model is told.
    """

    description: str
    version: int = 1
    extends: str | None = None
    hides: tuple[Literal["ops"], ...] = ()
    reflects: bool = True
    shows: Shows = Shows()


def read_about(folder: Path) -> About:
    """Returns what the ``prompt.toml`` of a folder says.

    Raises:
        InputError: It is missing, no TOML, or says something unknown.
    """
    path = folder / "prompt.toml"
    if not path.is_file():
        raise InputError(f"prompt {folder}: missing prompt.toml",
                         f"a prompt folder holds prompt.toml and {', '.join(f'{name}.j2' for name in TEMPLATES)}")
    try:
        return About.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: {error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        known = Shows if fault["loc"][0] == "shows" and len(fault["loc"]) > 1 else About
        raise InputError(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}",
                         nearest(str(fault["loc"][-1]), list(known.model_fields))) from None
