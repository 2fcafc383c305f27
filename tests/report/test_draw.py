"""Drawings: golden text, well-formed SVG with a text alternative, and no graph that breaks them."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmnas.graph import ArchGraph, Node
from llmnas.report import draw
from llmnas.space.loading import list_spaces, load_space

SVG = "{http://www.w3.org/2000/svg}"


def nb201(*ops):
    """Returns a cell by its six ops, in the order of its edges."""
    graph = load_space("nb201").sample(np.random.default_rng(0))
    edges = [node for node in graph.nodes if node.id != "out"]
    named = dict(zip(("0>1", "0>2", "1>2", "0>3", "1>3", "2>3"), ops, strict=True))
    nodes = [node.model_copy(update={"op": named[node.id]}) for node in edges]
    return graph.model_copy(update={"nodes": (*nodes, graph.by_id["out"])})


def check(picture):
    """Parses a picture and returns its root: it has a title, a description and nothing but numbers in places."""
    root = ET.fromstring(picture)
    assert root.find(f"{SVG}title").text
    assert root.find(f"{SVG}desc").text
    assert root.get("aria-labelledby")
    assert "nan" not in " ".join(root.get("viewBox"))
    return root


def test_text_of_a_cell():
    """Rails carry values; edges of op none are not there."""
    graph = nb201("nor_conv_3x3", "none", "skip_connect", "nor_conv_1x1", "none", "avg_pool_3x3")
    assert draw.to_text(graph) == """\
●    input
├─●  0>1    nor_conv_3x3
●─│  0>3    nor_conv_1x1
│ ●  1>2    skip_connect
│ ●  2>3    avg_pool_3x3
╰─●  out    add
output: out""".replace("●─│", "● │")


@pytest.mark.parametrize("name", list_spaces())
def test_every_space_can_be_drawn(name):
    """Samples of every shipped space give a picture with one box per node, text and Mermaid."""
    space = load_space(name)
    for seed in range(5):
        graph = space.sample(np.random.default_rng(seed))
        nodes, _ = draw.drawn(graph)
        root = check(draw.to_svg(graph, draw.labels_of(space.network(graph)), "A <b>heading</b> & more"))
        assert len(root.findall(f".//{SVG}g")) == len(nodes)
        assert len(draw.to_text(graph).splitlines()) == len(nodes) + 2
        assert draw.to_mermaid(graph).startswith("flowchart TD")


def test_boxes_of_a_layer_do_not_overlap():
    """Boxes keep apart, whatever the wiring."""
    graph = load_space("open").sample(np.random.default_rng(2))
    root = check(draw.to_svg(graph))
    boxes = [(float(r.get("y")), float(r.get("x")), float(r.get("width")))
             for r in root.iter(f"{SVG}rect") if r.get("class") == "box"]
    for y, x, width in boxes:
        for other_y, other_x, _ in boxes:
            assert y != other_y or x >= other_x or x + width <= other_x


IDS = st.sampled_from(["a", "b", "c", "input", "out", "<x>", "\x1b[1m\"", "é|`"])


@given(st.lists(st.tuples(IDS, st.sampled_from(["none", "add", "conv", "nonsense <op>", "mul"]),
                          st.lists(IDS, max_size=4)), max_size=8), IDS)
def test_no_graph_breaks_a_drawing(parts, output):
    """Cycles, unknown inputs, doubled ids and hostile names are drawn as far as they make sense."""
    graph = ArchGraph(space="x", output=output, nodes=tuple(
        Node(id=name, op=op, inputs=tuple(inputs), channels=3, se=True) for name, op, inputs in parts))
    check(draw.to_svg(graph))
    assert "\x1b" not in draw.to_text(graph)
    assert '""' not in draw.to_mermaid(graph)
