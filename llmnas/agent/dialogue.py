"""What is said to the language model and what is made of its answers: proposals, repairs, rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from llmnas.agent.briefing import Briefing, Request
from llmnas.agent.calls import Caller
from llmnas.agent.knowledge import RULES_SCHEMA, read_rules
from llmnas.graph import ArchGraph, Issue
from llmnas.llm import cut_off, read_object
from llmnas.records import Origin, Proposal, Reflected, Rule
from llmnas.space import read_proposals
from llmnas.strategies.base import Context, Rng, Setup

REPAIRS: Final = 2
"""Rounds in which invalid proposals are sent back with their issues."""
REFLECT_EVERY: Final = 4
"""Steps between two looks back."""
REFLECT_FROM: Final = 6
"""Trained trials before the first look back."""


class Dialogue:
    """The calls of one run. Every one is stateless: the model never sees its own earlier replies.

    Args:
        setup: Space, task, settings, model and prompts.
        strategy: Name for the proposals.
    """

    def __init__(self, setup: Setup, strategy: str) -> None:
        self.setup, self.space, self.strategy = setup, setup.space, strategy
        self.prompts = setup.prompts
        self.briefing = Briefing(setup)

    def opened(self, ctx: Context) -> Caller:
        """Returns what makes the calls of one ask."""
        self.briefing.disguise.log(ctx)
        return Caller(self.setup.model, self.prompts.id, ctx, self.setup.settings.seed, self.setup.target,
                      self.briefing.disguise)

    # -- proposing

    def propose(self, caller: Caller, request: Request, rules: Sequence[Rule], rng: Rng,
                ctx: Context) -> list[Proposal]:
        """Returns the model's proposals, repaired where they could be; none when the call failed."""
        context = self.briefing.propose(request, ctx.trials, rules, rng)
        shown = tuple(trial.key for trial in request.exemplars if trial.key is not None)
        call, reply = caller.call("propose", self.prompts.render("propose", context), self.space.wire_schema())
        if reply is None:
            return []
        read = self._read(call, reply.text, request.operator, ctx.step, shown)[:request.count]
        return self._repaired(caller, read, rng, ctx)

    def _read(self, call: str, text: str, operator: str, step: int, parents: tuple[str, ...]) -> list[Proposal]:
        """Returns every proposal in a reply, with its issues; a reply that cannot be read is one invalid proposal."""
        value, faults = read_object(text)
        origin = Origin(strategy=self.strategy, operator=operator, step=step, parents=parents, prompt=self.prompts.id,
                        call=call)
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
            answers = self._read(call, reply.text, "", ctx.step, ())
            for i, answer in zip(broken, answers, strict=False):
                proposals[i] = _in_place(proposals[i], answer)
        return proposals

    # -- looking back

    def reflect(self, caller: Caller, rng: Rng, ctx: Context) -> Sequence[Rule]:
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
