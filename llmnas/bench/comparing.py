"""Arms compared on a published table: every seed of every arm once, in parallel, each on disk as soon as it is done."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from itertools import accumulate
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from os import _exit
from pathlib import Path
from typing import Any, Final

from llmnas.bench.answering import opened, prompts_of, uses_model
from llmnas.bench.columns import Column, numbers, read_header, read_texts
from llmnas.bench.fronts import Judge, found_by
from llmnas.bench.fronts import __doc__ as protocol
from llmnas.bench.meter import Outcome, Terms, search_once
from llmnas.bench.process import Say
from llmnas.bench.searching import about
from llmnas.bench.seeds import Place
from llmnas.bench.tabular import LATENCIES, SCORES, Benchmark, row_names
from llmnas.compare import ANYTIME, TEST, VALIDATION, Arm, Charges, Measure, Paid, Trajectory, analyse
from llmnas.compare.analysis import Question
from llmnas.compare.results import Results
from llmnas.errors import ModelError, RunError
from llmnas.records import JOIN

TRAIN_S: Final = "_train_s"
"""A table may have a column ``D_train_s``: seconds of one training of a row."""
FRONT: Final = (
    Measure("hv_ratio", "hypervolume of the front found, over that of the true test front"),
    Measure("hv_high", "the same above a scaled accuracy of 0.9"),
    Measure("igd_plus", "IGD+ of the front found to the true test front", higher=False))
REPORT_S: Final = 10.0  # between two lines of progress


@dataclass(frozen=True)
class Entry:
    """One search that is to be carried out."""

    place: Place
    terms: Terms
    arm: Arm
    seed: int
    calls: Path | None = None


def compare_on_table(place: Place, arms: Sequence[Arm], terms: Terms, seeds: int,
                     folder: Path | None = None, question: Question | None = None, workers: int = 1,
                     say: Say = lambda _: None) -> dict[str, Any]:
    """Returns the comparison of arms on a table; searches that are in the folder already are not carried out again.

    Selection is by validation. The test column is opened when the last search is over, and read for what was chosen.

    Args:
        place: The table.
        arms: What is compared.
        terms: On what terms; its strategy is filled in here.
        seeds: How many, from 0. A seed gives the same whatever the number of workers.
        folder: Where finished searches are kept; None takes one below ``runs/`` that these terms have to themselves.
        question: What is asked; the number of evaluations is that of the terms.
        workers: Processes.
        say: Gets progress.

    Raises:
        InputError: A table, strategy, model or arm that does not exist.
        ModelError: The language model was lost. What was finished is kept; the same command goes on.
        RunError: The folder holds a comparison on other terms.
    """
    bench = place.open()
    terms, asked, prompts = settled(arms, terms)
    if asked:
        say(f"language model: {asked['llm']}, prompt {', '.join(dict.fromkeys(prompts.values()))}")
    common = common_terms(bench, terms, asked)
    folder = folder or Path("runs") / f"compare-{place.bench}-{place.dataset}-{digest(common)}"
    with Results(folder, common) as results:
        _same_prompts(results, prompts)
        wanted = [Entry(place, replace(terms, strategy=arm.strategy, prompt=arm.prompt or terms.prompt), arm, seed,
                        folder / "calls" / f"{arm.file}-{seed}" if uses_model(arm.strategy) else None)
                  for seed in range(seeds) for arm in arms]
        left = [one for one in wanted if (one.arm.label, one.seed) not in results.done]
        if len(left) < len(wanted):
            say(f"{len(wanted) - len(left)} of {len(wanted)} searches are in {folder} already")
        _carry_out_all(left, workers, results, say)
        found = [results.done[one.arm.label, one.seed] for arm in arms for one in wanted if one.arm == arm]
    judged, box = judge_all(bench, found)
    measures = [TEST, VALIDATION, *(FRONT if place.device else ()), ANYTIME]
    asking = replace(question or Question(), evals=terms.evals)
    return {"source": "table", **analyse(judged, measures, asking), "about": _about(place, bench, terms, box),
            "folder": str(folder), "terms": common | {"seeds": seeds, "strategies": [arm.label for arm in arms]}}


def settled(arms: Sequence[Arm], terms: Terms) -> tuple[Terms, dict[str, str], dict[str, str]]:
    """Returns the terms with a model that ``auto`` was settled to, what all arms are asked by, and each arm's prompt.

    What all are asked by is the model, and the prompt by identity when an arm has none of its own.

    Raises:
        InputError: There is no such strategy, model or prompt, or an arm has a prompt and nobody to ask.
    """
    prompts = prompts_of(arms, terms.prompt)
    users = [arm for arm in arms if arm.label in prompts]
    if not users:
        return terms, {}, {}
    with opened(users[0].strategy, terms.llm, users[0].prompt or terms.prompt, terms.prior) as (model, _):
        if model is None:
            raise ModelError(f"{users[0].strategy} got no model")
        named = replace(terms, llm=model.name) if terms.llm == "auto" else terms
    shared = next((prompts[arm.label] for arm in users if arm.prompt is None), None)
    llm = named.llm if isinstance(named.llm, str) else JOIN.join(named.llm)
    return named, {"llm": llm, **({"prompt": shared} if shared else {})}, prompts


def _same_prompts(results: Results, prompts: Mapping[str, str]) -> None:
    """Makes certain that what is done already was asked with the prompts there are now.

    Raises:
        RunError: It was not.
    """
    for (arm, seed), one in results.done.items():
        if one.prompt is not None and prompts.get(arm, one.prompt) != one.prompt:
            raise RunError(f"{results.folder}: {arm}, seed {seed}, was asked with {one.prompt}, which now is "
                           f"{prompts[arm]}", "give another --out, or restore the prompt")


def common_terms(bench: Benchmark, terms: Terms, asked: dict[str, str]) -> dict[str, Any]:
    """Returns what all searches of a comparison have in common, the digest of the table included."""
    own = asdict(terms)
    for name in ("strategy", "llm", "prompt", "cap_ms"):
        own.pop(name)
    files = [bench.path, *([bench.path.parent / LATENCIES] if bench.device else ()),
             *([bench.path.parent / SCORES] if terms.screen else ())]
    content = b"".join(path.read_bytes() for path in files if path.exists())
    return {"bench": bench.bench, "dataset": bench.dataset, "device": bench.device, "llmnas": version("llmnas"),
            "table": hashlib.blake2b(content, digest_size=8).hexdigest(), **own, **asked}


def digest(terms: Mapping[str, Any]) -> str:
    """Returns eight hex digits that stand for these terms."""
    return hashlib.blake2b(json.dumps(terms, sort_keys=True).encode(), digest_size=4).hexdigest()


# -- carrying out


def _carry_out_all(entries: Sequence[Entry], workers: int, results: Results, say: Say) -> None:
    started = said = time.monotonic()
    for done, trajectory in enumerate(_carried_out(entries, workers), start=1):
        if trajectory.stopped == "llm_failed":
            raise ModelError(f"{trajectory.arm}, seed {trajectory.seed}: the language model was lost",
                             "what is finished is kept; see `llmnas doctor`, then give the same command again")
        results.add(trajectory)
        if time.monotonic() - said > REPORT_S or done == len(entries):
            said = time.monotonic()
            say(f"{done} of {len(entries)} searches in {said - started:.0f} s")


def _carried_out(entries: Sequence[Entry], workers: int) -> Iterator[Trajectory]:
    if workers == 1 or len(entries) < 2:
        yield from map(carry_out, entries)
        return
    pool = ProcessPoolExecutor(min(workers, len(entries)), mp_context=get_context("spawn"), initializer=_watch_parent)
    try:
        futures: list[Future[Trajectory]] = [pool.submit(carry_out, one) for one in entries]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _watch_parent() -> None:
    """Ends a worker whose parent was killed, and leaves Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        sentinel = parent.sentinel
        threading.Thread(target=lambda: (wait([sentinel]), _exit(1)), name="llmnas-watch", daemon=True).start()


