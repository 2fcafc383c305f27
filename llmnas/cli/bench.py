"""Commands that measure llmnas itself on this machine: bench loop, fuzz, resume, budget, hand; and the group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from llmnas.cli import bench_build, bench_gradient, bench_search, bench_tables
from llmnas.cli.bench_answer import answer, say
from llmnas.cli.look import AsJson
from llmnas.errors import InputError

Seed = Annotated[int, typer.Option(help="Seed.", min=0)]
Out = Annotated[Path | None, typer.Option(help="Folder that keeps the runs. [default: a temporary one]",
                                          show_default=False)]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(help="Measure llmnas itself on this machine. Exit code 1: a promise is not kept.",
                        no_args_is_help=True)
    for command in (loop, fuzz, resume, budget, hand, *bench_tables.COMMANDS, *bench_search.COMMANDS,
                    *bench_build.COMMANDS, *bench_gradient.COMMANDS):
        group.command(command.__name__.rstrip("_"))(command)
    app.add_typer(group, name="bench")


def loop(
    trials: Annotated[int, typer.Option(help="Proposals per case.", min=10)] = 10_000,
    seed: Seed = 0,
    profile: Annotated[bool, typer.Option("--profile", help="Also where the time goes; slows everything.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Also parameters, MACs and keys of all NAS-Bench-201 cells.")
                    ] = False,
    data_dir: Annotated[Path | None, typer.Option(envvar="LLMNAS_DATA", help="Folder with nb201/nb201.csv.gz.",
                                                  show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """The loop without evaluation and model: milliseconds per proposal, log size, memory; is it linear?"""
    from llmnas.bench.loop import bench_loop
    from llmnas.bench.table import bench_table

    if full and data_dir is None:
        raise InputError("--full needs the table", "give --data-dir or set LLMNAS_DATA")
    result = bench_loop(trials, seed, profile, say)
    if full and data_dir is not None:
        result["table"] = bench_table(data_dir, say)
    answer("loop", result, as_json, _loop_lines)
    raise typer.Exit(0 if result.get("table", {}).get("ok", True) else 1)


def fuzz(
    n: Annotated[int, typer.Option("--n", "-n", help="Documents.", min=1)] = 100_000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Broken model replies: read, check, name. Exceptions must be none."""
    from llmnas.bench.fuzz import bench_fuzz

    result = bench_fuzz(n, seed, say)
    answer("fuzz", result, as_json, _fuzz_lines)
    raise typer.Exit(0 if result["ok"] else 1)


