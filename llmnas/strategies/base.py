"""The `Strategy` protocol: history in, proposals out.

A strategy owns no clock, no disk, no sockets and no random generator; the loop hands it what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast, runtime_checkable

import numpy as np

from llmnas.errors import InputError, nearest
from llmnas.front import merit
from llmnas.graph import ArchGraph, Frozen
from llmnas.network import Shape
from llmnas.options import checked_options, written_options
from llmnas.plugins import is_path, load_path, plugins
from llmnas.records import Body, Called, Candidate, Origin, Proposal, Rates, Settings, Trial
from llmnas.space import Space

Rng = np.random.Generator

STRATEGIES: Final[dict[str, str]] = {
    "agent": "llmnas.agent:Agent",
    "agent-nollm": "llmnas.agent:NoModel",
    "best_of_n": "llmnas.agent:BestOfN",
    "shuffled": "llmnas.agent:Shuffled",
    "random": "llmnas.strategies.random:Random",
    "local_search": "llmnas.strategies.local_search:LocalSearch",
    "evolution": "llmnas.strategies.evolution:Evolution",
    "proxy_warm": "llmnas.strategies.proxy_warm:ProxyWarm",
    "nsga2": "llmnas.strategies.nsga2:Nsga2",
    "reinforce": "llmnas.strategies.reinforce:Reinforce",
    "bayesian": "llmnas.strategies.bayesian:Bayesian",
    "bayesian_front": "llmnas.strategies.bayesian_front:BayesianFront",
    "successive_halving": "llmnas.strategies.successive_halving:SuccessiveHalving",
    "darts": "llmnas.strategies.darts:Darts",
    "one_shot": "llmnas.strategies.one_shot:OneShot",
    "prior": "llmnas.strategies.prior:Prior",
    "none": "llmnas.strategies.nothing:Nothing",
}
"""Names of strategies → ``module:Class``, loaded when used. Others' come by entry point ``llmnas.strategies`` or by
naming ``module:Class``."""

GLOSSES: Final[dict[str, str]] = {
    "agent": "a language model proposes, code checks and screens",
    "agent-nollm": "a control: the agent without its language model",
    "best_of_n": "a control: a language model's proposals without any history, trained as they come",
    "shuffled": "a control: the agent whose model sees the scores in a random order",
    "random": "independent draws",
    "local_search": "first improvement among one-edit neighbours, restarts at local optima",
    "evolution": "regularised (ageing) evolution",
    "proxy_warm": "regularised evolution from a population chosen by proxies",
    "nsga2": "evolution of a front of score and cost",
    "reinforce": "policy gradient on independent decisions; spaces with fixed wiring",
    "bayesian": "Gaussian process and expected improvement within the constraints",
    "bayesian_front": "the same by expected hypervolume improvement, for a front of score and cost",
    "successive_halving": "many brief trainings, the best third of them again for longer (ASHA)",
    "darts": "gradient descent on a supernet's architecture; spaces where only ops are chosen",
    "one_shot": "evolution by the shared weights of a supernet; likewise",
    "prior": "known-good designs, no search",
    "none": "only your own architectures are measured",
}
"""One line per name."""

DRAWS: Final = 100
"""Draws in a row that were all seen already, after which a space counts as used up."""


@dataclass(frozen=True)
class Setup:
    """What a strategy is made from.

    Attributes:
        space: The search space.
        settings: What the person asked for.
        shape: Shape of one example.
        classes: Number of classes.
        targets: Keys of the targets, the first one being judged by.
        max_macs: About the most MACs that can be trained in the time; None when there is no such limit.
        identity: What makes two proposals one: the function that they compute; on a table its row.
        keeps: Whether a legal graph breaks no constraint as far as can be told without running it.
        milliseconds: Predicted latency of a graph on the target that is judged by; None when nothing predicts it.
        task: Facts about the data for prompts.
        model: The language model, for strategies that use one.
        prompts: The prompt set, likewise.
        shares: Shares of a short training's epochs that can be asked for, rising to 1; None when any can.
        front: Whether the front of score and cost is what is asked for, not the best score within the limits.
    """

    space: Space
    settings: Settings
    shape: Shape
    classes: int
    targets: tuple[str, ...] = ()
    max_macs: int | None = None
    identity: Callable[[ArchGraph], str] = ArchGraph.key
    keeps: Callable[[ArchGraph], bool] = lambda graph: True
    milliseconds: Callable[[ArchGraph], float | None] = lambda graph: None
    task: dict[str, Any] = field(default_factory=dict)
    model: Any = None
    prompts: Any = None
    shares: tuple[float, ...] | None = None
    front: bool = False

    @property
    def target(self) -> str | None:
        """Key of the target that is judged by."""
        return next(iter(self.targets), None)

    def merit(self, trial: Trial, share: float = 1.0) -> float | None:
        """Returns what a strategy should maximise; higher is better, None when unknown (`llmnas.front.merit`).

        Args:
            trial: The trial.
            share: Share of the short training that the score is taken after; merits of different shares do not compare.
        """
        score = trial.score_at(share)
        return None if score is None else merit(trial, self.settings, self.target, score)


@dataclass(frozen=True)
class Context:
    """What one ask may look at and do.

    Attributes:
        step: Number of this ask.
        trials: Every trial so far, in order; a copy.
        rules: The knowledge base so far.
        deadline: Latest moment for the answer, on `time.monotonic`.
        emit: Puts an event on disk: a model call, before its reply is parsed.
        reply: Returns the logged reply of a call by id when a killed run already paid for it, else None.
        save: Writes the full text of a call and returns its path relative to the run.
        calls: Returns the model calls of the run so far.
        screen: Counts graphs and scores them by proxies without proposing them: one result each for the first ones, as
            many as the run can afford, maybe none; once an ask. Charged, and the same when a step is asked again.
        trains: How many architectures are trained of an ask.
        room: How many graphs `screen` takes at most.
        pool: What earlier asks had screened, in order.
    """

    step: int
    trials: Sequence[Trial]
    rules: Sequence[Any]
    deadline: float
    emit: Callable[[Body], Any]
    reply: Callable[[str], Any | None]
    save: Callable[[Any], str]
    calls: Callable[[], Sequence[Called]] = tuple
    screen: Callable[[Sequence[ArchGraph]], Sequence[Candidate]] = lambda graphs: ()
    trains: int = 1
    room: int = 0
    pool: Sequence[Candidate] = ()

    def pending(self) -> set[str]:
        """Returns the keys of the trials whose training is under way: a strategy was not told of them yet."""
        return {trial.key for trial in self.trials if trial.status == "pending" and trial.key is not None}


class FitFailed(Exception):
    """A piece of a fit has no result; the strategy leaves it to the loop, which asks it for nothing.

    Attributes:
        kind: ``diverged``, ``out_of_memory``, ``timeout``, ``too_slow`` …
    """

    def __init__(self, what: str, kind: str, note: str) -> None:
        super().__init__(f"{what}: {note or kind}")
        self.kind = kind


@dataclass(frozen=True)
class Fit:
    """What a fit may use: the channel of strategies that learn by training, before they are asked.

    Attributes:
        seconds: Nominal seconds that all trainings of the fit may take together.
        deadline: Latest moment for the end of the fit, on `time.monotonic`.
        examples: Examples of the training part.
        rates: Nominal cost of training on this device.
        rng: Chance, the same in a resumed run.
        run: Carries out one piece of the fit (a job) and returns its result. It is charged, and on disk before it is
            returned; what a killed run has paid for comes from the log. Raises `FitFailed`, which is not to be caught.
        warn: Tells the person something, once.
    """

    seconds: float
    deadline: float
    examples: int
    rates: Rates
    rng: Rng
    run: RunFit
    warn: Callable[[str], None]


class RunFit(Protocol):
    """Carries out one piece of a fit."""

    def __call__(self, what: str, job: str, payload: dict[str, Any], nominal_s: float,
                 weights: str | None = None) -> dict[str, Any]:
        """Returns the result.

        Args:
            what: Name of the piece, unique in the fit; its checkpoints are named so.
            job: Kind of job.
            payload: What it is told, besides the data.
            nominal_s: What it costs on the nominal clock.
            weights: Name of the piece whose last checkpoint it needs; None for a training that starts anew.

        Raises:
            FitFailed: There is no result.
        """


class Strategy(Protocol):
    """Proposes architectures.

    `ask` must not change the strategy and may use no chance but its `rng`: a killed run asks the same step again and
    must get the same answer. State changes in `tell` alone, which is called with every trial in the order of the log.

    A proposal may ask for a share of a short training (`Proposal.share`), and for a trial to be trained for a larger
    one than it was (`Proposal.promotes`). With share 0 it is screened and logged, and waits for its promotion. What
    comes back stands in `Trial.partial`, and in `Trial.score` only when the share was 1.

    A class may say by an attribute ``batch`` how many proposals it wants to be asked for at once where nothing else
    sets it (published tables); 1 without it.

    Attributes:
        name: As `--strategy` takes it.
        waits: Whether an ask may wait for something (a language model); the loop then calls it on a thread.
    """

    name: str
    waits: bool

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns at most `n` proposals; fewer, or none, when there is nothing left to propose."""

    def tell(self, trials: Sequence[Trial]) -> None:
        """Takes trials in: each when it is screened out, invalid or a duplicate, or when a training of it ended."""


