"""Runs compared: from directories, or from runs whose arms are known, to the document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from llmnas.compare.analysis import ANYTIME, TEST, VALIDATION, Question, analyse
from llmnas.compare.pooled import FRONT, with_fronts
from llmnas.compare.pooled import __doc__ as box_protocol
from llmnas.compare.runs import Run, check_alike, differences, grouped, read_runs, trajectory

SCORES: Final = ("a search sees the score of a short training on validation data; test is that of the final training "
                 "of the one it chose")


def compare_runs(directories: Sequence[Path], question: Question | None = None, unlike: bool = False) -> dict[str, Any]:
    """Returns the comparison of finished runs, grouped by strategy, prompt and model, and paired by seed.

    Args:
        directories: Of the runs.
        question: What is asked.
        unlike: Whether to compare runs on different terms all the same.

    Raises:
        InputError: Runs that are not finished, not alike, or that cannot be paired.
        RunError: A directory that is no run.
    """
    arms = grouped(read_runs(directories))
    notes = check_alike(differences(arms), unlike)
    return compared({arm: {run.seed: run for run in own} for arm, own in arms.items()}, question, notes)


def compared(arms: Mapping[str, Mapping[int, Run]], question: Question | None = None,
             notes: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the comparison of runs by arm and pairing seed.

    Args:
        arms: The runs.
        question: What is asked.
        notes: What must be said before all else.
    """
    found = [trajectory(run, arm, seed) for arm, own in arms.items() for seed, run in own.items()]
    judged, box = with_fronts(found)
    document = analyse(judged, [TEST, VALIDATION, *(FRONT if box else ()), ANYTIME], question)
    first = next(run for own in arms.values() for run in own.values())
    names = {arm: [run.name for run in own.values()] for arm, own in arms.items()}
    said = {"scores": SCORES, "box": box, "front": " ".join(box_protocol.split()) if box and box_protocol else None,
            "seconds": "Charged seconds: the clock of the run, on which proposing, screening, model calls and training "
                       "all pass"}
    return {"source": "runs", **document, "notes": [*notes, *document["notes"]], "about": said,
            "terms": {**first.terms, "data": first.state.settings.data, "runs": names}}
