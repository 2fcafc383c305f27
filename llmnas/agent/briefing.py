"""What the model is told: exemplars, facts, failures and the one JSON block, bounded and in a shuffled order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from llmnas.agent.disguise import disguise_of
from llmnas.front import energy_limits, front, latency_limits, weight_text
from llmnas.prompt_settings import Shows
from llmnas.records import Rule, Settings, Trial
from llmnas.strategies.base import Rng, Setup

FAILURES: Final = 4
LOOK_BACK: Final = 12  # trials shown when reflecting
_RECENT: Final = 40  # trials whose faults count as recent


@dataclass(frozen=True)
class Request:
    """What one call asks for.

    Attributes:
        count: Proposals.
        operator: What the model does: ``llm_fresh``, ``llm_mutate`` or ``llm_cross``.
        exemplars: Trained trials that are shown.
        niche: The part of the space that is asked for, in words; None for all of it.
        remark: How the search goes, where that should change what is proposed.
    """

    count: int
    operator: str = "llm_mutate"
    exemplars: Sequence[Trial] = ()
    niche: str | None = None
    remark: str | None = None


class Briefing:
    """Writes the context of every prompt.

    Args:
        setup: Space, task, settings and targets; its prompt set says what is shown and what is hidden.

    Attributes:
        disguise: Swaps true names and those that the model knows.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.space = setup.space
        self.described = setup.space.describe()
        # Three exemplars by default: more made models copy and fail (arXiv 2512.24120: six ruin generation).
        self.shows: Shows = setup.prompts.shows if setup.prompts else Shows()
        self.disguise = disguise_of(setup.space, setup.settings.seed, bool(setup.prompts and setup.prompts.hides_ops))

    def propose(self, request: Request, trials: Sequence[Trial], rules: Sequence[Rule], rng: Rng) -> dict[str, Any]:
        """Returns the variables of the propose template."""
        chosen, shown = request.exemplars[:self.shows.exemplars], rules[:self.shows.rules]
        block = self._block("propose", request.count, rng) | {
            "exemplars": [self._exemplar(trial) for trial in chosen], "rules": [rule.text for rule in shown]}
        return self.disguise.context(self._common(block, request.count, shown) | {
            "niche": request.niche, "operator": request.operator, "remark": request.remark,
            "facts": [self._facts(trial) for trial in chosen] if self.shows.facts else [],
            "failures": failures(trials) if self.shows.failures else []})

    def repair(self, invalid: Sequence[tuple[Any, Sequence[Any]]], rng: Rng) -> dict[str, Any]:
        """Returns the variables of the repair template: the proposals as they came, each with its issues."""
        listed = [{"proposal": raw, "issues": [{"at": i.at, "says": i.says, "fix": i.fix} for i in issues]}
                  for raw, issues in invalid]
        block = self._block("repair", len(listed), rng) | {"exemplars": [], "rules": [], "invalid": listed}
        return self.disguise.context(self._common(block, len(listed), ()) | {"invalid": listed, "facts": [],
                                                                             "failures": []})

    def reflect(self, trials: Sequence[Trial], rules: Sequence[Rule], rng: Rng) -> dict[str, Any]:
        """Returns the variables of the reflect template: the best and the latest trained trials."""
        trained = [trial for trial in trials if trial.score is not None]
        best = sorted(trained, key=lambda trial: -(self.setup.merit(trial) or 0.0))[: LOOK_BACK // 2]
        shown = {trial.n: trial for trial in [*best, *trained[-LOOK_BACK // 2:]]}
        listed = [self._exemplar(shown[n]) for n in sorted(shown)]
        block = self._block("reflect", 0, rng) | {"exemplars": [], "rules": [rule.text for rule in rules],
                                                  "trials": listed}
        return self.disguise.context(self._common(block, 0, rules) | {"trials": listed, "facts": [], "failures": []})

    def _common(self, block: dict[str, Any], count: int, rules: Sequence[Rule]) -> dict[str, Any]:
        task = self.setup.task
        ops = list(self.described["ops"])
        return {"block": block, "count": count, "niche": None, "invalid": [], "trials": [],
                "task": {"name": task["name"], "shape": task["shape"], "classes": task["classes"],
                         "train": task["sizes"]["train"], "metric": task["metric"]},
                "space": {**self.described, "ops": {op: self.described["ops"][op] for op in ops}},
                "limits": limit_sentences(self.setup.settings, self.setup.targets, self.setup.max_macs)
                if self.shows.constraint else [],
                "rules": [{"text": rule.text, "supports": list(rule.supports), "contradicts": list(rule.contradicts)}
                          for rule in rules]}

    def _block(self, role: str, count: int, rng: Rng) -> dict[str, Any]:
        """Returns the part of the block every role has; ops come in a new order, because order anchors."""
        wiring = self.space.block()
        for slot in wiring.get("slots", []):
            slot["choices"] = shuffled(slot["choices"], rng)
        if "ops" in wiring:
            wiring["ops"] = shuffled(wiring["ops"], rng)
        return {"role": role, "count": count, **wiring, "limits": self._limits() if self.shows.constraint else {},
                "objective": objective(self.setup.settings, self.setup.targets)}

    def _limits(self) -> dict[str, Any]:
        settings, energy = self.setup.settings, energy_limits(self.setup.settings, self.setup.targets)
        return {"max_params": settings.max_params,
                "max_latency_ms": latency_limits(settings, self.setup.targets) or None,
                "max_memory_mb": settings.max_memory_mb, "max_macs": self.setup.max_macs,
                **({"max_energy_mj": energy} if energy else {})}

    def _exemplar(self, trial: Trial) -> dict[str, Any]:
        graph = trial.proposal.graph
        if graph is None or trial.counts is None:
            raise ValueError(f"trial {trial.n} was never measured")
        return {"trial": trial.n, "nodes": [node.model_dump(mode="json", exclude_none=True) for node in graph.nodes],
                "output": graph.output, "score": None if trial.score is None else round(trial.score, 4),
                "params": trial.counts.params, "macs": trial.counts.macs, **self._costs(trial)}

    def _costs(self, trial: Trial) -> dict[str, Any]:
        """Returns latency by target, and what the settings ask for beside it: energy under a limit, the reward."""
        settings, targets = self.setup.settings, self.setup.targets
        found: dict[str, Any] = {"latency_ms": {
            key: round(timed.ms, 4) if (timed := trial.latency.get(key)) else None for key in targets}}
        if limited := energy_limits(settings, targets):
            found["energy_mj"] = {key: round(used.mj, 4) if (used := trial.energy.get(key)) else None
                                  for key in limited}
        if settings.aim_latency_ms is not None:
            value = self.setup.merit(trial)
            found["reward"] = None if value is None else round(value, 4)
        return found

    def _facts(self, trial: Trial) -> dict[str, Any]:
        graph, counts = trial.proposal.graph, trial.counts
        if graph is None or counts is None:
            raise ValueError(f"trial {trial.n} was never measured")
        network = self.space.network(graph, self.setup.shape, self.setup.classes)
        layers = [{"id": name, "shape": list(shape), "params_share": params / max(1, counts.params),
                   "latency_share": None} for name, (shape, params, _) in network.by_node().items()]
        return {"trial": trial.n, "score": None if trial.score is None else round(trial.score, 4),
                "params": counts.params, "macs": counts.macs, **self._costs(trial), "layers": layers}


def exemplars(trials: Sequence[Trial], setup: Setup, rng: Rng, count: int = Shows().exemplars) -> list[Trial]:
    """Returns at most `count` trained trials: the best, and others of the first front; in a random order."""
    members = front(trials, setup.target)
    if not members or not count:
        return []
    best = max(members, key=lambda trial: setup.merit(trial) or 0.0)
    others = [trial for trial in members if trial is not best]
    picked = [others[i] for i in rng.permutation(len(others))[: count - 1]]
    chosen = [best, *picked]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def failures(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Returns the most frequent kinds of faults in recent proposals, with their fix."""
    issues = [issue for trial in trials[-_RECENT:] for issue in trial.proposal.issues]
    counts = Counter(issue.code for issue in issues)
    return [{"code": code, "count": count, "fix": next(issue.fix for issue in reversed(issues) if issue.code == code)}
            for code, count in counts.most_common(FAILURES)]


def objective(settings: Settings, targets: Sequence[str]) -> str:
    """Returns what is to be maximised, in one line."""
    score = f"{settings.metric} on the validation split"
    if settings.aim_latency_ms is not None:
        return (f"reward up: {score} times (latency_ms on {targets[0]} / {settings.aim_latency_ms:g})^w, "
                f"w = {weight_text(settings)}")
    others = f"; also on {', '.join(targets[1:])}" if targets[1:] else ""
    return f"{score} up, latency_ms on {next(iter(targets), None)} down{others}"


def limit_sentences(settings: Settings, targets: Sequence[str], max_macs: int | None = None) -> list[str]:
    """Returns the person's constraints and the limit that time sets, one sentence each."""
    found = []
    if max_macs is not None:
        found.append(f"About {max_macs} MACs at most: dearer networks cannot be trained in the time.")
    if settings.max_params is not None:
        found.append(f"At most {settings.max_params} parameters.")
    found += [f"At most {most:g} ms on {key}." for key, most in latency_limits(settings, targets).items()]
    found += [f"At most {most:g} mJ a call on {key}." for key, most in energy_limits(settings, targets).items()]
    if settings.max_memory_mb is not None:
        found.append(f"At most {settings.max_memory_mb:g} MB for weights and activations.")
    if settings.min_accuracy is not None:
        found.append(f"A score of at least {settings.min_accuracy:g}; among those that reach it the fastest wins.")
    return found


def shuffled(mapping: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """Returns the mapping with its entries in a random order."""
    keys = list(mapping)
    return {keys[i]: mapping[keys[i]] for i in rng.permutation(len(keys))}
