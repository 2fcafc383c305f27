"""Accel-NASBench: the names of its architectures, and what stands in for those that nobody has trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmnas.errors import InputError
from llmnas.graph import ArchGraph, Node
from llmnas.space import Space

STAGES: Final = tuple(f"s{i}" for i in range(1, 8))
RIDGE: Final = 3.0
QUALITY: Final = {"spearman": 0.987, "mean_error": 0.45}
"""Of five folds of the published table, rank correlation and points of accuracy."""

Rows = NDArray[np.float64]


class Stages:
    """The codec between graphs of space ``accel`` and names like ``6466611-3535533-1233222-0000000``.

    Seven digits each of expansion, kernel, depth and squeeze-and-excitation, one a stage.

    Args:
        space: The space.
    """

    def __init__(self, space: Space) -> None:
        self._fixed = {node.id: node for node in space.prior()[0].nodes}
        self._space = space

    def graph(self, digits: str) -> ArchGraph:
        """Returns the graph of a name.

        Raises:
            InputError: It is not one of this space.
        """
        parts = digits.split("-")
        if [len(part) for part in parts] != [len(STAGES)] * 4 or not "".join(parts).isdigit():
            raise InputError(f"expected four groups of seven digits, got {digits!r}",
                             "expansion-kernel-depth-SE, one digit a stage")
        chosen = {stage: self._stage(stage, *one) for stage, *one in zip(STAGES, *parts, strict=True)}
        graph = ArchGraph(space=self._space.name, output="head",
                          nodes=tuple(chosen.get(name, node) for name, node in self._fixed.items()))
        if issues := self._space.validate(graph):
            raise InputError(f"{digits!r} is not in space {self._space.name}: {issues[0]}", "")
        return graph

    def _stage(self, stage: str, expand: str, kernel: str, depth: str, se: str) -> Node:
        return self._fixed[stage].model_copy(update={"expand": int(expand), "kernel": int(kernel),
                                                     "depth": int(depth), "se": se == "1"})

    def digits(self, graph: ArchGraph) -> str:
        """Returns the name of a legal graph."""
        nodes = [graph.by_id[stage] for stage in STAGES]
        return "-".join("".join(str(int(getattr(node, name) or 0)) for node in nodes)
                        for name in ("expand", "kernel", "depth", "se"))


class Surrogate:
    """Predicts the score of an architecture from those that were trained: ridge regression on choices and their pairs.

    Args:
        scores: Scores by name; every name has as many digits, and each digit is a choice.
    """

    def __init__(self, scores: Mapping[str, float]) -> None:
        letters = _letters(scores)
        self._levels = [np.unique(letters[:, j])[1:] for j in range(letters.shape[1])]
        x, y = self._features(letters), np.array(list(scores.values()))
        self._mean, self._centre = y.mean(), x.mean(axis=0)
        x = x - self._centre
        self._slope = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (y - self._mean))

    def _features(self, letters: NDArray[np.str_]) -> Rows:
        single = np.concatenate([letters[:, [j]] == levels for j, levels in enumerate(self._levels)], axis=1)
        left, right = np.triu_indices(single.shape[1], 1)
        return np.concatenate([single, single[:, left] & single[:, right]], axis=1).astype(np.float64)

    def __call__(self, name: str) -> float:
        """Returns the predicted score of an architecture by its name."""
        return float(self._mean + (self._features(_letters([name])) - self._centre)[0] @ self._slope)


def _letters(names: Iterable[str]) -> NDArray[np.str_]:
    return np.array([list(name.replace("-", "")) for name in names])
