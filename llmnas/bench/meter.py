"""The one meter of all strategies: a search on a published table, charged and traced request by request."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal
from weakref import WeakKeyDictionary

from llmnas.bench.answering import kept_calls, opened, task_of
from llmnas.bench.tabular import Benchmark
from llmnas.budget import Clock, rates_for
from llmnas.compare import Answers
from llmnas.compare.rates import answers
from llmnas.errors import InputError
from llmnas.evaluate import Ordered, Screened
from llmnas.executors import Handle
from llmnas.front import violations
from llmnas.graph import ArchGraph
from llmnas.proxies import default_weights, labelled_pool, ranking, weights
from llmnas.records import (
    Called,
    Event,
    Latency,
    Measured,
    Plan,
    Rung,
    RunStarted,
    Settings,
    Told,
    Trained,
    Trial,
    Usage,
)
from llmnas.search import Journal, Search
from llmnas.store import MemoryStore, RunState, Spent, total_usage
from llmnas.strategies import Setup, load_strategy
from llmnas.strategies.base import Fits

Charge = Literal["distinct", "all"]
ATTEMPTS: Final = 400
"""Proposals per evaluation after which a search ends: one that never proposes anything new must end too."""
_FOREVER_S: Final = 1e9
_UNLISTED: Final = "not in the table"
_UNSUPPORTED: Final = "not supported by the device"


@dataclass(frozen=True)
class Terms:
    """What every seed of a row has in common.

    Attributes:
        strategy: Name of the strategy.
        evals: Evaluations: what the trainings paid for may cost together, a whole one 1.
        charge: ``distinct``: a repeat costs nothing and brings nothing; ``all``: it is paid again and told again.
        screen: Architectures whose published proxies may be looked at; 0 for none.
        batch: Proposals asked for at once, of which the best by proxies is evaluated; None: as many as the strategy
            wants.
        prior: Whether a strategy may use the space's known-good designs.
        cap_ms: Most latency; architectures above it are refused, which costs nothing.
        llm: The language model of a strategy that uses one, as ``--llm`` of a run; or several.
        prompt: Its prompt set.
        front: Whether the front of score and latency is what is asked for.
    """

    strategy: str
    evals: int
    charge: Charge = "distinct"
    screen: int = 0
    batch: int | None = None
    prior: bool = True
    cap_ms: float | None = None
    llm: str | tuple[str, ...] = "auto"
    prompt: str = "base"
    front: bool = False


@dataclass
class Outcome:
    """What one seed did.

    Attributes:
        seed: The seed.
        charged: Names of the rows paid for, in order; those with a part of a training only are in `brief`.
        brief: Names of rows with the share of a training paid for, in order.
        cost: What all of it cost, in evaluations.
        counts: ``repeats``, ``invalid``, ``refused`` and ``passed_over`` proposals, which cost nothing.
        proxied: Architectures whose proxies were looked at.
        predicted: Evaluations that a surrogate answered.
        repaired: Proposals that are valid only after repair.
        stopped: Why it ended.
        model: The language model that was asked; None when the strategy uses none.
        prompt: ``name@hash`` of the prompt set it was asked with, likewise.
        answers: What its proposals were worth, likewise.
        calls: Calls of it, failed ones included.
        usage: What they cost together: tokens, money, seconds.
        waited_s: Seconds of model calls up to each evaluation, in the order of `charged`.
        trainings: Every training paid for, parts included: name of the row and cost, in order.
        whole: The places in `trainings` of those in `charged`.
    """

    seed: int
    charged: list[str] = field(default_factory=list)
    brief: list[tuple[str, float]] = field(default_factory=list)
    cost: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    proxied: int = 0
    predicted: int = 0
    repaired: int = 0
    stopped: str = ""
    model: str | None = None
    prompt: str | None = None
    answers: Answers | None = None
    calls: int = 0
    usage: Usage = field(default_factory=lambda: Spent().usage)
    waited_s: list[float] = field(default_factory=list)
    trainings: list[tuple[str, float]] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)


class Trace:
    """Writes one JSON line per proposal, before the table answers.

    Args:
        file: Where to; None writes nothing.
        common: What every line says.
        bench: Names the rows.
    """

    def __init__(self, file: IO[str] | None, common: dict[str, Any], bench: Benchmark) -> None:
        self._file, self._common, self._bench = file, common, bench
        self._rows: dict[str, str] = {}
        self.proxied = 0

    def write(self, trial: Trial, charged: bool, share: float = 1.0, cost: float = 1.0) -> None:
        """Writes the line of a proposal, or of a further training; share and cost where they are not 1."""
        if self._file is None:
            return
        origin, ops = trial.proposal.origin, self._name(trial)
        line = {**self._common, "n": trial.n, "ops": ops, "charged": charged, "operator": origin.operator,
                "parents": [self._rows.get(key, key) for key in origin.parents], "proxied": self.proxied,
                **self._marks(ops, charged), **({} if share == cost == 1 else {"share": share, "cost": cost})}
        if ops is not None and trial.key is not None:
            self._rows[trial.key] = ops
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _marks(self, ops: str | None, charged: bool) -> dict[str, Any]:
        """Returns the mark of what a surrogate answers; nothing where every row was trained."""
        return {"surrogate": charged and not self._bench.listed(ops or "")} if self._bench.layout.surrogate else {}

    def _name(self, trial: Trial) -> str | None:
        """Returns the row of a proposal; None when it is not an architecture of the space."""
        graph = trial.proposal.graph
        try:
            return None if graph is None else self._bench.name(graph)
        except (KeyError, ValueError):
            return None


class TableEvaluator:
    """Trains by looking up, and screens with the table's latencies and published proxies.

    Args:
        bench: The table.
        settings: What the search is told.
        trace: Gets a line per request.
        outcome: Gets what was paid for.
    """

    def __init__(self, bench: Benchmark, settings: Settings, trace: Trace, outcome: Outcome) -> None:
        self.bench, self.settings, self.trace, self.outcome = bench, settings, trace, outcome
        self._looked_at: set[str] = set()

    def keeps(self, graph: ArchGraph) -> bool:
        """Returns whether a graph is a row that breaks no constraint: a column of latencies is there to be read."""
        return not self._screened(graph).violates

    def milliseconds(self, graph: ArchGraph) -> float | None:
        """Returns the published latency of a graph; None without a device, or where there is none."""
        device = self.bench.device
        return None if device is None else self.bench.latency(self.bench.name(graph))

    def screen(self, graphs: Sequence[ArchGraph], scored: int | None, limit_s: float) -> list[Screened]:
        """Returns size, latency and refusals; the published proxies of as many as may still be looked at.

        With one graph there is nothing to choose, and no proxy is looked at.
        """
        found = [self._screened(graph) for graph in graphs]
        if len(graphs) == 1 or not self.settings.screen:
            return found
        names = [self.bench.name(graph) for graph in graphs]
        return [self._looked(name, one) for name, one in zip(names, found, strict=True)]

    def _looked(self, name: str, one: Screened) -> Screened:
        """Returns a row with its published proxies, if they may be looked at; each is paid for once."""
        published = None if one.violates else self.bench.proxies.get(name)
        if published is None or (name not in self._looked_at and len(self._looked_at) >= (self.settings.screen or 0)):
            return one
        self._looked_at.add(name)
        self.trace.proxied = self.outcome.proxied = len(self._looked_at)
        return one.model_copy(update={"scores": published})

    def _screened(self, graph: ArchGraph) -> Screened:
        name = self.bench.name(graph)
        known = _KNOWN.setdefault(self.bench, {}).setdefault(self.settings.max_latency_ms, {})
        if name not in known:
            known[name] = self._described(graph, name)
        return known[name]

    def _described(self, graph: ArchGraph, name: str) -> Screened:
        counts = self.bench.space.network(graph).counts
        ms, device = self.bench.latency(name), self.bench.device
        latency = {} if ms is None or device is None else {
            device: Latency(ms=ms, low=ms, high=ms, device=device, source="table")}
        broken = violations(self.settings, self.settings.target, counts, latency, {})
        if not self.bench.has(name):
            broken = (_UNLISTED, *broken)
        elif device is not None and ms is None:
            broken = (_UNSUPPORTED, *broken)
        return Screened(counts=counts, latency=latency, violates=broken)

    def order(self, screened: Sequence[Screened], labelled: Sequence[Trial]) -> Ordered:
        """Returns the order by proxies as a run has it (`llmnas.proxies.weights`); as they came when there is none."""
        names = sorted({name for one in screened for name in one.scores})
        if len(screened) < 2 or not names:
            return Ordered(places=tuple(range(len(screened))))
        directions: dict[str, Literal[1, -1]] = dict.fromkeys(names, 1)
        pool, labels = labelled_pool(labelled)
        found = weights(pool, labels, directions, default_weights(self.bench.space.name, names))
        return Ordered(places=tuple(ranking([one.scores for one in screened], directions, found)), weights=found)

    def cost(self, trial: Trial, share: float) -> float:
        """Returns the share, or what is left of it when the table's trainings go on."""
        return self.bench.cost(share, trial.share)

    def start(self, trial: Trial, rung: Rung, limit_s: float, nominal_s: float | None = None,
              share: float = 1.0) -> LookedUp:
        """Writes the request down, then reads the validation score."""
        cost = self.cost(trial, share)
        self.trace.write(trial, charged=True, share=share, cost=cost)
        if trial.proposal.graph is None:
            raise ValueError(f"trial {trial.n} has no graph")
        name = self.bench.name(trial.proposal.graph)
        self.outcome.cost += cost
        self.outcome.trainings.append((name, cost))
        if share == 1:
            self.outcome.whole.append(len(self.outcome.trainings) - 1)
            self.outcome.charged.append(name)
            self.outcome.waited_s.append(self.outcome.usage.seconds)
        else:
            self.outcome.brief.append((name, share))
        self.outcome.predicted += not self.bench.listed(name)
        return LookedUp(trial.n, rung, self.bench.validation(name, share), share)

    def fit(self, job: str, payload: dict[str, Any], name: str, limit_s: float, start: str | None = None) -> Handle:
        """Refuses: a table has no examples to train on."""
        raise _no_data(self.settings.strategy)

    def settle(self, trial: Trial, limit_s: float, targets: Sequence[str]) -> list[Measured]:
        """Returns nothing: a published latency was measured already."""
        return []


