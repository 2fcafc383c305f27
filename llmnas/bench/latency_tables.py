"""Published tables of latency: rows, the networks they name, and the columns of devices, faults left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmnas.bench.geometry import fbnet, gpt, ofa
from llmnas.bench.table import read_table
from llmnas.errors import InputError, nearest
from llmnas.latency.counting import Counted, Floats, count
from llmnas.latency.kernels import EXECUTIONS
from llmnas.network import Network
from llmnas.space import Digits, load_space

Row = Mapping[str, str]

TARGETS: Final[tuple[tuple[str, str], ...]] = (
    ("help_1080ti_*_ms", "gtx_1080_ti@batch={}"), ("help_titan_rtx_*_ms", "titan_rtx@batch={}"),
    ("help_titanx_*_ms", "titan_x_pascal@batch={}"), ("1080ti_*_ms", "gtx_1080_ti@batch={}"),
    ("titan_rtx_*_ms", "titan_rtx@batch={}"), ("titanx_*_ms", "titan_x_pascal@batch={}"),
    ("v100_*_ms", "v100_pcie@batch={}"),
    ("hwnb_*_edgegpu_*", "jetson_tx2@runtime=exported"), ("hwnb_*_raspi4_*", "raspberry_pi_4@runtime=exported"),
    ("hwnb_*_pixel3_*", "pixel3@runtime=exported"), ("hwnb_*_edgetpu_*", "edge_tpu"),
    ("rice_edgegpu", "jetson_tx2@runtime=exported"), ("rice_raspi4", "raspberry_pi_4@runtime=exported"),
    ("rice_pixel3", "pixel3@runtime=exported"),
    ("help_gold_6226_ms", "xeon_gold_6226"), ("help_silver_4114_ms", "xeon_silver_4114"),
    ("help_silver_4210r_ms", "xeon_silver_4210r"),
    ("latbench_i7_7820x_fp32_ms", "i7_7820x@runtime=compiled"), ("true_a76", "cortex_a76@runtime=compiled"),
    ("true_6*", "adreno_640@runtime=compiled"), ("true_vpu", "adreno_640@runtime=compiled"),
    ("eagle_i7", "i7_7820x@runtime=compiled"), ("eagle_jetson*", "jetson_nano@runtime=compiled"),
    ("eagle_*", "adreno_640@runtime=compiled"),
    ("lat_P100_ms", "p100_pcie@batch=8,dtype=fp16"), ("lat_a100_ms", "a100_40g@batch=8,dtype=fp16"),
    ("lat_v100_ms", "v100_pcie@batch=8,dtype=fp16"), ("lat_rtx2080_ms", "rtx_2080@batch=8,dtype=fp16"),
    ("lat_rtx3080_ms", "rtx_3080@batch=8,dtype=fp16"), ("lat_a40_ms", "a40@batch=8,dtype=fp16"),
)
"""Target of a column by pattern, first match; ``{}`` is what stands for ``*``, the batch."""


class Layout(NamedTuple):
    """Where a table is and what its rows name.

    Attributes:
        file: Below the data folder.
        network: The network of a row.
        genes: The choices of a row, one character or word each; empty where they say nothing new.
        keys: Patterns of columns that are not latencies.
        named: Columns that the network of a row is made from.
    """

    file: str
    network: Callable[[Row], Network]
    genes: Callable[[Row], Sequence[str]]
    keys: tuple[str, ...]
    named: tuple[str, ...]


def _nb201(row: Row) -> Network:
    space = load_space("nb201")
    return space.network(Digits(space).graph(row["ops"]), raw=True)


LAYOUTS: Final[dict[str, Layout]] = {
    "nb201": Layout("nb201/latency.csv.gz", _nb201, lambda row: row["ops"], ("index", "ops", "ops_effective"),
                    ("index",)),
    "fbnet": Layout("fbnet/fbnet_latency.csv.gz", fbnet, lambda row: row["ops"].split("_"), ("index", "ops", "zc_*"),
                    ("ops",)),
    "ofa": Layout("ofa/ofa_mbv3_latency.csv.gz", ofa, lambda row: (), ("index", "ks", "e", "d", "r"),
                  ("ks", "e", "d", "r")),
    "hwgpt": Layout("hwgpt/hwgpt_s.csv.gz", gpt, lambda row: (),
                    ("index", "embed_dim", "n_layer", "n_head", "mlp_ratio", "bias", "perplexity", "accuracy", "flops",
                     "macs", "params", "energy_*", "mem_*"), ("embed_dim", "n_head", "mlp_ratio")),
}
_ONEPROXY: Final = "latency/oneproxy_nb201.npz"
MISLABELLED: Final = frozenset({"eagle_gtx"})
"""A second run of the i7 under the name of a GPU (Spearman .999 with it)."""
ESTIMATED: Final = ("*fpga*", "*eyeriss*")
"""Columns that a model made, not a measurement."""


class LatencyTable:
    """A published table.

    Args:
        name: A key of `LAYOUTS`.
        folder: The data folder.

    Raises:
        InputError: The table is not there.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder, self.layout = name, folder, LAYOUTS[name]
        self.rows = self._rows()

    def _rows(self) -> list[dict[str, str]]:
        rows = read_table(self.folder / self.layout.file, self.layout.named)
        if self.name != "nb201":
            return rows
        cells = read_table(self.folder / "nb201" / "nb201.csv.gz", ("index", "ops", "ops_effective"))
        named = {row["index"]: row for row in cells}
        return [{**named[row["index"]], **row} for row in rows]

    @cached_property
    def networks(self) -> list[Network]:
        """The networks of all rows."""
        return [self.layout.network(row) for row in self.rows]

    @cached_property
    def counted(self) -> tuple[Counted, ...]:
        """Their kernels by execution."""
        return tuple(count(self.networks, execution) for execution in EXECUTIONS)

    @cached_property
    def genes(self) -> Floats | None:
        """Their choices, one-hot, of shape (rows, genes); None where the table has none."""
        chosen = [self.layout.genes(row) for row in self.rows]
        if not chosen or not chosen[0]:
            return None
        letters = np.array([list(one) for one in chosen])
        return np.concatenate([(letters[:, [j]] == np.unique(letters[:, j])) for j in range(letters.shape[1])],
                              axis=1).astype(float)

    @cached_property
    def columns(self) -> list[str]:
        """Names of the columns with latencies."""
        own = [name for name in self.rows[0] if not any(fnmatch(name, key) for key in self.layout.keys)
               and not name.startswith(("c10_", "c100_", "arch_")) and "energy" not in name and "intensity" not in name]
        return own + (self._other_devices if self.name == "nb201" else [])

    @cached_property
    def _other_devices(self) -> list[str]:
        path = self.folder / _ONEPROXY
        if not path.exists():
            return []
        return [str(device) for device in np.load(path)["devices"] if str(device) not in MISLABELLED]

    def ms(self, column: str) -> Floats:
        """Returns the latencies of a column, of shape (rows,); nan where there is none to be had.

        Left out: networks that a device does not support, and disconnected cells, which some publishers measured as
        nothing at all (0.01 ms) and some as everything.
        """
        values = np.array([float(row[column]) if row[column] else np.nan for row in self.rows]) if (
            column in self.rows[0]) else self._other(column)
        values[(values <= 0) | self.dead] = np.nan
        return values

    @cached_property
    def dead(self) -> NDArray[np.bool_]:
        """Which rows are cells that connect nothing."""
        return np.array([row.get("ops_effective") == "000000" for row in self.rows])

    def _other(self, column: str) -> Floats:
        if column not in self.columns:
            raise InputError(f"table {self.name} has no column {column!r}", nearest(column, self.columns))
        found = np.load(self.folder / _ONEPROXY)
        values = np.full(len(self.rows), np.nan)
        values[found["nb201_index"]] = found["latency_ms"][[str(d) for d in found["devices"]].index(column)]
        return values


