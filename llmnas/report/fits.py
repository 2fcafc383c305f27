"""What a strategy learnt by trainings of its own, and whether its shared weights ranked as training does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from llmnas.records import SUPERNET
from llmnas.report import format as say
from llmnas.store import RunState

LEAST: Final = 3
"""Trained architectures from which on a correlation is given."""

_MEANING: Final = "They choose what is trained and are no accuracies."


@dataclass(frozen=True)
class Agreement:
    """How the scores by shared weights rank against those of the short trainings.

    Attributes:
        n: Architectures with both.
        spearman: Rank correlation; None under `LEAST` or where one side is constant.
        kendall: Kendall's τ-b, likewise.
    """

    n: int
    spearman: float | None
    kendall: float | None


def agreement(state: RunState) -> Agreement:
    """Returns the agreement over all trials that a supernet scored and that were trained."""
    pairs = [(trial.scores[SUPERNET], trial.score) for trial in state.trained()
             if SUPERNET in trial.scores and trial.score is not None]
    return agreed([one for one, _ in pairs], [other for _, other in pairs])


def agreed(shared: list[float], trained: list[float]) -> Agreement:
    """Returns the agreement of two lists of scores of the same architectures, higher better in both."""
    if len(shared) < LEAST or len(set(shared)) == 1 or len(set(trained)) == 1:
        return Agreement(len(shared), None, None)
    from scipy.stats import kendalltau, spearmanr

    return Agreement(len(shared), float(spearmanr(shared, trained).statistic),
                     float(kendalltau(shared, trained).statistic))


def history_rows(state: RunState) -> list[tuple[str, ...]]:
    """Returns the head and a row per epoch of every fit that kept a history; empty without any."""
    rows: list[tuple[str, ...]] = []
    for what, fit in state.fits.items():
        ratios = fit.result.get("rises", [])
        for n, one in enumerate(fit.result.get("history", [])):
            rise = ratios[n] if n < len(ratios) else None
            rows.append((what, f"{one['epoch']:.0f}", f"{one['loss']:.3f}", _number(one.get("entropy")),
                         _number(one.get("skips"), ".0f"), _number(one.get("eigenvalue"), ".3g"), _number(rise),
                         say.duration(one["seconds"])))
    return [("fit", "epoch", "loss", "entropy", "skips", "eigenvalue", "rise", "took"), *rows] if rows else []


def lines(state: RunState) -> Iterator[str]:
    """Yields what is to be said beside the table."""
    for what, fit in state.fits.items():
        if fit.failed:
            yield f"{what} failed ({fit.failed}): {say.one_line(fit.note, 200)}"
    found = agreement(state)
    if found.spearman is not None and found.kendall is not None:
        yield (f"Scores by shared weights (`{SUPERNET}`) against {found.n} short trainings: Spearman "
               f"{found.spearman:+.2f}, Kendall {found.kendall:+.2f}. {_MEANING}")
    elif any(SUPERNET in trial.scores for trial in state.trials):
        yield (f"Scores by shared weights (`{SUPERNET}`): {found.n} of those scored were trained; a correlation needs "
               f"{LEAST} that differ. {_MEANING}")


def as_json(state: RunState) -> dict[str, Any]:
    """Returns the agreement and every fit as JSON values; unknown is null."""
    found = agreement(state)
    return {"supernet": {"n": found.n, "spearman": found.spearman, "kendall": found.kendall},
            "fits": {what: fit.model_dump(mode="json") for what, fit in state.fits.items()}}


def _number(value: float | None, form: str = ".2f") -> str:
    return say.UNKNOWN if value is None else format(value, form)
