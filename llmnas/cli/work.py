"""Commands that work: run, evaluate, resume, export."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from llmnas.errors import InputError

_STARTED = time.monotonic()  # as near to the start of the process as can be: the budget counts from here

STRATEGY_HELP = ("agent, agent-nollm, best_of_n, shuffled, random, local_search, evolution, proxy_warm, nsga2, "
                 "reinforce, bayesian, bayesian_front, successive_halving, darts, one_shot, prior, or module:Class.")

Llm = Annotated[list[str] | None, typer.Option(
    help="auto, openai:NAME, local:FILE.gguf, replay:RUN, manual[:DIR], mock[:SEED]; several share the calls. See "
         "docs/llm.md. [default: auto]", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Events as JSON lines on stdout.")]
Progress = Annotated[str, typer.Option(help="auto, live, plain or quiet.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("run")(run)
    app.command("evaluate")(evaluate)
    app.command("resume")(resume)
    app.command("export")(export)


def run(
    data: Annotated[str, typer.Option(help="digits, mnist1d, a folder of class folders of images, an .npz, or "
                                           "CIFAR-10's archive.")] = "digits",
    space: Annotated[str, typer.Option(help="A space's name or its YAML; auto chooses by the data.")] = "auto",
    metric: Annotated[str, typer.Option(help="accuracy, balanced_accuracy or macro_f1.")] = "accuracy",
    strategy: Annotated[str, typer.Option(help=STRATEGY_HELP)] = "agent",
    target: Annotated[list[str] | None, typer.Option(
        help="cpu (this machine), gpu, gpu:NAME or a device; may be repeated. The first is judged by. [default: cpu]",
        show_default=False)] = None,
    budget: Annotated[str, typer.Option(help="Wall time of the whole command: 30min, 90s, 1h30.")] = "30min",
    max_latency: Annotated[list[str] | None, typer.Option(
        help="Most latency on the first target: 5ms; on another one: t4=5ms. May be repeated.",
        show_default=False)] = None,
    max_params: Annotated[str | None, typer.Option(help="Most parameters: 500000, 500k, 1.5M.")] = None,
    max_memory: Annotated[float | None, typer.Option(help="Most memory of inference in MB.")] = None,
    max_energy: Annotated[list[str] | None, typer.Option(
        help="Most energy of one call, likewise: 5mJ, t4=50mJ. May be repeated.", show_default=False)] = None,
    aim_latency: Annotated[str | None, typer.Option(
        help="Trade score for latency on the first target: maximise score·(latency/AIM)^w. 5ms.")] = None,
    aim_weight: Annotated[str, typer.Option(
        help="The w of --aim-latency, or two: up to the aim and above it. -0.07 is soft, 0,-1 hard.")] = "-0.07",
    min_accuracy: Annotated[float | None, typer.Option(help="Least search score; then the least latency wins.")] = None,
    llm: Llm = None,
    prompt: Annotated[str, typer.Option(help="A prompt set's name or folder; what it shows may follow: "
                                             "base:exemplars=0:rules=0:facts=no:failures=no:constraint=no.")] = "base",
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint.")] = None,
    structured: Annotated[str, typer.Option(help="Structured-output mode; auto tries them in order.")] = "auto",
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature; not sent by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything.", min=0)] = 0,
    max_evals: Annotated[int | None, typer.Option(help="Most trainings; a part of one counts as that.", min=1)] = None,
    max_usd: Annotated[float | None, typer.Option(help="Most money for the language model.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens of the language model.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after this many trainings without a better score.")] = None,
    screen: Annotated[int | None, typer.Option(help="Most architectures scored by proxies.")] = None,
    no_prior: Annotated[bool, typer.Option("--no-prior", help="Without the space's known-good designs.")] = False,
    workers: Annotated[int, typer.Option(help="Trainings at once.", min=1)] = 1,
    executor: Annotated[str, typer.Option(help="local.")] = "local",
    device: Annotated[str, typer.Option(help="Where to train: auto, cpu, cuda, cuda:N.")] = "auto",
    start: Annotated[Path | None, typer.Option(help="JSON file with your own graph, or a list of them.")] = None,
    on_llm_failure: Annotated[str, typer.Option(help="stop, or random: go on with random proposals.")] = "stop",
    out: Annotated[Path | None, typer.Option(help="Run directory. [default: a new one below runs/]",
                                             show_default=False)] = None,
    progress: Progress = "auto",
    as_json: Json = False,
) -> None:
    """Find a network: search, train, test once, export and report, inside the budget."""
    if progress == "auto" and any(one.startswith("manual") for one in llm or ()):
        progress = "plain"  # a panel that redraws itself and a person who pastes are in each other's way
    _finish(as_json, progress, out, data=data, space=space, metric=metric, strategy=strategy,
            target=tuple(target or ["cpu"]), budget=budget, max_params=parse_count(max_params),
            max_memory_mb=max_memory, **_limits("max_latency", "ms", max_latency, _milliseconds),
            **_limits("max_energy", "mj", max_energy, parse_energy),
            aim_latency_ms=None if aim_latency is None else _milliseconds(aim_latency),
            aim_weight=parse_weight(aim_weight), min_accuracy=min_accuracy, llm=models(llm), prompt=prompt,
            base_url=base_url, structured=structured, temperature=temperature, seed=seed, max_evals=max_evals,
            max_usd=max_usd, max_tokens=max_tokens, patience=patience, screen=screen, prior=not no_prior,
            workers=workers, executor=executor, device=device, start=str(start) if start else None,
            on_llm_failure=on_llm_failure)


def evaluate(
    file: Annotated[Path, typer.Argument(help="JSON file with a graph, or a list of graphs.")],
    data: Annotated[str, typer.Option(help="As in run.")] = "digits",
    space: Annotated[str, typer.Option(help="As in run; auto takes the graph's own.")] = "auto",
    metric: Annotated[str, typer.Option(help="As in run.")] = "accuracy",
    target: Annotated[list[str] | None, typer.Option(help="As in run. [default: cpu]", show_default=False)] = None,
    budget: Annotated[str, typer.Option(help="As in run.")] = "5min",
    seed: Annotated[int, typer.Option(help="As in run.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="As in run.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="As in run.", show_default=False)] = None,
    progress: Progress = "auto",
    as_json: Json = False,
) -> None:
    """Put your own graphs through the same screening, training, test, export and report."""
    _finish(as_json, progress, out, data=data, space=_space_of(file) if space == "auto" else space, metric=metric,
            strategy="none", target=tuple(target or ["cpu"]), budget=budget, seed=seed, device=device, start=str(file))


def resume(
    run_: Annotated[str, typer.Argument(metavar="RUN", help="A run's path, name, a part of it, or latest.")],
    budget: Annotated[str | None, typer.Option(help="A larger budget for the whole run.")] = None,
    max_evals: Annotated[int | None, typer.Option(help="A new limit.", min=1)] = None,
    max_usd: Annotated[float | None, typer.Option(help="A new limit.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="A new limit.")] = None,
    patience: Annotated[int | None, typer.Option(help="A new limit.")] = None,
    progress: Progress = "auto",
    as_json: Json = False,
) -> None:
    """Continue a run that was stopped or killed: same plan, counters, clock and random state."""
    from llmnas import job
    from llmnas.store import find_run

    result = job.resume(find_run(run_), progress="json" if as_json else progress, budget=budget, max_evals=max_evals,
                        max_usd=max_usd, max_tokens=max_tokens, patience=patience)
    _answer(result, as_json)


def export(
    run_: Annotated[str, typer.Argument(metavar="RUN", help="A run's path, name, a part of it, or latest.")],
    formats: Annotated[list[str] | None, typer.Option("--format", help="torch, pt2, onnx; may be repeated.",
                                                      show_default=False)] = None,
) -> None:
    """Write the chosen model as model.py with weights, as .pt2 or as ONNX, each checked against the trained one."""
    from llmnas.artefacts import export_trial, rebuild
    from llmnas.executors import LocalExecutor
    from llmnas.store import find_run

    directory = find_run(run_)
    known = {"torch", "pt2", "onnx"}
    if unknown := sorted(set(formats or ["torch"]) - known):
        raise InputError(f"unknown format {unknown[0]!r}", f"known: {', '.join(sorted(known))}")
    state, make = rebuild(directory)
    with LocalExecutor() as executor:
        data, evaluator = make(executor)
        files = export_trial(executor, directory, state, data, evaluator, tuple(formats or ["torch"]))
    for name, path in files.items():
        typer.echo(f"{name:8} {directory / path}")


def models(llm: list[str] | None) -> str | tuple[str, ...]:
    """Returns the language model that was named, or several; auto when none was."""
    named = tuple(llm or ("auto",))
    return named if len(named) > 1 else named[0]


def parse_count(text: str | None) -> int | None:
    """Returns the number in ``500000``, ``500k`` or ``1.5M``.

    Raises:
        InputError: Not such a number.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text.strip().replace("_", "").replace(",", ""))
    if found is None:
        raise InputError(f"{text!r} is not a number of parameters", "write 500000, 500k or 1.5M")
    return round(float(found[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[found[2].lower()])


def parse_energy(text: str) -> float:
    """Returns the millijoules in ``5mJ``, ``0.2 J``, ``300uJ`` or ``5``.

    Raises:
        InputError: Not an energy, or not positive.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(|[uµm]?[jJ])", text.strip().replace(" ", ""))
    if found is None or float(found[1]) <= 0:
        raise InputError(f"{text!r} is not an energy", "write 5mJ, 0.2J, 300uJ or a number of millijoules")
    return float(found[1]) * {"": 1.0, "j": 1e3, "mj": 1.0, "uj": 1e-3, "µj": 1e-3}[found[2].lower()]


def parse_weight(text: str) -> tuple[float, float]:
    """Returns the two exponents in ``-0.07`` or ``0,-1``: up to the aim and above it.

    Raises:
        InputError: Not one or two numbers of at most 0: a positive one would reward slowness.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(-10 <= number <= 0 for number in numbers):
        raise InputError(f"--aim-weight {text!r}: expected one or two numbers from -10 to 0",
                         "write -0.07 (soft) or 0,-1 (hard)")
    return numbers[0], numbers[-1]


def _limits(name: str, unit: str, texts: list[str] | None, parse: Callable[[str], float]) -> dict[str, Any]:
    """Returns the settings of an option that holds on the first target or, as TARGET=VALUE, on another one."""
    first: float | None = None
    others: dict[str, float] = {}
    for text in texts or ():
        target, _, value = text.rpartition("=")
        if (first is not None) if not target else target in others:
            raise InputError(f"--{name.replace('_', '-')} is given twice for {target or 'the first target'}",
                             "give one limit a target, for another one as in t4=VALUE")
        if target:
            others[target] = parse(value)
        else:
            first = parse(value)
    return {f"{name}_{unit}": first, f"{name}_on": others}


def _milliseconds(text: str) -> float:
    from llmnas.budget import parse_duration

    plain = text.strip()
    return float(plain) if re.fullmatch(r"\d+(\.\d+)?", plain) else parse_duration(plain) * 1000


def _space_of(file: Path) -> str:
    """Returns the space that the first graph in a file names."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not a JSON file of graphs: {error}", "see docs/graphs.md for the form") from None
    first = value[0] if isinstance(value, list) and value else value
    return str(first.get("space", "auto")) if isinstance(first, dict) else "auto"


def _finish(as_json: bool, progress: str, out: Path | None, **options: Any) -> None:
    from pydantic import ValidationError

    from llmnas import job

    try:
        result = job.run(out=out, progress="json" if as_json else progress, started_at=_STARTED,
                         argv=("llmnas", *sys.argv[1:]), **options)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InputError(f"--{'-'.join(map(str, fault['loc']))}: {fault['msg']}, got {fault['input']!r}",
                         "see `llmnas run --help`") from None
    _answer(result, as_json)


def _answer(result: Any, as_json: bool) -> None:
    if not as_json:
        from llmnas.report.card import summary

        typer.echo(summary(result.state))
        typer.echo(f"\nreport: {result.directory / 'report.html'}")
    raise typer.Exit(result.exit_code)
