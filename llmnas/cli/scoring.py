"""What `llmnas score` computes: everything that is known of a graph without training it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmnas.cli.here import Machine, kept, note, probe
from llmnas.errors import InputError, LlmnasError
from llmnas.executors import Job, LocalExecutor
from llmnas.graph import ArchGraph
from llmnas.latency import need_runtime
from llmnas.network import Network
from llmnas.proxies import all_proxies
from llmnas.records import Latency
from llmnas.report.format import latency_text
from llmnas.space import load_space


def score_graphs(graphs: list[tuple[Path, str, ArchGraph]], targets: tuple[str, ...], shape: tuple[int, ...] | None,
                 seed: int) -> list[dict[str, Any]]:
    """Returns one row a graph: key, size, latency per target in words and numbers, proxies.

    Raises:
        InputError: A graph is not legal.
    """
    rows, networks, choices = [], [], []
    for file, name, graph in graphs:
        space = load_space(name)
        if issues := space.validate(graph, shape):
            raise InputError(f"{file}: " + "; ".join(map(str, issues)))
        network = space.network(graph, shape)
        networks.append(network)
        choices.append(space.choices(graph))
        rows.append({"file": str(file), "space": name, "key": graph.key(), "params": network.counts.params,
                     "macs": network.counts.macs, "memory_mb": network.counts.memory_mb, "latency": {},
                     "latency_ms": {}, "scores": {}, "unscored": {}})
    with LocalExecutor() as executor:
        _measure(executor, rows, networks, choices, targets)
        _score(executor, rows, networks, seed)
    return rows


def _measure(executor: LocalExecutor, rows: list[dict[str, Any]], networks: list[Network],
             choices: list[tuple[str, ...]], specs: tuple[str, ...]) -> None:
    machine = Machine(probe(executor))
    for target in machine.targets(specs):
        need_runtime(target)
        if target.measurable:
            payload = {"networks": [n.to_data() for n in networks], "target": target.model_dump(mode="json")}
            outcome = executor.submit(Job(kind="measure", payload=payload)).future.result()
            if outcome.result is None:
                raise LlmnasError(f"timing failed: {outcome.error}")
            found = [Latency.model_validate(one) for one in outcome.result["latencies"]]
        else:
            used = kept(target, machine.here(target))
            if used.why:
                note(f"{target.key}: {used.why}")
            found = [used.predictor.predict(network, used.predictor.genes(chosen))
                     for network, chosen in zip(networks, choices, strict=True)]
        for row, one in zip(rows, found, strict=True):
            row["latency"][target.key] = latency_text(one)
            row["latency_ms"][target.key] = one.model_dump(mode="json")


def _score(executor: LocalExecutor, rows: list[dict[str, Any]], networks: list[Network], seed: int) -> None:
    for row, network in zip(rows, networks, strict=True):
        payload = {"networks": [network.to_data()], "data": {"noise": {"batch": 64, "seed": seed}},
                   "names": list(all_proxies()), "seed": seed, "device": "cpu"}
        outcome = executor.submit(Job(kind="score", payload=payload)).future.result()
        if outcome.result is None:
            row["unscored"]["proxies"] = outcome.error
            continue
        for name, result in outcome.result["scores"][0].items():
            if result["value"] is None:
                row["unscored"][name] = result["problem"]
            else:
                row["scores"][name] = result["value"]
