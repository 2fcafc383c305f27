"""Splits and the files they become."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmnas.data import Dataset, materialise, read, reads_of_test, reopen, split
from llmnas.errors import InputError, LlmnasError


def made(counts, own=None, shape=(1, 4, 4), dtype=np.uint8):
    """Returns a data set with the given number of examples per class."""
    y = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    x = (np.arange(len(y) * int(np.prod(shape))) % 251).reshape(len(y), *shape).astype(dtype)
    names = tuple(map(str, range(len(counts))))
    test = None if own is None else np.arange(own) % len(counts)
    return Dataset("made", x, y, names, test_x=None if own is None else x[:own], test_y=test)


COUNTS = st.lists(st.integers(3, 60), min_size=2, max_size=6)


@settings(deadline=None)
@given(COUNTS, st.integers(0, 2**32))
def test_parts_are_disjoint_and_complete(counts, seed):
    """Without a test part of its own, the three parts share no example and leave none out."""
    data = made(counts)
    parts = split(data, seed)
    assert sorted(np.concatenate([parts.train, parts.val, parts.test])) == list(range(len(data.y)))
    assert not parts.own_test


@settings(deadline=None)
@given(st.lists(st.integers(2, 60), min_size=2, max_size=6), st.integers(0, 2**32))
def test_own_test_part(counts, seed):
    """A data set's own test part is the test; training and validation divide the rest."""
    data = made(counts, own=2)
    parts = split(data, seed)
    assert sorted(np.concatenate([parts.train, parts.val])) == list(range(len(data.y)))
    assert parts.own_test
    assert sorted(parts.test) == [0, 1]


@settings(deadline=None)
@given(COUNTS, st.integers(0, 2**32))
def test_stratified(counts, seed):
    """Every class has at least one example in every part, and about its share."""
    data = made(counts)
    parts = split(data, seed)
    for label, count in enumerate(counts):
        train, val, test = ((data.y[ids] == label).sum() for ids in (parts.train, parts.val, parts.test))
        assert min(train, val, test) >= 1
        assert abs(test - 0.2 * count) <= 1
        assert abs(val - 0.16 * count) <= 1.2


def test_deterministic():
    """The same seed gives the same split and digests, another seed another."""
    data = made([50, 50])
    assert split(data, 7).digests == split(made([50, 50]), 7).digests
    assert all(split(data, 7).digests[part] != split(data, 8).digests[part] for part in ("train", "val", "test"))
    assert split(data, 7).digests["train"] == "b2:bf08cf462b7dbaa9acad8c1ee02c4995"


def test_validation_is_capped():
    """Validation takes at most ten thousand examples, give or take rounding."""
    y = np.arange(100_000) % 10
    data = Dataset("big", np.zeros((100_000, 1, 1), np.uint8), y, tuple("0123456789"), test_x=np.zeros((10, 1, 1)),
                   test_y=np.arange(10))
    assert len(split(data, 0).val) == 10_000


def test_files(tmp_path):
    """What is written is read back: values, classes, sizes, digests; mapped or copied."""
    data = made([20, 30], shape=(2, 5, 4))
    parts = split(data, 0)
    ref = materialise(data, parts, tmp_path / "data")
    for name, ids in (("train", parts.train), ("val", parts.val)):
        for mapped in (True, False):
            x, y = read(ref, name, mmap=mapped)
            assert np.array_equal(x, data.x[ids])
            assert np.array_equal(y, data.y[ids])
    assert ref.shape == (2, 5, 4)
    assert ref.sizes == {"train": 32, "val": 8, "test": 10}
    assert ref.digests == {"data": data.digest, **parts.digests}


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 9)])
def test_moments(tmp_path, shape):
    """Mean and deviation are those of the training part alone, per channel; a constant channel divides by one."""
    data = made([20, 30], shape=shape, dtype=np.float32)
    data.x[:, 0] = 7.0
    parts = split(data, 0)
    ref = materialise(data, parts, tmp_path)
    train = np.moveaxis(data.x[parts.train], 1, 0).reshape(shape[0], -1).astype(np.float64)
    assert np.allclose(ref.mean, train.mean(axis=1))
    assert np.allclose(ref.std[1:], train.std(axis=1)[1:])
    assert ref.std[0] == 1.0


def test_reading_test_is_a_separate_act(tmp_path):
    """The test part lies apart, is refused without a reason, and every read is written down."""
    ref = materialise(made([20, 30]), split(made([20, 30]), 0), tmp_path)
    assert not list(tmp_path.glob("test_*.npy"))
    assert reads_of_test(ref) == []
    with pytest.raises(LlmnasError, match="reason"):
        read(ref, "test")
    assert reads_of_test(ref) == []
    x, y = read(ref, "test", reason="final\ntraining")
    assert len(x) == len(y) == 10
    assert len(reads_of_test(ref)) == 1
    assert reads_of_test(ref)[0].endswith("final training")


def test_own_test_arrays_are_written(tmp_path):
    """The test files hold the data set's own test examples where there are some."""
    data = made([20, 30], own=6)
    ref = materialise(data, split(data, 0), tmp_path)
    _, y = read(ref, "test", reason="check")
    assert sorted(y) == sorted(data.test_y)


def test_reopen(tmp_path):
    """A folder that was moved is found again; a damaged one is refused."""
    ref = materialise(made([20, 30]), split(made([20, 30]), 0), tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    again = reopen(tmp_path / "b")
    assert Path(again.directory) == (tmp_path / "b").resolve()
    assert again.model_copy(update={"directory": ref.directory}) == ref
    assert len(read(again, "val")[1]) == 8
    (tmp_path / "b" / "val_x.npy").write_bytes(b"x")
    with pytest.raises(InputError, match="val part cannot be read"):
        read(again, "val")
    (tmp_path / "b" / "data.json").write_text("{}")
    with pytest.raises(InputError, match=r"data\.json"):
        reopen(tmp_path / "b")
