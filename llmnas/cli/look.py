"""Commands that read runs: show, report, watch, runs list. None imports torch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from llmnas.store import RunState

REPORT: Final = "llmnas.report/1"

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
    prompt: Annotated[bool, typer.Option(help="Also the exact messages, replies and faults behind the trial.")] = True,
    calls: Annotated[bool, typer.Option("--calls", help="List the model calls and what came of each.")] = False,
    call: Annotated[str | None, typer.Option(metavar="CALL", help="One model call whole, by its id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a run, one of its trials with all that the model saw and said for it, or its model calls."""
    from llmnas.errors import InputError
    from llmnas.store import find_run, read_run

    if (trial is not None) + calls + (call is not None) > 1:
        raise InputError("a trial, --calls and --call are three answers: give one of them",
                         "`llmnas show RUN --calls` lists the ids for --call")
    directory = find_run(run)
    state = read_run(directory)
    if trial is not None:
        _show_trial(state, trial, directory, prompt, as_json)
    elif calls or call is not None:
        _show_calls(state, call, directory, as_json)
    else:
        from llmnas.report import card

        print_json(card.summary_json(state)) if as_json else typer.echo(card.summary(state))


def _show_trial(state: RunState, trial: int, directory: Path, prompt: bool, as_json: bool) -> None:
    from llmnas.report import card, said

    found = state.trial(trial)
    if as_json:
        print_json(card.trial_json(state, trial)
                   | ({"conversation": said.behind_json(state, found, directory)} if prompt else {}))
        return
    typer.echo(card.trial_text(state, trial))
    if prompt:
        typer.echo("\n" + said.behind_text(state, found, directory))


def _show_calls(state: RunState, call: str | None, directory: Path, as_json: bool) -> None:
    from llmnas.report import calls, said

    if as_json:
        print_json(calls.calls_json(state) if call is None else said.one_json(state, call, directory))
    else:
        typer.echo(said.calls_text(state) if call is None else said.call_text(state, call, directory))


def report(run: Run, as_json: AsJson = False) -> None:
    """Write the report of a run anew and print its path; works while the run goes on.

    With --json, also what the report says of the language model.
    """
    from llmnas.report import conversation, facts
    from llmnas.report.html import write_report
    from llmnas.space import load_space
    from llmnas.store import find_run, read_run

    directory = find_run(run)
    state = read_run(directory)
    network = None
    if state.selected is not None and (graph := state.trial(state.selected.n).proposal.graph) is not None:
        task = state.begun.task
        network = load_space(state.settings.space).network(graph, tuple(task["shape"]), task["classes"])
    path = write_report(state, directory, network)
    if as_json:
        print_json({"schema": REPORT, "run": state.begun.run, "report": str(path), "offline": facts.offline(state),
                    "llm": conversation.as_json(conversation.conversation(state))})
    else:
        typer.echo(path)


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
