"""REINFORCE over a space's decisions (Williams 1992; Zoph and Le, arXiv 1611.01578; NAS-Bench-201, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmnas.errors import InputError
from llmnas.graph import ArchGraph, Node
from llmnas.records import Proposal, Trial
from llmnas.space import Space, list_spaces, load_space
from llmnas.space.slots import Slots
from llmnas.strategies.base import Context, Rng, Setup, proposal

RATE: Final = 0.1
"""Step of Adam."""
DECAY: Final = 0.9
"""Decay of the moving averages of reward and spread."""
ENTROPY: Final = 0.01
"""Weight of the entropy bonus, in units of the reward's spread."""
DRAWS: Final = 1000

Floats = NDArray[np.float64]
Decision = tuple[str, str | None, str | None]
"""Slot; the op and the attribute that are decided on, None both for the op itself."""


class Policy:
    """Independent categorical distributions, one for every decision of a space with fixed wiring.

    A slot's op is one decision; each attribute of each op is another, taken only when the op is chosen. This is the
    controller of NAS-Bench-201's baseline; recurrent controllers (NASNet, MnasNet) add dependence between decisions,
    which a hundred rewards do not teach.

    Args:
        space: A space with fixed wiring.

    Attributes:
        logits: Of all options of all decisions, one after another.
    """

    def __init__(self, space: Space) -> None:
        self._slots = Slots(space.spec)
        self._options: dict[Decision, tuple[str | int | bool, ...]] = {}
        for slot in self._slots.slots:
            self._options[slot.id, None, None] = tuple(slot.choices)
            for op, domains in slot.choices.items():
                self._options |= {(slot.id, op, name): values for name, values in domains.items()}
        sizes = [len(options) for options in self._options.values()]
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._owner = np.repeat(np.arange(len(sizes)), sizes)
        self._at = {decision: (int(start), size) for decision, start, size in
                    zip(self._options, self._starts, sizes, strict=True)}
        self.logits = np.zeros(sum(sizes))

    def probabilities(self) -> Floats:
        """Returns the probability of every option within its decision."""
        shifted = np.exp(self.logits - np.maximum.reduceat(self.logits, self._starts)[self._owner])
        return np.asarray(shifted / np.add.reduceat(shifted, self._starts)[self._owner])

    def draw(self, probabilities: Floats, rng: Rng) -> ArchGraph:
        """Returns a graph drawn from the policy; it may be illegal where ops alone disconnect it."""
        nodes = []
        for slot in self._slots.slots:
            op = str(self._pick((slot.id, None, None), probabilities, rng))
            choice = {name: int(value) if name != "se" else bool(value) for name in slot.choices[op]
                      for value in [self._pick((slot.id, op, name), probabilities, rng)]}
            nodes.append(self._slots.node(slot, op, choice))
        return self._slots.graph(nodes)

    def _pick(self, decision: Decision, probabilities: Floats, rng: Rng) -> str | int | bool:
        start, size = self._at[decision]
        if size == 1:
            return self._options[decision][0]
        place = int(np.searchsorted(np.cumsum(probabilities[start:start + size]), rng.random(), side="right"))
        return self._options[decision][min(place, size - 1)]

    def gradient(self, graph: ArchGraph, advantage: float, entropy: float) -> Floats:
        """Returns the gradient of advantage · log π(graph) + entropy · H, over the decisions the graph took."""
        probabilities = self.probabilities()
        slope = np.zeros_like(self.logits)
        for slot in self._slots.slots:
            for decision, value in self._taken(graph.by_id[slot.id]):
                start, size = self._at[decision]
                p = probabilities[start:start + size]
                chosen = np.arange(size) == self._options[decision].index(value)
                log = np.log(np.maximum(p, 1e-12))
                slope[start:start + size] = advantage * (chosen - p) - entropy * p * (log - p @ log)
        return slope

    def _taken(self, node: Node) -> list[tuple[Decision, str | int | bool]]:
        return [((node.id, None, None), node.op), *(((node.id, node.op, name), value)
                                                    for name, value in node.attributes.items())]


