"""Two plots of a comparison as SVG: anytime curves with bands, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from llmnas.report import format as say
from llmnas.report import svg
from llmnas.report.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Frame, axis
from llmnas.report.plots import thin

COLOURS: Final = ("accent", "warm", "good", "attend", "pool", "light", "stem", "skip")
DASHES: Final = ("", "7 3", "2 3", "9 3 2 3")
EARLY: Final = 0.1
"""Share of a curve, from its start, that does not stretch the axis of scores."""
_COLUMNS: Final = 4
_ROW: Final = 30.0
_NAME, _WORD = 140.0, 235.0  # widths beside a forest


def colour(place: int) -> str:
    """Returns the colour of an arm by its place."""
    return f"var(--{COLOURS[place % len(COLOURS)]})"


def _dash(place: int) -> str:
    return DASHES[place // len(COLOURS) % len(DASHES)]


def curve_plot(curves: Mapping[str, Any], order: Sequence[str], x_title: str, metric: str, unit: float = 1.0) -> str:
    """Returns the mean incumbents of all arms with their bands.

    Args:
        curves: ``x`` and by arm ``mean``, ``low``, ``high`` (`llmnas.compare.curves`).
        order: The arms, for their colours.
        x_title: What the horizontal axis is, with its unit.
        metric: Name of the score.
        unit: What one step of the axis is in the unit of ``x``, such as 60 for minutes.
    """
    x = [value / unit for value in curves["x"]]
    shown = [(place, arm, curves["arms"][arm]) for place, arm in enumerate(order) if arm in curves["arms"]]
    late = [value for _, _, curve in shown for name in ("low", "high")
            for value in curve[name][int(EARLY * len(x)):] if value is not None]
    percent = say.is_percent(metric)
    across = axis([x[0], x[-1]] if x else [], x_title, lambda value: f"{value:.4g}", log=False, bounds=(0.0, None))
    frame = Frame(across, axis(late, f"best validation {metric} so far" + (" in %" if percent else ""),
                               (lambda value: f"{100 * value:.4g}") if percent else (lambda value: f"{value:.4g}"),
                               log=False, bounds=(None, 1.0 if percent else None)))
    body = [frame.grid(), *(_band(frame, x, curve, place) for place, _, curve in shown),
            *(_line(frame, x, curve["mean"], place, arm) for place, arm, curve in shown)]
    body += [_key(index, place, arm) for index, (place, arm, _) in enumerate(shown)]
    if not late:
        body.append(svg.text(366, 190, "nothing to show", "soft", "middle"))
    said = "Mean over seeds of the best validation score so far. " + " ".join(
        f"{arm}: {_last(curve, metric)}." for _, arm, curve in shown)
    height = HEIGHT + 8 + 22 * -(-len(shown) // _COLUMNS)
    return svg.document(WIDTH, height, f"Best {metric} so far by {x_title}", said, "".join(body))


def _last(curve: Mapping[str, Any], metric: str) -> str:
    mean, low, high = (curve[name][-1] if curve[name] else None for name in ("mean", "low", "high"))
    return f"{say.score(mean, metric)} at the end ({say.score(low, metric)} to {say.score(high, metric)})"


def _band(frame: Frame, x: Sequence[float], curve: Mapping[str, Any], place: int) -> str:
    points = thin([(frame.px(at), frame.py(low), frame.py(high)) for at, low, high
                   in zip(x, curve["low"], curve["high"], strict=True) if low is not None and high is not None])
    if len(points) < 2:
        return ""
    there = "".join(f"L{at:.1f} {high:.1f}" for at, _, high in points)
    back = "".join(f"L{at:.1f} {low:.1f}" for at, low, _ in reversed(points))
    return svg.element("path", d=f"M{(there + back)[1:]}Z", style=f"fill:{colour(place)};opacity:.13")


def _line(frame: Frame, x: Sequence[float], mean: Sequence[float | None], place: int, arm: str) -> str:
    points = thin([(frame.px(at), frame.py(value)) for at, value in zip(x, mean, strict=True) if value is not None])
    if not points:
        return ""
    path = "".join(f"L{at:.1f} {value:.1f}" for at, value in points)
    return svg.element("path", svg.title(arm), d=f"M{path[1:]}", style=_stroke(place) + ";fill:none")


def _stroke(place: int) -> str:
    return f"stroke:{colour(place)};stroke-width:2.2" + (f";stroke-dasharray:{_dash(place)}" if _dash(place) else "")


def _key(index: int, place: int, arm: str) -> str:
    """Returns one entry of the legend below the frame."""
    x = LEFT + (index % _COLUMNS) * (WIDTH - LEFT - RIGHT) / _COLUMNS
    y = HEIGHT + 8 + 22 * (index // _COLUMNS)
    return (svg.element("line", x1=x, x2=x + 22, y1=y, y2=y, style=_stroke(place))
            + svg.text(x + 28, y + 4, say.one_line(arm, 18), "small soft"))


def forest_plot(pairs: Sequence[Mapping[str, Any]], percent: bool, higher: bool, title: str) -> str:
    """Returns the mean paired differences of one measure with their 95 % intervals, a row a pair.

    Args:
        pairs: Rows of the comparison.
        percent: Whether the measure is read in percent; differences are then in points.
        higher: Whether higher is better.
        title: What the differences are of.
    """
    factor = 100.0 if percent else 1.0
    shown = [pair for pair in pairs if pair["difference"] is not None]
    ends = [factor * value for pair in shown for name in ("low", "high", "difference")
            if (value := pair[name]) is not None]
    scale = axis([0.0, *ends], title + (" in points" if percent else ""), lambda value: f"{value:+.3g}", log=False)
    bottom = TOP + _ROW * len(pairs)
    body = [_upright(scale, tick, bottom, scale.words(tick), "grid") for tick in scale.ticks]
    body.append(_upright(scale, 0.0, bottom, "", "axis"))
    body.append(svg.text((_NAME + WIDTH - _WORD) / 2, 22, ("right of 0" if higher else "left of 0") + ": better",
                         "small soft", "middle"))
    body.append(svg.text((_NAME + WIDTH - _WORD) / 2, bottom + 42, scale.title, "bold", "middle"))
    body += [_row(scale, pair, TOP + _ROW * (index + 0.5), factor) for index, pair in enumerate(pairs)]
    said = f"Paired differences of {title}. " + " ".join(
        f"{pair['arm']} against {pair['against']}: {_difference(pair, factor)}, {pair['verdict']}." for pair in shown)
    return svg.document(WIDTH, bottom + BOTTOM, f"Paired differences of {title}", said, "".join(body))


def _at(scale: Axis, value: float) -> float:
    return _NAME + scale.at(value) * (WIDTH - _WORD - _NAME)


def _upright(scale: Axis, value: float, bottom: float, words: str, class_: str) -> str:
    x = _at(scale, value)
    return (svg.element("line", x1=x, x2=x, y1=TOP, y2=bottom, class_=class_)
            + (svg.text(x, bottom + 18, words, "small soft", "middle") if words else ""))


def _row(scale: Axis, pair: Mapping[str, Any], y: float, factor: float) -> str:
    tint = {"better": "var(--good)", "worse": "var(--warm)"}.get(pair["verdict"], "var(--soft)")
    parts = [svg.text(_NAME - 12, y + 4, say.one_line(pair["arm"], 20), "", "end"),
             svg.text(WIDTH - _WORD + 14, y + 4, f"{pair['verdict']} ({pair['wins']}/{pair['ties']}/{pair['losses']})"
                      f" vs {say.one_line(pair['against'], 12)}", "small")]
    if pair["difference"] is None:
        return "".join([*parts, svg.text(_at(scale, 0.0), y + 4, "no pairs", "small soft", "middle")])
    parts.append(svg.title(f"{pair['arm']} against {pair['against']}: {_difference(pair, factor)}"))
    if pair["low"] is not None:
        parts.append(svg.element("line", x1=_at(scale, factor * pair["low"]), x2=_at(scale, factor * pair["high"]),
                                 y1=y, y2=y, style=f"stroke:{tint};stroke-width:3;opacity:.6"))
    parts.append(svg.element("circle", cx=_at(scale, factor * pair["difference"]), cy=y, r=5, style=f"fill:{tint}"))
    return svg.element("g", "".join(parts))


def _difference(pair: Mapping[str, Any], factor: float) -> str:
    interval = "" if pair["low"] is None else f" ({factor * pair['low']:+.3g} to {factor * pair['high']:+.3g})"
    return f"{factor * pair['difference']:+.3g}{interval}"
