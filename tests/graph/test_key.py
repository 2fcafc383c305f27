"""The canonical key: published counts, invariances, and what must stay apart."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmnas.graph import ArchGraph, Node, certificate, structural_issues
from llmnas.space import load_space
from llmnas.space.lowering import dead_free_string

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")


def cell(digits: str) -> ArchGraph:
    """Returns the NAS-Bench-201 cell with these op digits, in the table's edge order."""
    ops = dict(zip(EDGES, (OPS[int(d)] for d in digits), strict=True))
    base = load_space("nb201").prior()[0]
    return base.model_copy(update={"nodes": tuple(
        node.model_copy(update={"op": ops[node.id]}) if node.id in ops else node for node in base.nodes)})


@pytest.fixture(scope="module")
def cells():
    """All 15,625 cells by digits."""
    return {digits: cell(digits) for digits in map("".join, itertools.product("01234", repeat=6))}


def test_published_counts(cells):
    """15,625 cells give 9,445 strings after dead-branch removal and 5,425 function keys."""
    assert len({dead_free_string(graph, EDGES) for graph in cells.values()}) == 9445
    assert len({graph.key() for graph in cells.values()}) == 5425


@pytest.mark.parametrize(("left", "right", "same"), [
    ("320133", "230133", True), ("330123", "330132", True), ("100000", "300003", True), ("100000", "000000", True),
    ("301011", "330011", False), ("333123", "333132", False)])
def test_published_pairs(left, right, same):
    """Cells known to compute the same function share a key, and twins with equal counts that do not, do not."""
    assert (cell(left).key() == cell(right).key()) is same


@given(data=st.data(), name=st.sampled_from(["nb201", "convnet", "open", "conv1d"]), seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_names_and_order_do_not_matter(data, name, seed):
    """Renaming nodes, shuffling them and reordering summed inputs keeps the key."""
    import numpy as np

    graph = load_space(name).sample(np.random.default_rng(seed))
    names = {node.id: f"x{i}" for i, node in enumerate(data.draw(st.permutations(graph.nodes)))}
    nodes = [node.model_copy(update={"id": names[node.id],
                                     "inputs": _reordered(data, node, names)}) for node in graph.nodes]
    shuffled = graph.model_copy(update={"nodes": tuple(data.draw(st.permutations(nodes))),
                                        "output": names[graph.output]})
    assert shuffled.key() == graph.key()


def _reordered(data, node, names):
    inputs = tuple(names.get(source, source) for source in node.inputs)
    return inputs if node.op == "concat" else tuple(data.draw(st.permutations(inputs)))


def _open(*nodes, output):
    return ArchGraph(space="open", nodes=nodes, output=output)


def _conv(name, *inputs, channels=8):
    return Node(id=name, op="conv_block", inputs=inputs, channels=channels, kernel=3, stride=1)


def test_equal_branches_are_symmetric():
    """Six equal branches, listed in any order, give one key, and quickly: their ties are symmetric."""
    def star(order):
        chains = [node for i in order for node in (_conv(f"a{i}", "input"), _conv(f"b{i}", f"a{i}"))]
        return _open(*chains, Node(id="s", op="add", inputs=tuple(f"b{i}" for i in order)), output="s")

    assert star(range(6)).key() == star([3, 1, 5, 0, 2, 4]).key()


def test_shared_instance_is_not_two_instances():
    """One convolution read twice is another function than two convolutions of the same input."""
    shared = _open(_conv("a", "input"), Node(id="s", op="add", inputs=("a", "a")), output="s")
    twice = _open(_conv("a", "input"), _conv("b", "input"), Node(id="s", op="add", inputs=("a", "b")), output="s")
    assert shared.key() != twice.key()


def test_attributes_matter_and_dead_nodes_do_not():
    """Channels change the key; a node that nothing reads does not."""
    one = _open(_conv("a", "input"), output="a")
    assert one.key() != _open(_conv("a", "input", channels=16), output="a").key()
    assert one.key() == _open(_conv("a", "input"), _conv("b", "a"), output="a").key()


def test_concat_is_ordered_and_mul_is_not():
    """Concatenation keeps the order of its inputs; a product does not."""
    def joined(op, first, second):
        return _open(_conv("a", "input"), Node(id="r", op="relu", inputs=("a",)),
                     Node(id="j", op=op, inputs=(first, second)), output="j")

    assert joined("concat", "a", "r").key() != joined("concat", "r", "a").key()
    assert joined("mul", "a", "r").key() == joined("mul", "r", "a").key()


def test_keys_are_tagged_and_stable():
    """The digest of a known cell never changes: keys are stored in logs."""
    assert cell("333123").key() == GOLDEN
    assert certificate(cell("000000")) == "nb201\n[[],[]]"


GOLDEN = "g1:0fb9b8811e968015d0f5e3af9ea26369"


def test_structure_faults_are_typed():
    """Cycles, unknown and repeated ids, missing inputs and outputs are all named, with a fix."""
    looped = _open(_conv("a", "b"), _conv("b", "a"), output="b")
    broken = _open(_conv("a", "ghost"), _conv("a", "input"),
                   Node(id="input", op="relu", inputs=()), output="nowhere")
    assert [issue.code for issue in structural_issues(looped)] == ["cycle"]
    codes = {issue.code for issue in structural_issues(broken)}
    assert codes == {"unknown_node", "duplicate_id", "arity"}
    assert all(issue.fix for issue in structural_issues(broken))
