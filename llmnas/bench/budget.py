"""Ten runs of the main job: do they use their budget, and do they keep it?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmnas.bench.process import Say, llmnas
from llmnas.graph import ArchGraph, Node

LEAST: Final = 0.7
OVER_S: Final = 3.0
"""A run keeps its budget when its wall time is between `LEAST` of it and `OVER_S` seconds more than it."""
_NEEDED: Final = {"report": "report", "model": "model", "tested": "a final training"}
_HANG_S: Final = 120.0  # over the budget; then it is killed


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        data: As ``--data``; ``synthetic`` is the set the bench makes.
        strategy: As ``--strategy``.
        budget_s: Seconds.
        space: As ``--space``.
        slow: Whether it starts from an architecture whose single epoch outlasts the budget.
    """

    data: str
    strategy: str
    budget_s: int
    space: str = "auto"
    slow: bool = False

    @property
    def name(self) -> str:
        """A name for its folder."""
        return f"{self.data}-{self.space}-{self.strategy}-{self.budget_s}s" + ("-slow" if self.slow else "")


CASES: Final = (
    Case("digits", "random", 30), Case("digits", "evolution", 45), Case("digits", "agent", 60),
    Case("digits", "agent", 120, "open"), Case("mnist1d", "random", 30), Case("mnist1d", "evolution", 90),
    Case("mnist1d", "agent", 60), Case("synthetic", "evolution", 60), Case("synthetic", "agent", 60, "mbconv"),
    Case("synthetic", "random", 45, slow=True))


def slow_graph() -> ArchGraph:
    """Returns a legal convnet of 0.65e9 MACs per 32x32 image: an epoch of `synthetic` takes minutes on a CPU."""
    def stage(name: str, source: str, channels: int, stride: int) -> Node:
        return Node(id=name, op="basic", inputs=(source,), channels=channels, kernel=5, stride=stride, depth=3,
                    se=False)

    return ArchGraph(space="convnet", output="s3", nodes=(
        Node(id="stem", op="stem", inputs=("input",), channels=48, kernel=5, stride=1),
        stage("s1", "stem", 48, 1), stage("s2", "s1", 64, 2), stage("s3", "s2", 128, 2)))


def synthetic(path: Path, examples: int = 6000, classes: int = 10) -> None:
    """Writes coloured 32x32 images whose class is the place and the colour of a blob in noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(classes, size=examples)
    x = rng.normal(110, 40, (examples, 3, 32, 32)).astype(np.float32)
    for label in range(classes):
        top, left = 2 + 4 * (label // 4), 2 + 6 * (label % 4)
        x[y == label, label % 3, top:top + 6, left:left + 6] += 90
    np.savez(path, x_train=x.clip(0, 255).astype(np.uint8), y_train=y)


def bench_budget(root: Path, seed: int = 0, only: str = "", say: Say = lambda _: None) -> dict[str, Any]:
    """Returns one row per case with wall time, exit code and whether the answer is there.

    Args:
        root: Folder for runs and data.
        seed: Of the runs.
        only: Runs the cases with this in their name; all when empty.
        say: Told of every row.
    """
    synthetic(root / "synthetic.npz")
    (root / "slow.json").write_text(slow_graph().to_json(), encoding="utf-8")
    rows = []
    for case in (case for case in CASES if only in case.name):
        rows.append(_one(case, root, seed))
        say(line(rows[-1]))
    shares = [row["share"] for row in rows]
    return {"seed": seed, "least": LEAST, "over_s": OVER_S, "runs": rows, "kept": sum(row["ok"] for row in rows),
            "smallest_share": min(shares, default=None), "largest_share": max(shares, default=None),
            "ok": bool(rows) and all(row["ok"] for row in rows)}


def arguments(case: Case, root: Path, seed: int) -> list[str]:
    """Returns what follows ``llmnas`` on the command line."""
    data = str(root / "synthetic.npz") if case.data == "synthetic" else case.data
    return ["run", "--data", data, "--space", case.space, "--strategy", case.strategy, "--llm", "mock:1", "--budget",
            f"{case.budget_s}s", "--seed", str(seed), "--progress", "quiet", "--out", str(root / case.name),
            *(["--start", str(root / "slow.json")] if case.slow else [])]


def _one(case: Case, root: Path, seed: int) -> dict[str, Any]:
    ended = llmnas(arguments(case, root, seed), root / f"{case.name}.log", limit_s=case.budget_s + _HANG_S)
    directory = root / case.name
    model = directory / "best" / "model.safetensors"
    return judged({"run": case.name, "data": case.data, "strategy": case.strategy, "budget_s": case.budget_s,
                   "slow_start": case.slow, "wall_s": ended.seconds, "share": ended.seconds / case.budget_s,
                   "code": ended.code, "report": (directory / "report.html").is_file(), "model": model.is_file(),
                   **_what(directory), "says": ended.says if ended.code else ""})


def judged(row: dict[str, Any]) -> dict[str, Any]:
    """Returns the row with the verdict. A model without a test score has no trained weights: it is no answer."""
    in_time = LEAST * row["budget_s"] <= row["wall_s"] <= row["budget_s"] + OVER_S
    tested = row["test"] is not None
    return row | {"in_time": in_time, "tested": tested,
                  "ok": in_time and row["code"] == 0 and row["report"] and row["model"] and tested}


def _what(directory: Path) -> dict[str, Any]:
    """Returns what a run did, by its log."""
    from llmnas.errors import RunError
    from llmnas.store import read_run

    try:
        state = read_run(directory)
    except (OSError, RunError) as error:
        return {"trials": None, "trained": None, "stopped": None, "test": None, "problem": str(error)}
    final = state.trial(state.selected.n).trained.get("final") if state.selected else None
    return {"trials": len(state.trials), "trained": len(state.trained()),
            "stopped": state.stopped.reason if state.stopped else None, "test": final.test_score if final else None}


def line(row: dict[str, Any]) -> str:
    """Returns a row for people."""
    missing = [says for name, says in _NEEDED.items() if not row[name]]
    verdict = "ok" if row["ok"] else "NOT ok" + (f", without {' and '.join(missing)}" if missing else "")
    return (f"{row['run']:34} {row['wall_s']:6.1f} s of {row['budget_s']:3} s ({100 * row['share']:3.0f} %), "
            f"code {row['code']}, {json.dumps(row['trained'])} trained: {verdict}")