_KNOWN: Final[WeakKeyDictionary[Benchmark, dict[float | None, dict[str, Screened]]]] = WeakKeyDictionary()
"""What is known of a row without training it, by table and cap: the same for every seed."""


class LookedUp:
    """A training that others have done."""

    def __init__(self, n: int, rung: Rung, percent: float, share: float = 1.0) -> None:
        self.n, self._rung, self._percent, self._share = n, rung, percent, share
        self.future: Future[Any] = Future()
        self.future.set_result(None)

    def result(self) -> Measured:
        """Returns the score as a fraction, as a training of our own has it."""
        score = self._percent / 100
        return Measured(n=self.n, rung=self._rung, trained=Trained(
            metric="accuracy", val_score=score, val_loss=1 - score, epochs=200 * self._share, seconds=0.0, seed=0,
            share=self._share))

    def cancel(self) -> None:
        """There is nothing to end."""


@dataclass
class _Uncharged:
    """An observer that traces and counts what costs nothing, and adds up what the language model costs."""

    trace: Trace
    outcome: Outcome

    def event(self, event: Event, state: RunState) -> None:
        """Takes in the proposals of an ask, or a model call."""
        if isinstance(event.body, Called):
            self.outcome.calls += 1
            self.outcome.usage = total_usage(self.outcome.usage, event.body.usage)
        if isinstance(event.body, Told):
            for trial in event.body.trials:
                self.outcome.repaired += trial.status != "invalid" and trial.proposal.origin.repairs > 0
                what = _free(trial)
                if what is not None:
                    self.outcome.counts[what] += 1
                if trial.status != "pending":
                    self.trace.write(trial, charged=False)

    def tick(self, state: RunState, clock_s: float, activity: str) -> None:
        """There is nothing to show."""


