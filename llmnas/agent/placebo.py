"""Placebos: what is left of the agent when the language model sees no history, or a false one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from llmnas.records import Trial
from llmnas.strategies.base import Rng

History = Literal["true", "none", "shuffled"]


def seen_as(trials: Sequence[Trial], history: History, rng: Rng) -> Sequence[Trial]:
    """Returns the trials as the model is shown them.

    ``none``: no trials at all. ``shuffled``: the results of all trained ones permuted among them, so that what the
    model learns from them is worth nothing; sizes, latencies and graphs stay true.
    """
    if history == "true":
        return trials
    if history == "none":
        return ()
    places = [i for i, trial in enumerate(trials) if trial.score is not None]
    results = [trials[i].trained for i in places]
    found = list(trials)
    for place, other in zip(places, rng.permutation(len(places)), strict=True):
        found[place] = trials[place].model_copy(update={"trained": results[int(other)]})
    return found
