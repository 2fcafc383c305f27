"""A comparison in words and rows, for the console and for the report: the two cannot disagree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from llmnas.report import format as say

Document = Mapping[str, Any]

METHOD: Final = (
    "Arms are paired by seed. Intervals: 95 % bootstrap of the mean (BCa, 9,999 resamples). Test: Wilcoxon "
    "signed-rank, two-sided, seeds that tie left out. P-values by Holm over all pairs on the measure that decides, and "
    "over all pairs on all other measures together, each family at 5 %. Better and worse: adjusted p at most .05, "
    "mean and ranks pointing the same way. Seeds that would decide: Noether's formula at power .8 for the difference "
    "seen, which is uncertain itself.")
MOCK_BANNER: Final = ("Some proposals were made by the mock model. No language model took part in those arms; they "
                      "show that the machinery works, not what a model can find.")
PAIR_HEADS: Final = ("arm", "against", "difference", "95 % interval", "better/equal/worse", "p", "p (Holm)",
                     "rank biserial", "superiority", "verdict", "note")
CHARGES: Final = {"proposals": "proposals", "evaluations": "evaluations", "predicted": "by surrogate",
                  "proxies": "proxies looked at", "calls": "model calls", "input_tokens": "tokens in",
                  "output_tokens": "tokens out", "usd": "US dollars", "llm_s": "model s", "proxy_s": "proxy s",
                  "train_s": "training s", "energy_j": "energy J", "cpu_s": "own CPU s"}

ASKED: Final = ("proposals", "evaluations", "calls", "input_tokens", "output_tokens", "usd", "llm_s")
"""Charges that asking a model causes."""


def measure(document: Document, name: str) -> Mapping[str, Any]:
    """Returns a measure of the comparison by name."""
    return next(one for one in document["measures"] if one["name"] == name)


def value(number: float | None, percent: bool) -> str:
    """Returns a value of a measure: in percent with two decimals, or with four digits."""
    if number is None:
        return say.UNKNOWN
    return f"{100 * number:.2f}" if percent else f"{number:.3f}"


def spread(row: Mapping[str, Any], percent: bool) -> str:
    """Returns mean ± deviation over seeds, with the interval of the mean in brackets."""
    deviation = "" if row["sd"] is None else f" ±{value(row['sd'], percent)}"
    ends = "" if row["low"] is None else f" [{value(row['low'], percent)}, {value(row['high'], percent)}]"
    return value(row["mean"], percent) + deviation + ends


def interval(row: Mapping[str, Any], percent: bool, sign: str = "") -> str:
    """Returns the ends of an interval; a dash where there is none."""
    if row["low"] is None:
        return "–"
    factor, form = (100, f"{sign}.2f") if percent else (1, f"{sign}.3g")
    return f"{factor * row['low']:{form}} to {factor * row['high']:{form}}"


def headline(document: Document) -> str:
    """Returns the answer in a sentence."""
    by, pairs = document["by"], [pair for pair in document["pairs"] if pair["measure"] == document["by"]]
    against = document["reference"] if document["family"] == "reference" else None
    groups = {word: [pair["arm"] if against else f"{pair['arm']} than {pair['against']}" for pair in pairs
                     if pair["verdict"] == word] for word in ("better", "worse", "not decided")}
    seeds = max(pair["n"] for pair in pairs)
    parts = [f"{word}{f' than {against}' if against and word != 'not decided' else ''}: {', '.join(names)}"
             for word, names in groups.items() if names]
    return f"On {by} with {say.plural(seeds, 'seed')}, " + "; ".join(parts) + "."


def pair_rows(document: Document, name: str) -> list[tuple[str, ...]]:
    """Returns a row per pair on a measure, under `PAIR_HEADS`."""
    percent = measure(document, name)["percent"]
    return [(pair["arm"], pair["against"], _signed(pair["difference"], percent), interval(pair, percent, "+"),
             f"{pair['wins']}/{pair['ties']}/{pair['losses']}", probability(pair["p"]), probability(pair["p_holm"]),
             _plain(pair["rank_biserial"], "+.2f"), _plain(pair["superiority"], ".2f"), pair["verdict"], pair["note"])
            for pair in document["pairs"] if pair["measure"] == name]


def probability(p: float | None) -> str:
    """Returns a p-value with two digits."""
    if p is None:
        return "–"
    return f"{p:.2g}" if p >= 1e-4 else "<.0001"


def _signed(number: float | None, percent: bool) -> str:
    if number is None:
        return "–"
    return f"{100 * number:+.2f}" if percent else f"{number:+.3g}"


def _plain(number: float | None, form: str) -> str:
    return "–" if number is None else format(number, form)


def arm_heads(document: Document) -> tuple[str, ...]:
    """Returns the heads of `arm_rows`."""
    return ("arm", "seeds", "evaluations", *(f"{one['name']}{' in %' if one['percent'] else ''}"
                                             for one in document["measures"]))


def arm_rows(document: Document) -> list[tuple[str, ...]]:
    """Returns a row per arm: every measure as mean ± deviation over seeds, and the interval of the mean."""
    return [(str(arm["arm"]), str(len(arm["seeds"])), f"{arm['evaluations']:.1f}",
             *(spread(arm["measures"][one["name"]], one["percent"]) for one in document["measures"]))
            for arm in document["arms"]]


def marked(document: Document) -> dict[str, Any]:
    """Returns the document with the mock named in the label of every arm that it answered for, wherever one stands."""
    labels = {arm["arm"]: f"{arm['arm']} (mock)" if arm["mock"] else arm["arm"] for arm in document["arms"]}

    def renamed(row: Mapping[str, Any]) -> dict[str, Any]:
        return {**row, **{key: labels[row[key]] for key in ("arm", "against") if key in row}}

    curves = {of: {**one, "arms": {labels[arm]: curve for arm, curve in one["arms"].items()},
                   "unknown": [labels[arm] for arm in one.get("unknown", ())]}
              for of, one in document["curves"].items()}
    return {**document, "reference": labels[document["reference"]], "curves": curves,
            "arms": [renamed(arm) for arm in document["arms"]], "pairs": [renamed(pair) for pair in document["pairs"]],
            "matrix": {of: [renamed(cell) for cell in cells] for of, cells in document["matrix"].items()}}


def target_rows(document: Document) -> list[tuple[str, ...]]:
    """Returns a row per arm: how many seeds reached the target, and after how much in the median seed."""
    rows: list[tuple[str, ...]] = []
    for arm in document["arms"]:
        found = arm["target"]
        if found is not None:
            seconds = say.UNKNOWN if found["seconds"] is None else say.duration(found["seconds"])
            rows.append((arm["arm"], f"{found['reached']} of {found['of']}", interval(found, True) + " %",
                         _plain(found["evaluations"], "g"), seconds))
    return rows


def rate_rows(document: Document) -> list[tuple[str, ...]]:
    """Returns a row per arm: rates of proposals with their intervals."""
    return [(arm["arm"], *(_rate(arm["rates"][one]) for one in document["rates"])) for arm in document["arms"]]


def costs(document: Document) -> Iterator[str]:
    """Yields what a model's proposals were worth and what they cost, for the console."""
    from llmnas.report.show import table

    shown = marked(document)
    if rows := answer_rows(shown):
        yield "The model's own proposals, all seeds together, with Wilson intervals as if they were independent:"
        yield table([("arm", *shown["answers"]), *rows], right=(1, 2, 3))
        yield ""
    yield "A search on average:"
    heads = [CHARGES[one] for one in ASKED]
    yield table([("arm", *heads), *((arm["arm"], *(_amount(arm["charges"][one]) for one in ASKED))
                                    for arm in shown["arms"])], right=tuple(range(1, len(heads) + 1)))