def _free(trial: Trial) -> str | None:
    match trial.status:
        case "duplicate":
            return "repeats"
        case "invalid":
            return "invalid"
        case "screened":
            return "refused" if trial.violates else "passed_over"
    return None


def search_once(bench: Benchmark, terms: Terms, seed: int, trace: IO[str] | None = None,
                calls: Path | None = None) -> Outcome:
    """Returns what one search did, by the loop of `llmnas run` over a store in memory.

    Shared with a run: the loop, the checks, the deduplication, the strategies and the fold. Not shared: the disk, the
    clock's deadlines, and what makes two proposals one: here it is the row of the table, there the function.

    Args:
        bench: The table.
        terms: What is searched how.
        seed: The seed.
        trace: Gets a line per proposal.
        calls: Folder that keeps the calls of a language model; a call that is there is not paid again. The mock's are
            not kept: it answers the same again.

    Raises:
        InputError: There is no such strategy, model or prompt set.
        ModelError: The endpoint that is configured does not answer.
    """
    outcome, made = Outcome(seed), load_strategy(terms.strategy)
    batch = terms.batch or int(getattr(made, "batch", 1))
    targets = () if bench.device is None else (bench.device,)
    settings = Settings(space=bench.space.name, strategy=terms.strategy, budget_s=_FOREVER_S, seed=seed,
                        max_evals=terms.evals, screen=terms.screen, prior=terms.prior, target=targets,
                        max_latency_ms=terms.cap_ms, llm=terms.llm, prompt=terms.prompt)
    lines = Trace(trace, {"seed": seed, "dataset": bench.dataset, "device": bench.device, "strategy": terms.strategy},
                  bench)
    journal = Journal(MemoryStore(), Clock(_FOREVER_S), _Uncharged(lines, outcome))
    shape, classes = bench.space.spec.shape, bench.space.spec.classes
    with opened(terms.strategy, terms.llm, terms.prompt, terms.prior, calls) as (model, prompts):
        outcome.model, outcome.prompt = model.name if model else None, prompts.id if prompts else None
        journal.emit(RunStarted(run="bench", settings=settings, plan=_plan(batch, terms.screen),
                                task=task_of(bench), environment={}, model=outcome.model, targets=targets))
        evaluator = TableEvaluator(bench, settings, lines, outcome)
        strategy = made(Setup(
            space=bench.space, settings=settings, shape=shape, classes=classes, targets=targets, task=task_of(bench),
            model=model, prompts=prompts, shares=bench.shares, front=terms.front, keeps=evaluator.keeps,
            milliseconds=evaluator.milliseconds,
            identity=bench.name if terms.charge == "distinct" else ArchGraph.key))
        if isinstance(strategy, Fits):
            raise _no_data(terms.strategy)
        search = Search(journal, bench.space, shape, classes, strategy, evaluator, model=kept_calls(model, calls),
                        interrupted=lambda: len(journal.state.trials) >= ATTEMPTS * terms.evals,
                        identity=bench.name if terms.charge == "distinct" else lambda _: None)
        with _one_thread():
            reason = search.run().reason
    outcome.answers = answers(journal.state.trials) if outcome.model else None
    outcome.stopped = "attempts" if reason == "interrupted" else reason
    return outcome


def _no_data(strategy: str) -> InputError:
    return InputError(f"strategy {strategy} learns by training, and a table has no data to train on",
                      "use `llmnas bench gradient --data DATA`, which looks up the rank of what it finds")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps linear algebra on one thread: more round otherwise, and a seed must give the same in any process."""
    import scipy.linalg  # noqa: F401  # brings a library of its own, which must be loaded to be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _plan(batch: int, screen: int) -> Plan:
    """Returns a plan without limits of time: `batch` proposals an ask, one of them evaluated.

    The plan expects so many proposals that a strategy may screen as many graphs as it may look at proxies.
    """
    return Plan(search_s=_FOREVER_S, final_s=0, wrap_s=0, full_s=0, finalists=0, short_s=1, train_deadline_s=1,
                batch=batch, promote=1, trainings=1, proposals=4 * max(1, screen), calls=None,
                rates=rates_for("cpu", 1), train_batch=1, train_steps=1, max_epoch_s=_FOREVER_S, proxies=())


def read_trace(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a trace."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
