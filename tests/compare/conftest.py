"""A made-up table of 729 cells with seconds of training, latencies, and trajectories without any search."""

from itertools import product

import numpy as np
import pytest

from llmnas.bench.importing import write_table
from llmnas.compare import Charges, Paid, Trajectory
from llmnas.space import Digits, load_space
from tests.bench.toy import SPACE


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    own = root / "toy"
    own.mkdir()
    (own / "toy.yaml").write_text(SPACE)
    (own / "bench.json").write_text('{"space": "toy.yaml", "about": "made up"}')
    space = load_space(str(own / "toy.yaml"))
    assert Digits(space)
    rng, rows, times = np.random.default_rng(0), [], []
    for index, cell in enumerate(map("".join, product("012", repeat=6))):
        convs = cell.count("2")
        val = 50 + 7 * convs - 2 * cell.count("1") * (convs < 3) + 2 * rng.random()
        rows.append({"index": str(index), "ops": cell, "c10_val200": f"{val:.4f}",
                     "c10_test200": f"{val + rng.normal():.4f}", "c10_train_s": f"{10 + 5 * convs}",
                     "bare_val200": f"{val:.4f}", "bare_test200": f"{val:.4f}"})
        times.append({"index": str(index), "phone_ms": f"{1 + convs + 0.3 * cell.count('1') + rng.random() / 9:.3f}"})
    write_table(own / "toy.csv.gz", rows)
    write_table(own / "latency.csv.gz", times)
    return root


def made_up(arm, seed, scores, model=None, seconds=1.0, stopped="max_evals", **measures):
    """A trajectory with these scores, a second each."""
    paid = tuple(Paid(what=str(place), score=score, at_s=seconds * (place + 1)) for place, score in enumerate(scores))
    known = [score for score in scores if score is not None]
    best = max(known, default=None)
    return Trajectory(arm=arm, strategy=arm.partition("#")[0], seed=seed, paid=paid, stopped=stopped, model=model,
                      charges=Charges(proposals=len(scores) + 2, invalid=1, duplicate=1, evaluations=len(scores)),
                      measures={"test": best, "validation": best, **measures})


def field(seeds=8, **shifts):
    """Trajectories of several arms whose scores are shifted against each other."""
    found = []
    for arm, shift in shifts.items():
        for seed in range(seeds):
            rng = np.random.default_rng([seed, sum(map(ord, arm))])
            found.append(made_up(arm, seed, np.clip(0.5 + shift + 0.02 * rng.normal(size=12), 0, 1).tolist()))
    return found
