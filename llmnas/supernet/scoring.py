"""`score_job`: paths of a supernet scored with its weights, each with batch-norm statistics of its own."""

from __future__ import annotations

from typing import Any, Final

import torch

from llmnas.errors import InputError
from llmnas.supernet.checkpoint import load
from llmnas.supernet.halves import halves
from llmnas.supernet.payload import ScorePayload
from llmnas.supernet.sampling import started
from llmnas.train.device import choose_device
from llmnas.train.recipe import recipe_for
from llmnas.train.schedule import Stop

_BATCH: Final = 250


def score_job(payload: dict[str, Any], stop: Stop) -> dict[str, Any]:
    """Returns the paths and the accuracy of each with inherited weights; None where the time did not suffice.

    It is taken on the half of the training part that the weights were not trained on. It ranks paths, and is no
    estimate of what they reach when they are trained.

    Args:
        payload: A `ScorePayload` as JSON values.
        stop: The deadline.

    Raises:
        InputError: There is no checkpoint, or it cannot be read.
    """
    task = ScorePayload.model_validate(payload)
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    if task.start is None:
        raise InputError("paths are scored with the weights of a supernet, and none were given", "give start")
    device = choose_device(task.device).device
    model = started(task.network, task.slots, task.seed, device)
    model.load_state_dict(load(task.start, device)["model"])
    trained_on, other = halves(task.data, task.seed, device)
    batch = recipe_for(task.data, len(trained_on)).batch
    recalibration = [x for x, _ in trained_on.some(task.recalibration * batch, task.seed).plain(batch)]
    judged = list(other.some(task.examples, task.seed).plain(_BATCH))
    found: list[float | None] = []
    for path in task.choices:
        if stop.expired():
            found.append(None)
            continue
        active = [[op] for op in path]
        model.recalibrate(recalibration, active)
        with torch.inference_mode():
            right = sum(int((model(x, None, active).argmax(1) == y).sum()) for x, y in judged)
        found.append(right / sum(len(y) for _, y in judged))
    return {"choices": task.choices, "scores": found}