@runtime_checkable
class Fits(Protocol):
    """A strategy that learns by training before it is asked (gradient strategies)."""

    def fit(self, fit: Fit) -> None:
        """Learns. Called once by every process of a run, before the first ask; equal results give equal proposals."""


def load_strategy(name: str) -> Callable[[Setup], Strategy]:
    """Returns what makes the strategy named so; its attribute ``uses_model`` says whether it needs a language model.

    Options may follow a name, ``darts:order=2:partial=4``. A strategy takes them by a class attribute ``Options``, a
    frozen pydantic model, and as a second argument of that type.

    Raises:
        InputError: There is none, it cannot be loaded, or it has no such options.
    """
    others = plugins("strategies")
    head, colon, tail = name.partition(":")
    listed = head in STRATEGIES or head in others
    if not listed and not is_path(name):
        raise InputError(f"unknown strategy {name!r}", nearest(name, [*STRATEGIES, *others]))
    if head not in STRATEGIES and head in others:
        made = others[head].load()
    else:
        made = load_path(STRATEGIES.get(head, name), f"strategy {name!r}")
    return cast(Callable[[Setup], Strategy], _With(made, read_options(head, made, tail)) if listed and colon else made)


@dataclass(frozen=True)
class _With:
    """Makes a strategy with options."""

    made: Any
    options: Frozen

    @property
    def uses_model(self) -> bool:
        """Whether it needs a language model."""
        return bool(getattr(self.made, "uses_model", False)) and getattr(self.options, "model", True) is not False

    @property
    def batch(self) -> int:
        """How many proposals it wants to be asked for at once."""
        return int(getattr(self.made, "batch", 1))

    def __call__(self, setup: Setup) -> Strategy:
        """Returns the strategy."""
        return cast(Strategy, self.made(setup, self.options))


