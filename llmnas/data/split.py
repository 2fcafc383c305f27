"""`split`: which examples train, which validate, which test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from llmnas.data.dataset import Dataset, Labels

Part = Literal["train", "val", "test"]
Ids = NDArray[np.int64]

TEST_FRACTION: Final = 0.2
"""Share of all examples for the test, when the data set brings no test part."""
VAL_FRACTION: Final = 0.2
"""Share of the rest for validation: with the above 64 % train, 16 % validate, 20 % test."""
MAX_VAL: Final = 10_000
"""More validation examples cost time at every validation and decide nothing: the error of an accuracy is 0.5 %."""


@dataclass(frozen=True, eq=False)
class Split:
    """Ids of the examples of each part, in a fixed random order.

    Attributes:
        seed: Seed it was drawn with.
        train: Rows of ``dataset.x``.
        val: Rows of ``dataset.x``.
        test: Rows of ``dataset.test_x`` when `own_test`, else of ``dataset.x``.
        own_test: Whether the test part is the data set's own.
    """

    seed: int
    train: Ids
    val: Ids
    test: Ids
    own_test: bool

    @property
    def digests(self) -> dict[Part, str]:
        """Digest of the ids of each part, order included: ``b2:`` and 128 bits."""
        return {"train": _digest(self.train, "x"), "val": _digest(self.val, "x"),
                "test": _digest(self.test, "test_x" if self.own_test else "x")}


def split(dataset: Dataset, seed: int) -> Split:
    """Returns a stratified split: every class has its share, and at least one example, in every part.

    The same data set and seed give the same split on every machine.

    Args:
        dataset: At least three examples per class, two when it brings its own test part.
        seed: Seed of the draw.
    """
    rng = np.random.default_rng([seed, 0x5B117])
    own = dataset.test_y is not None
    rest = np.arange(len(dataset.y), dtype=np.int64)
    if dataset.test_y is not None:
        test = np.arange(len(dataset.test_y), dtype=np.int64)
    else:
        test, rest = _drawn(dataset.y, rest, TEST_FRACTION, 2, rng)
    val, train = _drawn(dataset.y, rest, min(VAL_FRACTION, MAX_VAL / len(rest)), 1, rng)
    return Split(seed, rng.permutation(train), rng.permutation(val), rng.permutation(test), own)


def _drawn(y: Labels, pool: Ids, fraction: float, leave: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Returns `fraction` of each class of `pool`, at least one and leaving at least `leave`, and what remains."""
    taken: list[Ids] = []
    for label in np.unique(y[pool]):
        members = rng.permutation(pool[y[pool] == label])
        count = min(max(1, round(fraction * len(members))), len(members) - leave)
        taken.append(members[:count])
    chosen = np.concatenate(taken)
    return chosen, np.setdiff1d(pool, chosen, assume_unique=True)


def _digest(ids: Ids, source: str) -> str:
    digest = hashlib.blake2b(source.encode(), digest_size=16)
    digest.update(ids.astype("<i8").tobytes())
    return "b2:" + digest.hexdigest()
