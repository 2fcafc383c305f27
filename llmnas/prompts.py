"""Prompts as files: a folder with ``system``, ``propose``, ``repair`` and ``reflect`` templates and a ``prompt.toml``.

A prompt set is known by its name and a hash of its templates and of what it shows, which is stored with every
proposal it led to. What is rendered is what is sent; a template that uses a variable nobody gives is an error with file
and line. What a set shows can be varied on the command line, ``base:exemplars=0:facts=no``: an id of its own.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import jinja2
import jinja2.meta
from jinja2.sandbox import SandboxedEnvironment

from llmnas.errors import InputError, nearest
from llmnas.llm.base import Message
from llmnas.llm.block import blocks_in
from llmnas.options import checked_options, written_options
from llmnas.prompt_settings import TEMPLATES, About, Shows, read_about

Role = Literal["propose", "repair", "reflect"]
ROLES: Final[tuple[Role, ...]] = ("propose", "repair", "reflect")
_IN_TEXT_ONLY: Final = ("facts", "failures")
"""What stands in no block: without a template that writes it, it is not shown."""


class PromptSet:
    """The templates of one folder, and what they are given.

    Attributes:
        name: Name of the folder.
        folder: Where it is.
        about: What its ``prompt.toml`` says.
        shows: What it shows: as ``prompt.toml`` has it, or varied.

    Args:
        folder: The folder.
        varied: Changes of what it shows, as on the command line: ``exemplars=0:facts=no``.

    Raises:
        InputError: A file is missing or wrong, or the variation is, or it would change nothing.
    """

    def __init__(self, folder: Path, varied: str = "") -> None:
        self.name = folder.resolve().name
        self.folder = folder
        self.about = read_about(folder)
        self._folders = list(_extended(folder, self.about))
        missing = [f"{name}.j2" for name in TEMPLATES if self._file(name) is None]
        if missing:
            raise InputError(f"prompt {folder}: missing {', '.join(missing)}",
                             f"a prompt folder holds prompt.toml and {', '.join(f'{name}.j2' for name in TEMPLATES)}; "
                             'with extends = "base" in prompt.toml those of base stand in for missing ones')
        self.shows = self._varied(varied) if varied else self.about.shows

    def _varied(self, text: str) -> Shows:
        what = f"prompt {self.name}"
        given = written_options(what, Shows, text)
        shows = checked_options(what, Shows, self.about.shows.model_dump() | given, text,
                                "docs/prompts.md says what each means")
        for option in _IN_TEXT_ONLY:
            if option in given and option not in self._variables("propose"):
                raise InputError(f"{what}: its propose.j2 never writes {option}, so {option} changes nothing",
                                 f"leave {option} out")
        return shows

    @property
    def label(self) -> str:
        """Its name, and what was varied."""
        own = self.about.shows.model_dump()
        changed = {name: value for name, value in self.shows.model_dump().items() if value != own[name]}
        return ":".join([self.name, *(f"{name}={_word(value)}" for name, value in changed.items())])

    @cached_property
    def id(self) -> str:
        """Its label, ``@b2:`` and twelve digits of the hash of its templates and of what it does unlike the default."""
        digest = hashlib.blake2b(digest_size=6)
        for name in TEMPLATES:
            digest.update(f"{name}\0{self.source(name)}\0".encode())
        if unusual := self._behaviour():
            digest.update(json.dumps(unusual, sort_keys=True).encode())
        return f"{self.label}@b2:{digest.hexdigest()}"

    def _behaviour(self) -> dict[str, Any]:
        """Returns what changes what a model sees, as far as it is not the default."""
        own = self.about.model_copy(update={"shows": self.shows})
        return own.model_dump(mode="json", include={"hides", "reflects", "shows"}, exclude_defaults=True)

    @property
    def reflects(self) -> bool:
        """Whether the model is asked for rules: not when none would be shown."""
        return self.about.reflects and self.shows.rules > 0

    @property
    def hides_ops(self) -> bool:
        """Whether ops go by names that say nothing."""
        return "ops" in self.about.hides

    def source(self, name: str) -> str:
        """Returns the text of a template."""
        return (self._file(name) or self.folder / f"{name}.j2").read_text(encoding="utf-8")

    def settings(self) -> str:
        """Returns ``prompt.toml`` as it works: defaults written out, variations in their place."""
        about = self.about
        lines = [f"description = {json.dumps(about.description, ensure_ascii=False)}", f"version = {about.version}",
                 *([f"extends = {json.dumps(about.extends)}"] if about.extends else []),
                 f"hides = {json.dumps(list(about.hides))}", f"reflects = {json.dumps(about.reflects)}", "[shows]",
                 *(f"{name} = {json.dumps(value)}" for name, value in self.shows.model_dump().items())]
        return "\n".join(lines) + "\n"

    def _file(self, name: str) -> Path | None:
        return next((path for folder in self._folders if (path := folder / f"{name}.j2").is_file()), None)

    def _variables(self, name: str) -> set[str]:
        """Returns the variables that a template uses."""
        try:
            return jinja2.meta.find_undeclared_variables(self._templates.parse(self.source(name)))
        except jinja2.TemplateSyntaxError as error:
            raise InputError(f"{self._file(name)}, line {error.lineno}: {error.message}") from None

    def render(self, role: Role, context: Mapping[str, Any]) -> list[Message]:
        """Returns the system and the user message.

        Args:
            role: Which template the user message comes from.
            context: The variables: ``block``, ``task``, ``space``, ``facts``, ``limits``, ``rules``, ``failures``,
                ``niche``, ``operator``, ``remark``, ``count``; ``invalid`` to repair, ``trials`` to reflect.

        Raises:
            InputError: A template is wrong, uses an unknown variable, or the user message has not exactly one block.
        """
        system, user = self._text("system", context), self._text(role, context)
        count = len(blocks_in(user))
        if count != 1:
            raise InputError(f"{self._file(role)}: expected one fenced json block, got {count}",
                             "write ```json, {{ block | json }} and ``` on three lines, once")
        return [Message(role="system", content=system), Message(role="user", content=user)]

    def _text(self, name: str, context: Mapping[str, Any]) -> str:
        path = self._file(name) or self.folder / f"{name}.j2"
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
        made = SandboxedEnvironment(loader=jinja2.FileSystemLoader(self._folders), undefined=jinja2.StrictUndefined,
                                    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
                                    autoescape=False)  # the output is no HTML
        made.filters["json"] = _compact
        return made


def list_prompts() -> list[PromptSet]:
    """Returns the prompts that come with llmnas, by name."""
    return [PromptSet(path.parent) for path in sorted(_home().glob("*/prompt.toml"))]


def load_prompt(name: str | Path) -> PromptSet:
    """Returns a prompt by its name, or by the path of its folder; what it shows may follow, ``base:facts=no``.

    Raises:
        InputError: There is none, its files are wrong, or what follows the name is.
    """
    if isinstance(name, Path) or Path(name).expanduser().is_dir():
        given, varied = str(name), ""  # a folder may have a colon in its name
    else:
        given, colon, varied = name.partition(":")
        if colon and not varied:
            raise InputError(f"prompt {given}: nothing follows the colon", f"as in {given}:exemplars=0:facts=no")
    return PromptSet(_located(given, isinstance(name, str)), varied)


def difference(one: PromptSet, other: PromptSet) -> str:
    """Returns what differs between two prompts, settings and templates, as a unified diff; empty when nothing does."""
    texts = {"prompt.toml": (one.settings(), other.settings())} | {
        f"{name}.j2": (one.source(name), other.source(name)) for name in TEMPLATES}
    return "".join(unified(before, after, f"{one.label}/{file}", f"{other.label}/{file}")
                   for file, (before, after) in texts.items())


def unified(before: str, after: str, old: str, new: str) -> str:
    """Returns the unified diff of two texts, empty when they are equal."""
    return "".join(difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), old, new))


def token_estimate(messages: Sequence[Message]) -> int:
    """Returns roughly how many tokens the messages have: a quarter of their characters."""
    return sum(len(message.content) for message in messages) // 4


def _home() -> Path:
    """Returns the folder of the prompts: package data in an installed wheel, the top level in a checkout."""
    packed = Path(__file__).parent / "_files" / "prompts"
    return packed if packed.is_dir() else Path(__file__).parent.parent / "prompts"


def _located(name: str, by_name: bool = True) -> Path:
    """Returns the folder of a prompt that comes with llmnas, or the one at a path."""
    folder = Path(name).expanduser()
    if by_name and folder.name == name and (_home() / name).is_dir():
        return _home() / name
    if folder.is_dir():
        return folder
    raise InputError(f"unknown prompt {name!r}", nearest(name, [known.name for known in list_prompts()])
                     + "; or the path of a folder")


def _extended(folder: Path, about: About) -> Iterator[Path]:
    """Yields the folder of a set, then those whose templates stand in, each nearer one first."""
    seen = [folder.resolve()]
    yield folder
    while about.extends:
        beside = folder / about.extends
        folder = beside if beside.is_dir() else _located(about.extends)
        if folder.resolve() in seen:
            raise InputError(f"prompt {seen[0]}: extends goes round in a circle, back to {folder}",
                             "the last set of a row extends nothing")
        seen.append(folder.resolve())
        yield folder
        about = read_about(folder)


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


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