def read_options(name: str, made: Any, text: str) -> Frozen:
    """Returns the options in ``order=2:partial=4``.

    Raises:
        InputError: The strategy takes none, has no such option, or the value does not fit; says which there are.
    """
    options: type[Frozen] | None = getattr(made, "Options", None)
    if options is None:
        raise InputError(f"strategy {name} takes no options, got {text!r}", f"write --strategy {name}")
    what = f"strategy {name}"
    return checked_options(what, options, written_options(what, options, text), text,
                           "docs/strategies/ says what each means")


def promotion(strategy: str, step: int, trial: Trial, share: float) -> Proposal:
    """Returns the proposal to train a trained trial again, for a larger share of a short training."""
    return Proposal(graph=trial.proposal.graph, share=share, promotes=trial.n, origin=Origin(
        strategy=strategy, operator="promote", step=step))


def proposal(strategy: str, operator: str, step: int, graph: ArchGraph, parents: Sequence[ArchGraph] = (),
             rationale: str = "", scores: Mapping[str, float] | None = None) -> Proposal:
    """Returns the proposal of a graph that code made."""
    return Proposal(graph=graph, rationale=rationale, scores=dict(scores or {}), origin=Origin(
        strategy=strategy, operator=operator, step=step, parents=tuple(parent.key() for parent in parents)))


def unseen(space: Space, rng: Rng, n: int, seen: Container[str],
           identity: Callable[[ArchGraph], str] = ArchGraph.key) -> list[ArchGraph]:
    """Returns `n` random graphs that differ in `identity`, none of them in `seen`.

    Fewer, or none, when `DRAWS` draws in a row bring nothing new: then nearly all of the space was seen.
    """
    found: dict[str, ArchGraph] = {}
    failures = 0
    while len(found) < n and failures < DRAWS:
        graph = space.sample(rng)
        name = identity(graph)
        if name in seen or name in found:
            failures += 1
        else:
            found[name], failures = graph, 0
    return list(found.values())