def carry_out(entry: Entry) -> Trajectory:
    """Returns what one search did; its measures are not known yet."""
    bench = _open(entry.place)
    started = time.process_time()
    outcome = search_once(bench, entry.terms, entry.arm.seed(entry.seed), calls=entry.calls)
    return _trajectory(bench, entry, outcome, time.process_time() - started)


@lru_cache(maxsize=4)
def _open(place: Place) -> Benchmark:
    """Returns the table for searching; only the judge's own copy is ever closed."""
    return place.open()


@lru_cache(maxsize=4)
def _train_seconds(bench: Benchmark) -> Column:
    """Returns the seconds of one training by row; nothing where the table has no such column."""
    column = bench.dataset + TRAIN_S
    if column not in read_header(bench.path):
        return {}
    texts = [row[0] for row in read_texts(bench.path, (column,))]
    return numbers(row_names(bench.path, bench.layout.named), texts, bench.path, column)


def _trajectory(bench: Benchmark, entry: Entry, outcome: Outcome, cpu_s: float) -> Trajectory:
    column = _train_seconds(bench)
    known = [cost * column[name] for name, cost in outcome.trainings if name in column]
    timed = len(known) == len(outcome.trainings) and not outcome.proxied
    costs, trained = list(accumulate(cost for _, cost in outcome.trainings)), list(accumulate(known))
    paid = tuple(Paid(what=name, score=bench.validation(name) / 100, at=round(costs[place], 6),
                      at_s=waited + trained[place] if timed else None, latency_ms=bench.latency(name))
                 for name, waited, place in zip(outcome.charged, outcome.waited_s, outcome.whole, strict=True))
    counts, usage = outcome.counts, outcome.usage
    charges = Charges(
        proposals=_trained(outcome) + counts.total(), invalid=counts["invalid"], duplicate=counts["repeats"],
        refused=counts["refused"], passed_over=counts["passed_over"], repaired=outcome.repaired,
        evaluations=round(outcome.cost, 6), predicted=outcome.predicted, proxies=outcome.proxied, calls=outcome.calls,
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, usd=usage.usd, llm_s=usage.seconds,
        proxy_s=None if outcome.proxied else 0.0, train_s=sum(known) if len(known) == len(outcome.trainings) else None,
        cpu_s=round(cpu_s, 4))
    return Trajectory(arm=entry.arm.label, strategy=entry.arm.strategy, seed=entry.seed, paid=paid, charges=charges,
                      stopped=outcome.stopped, model=outcome.model, prompt=outcome.prompt, answers=outcome.answers,
                      end_s=usage.seconds + sum(known) if timed else None)


