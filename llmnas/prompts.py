"""Prompts as files: a folder with ``system``, ``propose``, ``repair`` and ``reflect`` templates and a ``prompt.toml``.

A prompt set is known by its name and a hash of its templates, which is stored with every proposal it led to. What is
rendered is what is sent; a template that uses a variable nobody gives is an error with file and line.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import jinja2
from jinja2.sandbox import SandboxedEnvironment
from pydantic import ValidationError

from llmnas.errors import InputError, nearest
from llmnas.graph import Frozen
from llmnas.llm.base import Message
from llmnas.llm.block import blocks_in

Role = Literal["propose", "repair", "reflect"]
ROLES: Final[tuple[Role, ...]] = ("propose", "repair", "reflect")
TEMPLATES: Final = ("system", *ROLES)


class About(Frozen):
    """What ``prompt.toml`` says.

    Attributes:
        description: One line for a list.
        version: The author's own count.
    """

    description: str
    version: int = 1


class PromptSet:
    """The templates of one folder.

    Attributes:
        name: Name of the folder.
        folder: Where it is.
        about: Its description.
    """

    def __init__(self, folder: Path) -> None:
        missing = [f"{name}.j2" for name in TEMPLATES if not (folder / f"{name}.j2").is_file()]
        if missing or not (folder / "prompt.toml").is_file():
            raise InputError(f"prompt {folder}: missing {', '.join(missing) or 'prompt.toml'}",
                             f"a prompt folder holds prompt.toml and {', '.join(f'{name}.j2' for name in TEMPLATES)}")
        self.name = folder.resolve().name
        self.folder = folder
        self.about = _about(folder / "prompt.toml")

    @cached_property
    def id(self) -> str:
        """``name@b2:`` and twelve digits of the hash of the templates."""
        digest = hashlib.blake2b(digest_size=6)
        for name in TEMPLATES:
            digest.update(f"{name}\0{self.source(name)}\0".encode())
        return f"{self.name}@b2:{digest.hexdigest()}"

    def source(self, name: str) -> str:
        """Returns the text of a template."""
        return (self.folder / f"{name}.j2").read_text(encoding="utf-8")

    def render(self, role: Role, context: Mapping[str, Any]) -> list[Message]:
        """Returns the system and the user message.

        Args:
            role: Which template the user message comes from.
            context: The variables: ``block``, ``task``, ``space``, ``facts``, ``limits``, ``rules``, ``failures``,
                ``niche``, ``count``; ``invalid`` to repair, ``trials`` to reflect.

        Raises:
            InputError: A template is wrong, uses an unknown variable, or the user message has not exactly one block.
        """
        system, user = self._text("system", context), self._text(role, context)
        count = len(blocks_in(user))
        if count != 1:
            raise InputError(f"{self.folder / f'{role}.j2'}: expected one fenced json block, got {count}",
                             "write ```json, {{ block | json }} and ``` on three lines, once")
        return [Message(role="system", content=system), Message(role="user", content=user)]

    def _text(self, name: str, context: Mapping[str, Any]) -> str:
        path = self.folder / f"{name}.j2"
        try:
            return self._templates.get_template(f"{name}.j2").render(context)
        except jinja2.TemplateSyntaxError as error:
            raise InputError(f"{path}, line {error.lineno}: {error.message}") from None
        except jinja2.UndefinedError as error:
            raise InputError(f"{path}, line {_line(error, path)}: {error.message}",
                             f"known variables: {', '.join(sorted(context))}") from None
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise InputError(f"{path}, line {_line(error, path)}: {error}") from None

    @cached_property
    def _templates(self) -> SandboxedEnvironment:
        # A prompt folder may come from somebody else, so its templates run in a sandbox.
        made = SandboxedEnvironment(loader=jinja2.FileSystemLoader(self.folder), undefined=jinja2.StrictUndefined,
                                    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
                                    autoescape=False)  # the output is no HTML
        made.filters["json"] = _compact
        return made


def list_prompts() -> list[PromptSet]:
    """Returns the prompts that come with llmnas, by name."""
    return [PromptSet(path.parent) for path in sorted(_home().glob("*/prompt.toml"))]


def load_prompt(name: str | Path) -> PromptSet:
    """Returns a prompt by its name, or by the path of its folder."""
    folder = Path(name).expanduser()
    if isinstance(name, str) and folder.name == name and (_home() / name).is_dir():
        return PromptSet(_home() / name)
    if folder.is_dir():
        return PromptSet(folder)
    raise InputError(f"unknown prompt {str(name)!r}", nearest(str(name), [known.name for known in list_prompts()])
                     + "; or the path of a folder")


def difference(one: PromptSet, other: PromptSet) -> str:
    """Returns what differs between the templates of two prompts as a unified diff, empty when nothing does."""
    lines: list[str] = []
    for name in TEMPLATES:
        lines += difflib.unified_diff(one.source(name).splitlines(keepends=True),
                                      other.source(name).splitlines(keepends=True),
                                      f"{one.name}/{name}.j2", f"{other.name}/{name}.j2")
    return "".join(lines)


def token_estimate(messages: Sequence[Message]) -> int:
    """Returns roughly how many tokens the messages have: a quarter of their characters."""
    return sum(len(message.content) for message in messages) // 4


def _home() -> Path:
    """Returns the folder of the prompts: package data in an installed wheel, the top level in a checkout."""
    packed = Path(__file__).parent / "_files" / "prompts"
    return packed if packed.is_dir() else Path(__file__).parent.parent / "prompts"


def _about(path: Path) -> About:
    try:
        return About.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: {error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0])
        raise InputError(f"{path}: {name}: {fault['msg']}", nearest(name, list(About.model_fields))) from None


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _line(error: BaseException, path: Path) -> int | str:
    """Returns the line of the template in which `error` was raised."""
    found: int | str = "?"
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            found = trace.tb_lineno
        trace = trace.tb_next
    return found
