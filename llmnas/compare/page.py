"""The report of a comparison: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from llmnas.compare import plots, words
from llmnas.errors import InputError
from llmnas.report import format as say
from llmnas.store import to_json_file

SCHEMA: Final = "llmnas.compare/1"
PAGE, DATA = "compare.html", "compare.json"
_PACKAGES: Final = ("llmnas", "numpy", "scipy", "scikit-learn", "moocore", "torch")


def complete(comparison: Mapping[str, Any], argv: Sequence[str]) -> dict[str, Any]:
    """Returns the comparison as the document that is printed and written, with its schema, command and versions."""
    return {"schema": SCHEMA, **comparison, "command": list(argv), "versions": {
        "python": platform.python_version(), **{name: version(name) for name in _PACKAGES},
        "platform": platform.platform()}}


def write(document: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Writes ``compare.html`` and ``compare.json`` into a folder and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page, data = folder / PAGE, folder / DATA
    write_page(document, page)
    to_json_file(data, document)
    return page, data


def write_page(document: Mapping[str, Any], page: Path) -> None:
    """Writes the report alone.

    Raises:
        InputError: The file cannot be written.
    """
    partial = page.with_suffix(".tmp")
    try:
        partial.write_text(render(document), encoding="utf-8", errors="replace")
        partial.replace(page)
    except OSError as error:
        raise InputError(f"{page} cannot be written: {error.strerror}", "give another file in a folder that exists"
                         ) from None


def render(document: Mapping[str, Any]) -> str:
    """Returns the page as text; everything in it that came from outside is escaped."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader("llmnas.compare", "."), PackageLoader("llmnas.report", ".")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)
    return environment.get_template("page.html.j2").render(**context(document))


def context(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Returns everything the template shows, as text and ready pictures."""
    document = words.marked(plain)
    order = [arm["arm"] for arm in document["arms"]]
    heads, rows = words.matrix_rows(document, document["by"])
    return {
        "headline": words.headline(document), "banner": words.MOCK_BANNER if document["mock"] else "",
        "title": _title(document), "chips": _chips(document),
        "notes": [say.clean(one, 600) for one in document["notes"]],
        "deciding": words.measure(document, document["by"]), "method": words.METHOD,
        "arm_heads": words.arm_heads(document), "arm_rows": words.arm_rows(document),
        "measures": [_measure(document, one) for one in _ordered(document)], "pair_heads": words.PAIR_HEADS,
        "evaluations": plots.curve_plot(document["curves"]["evaluations"], order, "evaluations charged", "accuracy"),
        "seconds": _seconds(document, order), "what_seconds": document["about"].get("seconds", "unknown"),
        "matrix_heads": heads, "matrix_rows": rows, "target": _target(document),
        "target_heads": words.TARGET_HEADS, "target_rows": words.target_rows(document),
        "rate_heads": ("arm", *(f"{name}: {what}" for name, what in document["rates"].items())),
        "rate_rows": words.rate_rows(document),
        "answer_heads": ("arm", *(f"{name}: {what}" for name, what in document["answers"].items())),
        "answer_rows": words.answer_rows(document), "charge_heads": ("arm", *words.CHARGES.values()),
        "charge_rows": words.charge_rows(document), "said": _said(document),
        "settings": _pairs(document["terms"]), "versions": _pairs(document["versions"]),
        "command": say.one_line(shlex.join(document["command"]), 4000),
    }


def _title(document: Mapping[str, Any]) -> str:
    terms = document["terms"]
    return say.one_line(" ".join(str(terms[name]) for name in ("bench", "dataset", "device", "data", "space")
                                 if terms.get(name)), 120)


def _chips(document: Mapping[str, Any]) -> list[str]:
    seeds = max(len(arm["seeds"]) for arm in document["arms"])
    return [say.plural(len(document["arms"]), "arm"), say.plural(seeds, "seed"),
            say.plural(document["evals"], "evaluation"), f"reference: {document['reference']}",
            f"decided on: {document['by']}"]


def _ordered(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the measures, the deciding one first."""
    return sorted(document["measures"], key=lambda one: one["name"] != document["by"])


def _measure(document: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    pairs = [pair for pair in document["pairs"] if pair["measure"] == one["name"]]
    return {"name": one["name"], "says": one["says"], "rows": words.pair_rows(document, one["name"]),
            "plot": plots.forest_plot(pairs, one["percent"], one["higher"], one["name"])}


def _seconds(document: Mapping[str, Any], order: Sequence[str]) -> str:
    curves = document["curves"]["seconds"]
    if not curves["arms"]:
        return ""
    end = curves["x"][-1]
    unit, word = (3600, "hours") if end >= 7200 else (60, "minutes") if end >= 120 else (1, "seconds")
    return plots.curve_plot(curves, order, f"charged {word}", "accuracy", unit)


def _target(document: Mapping[str, Any]) -> str:
    return "" if document["target"] is None else words.value(document["target"], True)


def _said(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what must be said beside the figures."""
    return _pairs({key: value for key, value in document["about"].items() if value is not None})


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(say.one_line(key, 60), say.one_line(value if isinstance(value, str) else json.dumps(
        value, default=str, ensure_ascii=False), 1500)) for key, value in values.items()]
