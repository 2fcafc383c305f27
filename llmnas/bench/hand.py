"""The network that was found against two that were designed by hand, under equal conditions.

Per seed: both baselines are timed; the search gets the smaller of the two latencies as its limit and knows nothing
else of them; then both are trained by the same recipe, on the same split, for as long as the found network's final
training took, and each is tested once. The three are timed again, in turn.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any, Final

from llmnas.bench.baselines import BASELINES
from llmnas.bench.ledger import Ledger
from llmnas.bench.process import Say, llmnas
from llmnas.budget import parse_duration
from llmnas.data import DataRef, load, materialise, reopen, split
from llmnas.errors import InputError, LlmnasError
from llmnas.evaluate.rungs import MAX_EPOCHS
from llmnas.executors import Executor, Job, LocalExecutor
from llmnas.graph import ArchGraph
from llmnas.latency import parse_target
from llmnas.network import Network
from llmnas.space import load_space
from llmnas.store import RunState, read_run

TIMING_S: Final = 6.0
"""Wall seconds for timing one network."""
FOUND: Final = "found"
_HANG_S: Final = 300.0
_KILL_S: Final = 30.0  # over a training's time; then it is killed


class Hand:
    """The bench on one data set.

    Args:
        data: As ``--data``; images of 32x32 pixels suit the baselines best.
        out: Folder for runs, weights and the ledger.
        budget: Of each search.
        options: More options of ``llmnas run``.
        say: Told what is going on.
    """

    def __init__(self, data: str, out: Path, budget: str, options: tuple[str, ...] = (),
                 say: Say = lambda _: None) -> None:
        self.data, self.out, self.budget, self.options, self.say = data, out, budget, options, say
        self.ledger = Ledger(out / "rows.jsonl", {"data": data, "budget": budget, "options": list(options)})

    def run(self, seeds: int) -> dict[str, Any]:
        """Returns rows per seed and their means."""
        rows = []
        for seed in range(seeds):
            rows.append(self._seed(seed))
            self.say(line(rows[-1]))
        return {"data": self.data, "budget": self.budget, "options": list(self.options), "out": str(self.out),
                "rows": rows, **summary(rows)}

    def _seed(self, seed: int) -> dict[str, Any]:
        with LocalExecutor(logs=self.out / f"seed-{seed}" / "jobs") as executor:
            return _Seed(self, seed, executor).row()


class _Seed:
    """One seed of the bench; every step is kept in the ledger as soon as it is done."""

    def __init__(self, bench: Hand, seed: int, executor: Executor) -> None:
        self.bench, self.seed, self.executor = bench, seed, executor
        self.folder = bench.out / f"seed-{seed}"
        self.ref = self._split()
        self.networks = {name: self._network(make(), name) for name, make in BASELINES.items()}
        probe = executor.submit(Job(kind="probe", deadline_s=60)).future.result()
        self.threads = int((probe.result or {}).get("cores", 1))

    def row(self) -> dict[str, Any]:
        """Returns what came of it."""
        before = self._once("timed", self._timed)
        limit_ms = min(found["ms"] for found in before.values())
        self.bench.say(f"seed {self.seed}: the limit is {limit_ms:.4g} ms")
        found = self._once("run", lambda: self._search(limit_ms))
        if found["seconds"] is None:
            return {"seed": self.seed, "limit_ms": limit_ms, "problem": found["problem"], "ahead": False}
        self.networks[FOUND] = self._network(ArchGraph.model_validate(found["graph"]), FOUND)
        trained = {name: self._once(f"trained {name}", lambda name=name: self._trained(name, found["seconds"]))
                   for name in BASELINES} | {FOUND: found["trained"]}
        after = self._once("timed again", self._timed)
        nets = {name: _net(network, trained[name], after[name]) for name, network in self.networks.items()}
        return judged({"seed": self.seed, "limit_ms": limit_ms, "nets": nets, "trials": found["trials"],
                       "searched": found["searched"], "graph": found["graph"], "space": found["graph"]["space"],
                       "violates": found["violates"], "problem": ""})

    def _once(self, step: str, work: Any) -> Any:
        return self.bench.ledger.once(f"seed {self.seed}: {step}", work)

    def _split(self) -> DataRef:
        """Returns the data as the search of this seed splits them: the same files, so the same test examples."""
        folder = self.folder / "data"
        if (folder / "data.json").is_file():
            return reopen(folder)
        dataset = load(self.bench.data, self.seed)
        return materialise(dataset, split(dataset, self.seed), folder)

    def _network(self, graph: ArchGraph, name: str) -> Network:
        space = load_space(graph.space)
        if issues := space.validate(graph, self.ref.shape, self.ref.classes):
            raise InputError(f"{name} does not fit the data {self.ref.name!r}: " + "; ".join(map(str, issues)),
                             "give images")
        return space.network(graph, self.ref.shape, self.ref.classes)

    def _timed(self) -> dict[str, Any]:
        """Returns the latency of every network so far on this CPU, timed in turn."""
        names = list(self.networks)
        payload = {"networks": [self.networks[name].to_data() for name in names], "interleave": True,
                   "target": parse_target("cpu", False).model_dump(mode="json"), "budget_s": TIMING_S}
        found = self._job(Job(kind="measure", payload=payload))["latencies"]
        if failed := [f"{name}: {one['error']}" for name, one in zip(names, found, strict=True) if "error" in one]:
            raise LlmnasError(f"timing failed: {failed[0]}")
        return dict(zip(names, found, strict=True))

    def _search(self, limit_ms: float) -> dict[str, Any]:
        """Runs, or continues, the command a person would type, and returns what it found."""
        directory, log = self.folder / "run", self.folder / "run.log"
        limit_s = parse_duration(self.bench.budget) + _HANG_S
        if (directory / "events.jsonl").is_file():
            ended = llmnas(["resume", str(directory), "--progress", "quiet"], log, limit_s=limit_s,
                           own_environment=True)
        else:
            ended = llmnas(["run", "--data", self.bench.data, "--target", "cpu", "--budget", self.bench.budget,
                            "--max-latency", f"{limit_ms:.6f}ms", "--seed", str(self.seed), "--progress", "quiet",
                            "--out", str(directory), *self.bench.options], log, limit_s=limit_s, own_environment=True)
        if ended.code not in (0, 5):
            raise LlmnasError(f"the search of seed {self.seed} ended with code {ended.code}", ended.says)
        state = read_run(directory)
        if state.begun.task["digests"] != self.ref.digests:
            raise LlmnasError("the search split the data in another way than the baselines have them")
        return found_in(state)

    def _trained(self, name: str, seconds: float) -> dict[str, Any]:
        """Trains a baseline as the found network was trained last, and tests it once."""
        self.bench.say(f"seed {self.seed}: training {name} for {seconds:.0f} s")
        payload = {"network": self.networks[name].to_data(), "data": self.ref.model_dump(mode="json"),
                   "seed": self.seed, "threads": self.threads, "epochs": MAX_EPOCHS, "time_limit_s": seconds,
                   "test": True, "weights": str((self.folder / f"{name}.safetensors").resolve())}
        return self._job(Job(kind="train", payload=payload, threads=self.threads, deadline_s=seconds + _KILL_S))

    def _job(self, job: Job) -> dict[str, Any]:
        outcome = self.executor.submit(job).future.result()
        if outcome.status != "ok" or outcome.result is None:
            raise LlmnasError(f"{job.kind} failed: {outcome.error}")
        return outcome.result


def found_in(state: RunState) -> dict[str, Any]:
    """Returns what a run found, or why it found nothing that can be compared."""
    chosen = state.trial(state.selected.n) if state.selected else None
    final = chosen.trained.get("final") if chosen else None
    common = {"trials": len(state.trials), "searched": state.stopped.reason if state.stopped else None,
              "violates": list(chosen.violates) if chosen else []}
    if chosen is None or chosen.proposal.graph is None or final is None:
        return common | {"seconds": None, "problem": "the search ended without a final training"}
    return common | {"seconds": final.seconds, "graph": chosen.proposal.graph.model_dump(mode="json",
                                                                                        exclude_none=True),
                     "trained": final.model_dump(mode="json"), "problem": ""}


def _net(network: Network, trained: dict[str, Any], latency: dict[str, Any]) -> dict[str, Any]:
    return {"test": trained["test_score"], "val": trained["val_score"], "seconds": trained["seconds"],
            "epochs": trained["epochs"], "ms": latency["ms"], "low": latency["low"], "high": latency["high"],
            "params": network.counts.params, "macs": network.counts.macs}


def judged(row: dict[str, Any]) -> dict[str, Any]:
    """Returns the row with its verdicts: ahead is more accurate than both baselines and no slower than either.

    Latencies are compared by their last timing. The limit was one measurement and this is another, so networks within
    5 % of the faster baseline count as equally fast; the ratio is in the row.
    """
    found = row["nets"][FOUND]
    rest = [net for name, net in row["nets"].items() if name != FOUND]
    ratio = found["ms"] / min(net["ms"] for net in rest)
    margin = found["test"] - max(net["test"] for net in rest)
    return row | {"margin": margin, "latency_ratio": ratio, "ahead": margin > 0 and ratio <= 1.05}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns means over the seeds in which something was found, and how often it was ahead."""
    whole = [row for row in rows if not row["problem"]]
    names = list(whole[0]["nets"]) if whole else []
    mean = {name: {key: fmean(row["nets"][name][key] for row in whole)
                   for key in ("test", "ms", "params", "macs", "seconds")} for name in names}
    return {"mean": mean, "ahead": sum(row["ahead"] for row in rows), "seeds": len(rows),
            "ahead_on_average": bool(mean) and mean[FOUND]["test"] > max(mean[name]["test"] for name in BASELINES)}


def line(row: dict[str, Any]) -> str:
    """Returns a row for people."""
    if row["problem"]:
        return f"seed {row['seed']}: {row['problem']}"
    nets = ", ".join(f"{name} {net['test']:.4f} in {net['ms']:.3g} ms" for name, net in row["nets"].items())
    return (f"seed {row['seed']}: {nets}: {'ahead' if row['ahead'] else 'not ahead'} by {row['margin']:+.4f} "
            f"at {row['latency_ratio']:.2f} of the latency")