def _trained(outcome: Outcome) -> int:
    """Returns how many proposals were trained; a promotion trains one again."""
    return len({name for name, _ in outcome.trainings}) if outcome.brief else len(outcome.charged)


# -- judging


def judge_all(bench: Benchmark, trajectories: Sequence[Trajectory]) -> tuple[list[Trajectory], dict[str, Any] | None]:
    """Closes the table and returns the trajectories with their measures, and the box of the front, if there is one."""
    fronts = [found_by(bench, Outcome(one.seed, [paid.what for paid in one.paid])) for one in trajectories
              ] if bench.device else []
    competitors = bench.competitors
    latency = {name: ms for name in competitors if (ms := bench.latency(name)) is not None}
    tested = bench.close()  # the last request was made
    judge = Judge(competitors, latency, tested) if bench.device else None
    judged = []
    for place, one in enumerate(trajectories):
        best = one.best()
        test = tested.scores.get(best.what) if best else None
        measures = {TEST.name: None if test is None else test / 100, VALIDATION.name: best.score if best else None}
        if judge is not None:
            measures |= judge.figures(fronts[place]) if fronts[place] else {one.name: None for one in FRONT}
        judged.append(one.model_copy(update={"measures": measures}))
    return judged, judge.box if judge else None


def _about(place: Place, bench: Benchmark, terms: Terms, box: dict[str, Any] | None) -> dict[str, Any]:
    said = about({place: bench}, terms)
    column = bench.dataset + TRAIN_S
    seconds = (f"Charged seconds: calls of the language model and the table's own seconds of training ({column})"
               if _train_seconds(bench) else
               f"This table has no seconds of training (column {column}), so there are no curves by second")
    if terms.screen:
        seconds = "Published proxies were looked at, which nobody timed, so there are no curves by second"
    return {**said, "seconds": seconds, "box": box,
            "front": " ".join(protocol.split("- ", 1)[1].split()) if box and protocol else None}
