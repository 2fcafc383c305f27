"""One-shot search: one training of shared weights, then evolution by the scores of paths that inherit them.

Single Path One-Shot (SPOS, Guo et al., arXiv 1904.00420) trains one random path a step; FairNAS (Chu et al., arXiv
1907.01845) every op of every slot once a step. Inherited scores rank, and are no accuracies: they bear a name of their
own, and the best are trained like any proposal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import Field

from llmnas.graph import ArchGraph
from llmnas.records import SUPERNET, Proposal, Trial
from llmnas.strategies.base import Context, Fit, Rng, Setup, proposal
from llmnas.strategies.supernets import SharedNetwork, SupernetOptions, batch_of, steps_of

TRAINING: Final = 0.7
"""Share of the fit's time for the weights; the rest is for scoring paths."""
MUTATED: Final = 0.1
"""Chance of every slot to change in a mutation (SPOS, section 4.1)."""
PARENTS: Final = 10
MOST_EPOCHS: Final = 200
MOST_GENERATIONS: Final = 20
_DRAWS: Final = 1_000
Path = tuple[int, ...]


class OneShotOptions(SupernetOptions):
    """Options of ``one_shot``.

    Attributes:
        sampling: ``uniform``: one random path a step (SPOS). ``fair``: every op of every slot once a step (FairNAS).
        population: Paths of a generation.
        generations: Of the search inside, the first one included; None for what the time holds, at most 20.
        examples: Examples on which a path is scored, of the half that the weights were not trained on.
        recalibration: Batches that give a path its own batch-norm statistics.
    """

    sampling: Literal["uniform", "fair"] = "uniform"
    population: int = Field(default=20, ge=2, le=1000)
    generations: int | None = Field(default=None, ge=1, le=1000)
    examples: int = Field(default=1_000, ge=10)
    recalibration: int = Field(default=8, ge=1, le=1000)


class OneShot:
    """Trains a supernet, searches it by evolution, and proposes the best paths one by one.

    Args:
        setup: Space and data.
        options: See `OneShotOptions`.

    Raises:
        InputError: The space has no supernet.
    """

    name = "one_shot"
    waits = False
    Options = OneShotOptions

    def __init__(self, setup: Setup, options: OneShotOptions | None = None) -> None:
        self.setup, self.options = setup, options or OneShotOptions()
        self.shared = SharedNetwork(setup, self.options)
        self.scores: dict[Path, float] = {}

    # -- learning

    def fit(self, fit: Fit) -> None:
        """Trains the weights, then scores one generation of paths after another."""
        self._train(fit)
        generations, cost_s = self._generations(fit)
        population = self._random(fit.rng, self.options.population)
        for number in range(generations):
            if not population:
                break
            found = fit.run(f"generation{number}", "score_paths", {
                **self.shared.payload(), "choices": population, "examples": self.options.examples,
                "recalibration": self.options.recalibration}, cost_s * len(population), weights="supernet")
            scored = {path: score for path, score in zip(population, found["scores"], strict=True) if score is not None}
            self.scores |= scored
            if len(scored) < len(population):
                fit.warn(f"one_shot: the time ended the search inside in generation {number + 1} of {generations}")
                break
            population = self._children(fit.rng)

    def _train(self, fit: Fit) -> None:
        widest = max(len(ops) for _, ops in self.shared.data.slots)
        paths = widest if self.options.sampling == "fair" else 1
        epoch_s = self.shared.steps_s(fit, steps_of(fit.examples) * paths, 1 / widest)
        epochs = self.options.epochs or max(1, min(MOST_EPOCHS, int(TRAINING * fit.seconds / epoch_s)))
        found = fit.run("supernet", "paths", {**self.shared.payload(), "epochs": epochs,
                                              "sampling": self.options.sampling}, epochs * epoch_s)
        if found["cut"]:
            fit.warn(f"one_shot: the time ended the training of the supernet after {found['epochs']} of "
                     f"{found['planned']} epochs")

    def _generations(self, fit: Fit) -> tuple[int, float]:
        """Returns how many generations are scored, and the nominal seconds of a path: a third of training steps."""
        widest = max(len(ops) for _, ops in self.shared.data.slots)
        batches = self.options.recalibration + min(self.options.examples, fit.examples // 2) / batch_of(fit.examples)
        cost_s = self.shared.steps_s(fit, batches / 3, 1 / widest)
        fitting = int((1 - TRAINING) * fit.seconds / (cost_s * self.options.population))
        return self.options.generations or max(1, min(MOST_GENERATIONS, fitting)), cost_s

    # -- the search inside (SPOS, algorithm 1)

    def _children(self, rng: Rng) -> list[Path]:
        """Returns the next generation: half by mutation, half by crossover of the best, all legal and new.

        What chance does not find in many draws is filled with random paths.
        """
        best, new = self._best()[:PARENTS], dict[Path, None]()
        half = self.options.population // 2
        for _ in range(_DRAWS):
            if len(new) == self.options.population:
                break
            made = self._mutated(best, rng) if len(new) < half else self._crossed(best, rng)
            if made not in self.scores and self.shared.legal(made) is not None:
                new[made] = None
        return [*new, *self._random(rng, self.options.population - len(new), new)]

    def _mutated(self, best: Sequence[Path], rng: Rng) -> Path:
        parent, sizes = best[int(rng.integers(len(best)))], [len(ops) for _, ops in self.shared.data.slots]
        return tuple(int(rng.integers(size)) if rng.random() < MUTATED else op
                     for op, size in zip(parent, sizes, strict=True))

    def _crossed(self, best: Sequence[Path], rng: Rng) -> Path:
        pair = [best[int(rng.integers(len(best)))] for _ in range(2)]
        return tuple(pair[int(rng.integers(2))][slot] for slot in range(len(pair[0])))

    def _random(self, rng: Rng, count: int, beside: Sequence[Path] | dict[Path, None] = ()) -> list[Path]:
        found: dict[Path, None] = {}
        for _ in range(_DRAWS):
            if len(found) >= count:
                break
            path = self.shared.whole.path(self.setup.space.sample(rng))
            if path not in self.scores and path not in beside and self.shared.legal(path) is not None:
                found[path] = None
        return list(found)

    def _best(self) -> list[Path]:
        return sorted(self.scores, key=lambda path: (-self.scores[path], path))

    # -- proposing

    def ask(self, n: int, rng: Rng, ctx: Context) -> Sequence[Proposal]:
        """Returns the best path that was not proposed yet; none when all were.

        One at a time: the supernet has ranked them, the loop's proxies would rank them anew.
        """
        seen = {trial.key for trial in ctx.trials}
        for place, path in enumerate(self._best(), start=1):
            graph: ArchGraph = self.shared.whole.graph(path)
            if graph.key() not in seen:
                score = self.scores[path]
                return [proposal(self.name, "supernet", ctx.step, graph, scores={SUPERNET: score}, rationale=(
                    f"number {place} of {len(self.scores)} by the supernet's shared weights"))]
        return []

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learns nothing: what there was to learn is in the supernet."""
