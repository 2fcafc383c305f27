"""Every shipped space keeps the contract; counts equal the published table."""

import csv
import gzip
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmnas.errors import InputError
from llmnas.graph import ArchGraph, Issue
from llmnas.space import list_spaces, load_space, parse_graph, read_proposals
from llmnas.testing.space import SpaceContract
from tests.graph.test_key import cell


class TestNb201(SpaceContract):
    name = "nb201"


class TestConvnet(SpaceContract):
    name = "convnet"


class TestMbconv(SpaceContract):
    name = "mbconv"


class TestConv1d(SpaceContract):
    name = "conv1d"


class TestNbmacro(SpaceContract):
    name = "nbmacro"


class TestOpen(SpaceContract):
    name = "open"


def test_known_counts():
    """The all-3x3 cell has the published parameters and MACs."""
    counts = load_space("nb201").network(cell("333333"), raw=True).counts
    assert (counts.params, counts.macs) == (1_531_546, 220_119_690)


@pytest.mark.skipif("LLMNAS_DATA" not in os.environ, reason="LLMNAS_DATA names no data folder")
def test_counts_equal_the_table():
    """Parameters and MACs of a sample of cells equal the published columns to their last digit."""
    path = Path(os.environ["LLMNAS_DATA"]) / "nb201" / "nb201.csv.gz"
    with gzip.open(path, "rt") as file:
        rows = random.Random(0).sample(list(csv.DictReader(file)), 200)
    space = load_space("nb201")
    for row in rows:
        counts = space.network(cell(row["ops"]), raw=True).counts
        assert round(counts.params / 1e6, 6) == float(row["c10_params_M"])
        assert round(counts.macs / 1e6, 5) == float(row["c10_flops_M"])


def test_equal_keys_have_equal_costs():
    """What is measured is the live graph: cells with one key have equal parameters and MACs."""
    space, rng = load_space("nb201"), np.random.default_rng(0)
    by_key: dict[str, set[tuple[int, int]]] = {}
    for _ in range(400):
        graph = space.sample(rng)
        counts = space.network(graph).counts
        by_key.setdefault(graph.key(), set()).add((counts.params, counts.macs))
    assert all(len(found) == 1 for found in by_key.values())


def test_disconnected_cells_are_refused():
    """A cell without a path says so, with the fix."""
    (issue,) = load_space("nb201").validate(cell("030000"))
    assert issue.code == "disconnected"


@pytest.mark.parametrize("name", ["nb201", "convnet", "mbconv", "nbmacro", "open"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (3, 33, 47)])
def test_any_image_size(name, shape):
    """Spaces lower on small, odd and oblong images; the logits are as many as the classes."""
    space = load_space(name)
    for graph in space.prior()[::5]:
        network = space.network(graph, shape, 7)
        assert network.classes == 7


@pytest.mark.parametrize(("name", "shape"), [("nb201", (1, 8, 8)), ("convnet", (3, 28, 28)), ("mbconv", (3, 33, 47)),
                                             ("open", (3, 16, 16)), ("conv1d", (2, 41)), ("nbmacro", (3, 17, 32))])
def test_built_modules_agree_with_inference(name, shape):
    """Built modules have the inferred shapes and parameters, layer by layer."""
    import torch

    from llmnas.build import build

    space, rng = load_space(name), np.random.default_rng(1)
    for _ in range(4):
        network = space.network(space.sample(rng), shape, 5)
        net = build(network, 0).eval()
        assert sum(p.numel() for p in net.parameters()) == network.counts.params
        with torch.inference_mode():
            assert net(torch.zeros(2, *shape)).shape == (2, 5)
            index = len(network.layers) // 2
            assert net.run(torch.zeros(1, *shape), index).shape[1:] == network.layers[index - 1].shape


def test_macs_agree_with_torchs_counter():
    """MACs are half of torch's own FLOP count, classifier bias apart."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from llmnas.build import build

    space, rng = load_space("convnet"), np.random.default_rng(2)
    for _ in range(3):
        network = space.network(space.sample(rng))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            build(network).eval()(torch.zeros(1, 3, 32, 32))
        assert counter.get_total_flops() == 2 * (network.counts.macs - network.classes)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["proposals", "nodes", "id", "op", "inputs", "output", "channels", "kernel", "version", "x"]),
        inner, max_size=6), max_leaves=25)


@given(value=json_values)
@settings(max_examples=300, deadline=None)
def test_any_json_gives_a_graph_or_issues(value):
    """Reading never raises: any JSON value is a graph or typed issues with a fix."""
    for _, graph, issues, _ in read_proposals(value, "open"):
        assert (graph is None) == bool(issues)
        assert all(isinstance(issue, Issue) and issue.fix for issue in issues)


@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["nb201", "convnet", "open"]))
@settings(max_examples=150, deadline=None)
def test_mutated_documents_validate_or_say_why(seed, name):
    """Documents broken at random places give a legal graph or typed issues, never another exception."""
    rng = random.Random(seed)
    space = load_space(name)
    document = space.sample(np.random.default_rng(seed)).model_dump(mode="json", exclude_none=True)
    for _ in range(rng.randint(1, 3)):
        _break(document, rng)
    graph, issues = parse_graph(document, name)
    assert (graph is None) == bool(issues)
    if isinstance(graph, ArchGraph):
        assert all(issue.fix for issue in space.validate(graph))


def _break(document, rng):
    listed = document.get("nodes")
    node = rng.choice(listed) if isinstance(listed, list) and listed else {}
    if not isinstance(node, dict):
        return
    junk = rng.choice([None, -1, 0, 3, 10**9, 2.5, "x", "input", [], ["input"], {}, True])
    match rng.randrange(4):
        case 0:
            node[rng.choice(["id", "op", "inputs", "channels", "kernel", "stride", "se", "groups", "zz"])] = junk
        case 1 if isinstance(node.get("inputs"), list):
            node["inputs"] = [*node["inputs"], rng.choice(["input", "out", "n3", "ghost", junk])]
        case 2 if isinstance(document["nodes"], list) and node in document["nodes"]:
            document["nodes"].remove(node)
        case _:
            document[rng.choice(["output", "space", "version", "nodes"])] = junk


def test_space_files_say_line_and_fix(tmp_path):
    """A faulty space file is refused with file, line, what is wrong and the nearest legal name."""
    good = (Path("spaces") / "convnet.yaml").read_text()
    for old, new, line, says in [
        ("name: convnet", "nane: convnet", 2, "nane"),
        ("[3], stride: [1, 2], expand: [1, 2, 4]", "[3], stride: [2, 1], expand: [1, 2, 4]", 17, "rise"),
        ("  - id: s2", "  - id: s1", 1, "twice"),
        ("      stem: {channels", "      stemm: {channels", 15, "stem"),
    ]:
        path = tmp_path / "mine.yaml"
        path.write_text(good.replace(old, new, 1))
        with pytest.raises(InputError) as caught:
            load_space(str(path))
        load_space.cache_clear()
        assert f"{path}:" in str(caught.value)
        assert says in str(caught.value)
        assert abs(int(str(caught.value).split(":")[1]) - line) <= 1, str(caught.value)


def test_unknown_space_names_the_nearest():
    """A misspelt name gets the nearest one and the list."""
    with pytest.raises(InputError, match="did you mean 'convnet'"):
        load_space("convnett")
    assert set(list_spaces()) >= {"nb201", "nbmacro", "convnet", "mbconv", "open", "conv1d"}
