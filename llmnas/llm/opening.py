"""`open_model`: from a spec such as ``openai:NAME`` or ``mock:7`` to a model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, cast

from llmnas.errors import InputError, LlmnasError, ModelError, nearest
from llmnas.llm.base import ChatModel
from llmnas.llm.dials import read_mock
from llmnas.llm.local import LocalModel
from llmnas.llm.manual import ManualModel
from llmnas.llm.mock import MockModel
from llmnas.llm.modes import ModeMemory
from llmnas.llm.openai_chat import DEFAULT_URL, OpenAIChat
from llmnas.llm.panel import Panel
from llmnas.llm.prices import user_prices
from llmnas.llm.replay import ReplayModel
from llmnas.llm.retry import Clock, Sleep
from llmnas.llm.terminal import terminal_here
from llmnas.plugins import is_path, load_path, plugins
from llmnas.store import find_run

SPECS: Final = {
    "auto": "the endpoint that is configured, else the mock",
    "openai:NAME": "any OpenAI-compatible endpoint (OPENAI_API_KEY, OPENAI_BASE_URL or --base-url)",
    "local:FILE.gguf": "a model file, served inside this process (llmnas[local])",
    "replay:RUN": "the logged replies of an earlier run",
    "manual[:DIR]": "prompts and replies as files; a person or another program answers",
    "mock[:SEED][:invalid=.2:…]": "no model: code that answers the same prompts, offline; docs/llm.md has its dials",
}
_KINDS: Final = [spec.partition(":")[0].partition("[")[0] for spec in SPECS]
LIST_S: Final = 15.0  # patience for the list of models


Specs = str | Sequence[str]
"""The model of a run, or several."""


def open_model(spec: Specs, *, base_url: str | None = None, structured: str = "auto", temperature: float | None = None,
               run_dir: Path | None = None, memory: Path | None = None, prices: str | None = None,
               prior: bool = True, clock: Clock = time.monotonic, sleep: Sleep = time.sleep) -> ChatModel:
    """Returns the model that `spec` names; of several, a `Panel`.

    Args:
        spec: One of `SPECS`, or a model of another package (docs/plugins.md); or several of them.
        base_url: Endpoint; else ``$OPENAI_BASE_URL``, else OpenAI.
        structured: ``auto`` or a structured-output mode to keep to.
        temperature: None leaves it to the server.
        run_dir: Where ``manual`` without a folder puts its files.
        memory: JSON file of what is known of endpoints.
        prices: Price table, JSON or its file; else ``$LLMNAS_PRICES``.
        prior: Whether known-good designs may be used: otherwise a mock has none, unless its dial says so.
        clock: Monotonic seconds.
        sleep: Waits.

    Raises:
        InputError: The spec makes no sense, or one is named twice.
        ModelError: An endpoint is configured and does not answer.
    """
    def one(name: str) -> ChatModel:
        return _open(name, base_url, structured, temperature, run_dir, memory, prices, prior, clock, sleep)

    names = [spec] if isinstance(spec, str) else list(spec)
    if len(names) == 1:
        return one(names[0])
    opened: list[ChatModel] = []
    try:
        opened.extend(one(name) for name in names)
        return Panel(opened)
    except LlmnasError:
        for model in opened:
            model.close()
        raise


def _open(spec: str, base_url: str | None, structured: str, temperature: float | None, run_dir: Path | None,
          memory: Path | None, prices: str | None, prior: bool, clock: Clock, sleep: Sleep) -> ChatModel:
    """Returns the model that one spec names; see `open_model`."""
    if (other := _others(spec)) is not None:
        return other
    kind, rest = _split(spec)

    def endpoint(name: str) -> OpenAIChat:
        return OpenAIChat(name, base_url=_base_url(base_url), api_key=_api_key(base_url), structured=structured,
                          temperature=temperature, prices=user_prices(prices), memory=ModeMemory(memory), clock=clock,
                          sleep=sleep)

    def mock() -> MockModel:
        seed, dials = read_mock(rest, prior)
        return MockModel(seed, dials, clock=clock, sleep=sleep)

    openers: dict[str, Callable[[], ChatModel]] = {
        "auto": lambda: _auto(endpoint, mock, base_url, clock),
        "openai": lambda: endpoint(_required(rest, spec, "openai:NAME")),
        "local": lambda: LocalModel(Path(_required(rest, spec, "local:FILE.gguf")).expanduser(),
                                    structured=structured, temperature=temperature, clock=clock, sleep=sleep),
        "replay": lambda: ReplayModel(replayed_run(spec)),
        "manual": lambda: ManualModel(Path(rest).expanduser() if rest else (run_dir or Path()) / "manual",
                                      terminal=terminal_here(), clock=clock, sleep=sleep),
        "mock": mock,
    }
    return openers[kind]()


def replayed_run(spec: str) -> Path:
    """Returns the directory that ``replay:RUN`` names: a run as other commands take it, or a folder of calls.

    Raises:
        InputError: The spec names no run.
        RunError: There is none.
    """
    name = _required(spec.partition(":")[2], spec, "replay:RUN")
    folder = Path(name).expanduser()
    return folder if folder.is_dir() and not (folder / "events.jsonl").exists() else find_run(str(folder))


def _others(spec: str) -> ChatModel | None:
    """Returns the model of another package that a spec names, ``NAME[:REST]`` or ``module:Class[:REST]``, else None.

    What is loaded is called with REST, a text that may be empty.

    Raises:
        InputError: It cannot be loaded or made.
    """
    kind, _, rest = spec.strip().partition(":")
    plugin = plugins("models").get(kind)
    attribute, _, after = rest.partition(":")
    if kind in _KINDS or (plugin is None and not (is_path(f"{kind}:{attribute}") and _importable(kind))):
        return None
    if plugin is None:
        make, rest = load_path(f"{kind}:{attribute}", "the language model"), after
    else:
        make = plugin.load()
    try:
        return cast(ChatModel, make(rest))
    except LlmnasError:
        raise
    except Exception as error:
        raise InputError(f"language model {spec!r} cannot be made: {type(error).__name__}: {error}",
                         "it is called with what stands after its name, as one text") from error


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _auto(endpoint: Callable[[str], OpenAIChat], mock: Callable[[], MockModel], base_url: str | None,
          clock: Clock) -> ChatModel:
    """Returns the endpoint that is configured, else the mock, with the reason."""
    why = _configured(base_url)
    if not why:
        return _reasoned(mock(), "no endpoint is configured (OPENAI_API_KEY, OPENAI_BASE_URL "
                         "or --base-url), so the proposals come from code and not from a language model")
    name = os.environ.get("LLMNAS_MODEL")
    if name:
        return _reasoned(endpoint(name), f"{why} and LLMNAS_MODEL are set")
    return _first_listed(endpoint, why, clock)


def _first_listed(endpoint: Callable[[str], OpenAIChat], why: str, clock: Clock) -> ChatModel:
    asking = endpoint("unknown")
    try:
        names = asking.models(clock() + LIST_S)
    finally:
        asking.close()
    if not names:
        raise ModelError(f"{asking.place} lists no model", "name one: --llm openai:NAME, or set LLMNAS_MODEL")
    return _reasoned(endpoint(names[0]), f"{why} is set; first of the {len(names)} models it lists")


def _reasoned(model: ChatModel, reason: str) -> ChatModel:
    model.reason = reason
    return model


def _split(spec: str) -> tuple[str, str]:
    kind, _, rest = spec.strip().partition(":")
    if kind.startswith("mock,"):
        kind, rest = "mock", kind.removeprefix("mock,")
    if kind not in _KINDS or (kind == "auto" and rest):
        raise InputError(f"unknown language model {spec!r}; known: {', '.join([*SPECS, *plugins('models')])}",
                         nearest(kind, [*_KINDS, *plugins("models")]))
    return kind, rest


def _required(rest: str, spec: str, form: str) -> str:
    if not rest:
        raise InputError(f"expected {form}, got {spec!r}", f"say which: {SPECS[form]}")
    return rest


def _base_url(base_url: str | None) -> str:
    return base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL


def _api_key(base_url: str | None) -> str | None:
    key = os.environ.get("OPENAI_API_KEY")
    if not key and _base_url(base_url) == DEFAULT_URL:
        raise ModelError("OPENAI_API_KEY is not set", "set it, or name another endpoint with --base-url or "
                         "OPENAI_BASE_URL, or work offline with --llm mock")
    return key


def _configured(base_url: str | None) -> str:
    """Returns what configures an endpoint, empty when nothing does."""
    if base_url:
        return "--base-url"
    return next((name for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY") if os.environ.get(name)), "")
