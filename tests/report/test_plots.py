"""Plots are pictures with words, whatever the numbers."""

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmnas.report import plots
from llmnas.report.axes import axis

SVG = "{http://www.w3.org/2000/svg}"
NUMBER = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 1)


def check(picture):
    """Parses a picture: title, description, axis titles, finite places."""
    root = ET.fromstring(picture)
    assert root.find(f"{SVG}title").text
    assert root.find(f"{SVG}desc").text
    assert sum(text.get("class") == "bold" for text in root.iter(f"{SVG}text")) >= 2
    assert 'x="nan"' not in picture
    assert "inf" not in picture.replace("info", "")
    return root


def test_front_says_its_points():
    """The description lists the front; measured and analytic points have different marks; the limit is drawn."""
    points = [plots.Point(1, 2.0, 0.9, (1.9, 2.1), on_front=True, chosen=True), plots.Point(2, 5.0, 0.8, (4, 6), True)]
    root = check(plots.front_plot(points, "accuracy", "ms on cpu", limit=3))
    assert "trial 1 90.0 % at 2 ms on cpu" in root.find(f"{SVG}desc").text
    assert "limit" in [text.text for text in root.iter(f"{SVG}text")]
    assert len(root.findall(f".//{SVG}path")) == 2  # one diamond in the legend, one in the plot


def test_many_points_are_thinned_but_the_front_stays():
    """Beyond 2,000 points the beaten ones are thinned."""
    points = [plots.Point(n, n + 1.0, 0.5, on_front=n % 100 == 0) for n in range(10_000)]
    picture = plots.front_plot(points, "accuracy", "MACs")
    assert picture.count("<circle") < 2200
    assert picture.count("<title>trial") == 2100
    assert len(picture) < 500_000


def test_anytime_counts_failures_but_not_as_scores():
    """A failed training is a tick without a dot."""
    root = check(plots.anytime_plot([(10, 0.5), (20, None), (30, 0.7), (40, 0.6)], 60, "accuracy"))
    assert "4 trainings" in root.find(f"{SVG}desc").text
    assert "70.0 % after 30 s" in root.find(f"{SVG}desc").text
    assert len(root.findall(f"{SVG}circle")) == 3


def test_rank_plot_has_spearman_positive_when_proxies_are_right():
    """Rank 1 with the best score is +1."""
    picture = plots.rank_plot([(1, 0.9), (2, 0.8), (3, 0.7), (4, 0.6)], "accuracy")
    assert "Spearman +1.00, n = 4" in picture
    assert "too few" in plots.rank_plot([(1, 0.9)], "accuracy")
    assert plots.spearman([1, 1, 1, 1], [1, 2, 3, 4]) is None


@given(st.lists(st.tuples(NUMBER, NUMBER, st.booleans(), st.booleans()), max_size=12), st.sampled_from(["ms", "MACs"]))
def test_no_numbers_break_the_front(rows, unit):
    """NaN, infinity and extremes are left out or drawn."""
    check(plots.front_plot([plots.Point(i, cost, score, (cost, cost), analytic, front)
                            for i, (cost, score, analytic, front) in enumerate(rows)], "f1", unit))


@given(st.lists(st.tuples(NUMBER, st.none() | NUMBER), max_size=12), NUMBER)
def test_no_numbers_break_the_curve(rows, end):
    """Likewise for the curve and the ranks."""
    check(plots.anytime_plot(rows, end, "accuracy"))
    check(plots.rank_plot([(when, score) for when, score in rows if score is not None], "accuracy"))


@pytest.mark.parametrize(("values", "log"), [([], False), ([3], False), ([1, 30], True), ([-1, 30], False)])
def test_axis_holds_its_values(values, log):
    """Ticks lie inside, values map into the frame, a wide positive range is logarithmic."""
    found = axis(values, "t", str)
    assert found.log is log
    assert found.ticks
    assert all(found.low <= tick <= found.high for tick in found.ticks)
    assert all(0 <= found.at(value) <= 1 and math.isfinite(found.at(value)) for value in values)
