"""Data sets that come with the dependencies: nothing is downloaded."""

from __future__ import annotations

import random

import numpy as np

from llmnas.data.dataset import Dataset

MNIST1D_SEED = 42
"""The seed of the published set (github.com/greydanus/mnist1d)."""


def digits(seed: int = 0) -> Dataset:
    """Returns scikit-learn's 1,797 handwritten digits, 8x8 with values 0 to 16; no test part of its own.

    Args:
        seed: Not used: these are data, not generated.
    """
    from sklearn.datasets import load_digits

    del seed
    x, y = load_digits(return_X_y=True)
    return Dataset("digits", x.reshape(-1, 1, 8, 8).astype(np.uint8), y.astype(np.int64),
                   tuple(str(digit) for digit in range(10)))


def mnist1d(seed: int = 0) -> Dataset:
    """Returns MNIST-1D (arXiv 2011.14439), generated here: 4,000 sequences of length 40, and 1,000 for the test.

    Args:
        seed: 0 gives the published set, another number an independent draw.
    """
    from mnist1d.data import get_dataset_args, make_dataset

    args = get_dataset_args()
    args.seed = MNIST1D_SEED + seed
    ours, theirs = random.getstate(), np.random.get_state()  # the package seeds the global generators
    try:
        made = make_dataset(args)
    finally:
        random.setstate(ours)
        np.random.set_state(theirs)
    return Dataset("mnist1d", made["x"][:, None, :].astype(np.float32), made["y"].astype(np.int64),
                   tuple(str(digit) for digit in range(10)),
                   test_x=made["x_test"][:, None, :].astype(np.float32), test_y=made["y_test"].astype(np.int64))
