"""`screen_job`: proxies and timings of a batch of networks in one child process."""

from __future__ import annotations

from typing import Any

from llmnas.executors.base import Stop
from llmnas.latency import measure_job
from llmnas.proxies import score_job
from llmnas.train.device import choose_device


def screen_job(payload: dict[str, Any], stop: Stop) -> dict[str, Any]:
    """Times, then scores; what is not done when `stop` expires stays unknown.

    Args:
        payload: ``score``: the payload of `score_job` or None; ``measure``: payloads of `measure_job`, one a target.
        stop: The deadline.

    Returns:
        ``scores`` in order of the networks, ``latencies`` by target key.
    """
    latencies = {job["target"]["key"]: measure_job(job, stop)["latencies"] for job in payload["measure"]}
    scores = []
    if payload["score"]:
        device = str(choose_device(payload["score"]["device"]).device)
        scores = score_job({**payload["score"], "device": device}, stop)["scores"]
    return {"scores": scores, "latencies": latencies}