def target_of(column: str, folder: Path) -> str | None:
    """Returns the target of a column: by ``columns.json`` in the folder, else by its name; None if unknown.

    ``columns.json`` maps a column to ``{"device": …, "batch": …, "runtime": …}``.

    Raises:
        InputError: ``columns.json`` is not such a file.
    """
    path = folder / "columns.json"
    if path.exists():
        said = _said(path).get(column)
        if said is not None:
            return said
    for pattern, target in TARGETS:
        if fnmatch(column, pattern):
            batch = next((part for part in reversed(column.split("_")) if part.isdigit()), "1")
            return target.format(batch)
    return None


def _said(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _spec(entry) for name, entry in found.items()}
    except (ValueError, AttributeError, TypeError, KeyError) as fault:
        raise InputError(f"{path}: expected columns with device, batch and runtime, got {fault}",
                         'example: {"my_phone_ms": {"device": "pixel3", "batch": 1, "runtime": "compiled"}}') from fault


def _spec(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    options = [f"{name}={entry[name]}" for name in ("batch", "runtime", "dtype") if entry.get(name) is not None]
    return str(entry["device"]) + ("@" + ",".join(options) if options else "")


def find_column(column: str, folder: Path) -> LatencyTable:
    """Returns the table with this column.

    Raises:
        InputError: No table has it; names the nearest.
    """
    tables = [LatencyTable(name, folder) for name, layout in LAYOUTS.items() if (folder / layout.file).exists()]
    for table in tables:
        if column in table.columns:
            return table
    raise InputError(f"no table below {folder} has a column {column!r}",
                     nearest(column, [name for table in tables for name in table.columns]))
