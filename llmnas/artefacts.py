"""What a run leaves behind for use: the chosen model's files, during the run and on request afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from llmnas.data import DataRef, reopen
from llmnas.errors import LlmnasError, NoModelFound
from llmnas.evaluate import Rungs
from llmnas.executors import Executor, Job
from llmnas.latency import parse_targets
from llmnas.records import Trial
from llmnas.report.card import model_card
from llmnas.space import load_space
from llmnas.store import RunState, read_run

EXPORT_S: Final = 120.0


def export_trial(executor: Executor, directory: Path, state: RunState, data: DataRef, evaluator: Rungs,
                 formats: tuple[str, ...]) -> dict[str, str]:
    """Writes the chosen trial's artefacts to ``best/`` and returns their paths relative to the run.

    Raises:
        LlmnasError: The export itself broke; single formats that fail are warnings in its result.
    """
    if state.selected is None:
        raise NoModelFound("this run has not chosen an architecture yet", "let it end, or `llmnas resume` it")
    trial = state.trial(state.selected.n)
    graph = trial.proposal.graph
    if graph is None:
        raise NoModelFound(f"trial {trial.n} has no graph")
    best = directory / "best"
    best.mkdir(exist_ok=True)
    final = trial.trained.get("final")
    if final is None or final.weights is None:
        raise NoModelFound(f"trial {trial.n} was not trained to the end, so there are no weights to export",
                           "`llmnas resume` the run, with a larger --budget if its time is used up")
    weights = str((directory / final.weights).resolve())
    payload = {"network": evaluator.network(graph).to_data(), "weights": weights, "directory": str(best.resolve()),
               "formats": list(formats), "graph": graph.model_dump(mode="json", exclude_none=True),
               "meta": export_meta(state, trial, data)}
    outcome = executor.submit(Job(kind="export", payload=payload, deadline_s=EXPORT_S,
                                  )).future.result()
    if outcome.status != "ok" or outcome.result is None:
        raise LlmnasError(f"export failed: {outcome.error}", "the weights are in weights/; try `llmnas export` again")
    (best / "README.md").write_text(model_card(state), encoding="utf-8")
    return {name: os.path.relpath(best / Path(path).name, directory)
            for name, path in outcome.result["files"].items()} | {"card": "best/README.md"}


def export_meta(state: RunState, trial: Trial, data: DataRef) -> dict[str, Any]:
    """Returns what every artefact says about itself."""
    final = trial.trained.get("final") or trial.best_rung
    return {"run": state.begun.run, "trial": trial.n, "key": trial.key, "data": data.name,
            "class_names": list(data.class_names), "shape": list(data.shape), "mean": list(data.mean),
            "std": list(data.std), "metric": final.metric if final else None,
            "val_score": final.val_score if final else None, "test_score": final.test_score if final else None,
            "latency": {key: one.model_dump(mode="json") for key, one in trial.latency.items()},
            "energy": {key: one.model_dump(mode="json") for key, one in trial.energy.items()},
            "params": trial.counts.params if trial.counts else None,
            "macs": trial.counts.macs if trial.counts else None, "mock_llm": state.offline}


def rebuild(directory: Path) -> tuple[RunState, Callable[[Executor], tuple[DataRef, Rungs]]]:
    """Returns a finished run and a function that makes its evaluator again, for exports after the run."""
    state = read_run(directory)

    def make(executor: Executor) -> tuple[DataRef, Rungs]:
        data = reopen(directory / "data")
        gpus = state.begun.environment.get("gpus") or []
        targets = parse_targets(state.targets or state.settings.target, bool(gpus), gpus[0] if gpus else "")
        return data, Rungs(executor, load_space(state.settings.space), data, state.settings, state.plan, targets, 1,
                           directory.resolve())

    return state, make
