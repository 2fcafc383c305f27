"""The difference between two graphs: the smallest that can be said, none where only names differ."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmnas.graph import ArchGraph, Node
from llmnas.report.difference import SAME, as_json, difference, lines, parents_json, to_parents
from llmnas.space.loading import load_space
from llmnas.store import fold


def chain(*nodes, output=None):
    """Returns a graph of (id, op, attributes) in a row."""
    made, before = [], "input"
    for name, op, *rest in nodes:
        made.append(Node(id=name, op=op, inputs=(before,), **(rest[0] if rest else {})))
        before = name
    return ArchGraph(space="open", nodes=tuple(made), output=output or before)


PLAIN = chain(("n1", "conv", {"channels": 16, "kernel": 3}), ("n2", "relu"), ("n3", "max_pool", {"kernel": 2}))


def test_golden_lines():
    """Added, removed and changed nodes, attributes, inputs and the output in words."""
    child = ArchGraph(space="open", output="n4", nodes=(
        Node(id="n1", op="conv", inputs=("input",), channels=32, kernel=3), Node(id="n2", op="gelu", inputs=("n1",)),
        Node(id="n4", op="add", inputs=("n2", "input"))))
    assert lines(difference(PLAIN, child)) == [
        "- n3: max_pool k2 of n2", "+ n4: add of n2 + input", "~ n1: channels 16 → 32", "~ n2: op relu → gelu",
        "~ output: -n3 → n4"]


def test_renumbered_nodes_are_one_insertion():
    """A node put in at the front and all others numbered anew: one node added, and what was wired to it."""
    child = chain(("n1", "norm"), ("n2", "conv", {"channels": 16, "kernel": 3}), ("n3", "relu"),
                  ("n4", "max_pool", {"kernel": 2}))
    found = difference(PLAIN, child)
    assert [node.id for node in found.added] == ["n1"]
    assert (found.removed, found.output, found.renamed) == ((), None, 3)
    assert [(one.id, one.was, one.fields) for one in found.changed] == [("n2", "n1", {"inputs": (("input",), ("n1",))})]


def test_fixed_places_are_compared_place_by_place():
    """Where the ids are the same, an op that moved is two changed places and not a renamed node."""
    left = chain(("a", "relu"), ("b", "norm"))
    right = chain(("a", "norm"), ("b", "relu"))
    assert lines(difference(left, right)) == ["~ a: op relu → norm", "~ b: op norm → relu"]


def test_order_of_inputs_matters_only_where_it_does():
    """Summed inputs have no order; concatenated ones do."""
    def join(op, *inputs):
        return ArchGraph(space="open", output="j", nodes=(Node(id="a", op="relu", inputs=("input",)),
                                                          Node(id="j", op=op, inputs=inputs)))

    assert lines(difference(join("add", "a", "input"), join("add", "input", "a"))) == [SAME]
    assert lines(difference(join("concat", "a", "input"), join("concat", "input", "a"))) == [
        "~ j: inputs a + input → input + a"]


@pytest.mark.parametrize("space", ["nb201", "open", "convnet", "nbmacro"])
@given(seed=st.integers(0, 2**32 - 1))
def test_nothing_against_itself_and_its_renaming(space, seed):
    """A graph differs in nothing from itself, and from a renamed one in names only."""
    graph = load_space(space).sample(np.random.default_rng(seed))
    names = {node.id: f"z{place}" for place, node in enumerate(graph.order)} | {"input": "input"}
    renamed = graph.model_copy(update={"output": names[graph.output], "nodes": tuple(
        node.model_copy(update={"id": names[node.id], "inputs": tuple(names[one] for one in node.inputs)})
        for node in graph.order)})
    assert difference(graph, graph).size == 0
    found = difference(graph, renamed)
    assert (found.size, found.renamed) == (0, len(graph.nodes))
    assert lines(found) == [f"{SAME}, {len(graph.nodes)} node{'' if len(graph.nodes) == 1 else 's'} renamed"]


@given(seed=st.integers(0, 2**32 - 1))
def test_a_mutation_of_a_cell_is_one_op(seed):
    """An edit of nb201 changes the op of one place, and the difference says which."""
    rng, space = np.random.default_rng(seed), load_space("nb201")
    parent = space.sample(rng)
    child = space.mutate(parent, rng)
    (change,) = difference(parent, child).changed
    assert change.fields == {"op": (parent.by_id[change.id].op, child.by_id[change.id].op)}


@given(seeds=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)))
def test_every_node_is_accounted_for(seeds):
    """Nodes of the parent, less those removed, plus those added, are the nodes of the child."""
    space = load_space("open")
    left, right = (space.sample(np.random.default_rng(seed)) for seed in seeds)
    found = difference(left, right)
    assert len(left.nodes) - len(found.removed) + len(found.added) == len(right.nodes)
    assert {node.id for node in found.added} <= set(right.by_id)
    assert {node.id for node in found.removed} <= set(left.by_id)
    assert (found.size == 0) == (lines(found)[0].startswith(SAME))
    assert as_json(found)["renamed"] == found.renamed


def test_illegal_graphs_are_compared_too():
    """Cycles, repeated ids and inputs that are not there raise nothing; foreign names stay on their line."""
    odd = ArchGraph(space="open", output="gone", nodes=(
        Node(id="a", op="x\x1b[2J\ny", inputs=("b",)), Node(id="b", op="relu", inputs=("a",)),
        Node(id="b", op="relu", inputs=("nowhere",))))
    for left, right in ((odd, PLAIN), (PLAIN, odd), (odd, odd)):
        said = "\n".join(lines(difference(left, right)))
        assert "\x1b" not in said
    assert difference(odd, odd).size == 0


def test_parents_of_a_trial(events):
    """Every parent is named with its trial; one from elsewhere is said to be from elsewhere."""
    state = fold(events)
    trial = next(one for one in state.trials if one.proposal.origin.parents and one.proposal.graph)
    (name, said), = to_parents(state, trial)
    (found,) = parents_json(state, trial)
    assert name == f"trial {state.first[trial.proposal.origin.parents[0]]}"
    assert said == lines(difference(state.trial(found["n"]).proposal.graph, trial.proposal.graph))
    away = trial.model_copy(update={"proposal": trial.proposal.model_copy(update={
        "origin": trial.proposal.origin.model_copy(update={"parents": ("g1:elsewhere",)})})})
    assert to_parents(state, away) == [("g1:elsewhere", ["not a trial of this run"])]
    assert parents_json(state, away) == [{"key": "g1:elsewhere", "n": None, "difference": None}]
