"""`Agent`: the language model proposes and repairs graphs and looks back; code screens, measures and decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from llmnas.agent.briefing import Briefing
from llmnas.agent.calls import Caller
from llmnas.agent.knowledge import RULES_SCHEMA, read_rules
from llmnas.graph import ArchGraph, Issue
from llmnas.llm import ChatModel, cut_off, read_object
from llmnas.prompts import PromptSet
from llmnas.records import Origin, Proposal, Reflected, Rule, Trial
from llmnas.space import read_proposals
from llmnas.strategies.base import Context, Rng, Setup, proposal

REPAIRS: Final = 2
"""Rounds in which invalid proposals are sent back with their issues."""
REFLECT_EVERY: Final = 4
"""Steps between two looks back."""
REFLECT_FROM: Final = 6
"""Trained trials before the first look back."""


class Agent:
    """The strategy led by a language model.

    Each ask is stateless: the model sees the space, at most three exemplars, the knowledge base and the recent
    faults, never its own earlier replies. Beside its proposals one edit of the best architecture is made by code, and
    the first ask spreads known-good designs over the range of cost; each proposal says which operator made it.

    Args:
        setup: Space, task, settings, model and prompts.
    """

    name = "agent"
    uses_model = True

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.space = setup.space
        self.model: ChatModel = setup.model
        self.prompts: PromptSet = setup.prompts
        self.briefing = Briefing(setup)
        self.waits = not self.model.instant

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learns nothing that is not in the log: every ask starts from its context."""

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns the model's proposals, repaired where they could be, and those of the other operators."""
        caller = Caller(self.model, self.prompts.id, ctx, self.setup.settings.seed, self.setup.target,
                        self.briefing.disguise)
        self.briefing.disguise.log(ctx)
        others = self._others(n, rng, ctx)
        rules = self._reflect(caller, rng, ctx)
        made = [*self._propose(caller, max(1, n - len(others)), rules, rng, ctx), *others]
        return made or self._others(2, rng, ctx)  # a call may fail; nothing proposed would mean nothing left to propose

    # -- operators beside the model

    def _others(self, n: int, rng: Rng, ctx: Context) -> list[Proposal]:
        if ctx.step == 0 and self.setup.settings.prior:
            return self._prior(n // 2, ctx.step)
        trained = [trial for trial in ctx.trials if self.setup.merit(trial) is not None and not trial.violates]
        if n < 2 or not trained:
            return [proposal(self.name, "random", ctx.step, self.space.sample(rng))] if n > 1 else []
        best = max(trained, key=lambda trial: (self.setup.merit(trial) or 0.0, -trial.n)).proposal.graph
        return [] if best is None else [
            proposal(self.name, "one_edit", ctx.step, self.space.mutate(best, rng), [best])]

    def _prior(self, n: int, step: int) -> list[Proposal]:
        """Returns known-good designs, evenly spread over the cost of those that keep the constraints.

        When none does, over those that can be trained in the time.
        """
        designs = [graph for graph in self.space.prior() if self._trainable(graph)]
        designs = [graph for graph in designs if self.setup.keeps(graph)] or designs
        designs.sort(key=self._macs)
        picked = sorted({round(i * (len(designs) - 1) / max(1, n)) for i in range(1, n + 1)} if designs else ())
        return [proposal(self.name, "prior", step, designs[i]) for i in picked]

    def _trainable(self, graph: ArchGraph) -> bool:
        return not self.space.validate(graph, self.setup.shape, self.setup.classes) and (
            self.setup.max_macs is None or self._macs(graph) <= self.setup.max_macs)

    def _macs(self, graph: ArchGraph) -> int:
        return self.space.network(graph, self.setup.shape, self.setup.classes).counts.macs

    # -- proposing

    def _propose(self, caller: Caller, count: int, rules: Sequence[Rule], rng: Rng, ctx: Context) -> list[Proposal]:
        context = self.briefing.propose(count, ctx.trials, rules, rng)
        shown = tuple(key for trial in ctx.trials if trial.key is not None
                      and any(item["trial"] == trial.n for item in context["block"]["exemplars"])
                      for key in [trial.key])
        call, reply = caller.call("propose", self.prompts.render("propose", context), self.space.wire_schema())
        if reply is None:
            return []
        return self._repaired(caller, self._read(call, reply.text, ctx.step, shown, 0)[:count], rng, ctx)

    def _read(self, call: str, text: str, step: int, parents: tuple[str, ...], repairs: int) -> list[Proposal]:
        """Returns every proposal in a reply, with its issues; a reply that cannot be read is one invalid proposal."""
        value, faults = read_object(text)
        origin = Origin(strategy=self.name, operator="llm_propose", step=step, parents=parents, prompt=self.prompts.id,
                        call=call, repairs=repairs)
        if value is None:
            kind = "cut" if cut_off(faults) else "unreadable"
            return [Proposal(raw={kind: text[:4000]}, graph=None, issues=tuple(faults), origin=origin)]
        return [Proposal(raw=raw, graph=graph, issues=tuple(issues or self._illegal(graph)), origin=origin,
                         rationale=rationale[:500])
                for raw, graph, issues, rationale in read_proposals(value, self.space.name)]

    def _illegal(self, graph: ArchGraph | None) -> list[Issue]:
        return [] if graph is None else self.space.validate(graph, self.setup.shape, self.setup.classes)

    def _repaired(self, caller: Caller, proposals: list[Proposal], rng: Rng, ctx: Context) -> list[Proposal]:
        """Sends invalid proposals back with their issues, at most `REPAIRS` times; valid ones are not touched.

        A repaired proposal takes the place of the broken one; one that was never repaired stays as it came.
        """
        for _ in range(REPAIRS):
            broken = [i for i, one in enumerate(proposals) if one.issues]
            if not broken:
                break
            context = self.briefing.repair([(proposals[i].raw, proposals[i].issues) for i in broken], rng)
            call, reply = caller.call("repair", self.prompts.render("repair", context), self.space.wire_schema())
            if reply is None:
                break
            answers = self._read(call, reply.text, ctx.step, (), 0)
            for i, answer in zip(broken, answers, strict=False):
                proposals[i] = _in_place(proposals[i], answer)
        return proposals

    # -- looking back

    def _reflect(self, caller: Caller, rng: Rng, ctx: Context) -> Sequence[Rule]:
        """Returns the knowledge base, rewritten by the model every few steps."""
        trained = sum(trial.score is not None for trial in ctx.trials)
        if not self.prompts.reflects or ctx.step % REFLECT_EVERY or trained < REFLECT_FROM:
            return ctx.rules
        context = self.briefing.reflect(ctx.trials, ctx.rules, rng)
        call, reply = caller.call("reflect", self.prompts.render("reflect", context), dict(RULES_SCHEMA))
        value: Any = read_object(reply.text)[0] if reply is not None else None
        rules = read_rules(value, ctx.trials, ctx.step)
        if not rules:
            return ctx.rules
        ctx.emit(Reflected(step=ctx.step, call=call, rules=tuple(rules)))
        return rules


def _in_place(broken: Proposal, answer: Proposal) -> Proposal:
    """Returns the answer to a repair with the history of what it repairs."""
    origin = broken.origin.model_copy(update={"call": answer.origin.call, "repairs": broken.origin.repairs + 1})
    return answer.model_copy(update={"origin": origin, "rationale": answer.rationale or broken.rationale})
