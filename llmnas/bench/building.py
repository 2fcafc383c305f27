"""The trainings of our own table: every function of a small space, three times, on MNIST-1D.

A folder holds what was paid for, one JSON line a training, so that a build that was ended goes on where it stopped.
`llmnas.bench.packing` measures the rest and packs the folder into the table that llmnas brings with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmnas.bench.process import Say
from llmnas.data import DataRef, Dataset, Split, materialise, reopen
from llmnas.errors import InputError
from llmnas.graph import Frozen
from llmnas.space import Digits, Space, load_space

SPACE: Final = "conv1d_cell"
SEEDS: Final = 3
EXAMPLES: Final = 639
"""Training examples: the most that the recipe still trains in batches of 32 (`llmnas.train.recipe.BATCHES`)."""
VALIDATION: Final = 1_000
EPOCHS: Final = 14
LOOKS: Final = 4
"""Validations of a training, evenly over its one schedule."""
TRAININGS: Final = "trainings.jsonl"
_SPLIT_SEED: Final = 0
_ORDER_SEED: Final = 20_25


class Line(Frozen):
    """One training.

    Attributes:
        ops: The cell.
        seed: Seed of weights, order and augmentation.
        curve: Validation accuracy at every look; the last is what counts.
        loss: Validation cross-entropy at the end.
        test: Test accuracy.
        cpu_s: Processor seconds.
    """

    ops: str
    seed: int
    curve: tuple[float, ...]
    loss: float
    test: float
    cpu_s: float


def functions(space: Space) -> dict[str, list[str]]:
    """Returns the cells of a space by the first of those that compute the same, in the order of their digits."""
    codec, groups = Digits(space), dict[str, list[str]]()
    slots = [slot for slot in space.spec.slots() if len(slot.choices) > 1]
    for places in product(*("0123456789"[:len(slot.choices)] for slot in slots)):
        graph = codec.graph("".join(places))
        if not space.validate(graph):
            groups.setdefault(graph.key(), []).append("".join(places))
    return {cells[0]: cells for cells in groups.values()}


def bench_build(out: Path, workers: int = 1, limit: int | None = None, say: Say = lambda _: None) -> dict[str, Any]:
    """Trains what is not trained yet and returns how far the folder is.

    Args:
        out: The folder; made, or gone on with.
        workers: Processes, each with one thread.
        limit: Trainings at most in this call; None for all.
        say: Gets progress.

    Raises:
        InputError: The folder is one of another task, or cannot be written.
    """
    wanted = _wanted(load_space(SPACE))
    try:
        data = _data(out)
    except OSError as fault:
        raise InputError(f"{out} cannot be written: {fault.strerror}", "give another folder") from None
    done = {(line.ops, line.seed) for line in read_lines(out)}
    left = [one for one in wanted if one not in done][:limit]
    started = time.monotonic()
    with (out / TRAININGS).open("a", encoding="utf-8") as file:
        for n, line in enumerate(_trained(data, left, workers), start=1):
            file.write(line.model_dump_json() + "\n")
            file.flush()
            if n % 100 == 0 or n == len(left):
                say(f"{len(done) + n:,} of {len(wanted):,} trainings; {(time.monotonic() - started) / n:.2f} s each")
    return {"folder": str(out), "trainings": len(done) + len(left), "of": len(wanted),
            "functions": len(wanted) // SEEDS, "complete": len(done) + len(left) == len(wanted), **spread(out)}


def _wanted(space: Space) -> list[tuple[str, int]]:
    """Returns every training, the cells in random order: a part of them is a fair sample of the space."""
    cells = list(functions(space))
    order = np.random.default_rng(_ORDER_SEED).permutation(len(cells))
    return [(cells[i], seed) for i in order for seed in range(SEEDS)]


def read_lines(out: Path) -> Iterator[Line]:
    """Yields the trainings of a folder; a line that a kill tore is passed over, and trained again."""
    path = out / TRAININGS
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        path.write_text(text[:text.rfind("\n") + 1], encoding="utf-8")
    yield from (Line.model_validate_json(line) for line in text.split("\n")[:-1])


def spread(out: Path) -> dict[str, Any]:
    """Returns how far architectures differ against how far seeds of one do, over those with every seed.

    The variance between architectures is that of their means less what the seeds contribute to it.
    """
    cells: dict[str, list[float]] = {}
    for line in read_lines(out):
        cells.setdefault(line.ops, []).append(line.curve[-1])
    whole = np.array([scores for scores in cells.values() if len(scores) == SEEDS])
    if len(whole) < 2:
        return {"between_sd": None, "seed_sd": None, "ratio": None}
    within = whole.var(axis=1, ddof=1).mean()
    between = max(0.0, float(whole.mean(axis=1).var(ddof=1) - within / SEEDS))
    return {"between_sd": between ** 0.5, "seed_sd": float(within ** 0.5),
            "ratio": (between / float(within)) ** 0.5 if within else None}


def _data(out: Path) -> DataRef:
    """Returns the task: MNIST-1D as published, a stratified part of its training set, and its own test set."""
    folder = out / "data"
    if (folder / "data.json").exists():
        ref = reopen(folder)
        if (ref.name, ref.sizes["train"], ref.sizes["val"]) != ("mnist1d", EXAMPLES, VALIDATION):
            raise InputError(f"{folder} holds another task", "give an empty folder")
        return ref
    from llmnas.data.builtin import mnist1d

    dataset = mnist1d()
    return materialise(dataset, _split(dataset), folder)


def _split(dataset: Dataset) -> Split:
    rng = np.random.default_rng(_SPLIT_SEED)
    order = rng.permutation(len(dataset.y)).astype(np.int64)
    tests = 0 if dataset.test_y is None else len(dataset.test_y)
    return Split(_SPLIT_SEED, order[:EXAMPLES], order[EXAMPLES:EXAMPLES + VALIDATION],
                 np.arange(tests, dtype=np.int64), own_test=True)


def _trained(data: DataRef, left: Sequence[tuple[str, int]], workers: int) -> Iterator[Line]:
    jobs = [(data.model_dump(mode="json"), ops, seed) for ops, seed in left]
    if workers == 1 or len(jobs) < 2:
        yield from map(_train, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:  # in the order in which they end
        yield from (done.result() for done in as_completed([pool.submit(_train, job) for job in jobs]))


def _train(job: tuple[dict[str, Any], str, int]) -> Line:
    """Trains one cell by the recipe of every training. The test part is read: nothing is chosen here."""
    from llmnas.train.payload import TrainPayload
    from llmnas.train.schedule import Never
    from llmnas.train.trainer import train

    data, ops, seed = job
    space = load_space(SPACE)
    network = space.network(Digits(space).graph(ops))
    payload = TrainPayload(network=network.to_data(), data=DataRef.model_validate(data), epochs=EPOCHS, seed=seed,
                           device="cpu", threads=1, validations=LOOKS, test=True)
    started = time.process_time()
    found = train(payload.model_dump(mode="json"), Never())
    return Line(ops=ops, seed=seed, curve=tuple(round(score, 4) for score in found["curve"]),
                loss=round(found["val_loss"], 4), test=round(found["test_score"], 4),
                cpu_s=round(time.process_time() - started, 3))
