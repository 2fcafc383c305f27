"""The space of NAS-Bench-Macro: counts equal the published table, and so does what counts as one architecture."""

import csv
import gzip
import os
from pathlib import Path

import pytest

from llmnas.space import Digits, load_space

# (digits, parameters, multiply-accumulates as the table counts them: the classifier's bias left out)
PUBLISHED = [
    ("00000000", 387_882, 7_713_280), ("10000000", 396_298, 12_128_768), ("01000000", 415_082, 14_447_104),
    ("00100100", 538_730, 16_267_776), ("02022100", 1_006_250, 54_626_816), ("10002001", 1_019_146, 32_342_528),
    ("22201101", 1_173_866, 59_587_072), ("20001002", 1_344_874, 37_564_928), ("11111111", 1_588_874, 53_246_464),
    ("21202012", 1_968_042, 67_527_168), ("01022221", 2_372_970, 70_889_984), ("22222212", 2_504_810, 98_865_664),
    ("22222222", 2_932_586, 105_660_928)]
BIAS = 10
TRAINED = 3969  # 9 stages of two layers times 21 and 21 of three: the others only move an identity


@pytest.fixture(scope="module")
def space():
    return load_space("nbmacro")


@pytest.fixture(scope="module")
def codec(space):
    return Digits(space)


@pytest.fixture(scope="module")
def rows():
    """The published table."""
    if "LLMNAS_DATA" not in os.environ:
        pytest.skip("LLMNAS_DATA names no data folder")
    with gzip.open(Path(os.environ["LLMNAS_DATA"]) / "nbmacro" / "nb_macro.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("digits", "params", "macs"), PUBLISHED)
def test_counts_of_published_rows(space, codec, digits, params, macs):
    """Parameters and multiply-accumulates are the published ones to the last."""
    counts = space.network(codec.graph(digits)).counts
    assert (counts.params, counts.macs) == (params, macs + BIAS)


def test_counts_of_all_published_rows(space, codec, rows):
    """So are those of all 6,561 rows."""
    assert len({row["arch"] for row in rows}) == 6561
    for row in rows:
        counts = space.network(codec.graph(row["arch"])).counts
        assert (counts.params, counts.macs) == (int(row["params"]), int(row["flops"]) + BIAS), row["arch"]


def test_keys_tell_apart_what_was_trained(codec, rows):
    """Rows with one key were trained once: all their columns are equal. There are as many keys as trained nets."""
    by_key = {}
    for row in rows:
        by_key.setdefault(codec.graph(row["arch"]).key(), set()).add(tuple(row[name] for name in row if name != "arch"))
    assert len(by_key) == TRAINED
    assert all(len(values) == 1 for values in by_key.values())


@pytest.mark.parametrize(("left", "right", "same"), [
    ("20010020", "20001002", True), ("00000000", "00000000", True), ("00010000", "00001000", True),
    ("01000000", "10000000", False),  # l1 changes the shape: its identity is a convolution
    ("00012000", "00021000", False), ("00001000", "00000010", False)])
def test_identities_are_transparent_within_a_stage(codec, left, right, same):
    """An identity moves freely among the layers of a stage that keep the shape, and nowhere else."""
    assert (codec.graph(left).key() == codec.graph(right).key()) is same


def test_identity_costs_nothing_and_projection_does(space, codec):
    """Layers that keep the shape add no layer as identity; the three that change it add convolution and norm."""
    network = space.network(codec.graph("00000000"))
    assert [layer.node for layer in network.layers if layer.kind == "conv"] == ["stem", "l1", "l3", "l6", "head"]
    assert [layer.shape for layer in network.layers if layer.node == "l6"] == [(256, 4, 4)] * 2


def test_residual_only_where_the_shape_stays(space, codec):
    """Blocks that keep the shape are added to their input, the others are not."""
    network = space.network(codec.graph("12121212"))
    assert [layer.node for layer in network.layers if layer.kind == "add"] == ["l2", "l4", "l5", "l7", "l8"]


def test_the_size_of_the_space(space):
    """There are three choices in each of eight layers."""
    assert round(10 ** space.log_size()) == 6561


def test_the_prior_grows_layer_by_layer(space, codec):
    """From all identity to all heavy, changing one layer at a time, from either end."""
    designs = {codec.digits(graph) for graph in space.prior()}
    assert {"00000000", "11111111", "22222222", "11000000", "00000001", "22222111", "11111122"} <= designs
    assert not {"01010101", "02000000"} & designs
