"""`llmnas doctor`: what works on this machine, and the fix for what does not."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from llmnas.cli.look import AsJson, print_json
from llmnas.errors import LlmnasError


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("doctor")(doctor)


def doctor(
    llm: Annotated[str, typer.Option(help="The language model to try, as in run.")] = "auto",
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check torch, devices, extras, disk and the language model; every problem comes with its fix."""
    checks = [*_machine(), *_extras(), *_meters(), *_plugins(), _disk(), *_model(llm, base_url)]
    if as_json:
        print_json({"schema": "llmnas.doctor/1", "checks": checks})
    else:
        for check in checks:
            fix = f"\n    fix: {check['fix']}" if check["fix"] else ""
            typer.echo(f"{'ok' if check['ok'] else '--'}  {check['what']}: {check['says']}{fix}")
    if not all(check["ok"] or check["optional"] for check in checks):
        raise typer.Exit(4 if any(c["what"] == "language model" and not c["ok"] for c in checks) else 1)


def _check(what: str, ok: bool, says: str, fix: str = "", optional: bool = False) -> dict[str, Any]:
    return {"what": what, "ok": ok, "says": says, "fix": "" if ok else fix, "optional": optional}


def _machine() -> list[dict[str, Any]]:
    from llmnas.executors import Job, LocalExecutor

    with LocalExecutor() as executor:
        outcome = executor.submit(Job(kind="probe", deadline_s=60)).future.result()
    if outcome.result is None:
        return [_check("torch", False, outcome.error, "pip install torch")]
    found = outcome.result
    gpus = ", ".join(found["gpus"])
    return [_check("torch", True, f"{found['torch']} on Python {found['python']}"),
            _check("cpu", True, f"{found['cpu']}, {found['cores']} cores"),
            _check("gpu", bool(gpus), gpus or "no CUDA device; trains on the CPU, --target gpu is predicted",
                   "install a CUDA build of torch and a driver", optional=True), *_calibrations(found)]


def _calibrations(machine: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a check for every kept calibration: whether it is used here."""
    from llmnas.cli.here import Machine, kept
    from llmnas.latency.calibrate import folder, read

    checks = []
    for file in sorted(folder().glob("*.json")):
        try:
            key = read(file).target
            target = Machine(machine).targets([key])[0]
            used = kept(target, Machine(machine).here(target))
            ok, says = used.calibration is not None, used.why or used.says
        except LlmnasError as error:
            key, ok, says = file.name, False, error.message
        checks.append(_check(f"calibration of {key}", ok, says, f"llmnas latency calibrate --target {key}, or remove "
                             f"{file}", optional=True))
    return checks or [_check("calibrations", True, f"none in {folder()}; `llmnas latency calibrate` makes one, from "
                             "which latency is then predicted", optional=True)]


def _extras() -> list[dict[str, Any]]:
    extras = {"energy": "pynvml", "local": "xllamacpp", "onnx": "onnxscript", "ray": "ray"}
    return [_check(f"extra {extra}", find_spec(module) is not None,
                   "installed" if find_spec(module) else f"{module} is not installed",
                   f"pip install 'llmnas[{extra}]'", optional=True) for extra, module in extras.items()]


def _meters() -> list[dict[str, Any]]:
    from llmnas.latency import available_meters

    return [_check(f"energy of the {meter.kind}", meter.available, meter.says, "energy is estimated without a counter",
                   optional=True) for meter in available_meters()]


def _plugins() -> list[dict[str, Any]]:
    """Returns a check for everything that other packages add: whether it can be used."""
    from llmnas.cli.listing import fault
    from llmnas.plugins import KINDS, plugins

    return [_check(f"{KINDS[kind]} {name}", not (problem := fault(kind, name)), problem or f"from {plugin.package}",
                   f"mend or remove {plugin.package}", optional=True)
            for kind in KINDS for name, plugin in plugins(kind).items()]


def _disk() -> dict[str, Any]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return _check("disk", free > 1, f"{free:.1f} GB free here", "free some space, or use --out elsewhere")


def _model(llm: str, base_url: str | None) -> list[dict[str, Any]]:
    from llmnas.llm import Message, open_model

    keys = {name: bool(os.environ.get(name)) for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LLMNAS_MODEL")}
    settings = _check("settings", True, ", ".join(f"{name} {'set' if there else 'not set'}"
                                                  for name, there in keys.items()))
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
              "additionalProperties": False}
    try:
        model = open_model(llm, base_url=base_url)
    except LlmnasError as error:
        return [settings, _check("language model", False, error.message, error.hint)]
    try:
        if model.offline:
            return [settings, _check("language model", True, f"{model.name}: the mock, no model is configured; set "
                                     "OPENAI_API_KEY, or --llm, to use one", optional=True)]
        reply = model.chat([Message(role="user", content='Answer with {"ok": true}.')], schema, 0)
        usage = "reports usage" if reply.usage.input_tokens is not None else "does not report usage"
        return [settings, _check("language model", True, f"{model.name} answers in mode {reply.mode}, {usage}"),
                *[_check("notice", True, notice) for notice in model.take_notices()]]
    except LlmnasError as error:
        return [settings, _check("language model", False, error.message, error.hint)]
    finally:
        model.close()
