"""The bench of proxies: drawing, batches, agreement; and a small real run where the tables are."""

import os
from math import nan
from pathlib import Path

import numpy as np
import pytest

from llmnas.bench.pools import published_score
from llmnas.bench.proxies import bench_proxies, column, draw, spearman
from llmnas.errors import InputError

DATA = Path(os.environ.get("LLMNAS_DATA", "nowhere"))
needs_data = pytest.mark.skipif(not (DATA / "nb201" / "zerocost.csv.gz").is_file(), reason="LLMNAS_DATA is not set")


def test_published_sentinels_are_no_scores():
    """Nothing and the failure sentinel are None; a large negative score is a score."""
    assert published_score("") is None
    assert published_score("-100000000.0") is None
    assert published_score("-39217.5") == -39217.5


def test_correlation_is_over_what_both_know():
    """Members that one side does not know are left out; too few, or no spread, is no correlation rather than 0."""
    assert spearman([1, 2, 3, nan], [10, 20, 30, 0]) == pytest.approx(1.0)
    assert spearman([1, 2, nan, nan], [1, 2, 3, 4]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_missing_scores_are_not_numbers():
    """A column of a pool keeps its members' places."""
    assert np.isnan(column("nwot", [{"nwot": None}, {"nwot": 2.0}])[0])


def test_tables_that_are_missing_are_named(tmp_path):
    """The file that cannot be read is named, with what to do."""
    with pytest.raises(InputError, match=r"zerocost\.csv\.gz: cannot be read"):
        draw(tmp_path, 3, 0)


@needs_data
def test_the_draw_depends_on_the_seed_alone():
    """The same seed draws the same live cells, with published scores; another seed draws others."""
    first, again, other = (draw(DATA, 5, seed) for seed in (0, 0, 1))
    assert [one.ops for one in first] == [one.ops for one in again] != [one.ops for one in other]
    assert all(one.published["synflow"] is not None for one in first)


@needs_data
def test_cheap_proxies_agree_with_the_published_scores():
    """Sizes and synflow of eight cells rank as published."""
    rows = {row["proxy"]: row for row in bench_proxies(DATA, 8, 0, ["params", "flops", "synflow"])["rows"]}
    assert rows["params"]["spearman_published"] == pytest.approx(1.0)
    assert rows["synflow"]["spearman_published"] > .99
    assert rows["synflow"]["n"] == 8
    assert rows["synflow"]["ms"] > 0