class Reinforce:
    """A policy that is pushed towards what scored above the moving average.

    Rewards are measured in units of their moving spread, so that accuracies, losses and latencies need no other
    settings. A design drawn again is not trained again: it is proposed, found to be a duplicate and teaches with the
    reward it had. Draws that are illegal are drawn again.

    Args:
        setup: The space.
        rate: Step of Adam.
        entropy: Weight of the entropy bonus.

    Raises:
        InputError: The wiring of the space is free: there is no list of decisions to learn.
    """

    name = "reinforce"
    waits = False

    def __init__(self, setup: Setup, rate: float = RATE, entropy: float = ENTROPY) -> None:
        if setup.space.spec.dag is not None:
            fixed = ", ".join(name for name in list_spaces() if load_space(name).spec.dag is None)
            raise InputError(f"strategy reinforce cannot search space {setup.space.name}: its wiring is free",
                             f"it works on {fixed}; evolution, local_search and bayesian work on every space")
        self.space, self.merit = setup.space, setup.merit
        self.policy, self.entropy = Policy(setup.space), entropy
        self.adam = Adam(len(self.policy.logits), rate)
        self.baseline = Average()
        self.spread = Average()
        self.rewards: dict[str, float] = {}

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns `n` draws from the policy."""
        probabilities = self.policy.probabilities()
        return [proposal(self.name, "policy", ctx.step, self._legal(probabilities, rng)) for _ in range(n)]

    def _legal(self, probabilities: Floats, rng: Rng) -> ArchGraph:
        for _ in range(DRAWS):
            graph = self.policy.draw(probabilities, rng)
            if not self.space.validate(graph):
                return graph
        return self.space.sample(rng)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Takes one step of gradient ascent for every trial with a reward."""
        for trial in trials:
            reward, graph = self.merit(trial), trial.proposal.graph
            if trial.key is None or graph is None or trial.violates:
                continue
            if reward is not None:
                self.rewards[trial.key] = reward
            elif trial.duplicate_of is not None:
                reward = self.rewards.get(trial.key)
            if reward is not None:
                self._learn(graph, reward)

    def _learn(self, graph: ArchGraph, reward: float) -> None:
        advantage = reward - self.baseline.value if self.baseline.steps else 0.0
        self.baseline.add(reward)
        self.spread.add(advantage**2)
        scaled = advantage / sqrt(self.spread.value) if self.spread.value > 0 else 0.0
        self.policy.logits += self.adam.step(self.policy.gradient(graph, scaled, self.entropy))


class Average:
    """A moving average whose start does not count (bias-corrected as in Adam)."""

    def __init__(self, decay: float = DECAY) -> None:
        self.decay, self.steps, self._sum = decay, 0, 0.0

    @property
    def value(self) -> float:
        """The average so far; 0 before the first value."""
        return self._sum / (1 - self.decay**self.steps) if self.steps else 0.0

    def add(self, value: float) -> None:
        """Takes a value in."""
        self.steps += 1
        self._sum = self.decay * self._sum + (1 - self.decay) * value


class Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) for ascent.

    Args:
        size: Number of parameters.
        rate: Step size.
    """

    def __init__(self, size: int, rate: float) -> None:
        self.rate, self.steps = rate, 0
        self._mean, self._square = np.zeros(size), np.zeros(size)

    def step(self, gradient: Floats) -> Floats:
        """Returns what to add to the parameters."""
        self.steps += 1
        self._mean = 0.9 * self._mean + 0.1 * gradient
        self._square = 0.999 * self._square + 0.001 * gradient**2
        mean, square = self._mean / (1 - 0.9**self.steps), self._square / (1 - 0.999**self.steps)
        return np.asarray(self.rate * mean / (np.sqrt(square) + 1e-8))
