"""What an agent would send next, to look at: the agent itself is asked, and what it says to its model is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from llmnas.agent.agent import Agent
from llmnas.budget import most_macs
from llmnas.errors import InputError
from llmnas.graph import ArchGraph
from llmnas.llm import ChatModel, Message, Reply
from llmnas.llm.base import JsonSchema
from llmnas.llm.block import role_of
from llmnas.llm.dials import Dials
from llmnas.llm.mock import MockModel
from llmnas.prompts import PromptSet, Role
from llmnas.records import Called, Candidate, Latency, Settings, Trained, Trial
from llmnas.space import Space
from llmnas.store import RunState
from llmnas.strategies.base import Context, Setup, proposal

STEPS: Final = 16
"""Steps looked ahead for a role that is not due at once."""
EXAMPLES: Final = 8
"""Known-good designs, and random ones where there are too few, that stand for trials where there is no run."""
NO_RUN: Final = ("There is no run to look at: the trials are designs of the space, and their scores and latencies are "
                 "made up.")


@dataclass(frozen=True)
class Scene:
    """A moment of a run at which an agent is asked.

    Attributes:
        setup: What the agent is made from; its model and prompts are put in when it is asked.
        trials: All so far.
        rules: The knowledge base.
        step: The step that comes next.
        count: Proposals that the loop asks for.
        trains: How many of them are trained.
        pool: What was screened without being proposed.
        calls: Calls so far.
    """

    setup: Setup
    trials: Sequence[Trial]
    rules: Sequence[Any]
    step: int
    count: int
    trains: int = 1
    pool: Sequence[Candidate] = ()
    calls: Sequence[Called] = ()


class _Listener(ChatModel):
    """The mock, which keeps what it is asked."""

    name, reason, offline, instant, priced = "preview", "", True, True, True

    def __init__(self, dials: Dials) -> None:
        self.asked: dict[str, list[Message]] = {}
        self._mock = MockModel(0, dials)

    def chat(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int,
             deadline: float | None = None) -> Reply:
        """Returns what the mock answers."""
        self.asked.setdefault(role_of(messages), list(messages))
        return self._mock.chat(messages, schema, seed, deadline)


def next_messages(scene: Scene, prompts: PromptSet, role: Role) -> list[Message]:
    """Returns the messages of the next call of a role, from the step that comes next on.

    What is to be repaired are proposals that the mock spoils. A role that is not due in this step is looked for in
    those that follow, as if nothing were measured until then.

    Args:
        scene: When.
        prompts: The prompt set.
        role: Which call.

    Raises:
        InputError: This prompt set makes no such call, or it is not due, or a template is wrong.
    """
    if role == "reflect" and not prompts.reflects:
        raise InputError(f"prompt {prompts.label} makes no reflect calls", "see `llmnas prompts show`")
    for step in range(scene.step, scene.step + STEPS):
        listener = _Listener(Dials(invalid=1.0 if role == "repair" else 0.0))
        agent = Agent(replace(scene.setup, model=listener, prompts=prompts))
        agent.tell([trial for trial in scene.trials if trial.status != "pending"])
        agent.ask(scene.count, np.random.default_rng([scene.setup.settings.seed, step]), _context(scene, step))
        if role in listener.asked:
            return listener.asked[role]
    raise InputError(f"no {role} call is due in the next {STEPS} steps: {len(scene.trials)} trials so far",
                     "give a run that trained more, or none to see an example")


def _context(scene: Scene, step: int) -> Context:
    return Context(step=step, trials=tuple(scene.trials), rules=tuple(scene.rules), deadline=float("inf"),
                   emit=lambda body: body, reply=lambda call: None, save=lambda record: "", calls=lambda: scene.calls,
                   trains=scene.trains, pool=scene.pool)


def scene_of(state: RunState, space: Space) -> Scene:
    """Returns the present moment of a run: the step that comes next, or the one that is not over yet."""
    task, asked = state.begun.task, state.asked
    shape, classes = tuple(task["shape"]), int(task["classes"])
    designs = [space.network(graph, shape, classes) for graph in space.prior()]
    setup = Setup(space=space, settings=state.settings, shape=shape, classes=classes, targets=state.targets,
                  max_macs=most_macs(state.plan, designs), task=task)
    step = 0 if asked is None else asked.step + (asked.step <= state.told_step)
    pools = [pool for pool in state.pools.values() if pool.step < step]
    return Scene(setup, state.trials, state.rules, step, asked.n if asked else state.plan.batch, state.plan.promote,
                 [one for pool in pools for one in pool.candidates], state.calls)


def example(space: Space, target: str = "cpu", count: int = 8, trained: bool = True) -> Scene:
    """Returns a made-up moment, for a space that was not searched: known-good designs with made-up figures.

    Args:
        space: The space.
        target: Key of the target.
        count: Proposals that the loop asks for.
        trained: Whether there are trials; without them it is the first step.
    """
    spec, unknown = space.spec, "an unknown number of"
    task = {"name": "example", "shape": list(spec.shape), "classes": spec.classes, "metric": "accuracy",
            "sizes": {"train": unknown, "val": unknown, "test": unknown}}
    setup = Setup(space=space, settings=Settings(space=space.name), shape=spec.shape, classes=spec.classes,
                  targets=(target,), task=task)
    designs, rng = space.prior(), np.random.default_rng(0)
    chosen = [designs[place * len(designs) // EXAMPLES] for place in range(min(EXAMPLES, len(designs)))]
    chosen += [space.sample(rng) for _ in range(EXAMPLES - len(chosen))]
    trials = [_made_up(n, space, graph, target) for n, graph in enumerate(chosen, start=1)] if trained else []
    return Scene(setup, trials, (), 1 if trained else 0, count)


def _made_up(n: int, space: Space, graph: ArchGraph, target: str) -> Trial:
    network = space.network(graph)
    score = 0.5 + 0.04 * n - 0.02 * (n % 3)
    return Trial(n=n, proposal=proposal("prior", "prior", 0, graph), status="trained", key=graph.key(),
                 counts=network.counts, rank=1,
                 latency={target: Latency(ms=n, low=n, high=n, device=target, source="analytic")},
                 trained={"short": Trained(metric="accuracy", val_score=score, val_loss=1 - score, epochs=1, seconds=1,
                                           seed=0)})