def _rate(row: Mapping[str, Any]) -> str:
    if row["rate"] is None:
        return "–"
    return f"{100 * row['rate']:.1f} % ({interval(row, True)}), {row['count']:,} of {row['of']:,}"


def answer_rows(document: Document) -> list[tuple[str, ...]]:
    """Returns a row per arm that asks a model: rates of the model's own proposals with their intervals."""
    return [(arm["arm"], *(_rate(arm["answers"][one]) for one in document["answers"])) for arm in document["arms"]
            if arm["answers"] is not None]


def charge_rows(document: Document) -> list[tuple[str, ...]]:
    """Returns a row per arm: what a search cost on average."""
    return [(arm["arm"], *(_amount(arm["charges"][one]) for one in CHARGES)) for arm in document["arms"]]


def _amount(number: float | None) -> str:
    if number is None:
        return say.UNKNOWN
    return f"{number:,.0f}" if number >= 100 or float(number).is_integer() else f"{number:.3g}"


def matrix_rows(document: Document, of: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns heads and rows of better/equal/worse of every arm (row) against every other one (column)."""
    found = {(cell["arm"], cell["against"]): cell for cell in document["matrix"][of]}
    arms = [arm["arm"] for arm in document["arms"]]

    def cell(arm: str, other: str) -> str:
        one = found.get((arm, other))
        return "–" if one is None else f"{one['wins']}/{one['ties']}/{one['losses']}"

    return ("", *arms), [(arm, *(cell(arm, other) for other in arms)) for arm in arms]


def lines(plain: Document) -> Iterator[str]:
    """Yields the comparison for the console."""
    from llmnas.report.show import table

    document = marked(plain)
    by = document["by"]
    yield headline(document)
    if document["mock"]:
        yield f"Warning: {MOCK_BANNER}"
    yield ""
    rows = arm_rows(document)
    yield table([arm_heads(document), *rows], right=tuple(range(1, len(rows[0]))))
    yield ""
    yield f"Against each other on {by}, {measure(document, by)['says']}:"
    yield table([PAIR_HEADS, *pair_rows(document, by)], right=tuple(range(2, 9)))
    if document["target"] is not None:
        yield ""
        yield f"Until the best validation score is {value(document['target'], True)} %, in the median seed:"
        yield table([TARGET_HEADS, *target_rows(document)], right=(1, 2, 3, 4))
    yield ""
    yield from (f"Note: {note}" for note in document["notes"])
    yield METHOD


TARGET_HEADS: Final = ("arm", "reached", "95 % interval", "evaluations", "charged time")