def resume(
    kills: Annotated[int, typer.Option(help="How often the run is killed.", min=0)] = 5,
    evals: Annotated[int, typer.Option(help="Architectures trained by each run.", min=1)] = 6,
    seed: Seed = 0,
    budget: Annotated[str, typer.Option(help="Of the runs; it must not be what ends them.")] = "4min",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """A run killed with SIGKILL at random moments against one left alone: is the result the same?"""
    from llmnas.bench.resume import bench_resume
    from llmnas.budget import parse_duration

    limit_s = parse_duration(budget) + 120
    with _folder(out) as root:
        result = bench_resume(root, kills, evals, seed, budget, limit_s, say)
    answer("resume", result, as_json, _resume_lines)
    raise typer.Exit(0 if result["ok"] else 1)


def budget(
    seed: Seed = 0,
    only: Annotated[str, typer.Option(help="Only the runs with this in their name.")] = "",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Ten runs of 30 to 120 seconds: wall time against budget, and whether the answer is there."""
    from llmnas.bench.budget import bench_budget

    with _folder(out) as root:
        result = bench_budget(root, seed, only, say)
    answer("budget", result, as_json, _budget_lines)
    raise typer.Exit(0 if result["ok"] else 1)


def hand(
    data: Annotated[str, typer.Option(help="An .npz of images, or as in run.")],
    budget: Annotated[str, typer.Option(help="Of each search.")] = "20min",
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0.", min=1)] = 3,
    strategy: Annotated[str, typer.Option(help="As in run.")] = "agent",
    llm: Annotated[str, typer.Option(help="As in run.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder that keeps everything; the same command goes on where it was.")
                   ] = Path("bench-hand"),
    as_json: AsJson = False,
) -> None:
    """The found network against a ResNet-8 and a half-width MobileNetV2, at the latency of the faster one."""
    from llmnas.bench.hand import Hand

    result = Hand(data, out, budget, ("--strategy", strategy, "--llm", llm), say).run(seeds)
    answer("hand", result, as_json, _hand_lines)


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is None:
        with TemporaryDirectory(prefix="llmnas-bench-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty", "choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    yield out


def _loop_lines(result: dict[str, Any]) -> Iterator[str]:
    for case in result["cases"]:
        marks = ", ".join(f"{ms:.2f} ms at {int(mark):,}" for mark, ms in case["ms_per_proposal"].items())
        memory = "unknown" if case["peak_mb"] is None else f"{case['peak_mb']:.0f} MB"
        yield (f"{case['space']:8} {case['strategy']:10} {case['trials']:,} trials ({case['stopped']}): per proposal "
               f"{marks}; {case['slowdown']:.2f} times the first at the last")
        yield (f"  log {case['log_mb']:.1f} MB, {case['log_bytes_per_trial']:.0f} bytes a trial; read back at "
               f"{case['read_events_per_s']:,.0f} events/s, folded at {case['fold_events_per_s']:,.0f}; peak {memory}")
        for row in case.get("profile", []):
            yield f"    {row['own_s']:8.3f} s own, {row['total_s']:8.3f} s in all, {row['calls']:9,}  {row['function']}"
    for space in result["spaces"]:
        yield (f"{space['space']:8} key {space['key_us']:.0f} µs, validate {space['validate_us']:.0f} µs, "
               f"sample {space['sample_us']:.0f} µs")
    if table := result.get("table"):
        yield (f"table: of {table['rows']:,} cells {table['params_agree']:,} agree in parameters and "
               f"{table['macs_agree']:,} in MACs; {table['strings']:,} strings without dead branches, "
               f"{table['keys']:,} keys: {'all as published' if table['ok'] else 'NOT as published'}")


def _fuzz_lines(result: dict[str, Any]) -> Iterator[str]:
    yield (f"{result['n']:,} documents at {result['documents_per_s']:,.0f} a second: {result['valid']:,} legal graphs "
           f"({result['keys']:,} different) in {result['proposals']:,} proposals")
    yield "issues: " + ", ".join(f"{code} {count:,}" for code, count in result["issues"].items())
    yield f"slowest: {result['slowest']['ms']:.1f} ms ({result['slowest']['made']})"
    yield f"exceptions: {result['exceptions']} (must be 0)"
    for example in result["examples"]:
        yield f"  {example['space']}, {example['made']}: {example['error']}\n    {example['document'][:300]}"


def _resume_lines(result: dict[str, Any]) -> Iterator[str]:
    for one in result["attempts"]:
        how = "killed" if one["killed"] else f"ended with code {one['code']}"
        torn = ", a torn line" if one["torn"] else ""
        yield f"{how} after {one['after_s']:.1f} s, {one['events']} events{torn}: {one['says']}"
    yield from (f"  differs: {text}" for text in result["differences"])
    left, right = result["trials"]
    yield (f"{result['kills']} kills; {left} trials alone, {right} with kills: "
           f"{'equal' if result['ok'] else 'NOT equal'}")


def _budget_lines(result: dict[str, Any]) -> Iterator[str]:
    from llmnas.bench.budget import line

    yield from map(line, result["runs"])
    yield (f"{result['kept']} of {len(result['runs'])} between {100 * result['least']:.0f} % of the budget and "
           f"{result['over_s']:g} s over it, with report and model")


def _hand_lines(result: dict[str, Any]) -> Iterator[str]:
    from llmnas.bench.hand import line

    yield from map(line, result["rows"])
    for name, mean in result["mean"].items():
        yield (f"mean {name:18} test {mean['test']:.4f}, {mean['ms']:.3g} ms, {mean['params']:,.0f} params, "
               f"{mean['macs']:,.0f} MACs, trained {mean['seconds']:.0f} s")
    yield f"ahead of both in {result['ahead']} of {result['seeds']} seeds; everything is in {result['out']}"
