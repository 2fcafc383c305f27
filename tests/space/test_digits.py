"""The codec between graphs and the digits of published tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmnas.errors import InputError
from llmnas.space import Digits, load_space
from tests.graph.test_key import cell


@pytest.mark.parametrize("name", ["nb201", "nbmacro"])
def test_drawn_graphs_round_trip(name):
    """Graph to digits and back is the same graph."""
    space, rng = load_space(name), np.random.default_rng(3)
    codec = Digits(space)
    for graph in (space.sample(rng) for _ in range(50)):
        assert codec.graph(codec.digits(graph)) == graph


@given(digits=st.text("012", min_size=8, max_size=8))
def test_digits_round_trip(digits):
    """Digits to graph and back are the same digits, leading zeros included; the graph is legal."""
    space = load_space("nbmacro")
    graph = Digits(space).graph(digits)
    assert not space.validate(graph)
    assert Digits(space).digits(graph) == digits


def test_cells_read_as_the_table_orders_them():
    """NAS-Bench-201's edges are 0>1 0>2 1>2 0>3 1>3 2>3."""
    assert Digits(load_space("nb201")).graph("012340") == cell("012340")


@pytest.mark.parametrize(("digits", "says"), [("0000000", "8 digits"), ("000000000", "8 digits"), ("00003000", "l5"),
                                              ("0000x000", "l5"), ("0000²000", "l5"), ("", "8 digits")])
def test_wrong_digits_are_bad_input(digits, says):
    """Too few, too many, none of the ops: each is named."""
    with pytest.raises(InputError, match=says):
        Digits(load_space("nbmacro")).graph(digits)


@pytest.mark.parametrize("name", ["convnet", "open"])
def test_spaces_with_more_to_choose_have_no_digits(name):
    """Attributes and free wiring do not fit into digits."""
    with pytest.raises(InputError, match="no digits"):
        Digits(load_space(name))
