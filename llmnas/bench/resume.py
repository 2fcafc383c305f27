"""A run that is killed again and again ends like one that was left alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any, Final

from llmnas.bench.process import KILLED, Ended, Say, llmnas
from llmnas.errors import LlmnasError
from llmnas.records import Trial
from llmnas.store import RunState, read_events, read_run

SPREAD: Final = 1.6
"""Attempts are killed uniformly within this many times their even share of the work, so most kills fall inside it."""
_PATIENCE: Final = 3
"""Attempts without any progress, in a row, after which the bench gives up."""


def bench_resume(root: Path, kills: int, evals: int, seed: int, budget: str, limit_s: float,
                 say: Say = lambda _: None) -> dict[str, Any]:
    """Returns where the kills fell and whether the two runs are equal.

    Args:
        root: Folder for the two runs.
        kills: How often SIGKILL is sent.
        evals: Architectures trained by each run.
        seed: Of the runs and of the moments.
        budget: Of the runs; so large that it ends nothing.
        limit_s: Wall seconds after which a single command is taken for hung.
        say: Told of every attempt.

    Raises:
        LlmnasError: The run that is left alone does not end well.
    """
    options = ["--llm", "mock:1", "--strategy", "agent", "--target", "gpu:t4", "--max-evals", str(evals), "--seed",
               str(seed), "--data", "digits", "--budget", budget, "--progress", "quiet"]
    whole, broken = root / "whole", root / "broken"
    say("the run that is left alone")
    alone = llmnas(["run", *options, "--out", str(whole)], root / "whole.log", limit_s=limit_s)
    if alone.code:
        raise LlmnasError(f"the run that is left alone ended with code {alone.code}", alone.says)
    start_s = max(0.5, alone.seconds - read_run(whole).clock_s)
    attempts = _attempts(broken, options, kills, Random(seed), alone.seconds, start_s, limit_s, say)
    left, right = read_run(whole), read_run(broken)
    differences = compare(left, right)
    return {"kills": sum(one["killed"] for one in attempts), "wanted_kills": kills, "evals": evals, "seed": seed,
            "budget": budget, "trials": [len(left.trials), len(right.trials)],
            "trained": [len(left.trained()), len(right.trained())], "seconds_alone": alone.seconds,
            "attempts": attempts, "differences": differences, "best": [_best(left), _best(right)],
            "ok": not differences and attempts[-1]["code"] == 0}


def _attempts(directory: Path, options: list[str], kills: int, rng: Random, seconds: float, start_s: float,
              limit_s: float, say: Say) -> list[dict[str, Any]]:
    """Starts, kills and continues the run until it ends by itself."""
    attempts: list[dict[str, Any]] = []
    left, idle, before = kills, 0, 0
    share = SPREAD * max(1.0, seconds - start_s) / (kills + 1)
    while True:
        after = rng.uniform(0.3, start_s + share) if left else None
        ended = _go_on(directory, options, after, limit_s)
        killed = ended.code == KILLED and after is not None
        left -= killed
        fell = where(directory)
        attempts.append({"killed": killed, "code": ended.code, "after_s": ended.seconds, **fell})
        say(f"killed after {ended.seconds:.1f} s: {fell['says']}" if killed
            else f"ended by itself with code {ended.code} after {ended.seconds:.1f} s")
        if not killed:
            if ended.code:
                attempts[-1]["problem"] = ended.says
            return attempts
        idle = idle + 1 if fell["events"] <= before and not left else 0
        before = fell["events"]
        if idle > _PATIENCE:
            return attempts


def _go_on(directory: Path, options: list[str], kill_after_s: float | None, limit_s: float) -> Ended:
    """Continues the run, or starts it when the last kill came before its first event: nothing was paid for by then."""
    log = directory.with_suffix(".log")
    if where(directory)["events"]:
        return llmnas(["resume", str(directory), "--progress", "quiet"], log, kill_after_s, limit_s)
    shutil.rmtree(directory, ignore_errors=True)
    return llmnas(["run", *options, "--out", str(directory)], log, kill_after_s, limit_s)


def where(directory: Path) -> dict[str, Any]:
    """Returns how far a run's log goes, and in words what it was doing."""
    log = directory / "events.jsonl"
    events = list(read_events(log)) if log.is_file() else []
    if not events:
        return {"events": 0, "clock_s": 0.0, "torn": False, "says": "before the first event"}
    state, torn = read_run(directory), not log.read_bytes().endswith(b"\n")
    return {"events": len(events), "clock_s": state.clock_s, "torn": torn, "says": doing(state, events[-1].body.kind)}


def doing(state: RunState, last: str) -> str:
    """Returns what a run was doing after its last event of kind `last`."""
    if state.finished is not None:
        return "finished"
    if state.selected is not None:
        final = "final" in state.trial(state.selected.n).trained
        return "during the export" if final else "during the final training"
    if state.stopped is not None:
        return "after the search, before the choice"
    if state.pending:
        return f"while trial {state.pending[0]} was to be trained"
    if state.asked is not None and state.asked.step > state.told_step:
        return f"during step {state.asked.step}, after {last}"
    return f"between steps, after {last}"


def compare(left: RunState, right: RunState) -> list[str]:
    """Returns every difference of two runs in what was proposed, what came of it and what was chosen."""
    found = [] if left.plan == right.plan else ["the plans differ: another machine, or other code"]
    if len(left.trials) != len(right.trials):
        found.append(f"{len(left.trials)} trials against {len(right.trials)}")
    for one, two in zip(left.trials, right.trials, strict=False):
        mine, other = _essence(one), _essence(two)
        found += [f"trial {one.n}: {name}: {mine[name]} against {other[name]}" for name in mine
                  if mine[name] != other[name]]
    if [(one.n, one.share) for one in left.told] != [(one.n, one.share) for one in right.told]:
        found.append("the strategy was told in another order")
    if _best(left) != _best(right):
        found.append(f"chosen: {_best(left)} against {_best(right)}")
    return found


def _essence(trial: Trial) -> dict[str, Any]:
    origin = trial.proposal.origin
    return {"key": trial.key, "status": trial.status, "operator": origin.operator, "step": origin.step,
            "parents": origin.parents, "score": trial.score, "proxies": trial.scores,
            "partial": [(one.share, one.val_score) for one in trial.partial]}


def _best(state: RunState) -> dict[str, Any] | None:
    if state.selected is None:
        return None
    chosen = state.trial(state.selected.n)
    return {"n": chosen.n, "key": chosen.key, "score": chosen.score}
