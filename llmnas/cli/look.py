"""Commands that read runs: show, report, watch, runs list. None imports torch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's path, name, a part of it, or latest.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("show")(show)
    app.command("report")(report)
    app.command("watch")(watch)
    runs = typer.Typer(help="Runs on disk.", no_args_is_help=True)
    runs.command("list")(runs_list)
    app.add_typer(runs, name="runs")


def print_json(value: Any) -> None:
    """Prints one JSON document on stdout."""
    typer.echo(json.dumps(value, indent=1, default=str))


def show(
    run: Run,
    trial: Annotated[int | None, typer.Argument(help="Number of a trial.")] = None,
    prompt: Annotated[bool, typer.Option(help="Also the exact messages, reply and issues behind the trial.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a run, or one of its trials with everything measured of it."""
    from llmnas.report import card
    from llmnas.store import find_run, read_run

    directory = find_run(run)
    state = read_run(directory)
    if trial is None:
        print_json(card.summary_json(state)) if as_json else typer.echo(card.summary(state))
        return
    state.trial(trial)
    if as_json:
        print_json(card.trial_json(state, trial))
        return
    typer.echo(card.trial_text(state, trial))
    if prompt:
        typer.echo(_conversation(directory, state.trial(trial).proposal.origin.call))


def _conversation(directory: Path, call: str | None) -> str:
    if call is None:
        return "this trial was not proposed by a language model"
    record = json.loads((directory / "calls" / f"{call}.json").read_text(encoding="utf-8"))
    parts = [f"--- {message['role']} ---\n{message['content']}" for message in record["messages"]]
    return "\n".join([*parts, f"--- reply ({record['status']}, {record['mode']}) ---", str(record["text"])])


def report(run: Run) -> None:
    """Write the report of a run anew and print its path; works while the run goes on."""
    from llmnas.report.html import write_report
    from llmnas.space import load_space
    from llmnas.store import find_run, read_run

    directory = find_run(run)
    state = read_run(directory)
    network = None
    if state.selected is not None and (graph := state.trial(state.selected.n).proposal.graph) is not None:
        task = state.begun.task
        network = load_space(state.settings.space).network(graph, tuple(task["shape"]), task["classes"])
    typer.echo(write_report(state, directory, network))


def watch(
    run: Run,
    progress: Annotated[str, typer.Option(help="auto, live or plain.")] = "auto",
    every: Annotated[float, typer.Option(help="Seconds between looks.", min=0.05)] = 0.5,
) -> None:
    """Follow a run from another terminal until it is finished."""
    from llmnas.report.console import open_console
    from llmnas.store import RunState, find_run, read_events

    directory = find_run(run)
    console, state = open_console(progress), RunState()
    while state.finished is None:
        for event in list(read_events(directory / "events.jsonl"))[state.events:]:
            state.apply(event)
            if event.seq == 0:
                console.started(state)
            console.event(event, state)
        console.tick(state, state.clock_s, "watching")
        if state.finished is None:
            time.sleep(every)
    console.close(state)


def runs_list(as_json: AsJson = False,
              root: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("runs")) -> None:
    """List the runs, oldest first."""
    from llmnas.errors import LlmnasError
    from llmnas.store import list_runs, read_run

    rows = []
    for directory in list_runs(root):
        try:
            state = read_run(directory)
            rows.append(_row(directory, state))
        except LlmnasError as error:
            rows.append({"run": directory.name, "problem": str(error)})
    if as_json:
        print_json({"schema": "llmnas.runs/1", "runs": rows})
        return
    for row in rows:
        typer.echo("  ".join(f"{key}={value}" if key != "run" else str(value) for key, value in row.items()))
    if not rows:
        typer.echo(f"no runs below {root}; `llmnas run` makes one", err=True)


def _row(directory: Path, state: Any) -> dict[str, Any]:
    chosen = state.trial(state.selected.n) if state.selected else None
    final = chosen.trained.get("final") if chosen else None
    return {"run": directory.name, "data": state.settings.data, "space": state.settings.space,
            "strategy": state.settings.strategy, "trials": len(state.trials), "trained": state.spent.trainings,
            "test": final.test_score if final else None,
            "ended": state.stopped.reason if state.stopped else "running or killed"}
