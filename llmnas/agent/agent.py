"""`Agent`: a language model and plain operators propose, a surrogate and proxies choose what is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

from llmnas.agent.briefing import Request, exemplars
from llmnas.agent.calls import Caller
from llmnas.agent.dialogue import Dialogue
from llmnas.agent.knowledge import standing
from llmnas.agent.niches import Niche, chosen, niches
from llmnas.agent.operators import CODE_OPERATORS, MODEL_OPERATORS, earned, on_plateau, shares
from llmnas.agent.placebo import History, seen_as
from llmnas.agent.probe import PROBE, probes
from llmnas.graph import ArchGraph, Frozen
from llmnas.records import Proposal, Rule, Trial
from llmnas.strategies.base import Context, Rng, Setup, promotion, proposal
from llmnas.strategies.bayesian import Bayesian
from llmnas.strategies.points import Floats, Point, screened, sized
from llmnas.strategies.prospects import Pool
from llmnas.strategies.surrogate import SCREENED, SIZED, forecast, most

TRIES: Final = 20
"""Draws of an operator by code until something new comes."""
DIMINISHING: Final = "diminishing returns: the last trainings brought nothing new, so propose what differs from them"


class AgentOptions(Frozen):
    """Parts of the agent that can be switched off, to see what each is worth.

    Attributes:
        model: Ask the language model.
        probe: Propose known-good designs first, where they may be.
        niches: Ask for one part of the space at a time.
        knowledge: Let the model write rules, and show them.
        surrogate: Choose what is trained by a surrogate with proxies among all that was screened; without it the
            proposals are trained as they come.
        operators: Propose by code as well: edits, crossovers, random designs.
        history: What the model is shown of the trials: ``true``; ``none``; ``shuffled``, their scores permuted.
    """

    model: bool = True
    probe: bool = True
    niches: bool = True
    knowledge: bool = True
    surrogate: bool = True
    operators: bool = True
    history: History = "true"


class Agent:
    """The strategy led by a language model.

    1. Known-good designs over the range of cost are proposed first, where they may be (`PROBE`).
    2. Every ask divides its proposals among operators by what they brought (`operators`): the language model (fresh
       designs, edits of exemplars, crossings of two), one edit, crossover and random draws by code. One call asks for
       all of the model's; for a niche of the space where the front can still grow (`niches`).
    3. All of them are screened and wait. What is trained is chosen by the expected improvement of a surrogate with
       proxies (`Bayesian`), among these and the surrogate's own candidates.
    4. Every few steps the model rewrites its rules (`Dialogue.reflect`).

    When the last trainings brought nothing, all operators explore alike, and the model is told.

    Args:
        setup: Space, task, settings, model and prompts.
        options: Parts to switch off.
    """

    name = "agent"
    Options = AgentOptions
    uses_model = True
    batch = 8

    def __init__(self, setup: Setup, options: AgentOptions | None = None) -> None:
        self.setup, self.space, self.identity = setup, setup.space, setup.identity
        self.options = options or AgentOptions()
        self.core = Bayesian(setup)
        self.dialogue = Dialogue(setup, self.name) if self.options.model else None
        self.waits = self.dialogue is not None and not setup.model.instant

    def tell(self, trials: Sequence[Trial]) -> None:
        """Takes in scores for the surrogate; all else starts from the log."""
        self.core.tell(trials)

    # -- asking

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns what is to be trained, and proposals to be screened for later asks."""
        choosing, making = rng.spawn(2)  # what is made does not hang on how many draws choosing took
        if not self.options.surrogate or n <= ctx.trains:  # what is made is trained: there is nothing to choose
            return self._made(min(n, ctx.trains), None, making, ctx)
        waiting = self._waiting(ctx)
        niche = self._niche(self._whole(self.core.prospects.gathered(ctx.pool), waiting, ctx), making)
        pool = self.core.pool(choosing, ctx, self.core.taken(ctx))
        trained = self._trained(self._whole(pool, waiting, ctx), waiting, choosing, ctx)
        made = [one.model_copy(update={"share": 0.0}) for one in self._made(n - ctx.trains, niche, making, ctx)]
        return self._started([*trained, *made], ctx)

    def _started(self, proposals: list[Proposal], ctx: Context) -> list[Proposal]:
        """Returns the proposals, the first legal ones to be trained at once when nothing else was chosen for it."""
        left = ctx.trains if all(one.share == 0 for one in proposals) else 0
        found = []
        for one in proposals:
            first = left > 0 and not one.issues and (one.graph is not None and self.setup.keeps(one.graph))
            left -= first
            found.append(one.model_copy(update={"share": 1.0}) if first else one)
        return found

    # -- choosing what is trained

    def _waiting(self, ctx: Context) -> dict[str, Trial]:
        """Returns the proposals that were screened and no more, by identity."""
        return {self.identity(trial.proposal.graph): trial for trial in ctx.trials
                if trial.status == "screened" and not trial.violates and trial.proposal.graph is not None}

    def _whole(self, pool: Pool, waiting: Mapping[str, Trial], ctx: Context) -> Pool:
        """Returns the pool with the waiting proposals, without what was trained."""
        taken = self.core.taken(ctx) - waiting.keys()
        points = {point.name: point for point in pool.points if point.name not in taken}
        points |= {name: self._point(trial) for name, trial in waiting.items()}
        return replace(pool, points=list(points.values()))

    def _trained(self, pool: Pool, waiting: Mapping[str, Trial], rng: Rng, ctx: Context) -> list[Proposal]:
        """Returns promotions of waiting proposals, and proposals from the pool."""
        taken = self.core.taken(ctx) - waiting.keys()
        if not self.core.fits(pool):
            return self._first(pool, waiting, taken, ctx)
        known = self.core.known_with_proxies(pool)
        parents = self.core.aim.parents(known)
        return [self._to_train(graph, waiting, ctx, parents)
                for graph in self.core.best(ctx.trains, known, pool, rng, ctx, taken)]

    def _point(self, trial: Trial) -> Point:
        graph = trial.proposal.graph
        if graph is None:
            raise ValueError(f"trial {trial.n} has no graph")
        return replace(self.core.prospects.sized(graph, trial.counts), scores=trial.scores)

    def _first(self, pool: Pool, waiting: Mapping[str, Trial], taken: set[str], ctx: Context) -> list[Proposal]:
        """Returns what is trained before there is a fit: known-good designs before others, as the aim orders them."""
        prior = {name for name, trial in waiting.items() if trial.proposal.origin.operator == "prior"}
        if not prior and self._prior(1, ctx):
            return []  # they come with this ask, and the first of them is trained
        points = [point for point in pool.points if point.name in prior] or pool.points
        ordered = [points[place] for place in self.core.aim.first(points)] if points else []
        free = [point.graph for point in ordered if point.name not in taken]
        return [self._to_train(graph, waiting, ctx, ()) for graph in free[:ctx.trains]]

    def _to_train(self, graph: ArchGraph, waiting: Mapping[str, Trial], ctx: Context,
                  parents: Sequence[ArchGraph]) -> Proposal:
        trial = waiting.get(self.identity(graph))
        if trial is not None:
            return promotion(self.name, ctx.step, trial, 1.0)
        return proposal(self.name, "surrogate" if parents else "warm", ctx.step, graph, parents)

    def _niche(self, pool: Pool, rng: Rng) -> Niche | None:
        """Returns the part of the space to ask the model for; None before there is a fit."""
        if not self.options.niches or self.dialogue is None or not pool.points or not self.core.fits(pool):
            return None
        return chosen(niches(pool.points), pool.points, self._gains(pool), rng)

    def _gains(self, pool: Pool) -> Floats:
        told = most(self.core.known_with_proxies(pool))
        groups, choices = (screened, SCREENED) if pool.scores else (sized, SIZED)
        return self.core.aim.gain(pool.points, forecast(pool.points, told, (), groups, choices),
                                  [point for point, _ in told])

    # -- making proposals

    def _made(self, n: int, niche: Niche | None, rng: Rng, ctx: Context) -> list[Proposal]:
        """Returns at most `n` new proposals by all operators."""
        known_good = self._prior(n - n // 2, ctx)
        n -= len(known_good)
        wide = on_plateau(ctx.trials, self.setup)
        names = (*(MODEL_OPERATORS if self.options.model else ()), *(CODE_OPERATORS if self.options.operators else ()))
        if not names or n < 1:
            return known_good
        sharing, talking = rng.spawn(2)
        counts = shares(n, earned(names, ctx.trials, ctx.calls(), self.setup), sharing, wide)
        asked = [(name, counts[name]) for name in MODEL_OPERATORS if counts[name]]
        made = [one for name, count in asked for one in self._by_model(name, count, niche, wide, talking, ctx)]
        coded = [name for name in CODE_OPERATORS for _ in range(counts[name])]
        # A call may fail; nothing proposed would mean that nothing is left to propose.
        coded += ["one_edit"] * (not made and not coded and not known_good)
        return [*known_good, *made, *(self._by_code(name, rng, ctx) for name in coded)]

    def _prior(self, n: int, ctx: Context) -> list[Proposal]:
        """Returns known-good designs of the probe that were not proposed yet."""
        if not self.options.probe or not self.setup.settings.prior or len(self.core.known) >= PROBE:
            return []
        done = {self.identity(trial.proposal.graph) for trial in ctx.trials
                if trial.proposal.graph is not None and trial.status != "invalid"}
        left = [graph for graph in self._probes if self.identity(graph) not in done]
        return [proposal(self.name, "prior", ctx.step, graph) for graph in left[:n]]

    @cached_property
    def _probes(self) -> list[ArchGraph]:
        return probes(self.setup)

    def _by_model(self, operator: str, count: int, niche: Niche | None, wide: bool, rng: Rng,
                  ctx: Context) -> list[Proposal]:
        if self.dialogue is None:
            return []
        caller, shown = self.dialogue.opened(ctx), replace(ctx, trials=seen_as(ctx.trials, self.options.history, rng))
        rules = self._rules(caller, rng, shown)
        request = Request(count, operator, self._exemplars(shown.trials, niche, rng),
                          None if niche is None else niche.text, DIMINISHING if wide else None)
        return self.dialogue.propose(caller, request, rules, rng, shown)

    def _exemplars(self, trials: Sequence[Trial], niche: Niche | None, rng: Rng) -> list[Trial]:
        """Returns the trials that the model is shown, of the niche where it has any."""
        if self.dialogue is None:
            return []
        near = [trial for trial in trials if niche is not None and trial.score is not None
                and niche.holds(self._point(trial))]
        most = self.dialogue.briefing.shows.exemplars
        return exemplars(near, self.setup, rng, most) or exemplars(trials, self.setup, rng, most)

    def _rules(self, caller: Caller, rng: Rng, ctx: Context) -> Sequence[Rule]:
        if self.dialogue is None or not self.options.knowledge or self.options.history == "none":
            return ()
        return standing(self.dialogue.reflect(caller, rng, ctx), ctx.step)

    def _by_code(self, operator: str, rng: Rng, ctx: Context) -> Proposal:
        """Returns a proposal that was not made before, if `TRIES` draws bring one."""
        known = {trial.key for trial in ctx.trials}
        for _ in range(TRIES):
            found = self._drawn(operator, rng, ctx)
            if found.graph is not None and found.graph.key() not in known:
                break
        return found

    def _drawn(self, operator: str, rng: Rng, ctx: Context) -> Proposal:
        parents = self.core.aim.parents(self.core.known) if self.core.known else []
        if operator == "random" or not parents:
            return proposal(self.name, "random", ctx.step, self.space.sample(rng))
        first, second = (parents[int(rng.integers(len(parents)))] for _ in range(2))
        if operator == "crossover" and first != second:
            return proposal(self.name, "crossover", ctx.step, self.space.crossover(first, second, rng), [first, second])
        return proposal(self.name, "one_edit", ctx.step, self.space.mutate(first, rng), [first])
