"""`latency`: one figure from whichever way there is, and the job that finds several in a child process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from llmnas.errors import LlmnasError
from llmnas.latency.analytic import predict
from llmnas.latency.measure import interleaved
from llmnas.latency.target import Target
from llmnas.network import Network
from llmnas.records import Latency


class Stop(Protocol):
    """What a job needs to know of its deadline; the executor's `Stop` is one."""

    def expired(self) -> bool:
        """Returns whether the job should end now."""


class Never:
    """A deadline that never comes."""

    def expired(self) -> bool:
        """Returns False."""
        return False


def latency(network: Network, target: Target, budget_s: float = 2.0) -> Latency:
    """Returns the latency of a network: measured when the target is here, else predicted.

    Args:
        network: What to time.
        target: Where it is to run.
        budget_s: Wall seconds a measurement may take.

    Raises:
        TimeoutError: Never in practice: a measurement makes three runs whatever the budget.
    """
    if not target.measurable:
        return predict(network, target)
    found = interleaved([network], target, budget_s)[0]
    if found is None:
        raise TimeoutError("the timing was stopped before three runs")
    return found.latency


def measure_job(payload: dict[str, Any], stop: Stop | None = None) -> dict[str, Any]:
    """Measures or predicts the latency of several networks: the entry of a child process.

    Args:
        payload: ``networks`` (list of `Network.to_data`), ``target`` (a dumped `Target`), ``budget_s`` (wall seconds
            per network, 2 if absent), ``threads`` (CPU threads, the target's if absent) and ``interleave`` (in turn,
            for finalists; false if absent).
        stop: Asked between runs whether to end; what is done until then is returned.

    Returns:
        ``latencies``: per network a dumped `Latency`, or ``{"error": …}``; ``measurements``: per network the dumped
        `Measurement` with spread, memory and conditions, or None; ``stopped``: whether the end came early.
    """
    ending = stop or Never()
    target = Target.model_validate(payload["target"])
    if target.kind == "cpu" and payload.get("threads"):
        target = target.model_copy(update={"threads": int(payload["threads"])})
    networks = [Network.from_data(data) for data in payload["networks"]]
    groups = [networks] if payload.get("interleave") else [[network] for network in networks]
    found = [pair for group in groups for pair in _group(group, target, float(payload.get("budget_s", 2.0)), ending)]
    return {"latencies": [one for one, _ in found], "measurements": [two for _, two in found],
            "stopped": any(one.get("error") == "stopped" for one, _ in found)}


Pair = tuple[dict[str, Any], dict[str, Any] | None]


def _group(networks: Sequence[Network], target: Target, budget_s: float, stop: Stop) -> list[Pair]:
    if stop.expired():
        return [({"error": "stopped"}, None) for _ in networks]
    if not target.measurable:
        return [(predict(network, target).model_dump(mode="json"), None) for network in networks]
    try:
        measured = interleaved(networks, target, budget_s, stop.expired)
    except (LlmnasError, RuntimeError, ValueError, MemoryError) as fault:  # what torch raises for one bad network
        return [({"error": f"{type(fault).__name__}: {fault}"}, None) for _ in networks]
    return [({"error": "stopped"}, None) if one is None else
            (one.latency.model_dump(mode="json"), one.model_dump(mode="json")) for one in measured]
