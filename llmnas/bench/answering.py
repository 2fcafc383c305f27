"""The language model of a search on a table: who answers, what it is told of the task, where its calls are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmnas.errors import InputError
from llmnas.llm import ChatModel, Specs, open_model
from llmnas.llm.cassette import CallRecord
from llmnas.prompts import PromptSet, load_prompt
from llmnas.search import Model
from llmnas.strategies import load_strategy

if TYPE_CHECKING:
    from llmnas.bench.tabular import Benchmark
    from llmnas.compare import Arm


def uses_model(strategy: str) -> bool:
    """Returns whether a strategy asks a language model.

    Raises:
        InputError: There is no such strategy.
    """
    return bool(getattr(load_strategy(strategy), "uses_model", False))


@contextmanager
def opened(strategy: str, llm: Specs, prompt: str, prior: bool,
           calls: Path | None = None) -> Iterator[tuple[ChatModel | None, PromptSet | None]]:
    """Opens the model and the prompt set of a strategy, and closes the model; None and None when it uses none.

    Args:
        strategy: Its name.
        llm: As ``--llm`` of a run, one or several.
        prompt: Name or folder of a prompt set.
        prior: Whether known-good designs may be used, by a mock too.
        calls: Where a model of files (``manual``) puts them.

    Raises:
        InputError: There is no such strategy, model or prompt set.
        ModelError: The endpoint that is configured does not answer.
    """
    if not uses_model(strategy):
        yield None, None
        return
    model = open_model(llm, run_dir=calls, prior=prior)
    try:
        yield model, read_prompts(prompt)
    finally:
        model.close()


def prompts_of(arms: Sequence[Arm], usual: str) -> dict[str, str]:
    """Returns the ids of the prompt sets of the arms that ask a language model, by label.

    Args:
        arms: What is compared.
        usual: Name or folder of the prompt set of arms that name none.

    Raises:
        InputError: There is no such strategy or prompt set, or an arm has one and nobody to ask.
    """
    read_prompts.cache_clear()  # a comparison begins with the prompts there are now
    for arm in arms:
        if arm.prompt is not None and not uses_model(arm.strategy):
            raise InputError(f"{arm.label}: {arm.strategy} asks no language model", f"name it without @{arm.prompt}")
    return {arm.label: read_prompts(arm.prompt or usual).id for arm in arms if uses_model(arm.strategy)}


@lru_cache(maxsize=8)
def read_prompts(name: str) -> PromptSet:
    """Returns a prompt set, read once a process: compiling its templates takes as long as a search."""
    return load_prompt(name)


def task_of(bench: Benchmark) -> dict[str, Any]:
    """Returns what a prompt may say of the task: the data set's name, not the benchmark's.

    A table does not say how many examples its networks were trained on.
    """
    spec = bench.space.spec
    unknown = "an unknown number of"
    return {"name": bench.dataset, "shape": list(spec.shape), "classes": spec.classes, "metric": "accuracy",
            "sizes": {"train": unknown, "val": unknown, "test": unknown}}


def kept_calls(model: ChatModel | None, folder: Path | None) -> Model:
    """Returns access to the calls of a search: those in the folder are read and not paid again, new ones are kept.

    Args:
        model: Who answers. What comes from code is not kept: it costs nothing and comes again.
        folder: None keeps nothing.
    """
    if model is None or model.offline or folder is None:
        return Model()

    def path(call: str) -> Path:
        return folder / f"{call}.json"

    def save(record: CallRecord) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        record.write(path(record.call))
        return str(path(record.call))

    return Model(reply=lambda call: CallRecord.read(path(call)) if path(call).is_file() else None, save=save)
