"""`Rungs`: the evaluator that really trains: counts and proxies, then short, full and final trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from llmnas.budget import epoch_seconds, scaled_seconds
from llmnas.data import DataRef
from llmnas.evaluate.base import Ordered, Running, Screened
from llmnas.executors import Executor, Handle, Job, Outcome
from llmnas.front import latency_limits, violations
from llmnas.graph import ArchGraph
from llmnas.latency import Target, estimate_energy
from llmnas.latency.predictor import Predictor
from llmnas.network import Network
from llmnas.proxies import PROXIES, SIZES, default_weights, labelled_pool, ranking, weights
from llmnas.records import Energy, Latency, Measured, Plan, Rung, Settings, Trained, Trial
from llmnas.space import Space

TIMING_S: Final = 0.3
"""Wall seconds for timing one screened network on one target; finalists are timed longer."""
FINALIST_TIMING_S: Final = 1.5
FITS: Final = "fits"
"""Folder of checkpoints below the run directory."""
KILL_S: Final = 1.5  # between the cooperative stop and the kill


class Training:
    """A training in a child process.

    Args:
        n: The trial.
        rung: Which training.
        handle: The job.
        root: Run directory, to make paths relative.
        share: Share of the rung's epochs.
    """

    def __init__(self, n: int, rung: Rung, handle: Handle, root: Path, share: float = 1.0) -> None:
        self.n, self.rung, self.share, self._handle, self._root = n, rung, share, handle, root
        self.future: Future[Outcome] = handle.future

    def result(self) -> Measured:
        """Returns what came of the training; waits for it."""
        outcome = self.future.result()
        if outcome.status == "ok" and outcome.result is not None:
            trained = Trained.model_validate({**outcome.result, "share": self.share})
            if trained.weights:
                trained = trained.model_copy(update={"weights": str(Path(trained.weights).relative_to(self._root))})
            cut = trained.cut and self.rung == "short"
            return Measured(n=self.n, rung=self.rung, trained=trained, seconds=outcome.seconds,
                            failed="timeout" if cut else None,
                            note="cut by its deadline" if cut else "")
        return Measured(n=self.n, rung=self.rung, failed="timeout" if outcome.status == "timeout" else "failed",
                        note=outcome.error[:500], seconds=outcome.seconds)

    def cancel(self) -> None:
        """Ends the training."""
        self._handle.cancel()


class Rungs:
    """Screens by counts, proxies and latency; trains in child processes with hard deadlines.

    Args:
        executor: Runs the jobs.
        space: The search space.
        data: The split data.
        settings: Constraints, metric, seed, device.
        plan: Epochs and proxies.
        targets: Where latency and energy count; the first one is judged by.
        threads: CPU threads per training.
        root: Run directory.
        predictors: Of targets, by key; a target that can be timed here and has one is predicted, and timed only where
            that decides something. None for the analytic model of those that cannot be timed.
    """

    def __init__(self, executor: Executor, space: Space, data: DataRef, settings: Settings, plan: Plan,
                 targets: Sequence[Target], threads: int, root: Path,
                 predictors: Mapping[str, Predictor] | None = None) -> None:
        self.executor, self.space, self.data, self.settings = executor, space, data, settings
        self.plan, self.targets, self.threads, self.root = plan, targets, threads, root
        analytic = {target.key: Predictor(target) for target in targets if not target.measurable}
        self.predictors = analytic | dict(predictors or {})
        self._limits = latency_limits(settings, [target.key for target in targets])
        self._keys = tuple(target.key for target in targets)
        self._directions = {name: PROXIES[name].direction for name in dict.fromkeys((*plan.proxies, *SIZES))
                            if name in PROXIES}
        self._prior = default_weights(space.name, self._directions)

    def network(self, graph: ArchGraph) -> Network:
        """Returns the network of a legal graph on this run's data."""
        return self.space.network(graph, self.data.shape, self.data.classes)

    def keeps(self, graph: ArchGraph) -> bool:
        """Returns whether a legal graph breaks no constraint as far as size and predicted latency tell."""
        return not self._counted(graph, self.network(graph)).violates

    def milliseconds(self, graph: ArchGraph) -> float | None:
        """Returns the predicted latency of a graph on the first target; None without a target."""
        if not self.targets:
            return None
        target = self.targets[0]
        predictor = self.predictors.get(target.key) or Predictor(target)
        return predictor.predict(self.network(graph), predictor.genes(self.space.choices(graph))).ms

    # -- screening

    def screen(self, graphs: Sequence[ArchGraph], scored: int | None, limit_s: float) -> list[Screened]:
        """Returns one result per graph; see `Evaluator.screen`.

        Graphs that break a constraint on size or predicted latency are neither timed nor scored.
        """
        networks = [self.network(graph) for graph in graphs]
        found = [self._counted(graph, network) for graph, network in zip(graphs, networks, strict=True)]
        open_ = [i for i, one in enumerate(found) if not one.violates]
        limit = len(open_) if scored is None else scored
        timed = {target.key: [place for place, i in enumerate(open_) if self._is_timed(target, found[i])]
                 for target in self.targets if target.measurable}
        outcome = self._measured([networks[i] for i in open_], limit, timed, limit_s)
        for place, i in enumerate(open_):
            found[i] = self._joined(found[i], place, outcome, timed)
        return found

    def _counted(self, graph: ArchGraph, network: Network) -> Screened:
        latency = {key: predictor.predict(network, predictor.genes(self.space.choices(graph)))
                   for key, predictor in self.predictors.items()}
        one = Screened(counts=network.counts, latency=latency, violates=self._too_slow(network), scores={
            "params": float(network.counts.params), "flops": float(network.counts.macs)})
        certain = {key: found for key, found in latency.items() if not self._is_doubtful(key, found)}
        return self._judged(one, certain)

    def _is_timed(self, target: Target, one: Screened) -> bool:
        """Returns whether a network is timed on a target: where nothing is known, or a limit is in the interval."""
        found = one.latency.get(target.key)
        return found is None or self._is_doubtful(target.key, found)

    def _is_doubtful(self, key: str, found: Latency) -> bool:
        """Returns whether a prediction leaves open if a limit is kept, where a measurement would tell."""
        measurable = any(target.measurable for target in self.targets if target.key == key)
        return measurable and key in self._limits and found.low <= self._limits[key] < found.high

    def _too_slow(self, network: Network) -> tuple[str, ...]:
        cost = self._epoch_s(network)
        if cost <= self.plan.max_epoch_s:
            return ()
        return (f"an epoch takes {cost:.3g} s at the nominal rate, more than {self.plan.max_epoch_s:.3g} s: too few "
                "epochs fit into the final training",)

    def _epoch_s(self, network: Network) -> float:
        return epoch_seconds(network, self.plan.rates, self.plan.train_batch, self.plan.train_steps)

    def _judged(self, one: Screened, certain: Mapping[str, Latency] | None = None) -> Screened:
        """Returns the network with its energy and what it breaks, by all of its latencies or those that are certain."""
        energy = {key: used for key, timed in one.latency.items() if (used := self.energy(timed)) is not None}
        found = violations(self.settings, self._keys, one.counts, one.latency if certain is None else certain, energy)
        return one.model_copy(update={"energy": energy, "violates": tuple(dict.fromkeys((*one.violates, *found)))})

    def energy(self, latency: Latency) -> Energy | None:
        """Returns the energy that goes with a latency on one of the targets; None where it is unknown."""
        target = next((target for target in self.targets if target.key == latency.device), None)
        return None if target is None else estimate_energy(latency, target)

    def _measured(self, networks: list[Network], scored: int, timed: Mapping[str, Sequence[int]],
                  limit_s: float) -> Outcome | None:
        """Times and scores networks in one child process.

        Args:
            networks: What to score, the first `scored` ones.
            scored: How many.
            timed: Places of those to time, by target key.
            limit_s: Wall seconds.
        """
        names = [name for name in self.plan.proxies if name not in ("params", "flops")]
        if not networks or limit_s <= 0 or not (any(timed.values()) or (names and scored)):
            return None
        data = [network.to_data() for network in networks]
        score = {"networks": data[:scored], "data": self.data.model_dump(mode="json"), "names": names,
                 "seed": self.settings.seed, "threads": self.threads, "device": self.settings.device}
        measure = [{"networks": [data[place] for place in timed[target.key]], "budget_s": TIMING_S,
                    "target": target.model_dump(mode="json")} for target in self.targets if timed.get(target.key)]
        job = Job(kind="screen", threads=self.threads, deadline_s=limit_s,
                  payload={"score": score if names and scored else None, "measure": measure})
        return self.executor.submit(job).future.result()

    def _joined(self, one: Screened, place: int, outcome: Outcome | None,
                timed: Mapping[str, Sequence[int]]) -> Screened:
        if outcome is None:
            return self._judged(one)
        if outcome.status != "ok" or outcome.result is None:
            return self._judged(one).model_copy(update={"unscored": {"screening": outcome.error[:200]}})
        scores, unscored, latency = dict(one.scores), dict(one.unscored), dict(one.latency)
        if place < len(outcome.result["scores"]):
            for name, result in outcome.result["scores"][place].items():
                if result["value"] is None:
                    unscored[name] = result["problem"]
                else:
                    scores[name] = result["value"]
        for key, found in outcome.result["latencies"].items():
            answer = dict(zip(timed[key], found, strict=False)).get(place, {"error": "not asked for"})
            if "error" not in answer:
                latency[key] = Latency.model_validate(answer)
        latency = {key: latency[key] for key in self._keys if key in latency}
        return self._judged(one.model_copy(update={"scores": scores, "unscored": unscored, "latency": latency}))

    def order(self, screened: Sequence[Screened], labelled: Sequence[Trial]) -> Ordered:
        """Returns the order by weighted proxies, ranked in this pool; the weights come from `labelled`.

        Before there are enough labels it is the space's default pair, equally weighted: see `llmnas.proxies.combine`.
        """
        pool, labels = labelled_pool(labelled)
        found = weights(pool, labels, self._directions, self._prior)
        return Ordered(places=tuple(ranking([one.scores for one in screened], self._directions, found)), weights=found)

    # -- training

    def shares(self, trials: Sequence[Trial]) -> list[float]:
        """Returns the share of the full rung's time of each finalist, in all 1: see `scaled_seconds`."""
        graphs = [trial.proposal.graph for trial in trials if trial.proposal.graph is not None]
        wanted = [scaled_seconds(self._epoch_s(self.network(graph)), self.plan.final_s, 1.0) for graph in graphs]
        return [one / sum(wanted) for one in wanted]

    def cost(self, trial: Trial, share: float) -> float:
        """Returns the share: every training begins anew, with a schedule of its own."""
        return share

    def start(self, trial: Trial, rung: Rung, limit_s: float, nominal_s: float | None = None,
              share: float = 1.0) -> Running:
        """Starts a training of `trial`; see `Evaluator.start`.

        Short and full trainings are the final one scaled down (`scaled_seconds`). Nominal seconds do not depend on the
        day's speed, so the same trial trains the same way again. The final training anneals by time: it uses what it
        is given.
        """
        if trial.proposal.graph is None:
            raise ValueError(f"trial {trial.n} has no graph to train")
        network = self.network(trial.proposal.graph)
        payload: dict[str, Any] = {
            "network": network.to_data(), "data": self.data.model_dump(mode="json"),
            "seed": self.settings.seed, "metric": self.settings.metric, "device": self.settings.device,
            "threads": self.threads}
        if rung == "final":
            payload |= self._final(trial, limit_s)
        else:
            epoch_s = self._epoch_s(network)
            seconds = nominal_s or scaled_seconds(epoch_s, self.plan.final_s, self.plan.longest_s or self.plan.short_s)
            payload["epochs"] = max(MIN_SHARE, share * min(MAX_EPOCHS, seconds / epoch_s))
        handle = self.executor.submit(Job(kind="train", payload=payload, threads=self.threads,
                                          deadline_s=max(0.5, limit_s)))
        return Training(trial.n, rung, handle, self.root, share)

    def fit(self, job: str, payload: dict[str, Any], name: str, limit_s: float, start: str | None = None) -> Handle:
        """Starts a training by which a strategy learns; see `Evaluator.fit`."""
        task = {**payload, "data": self.data.model_dump(mode="json"), "seed": self.settings.seed,
                "device": self.settings.device, "threads": self.threads, "saves": str(self.root / FITS / name),
                "start": None if start is None else str(self.root / start)}
        return self.executor.submit(Job(kind=job, payload=task, threads=self.threads, deadline_s=max(0.5, limit_s)))

    def _final(self, trial: Trial, limit_s: float) -> dict[str, Any]:
        weights = self.root / "weights" / f"{trial.n}.safetensors"
        weights.parent.mkdir(exist_ok=True)
        return {"epochs": MAX_EPOCHS, "time_limit_s": max(0.5, limit_s - KILL_S / 3),
                "weights": str(weights), "test": True, "progress": str(self.root / "final.jsonl")}

    def meter(self, trial: Trial, limit_s: float) -> list[Measured]:
        """Returns the energy of a trial on every target that is here and has a counter that can be read."""
        found = []
        for target in self.targets:
            if not target.measurable or trial.proposal.graph is None or limit_s <= 0:
                continue
            outcome = self.executor.submit(Job(kind="meter", threads=target.threads, deadline_s=limit_s, payload={
                "network": self.network(trial.proposal.graph).to_data(), "limit_s": limit_s,
                "target": target.model_dump(mode="json")})).future.result()
            if outcome.result is not None and outcome.result["energy"] is not None:
                found.append(Measured(n=trial.n, energy=Energy.model_validate(outcome.result["energy"])))
        return found

    def settle(self, trial: Trial, limit_s: float, targets: Sequence[str]) -> list[Measured]:
        """Returns what a timing gives where so far there is a prediction; see `Evaluator.settle`."""
        wanted = [target for target in self.targets if target.key in targets and target.measurable
                  and (found := trial.latency.get(target.key)) is not None and found.source != "measured"]
        if trial.proposal.graph is None:
            return []
        latencies = self._timed([trial.proposal.graph], wanted, TIMING_S, limit_s)
        return [Measured(n=trial.n, latency=found, energy=self.energy(found))
                for (found,) in latencies.values() if found is not None]

    def time_finalists(self, graphs: Sequence[ArchGraph], limit_s: float) -> dict[str, list[Latency | None]]:
        """Returns latencies by target key, the networks timed in turn; only for targets that can be timed."""
        timed = [target for target in self.targets if target.measurable]
        return self._timed(graphs, timed, FINALIST_TIMING_S / max(len(timed), 1), limit_s)

    def _timed(self, graphs: Sequence[ArchGraph], targets: Sequence[Target], budget_s: float,
               limit_s: float) -> dict[str, list[Latency | None]]:
        """Returns latencies by target key, the networks timed in turn for `budget_s` wall seconds each."""
        if not graphs or not targets or limit_s <= 0:
            return {}
        data = [self.network(graph).to_data() for graph in graphs]
        measure = [{"networks": data, "target": target.model_dump(mode="json"), "interleave": True,
                    "budget_s": budget_s} for target in targets]
        outcome = self.executor.submit(Job(kind="screen", deadline_s=limit_s,
                                           threads=self.threads, payload={"score": None, "measure": measure},
                                           )).future.result()
        if outcome.status != "ok" or outcome.result is None:
            return {}
        return {key: [None if "error" in one else Latency.model_validate(one) for one in found]
                for key, found in outcome.result["latencies"].items()}


MAX_EPOCHS: Final = 300
"""Epochs after which more training of small networks brings nothing; the time given usually ends it earlier."""
MIN_SHARE: Final = 0.1
"""Epochs every training gets at least."""
