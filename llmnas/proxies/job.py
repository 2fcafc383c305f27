"""`score_job`: scores of several networks in a child process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from llmnas.errors import InputError
from llmnas.network import Network
from llmnas.proxies.evaluate import score

if TYPE_CHECKING:
    import numpy as np

BATCH: Final = 64


class Stop(Protocol):
    """What a job needs to know of its deadline; the executor's `Stop` is one."""

    def expired(self) -> bool:
        """Returns whether the job should end now."""


def score_job(payload: dict[str, Any], stop: Stop | None = None) -> dict[str, Any]:
    """Scores networks in order until done or told to stop: the entry of a child process.

    Args:
        payload: ``networks`` (list of `Network.to_data`), ``data`` (a dumped `DataRef`, or ``{"noise": {"batch": 64,
            "seed": 0}}``), ``names``, ``seed``, ``device``, ``threads`` (None leaves them) and ``deadline`` (seconds
            from now, None for none).
        stop: Asked between networks whether to end.

    Returns:
        ``scores``: per network, in order, ``{name: {"value", "problem"}}``; shorter than ``networks`` when stopped.
        ``seconds``: per network scored. ``stopped``: whether the end came early.
    """
    started = time.monotonic()
    _set_threads(payload.get("threads"))
    networks = [Network.from_data(data) for data in payload["networks"]]
    scores: list[dict[str, Any]] = []
    seconds: list[float] = []
    batch = read_batch(payload.get("data") or {"noise": {}}, networks)
    for network in networks:
        if _over(stop, started, payload.get("deadline")):
            break
        begun = time.perf_counter()
        found = score(network, *batch, payload["names"], int(payload.get("seed", 0)),
                      device=payload.get("device") or "cpu")
        scores.append({name: result.model_dump(mode="json") for name, result in found.items()})
        seconds.append(time.perf_counter() - begun)
    return {"scores": scores, "seconds": seconds, "stopped": len(scores) < len(networks)}


def read_batch(data: dict[str, Any], networks: list[Network]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns the one batch all networks are scored on: examples (B, *shape) float32, normalised, and labels (B,).

    Real data: the first 64 of the training part after a shuffle fixed for all runs, fewer when there are fewer.
    Noise: standard normal, labels uniform.

    Raises:
        InputError: Noise for networks of different input shapes or classes.
    """
    if "noise" in data:
        return _noise(networks, **data["noise"])
    import numpy as np

    from llmnas.data import DataRef, read

    ref = DataRef.model_validate(data)
    x, y = read(ref, "train")
    chosen = np.sort(np.random.default_rng(0).permutation(len(y))[:BATCH])  # the part may be sorted by class
    shape = (1, -1, *([1] * (len(ref.shape) - 1)))
    mean, std = np.reshape(ref.mean, shape), np.reshape(ref.std, shape)
    return ((x[chosen] - mean) / std).astype(np.float32), np.asarray(y[chosen], dtype=np.int64)


def _noise(networks: list[Network], batch: int = BATCH, seed: int = 0) -> tuple[
        np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    import numpy as np

    kinds = {(network.input_shape, network.classes) for network in networks}
    if len(kinds) > 1:
        raise InputError(f"expected networks of one input shape and number of classes, got {sorted(kinds)}",
                         "score them in separate jobs")
    shape, classes = kinds.pop() if kinds else ((1,), 1)
    rng = np.random.default_rng(seed)
    return rng.standard_normal((batch, *shape), dtype=np.float32), rng.integers(classes, size=batch)


def _over(stop: Stop | None, started: float, deadline: float | None) -> bool:
    return (stop is not None and stop.expired()) or (deadline is not None and time.monotonic() - started >= deadline)


def _set_threads(threads: int | None) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)
