"""The bench of learned proxy weights, on a made-up table and on the published one."""

import csv
import gzip
import os
from pathlib import Path

import pytest

from llmnas.bench import reweight
from llmnas.errors import InputError


def made_up(folder, cells=1200):
    """Writes tables in which snip alone orders the cells, and every tenth has a dead edge."""
    (folder / "nb201").mkdir()
    names = ("params", "flops", "synflow", "nwot", "jacov", "grad_norm", "l2_norm", "fisher", "grasp", "plain", "zen",
             "epe_nas")
    for name, row in (
        ("nb201.csv.gz", lambda i: {"index": i, "ops": f"{i % 10}", "ops_effective": f"{i % 10 or 5}",
                                    "c10_val200": i / 20, "c10_test200": i / 20}),
        ("zerocost.csv.gz", lambda i: {"index": i, "c10_snip": i, **{
            f"c10_{name}": "" if i == 7 else (i * 7919 + 31 * k) % 997 for k, name in enumerate(names)}}),
    ):
        with gzip.open(folder / "nb201" / name, "wt", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, row(0).keys())
            writer.writeheader()
            writer.writerows(row(i) for i in range(cells))


def test_made_up_table(tmp_path):
    """Dead cells are left out; the more labels, the better the learned order, and the lines say the numbers."""
    made_up(tmp_path, 1300)
    result = reweight.bench_reweight(tmp_path, seeds=2)
    assert result["cells"] == 1170
    assert len(result["rows"]) == 12
    learned = [row["spearman_reweighted"] for row in result["rows"][:3]]
    assert learned == sorted(learned)
    assert learned[-1] > 0.8 > result["rows"][2]["spearman_default"]
    assert f"{learned[0]:.3f}" in next(iter(reweight.lines(result)))


def test_a_missing_or_other_table_is_bad_input(tmp_path):
    """The faults name the file and the column."""
    with pytest.raises(InputError, match="zerocost"):
        reweight.live_cells(tmp_path)
    with gzip.open(tmp_path / "zerocost.csv.gz", "wt") as file:
        file.write("index,c10_params\n0,1\n")
    with pytest.raises(InputError, match="no column 'c10_flops'"):
        reweight.live_cells(tmp_path)


@pytest.mark.skipif("LLMNAS_DATA" not in os.environ, reason="LLMNAS_DATA does not name the published tables")
def test_published_table():
    """From the pair of other spaces learning gains; from the pair chosen on this table it costs little."""
    result = reweight.bench_reweight(Path(os.environ["LLMNAS_DATA"]), seeds=5)
    assert result["cells"] == 9445
    for row in result["rows"]:
        assert row["spearman_change"] > (0 if row["prior"] == "elsewhere" else -0.02), row
