"""Three plots as SVG, written by hand: the front, the anytime curve, proxy rank against trained score.

Points beyond `MOST` are thinned out evenly; what matters (the front, the chosen one) always stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from llmnas.report import format as say
from llmnas.report import svg
from llmnas.report.axes import BOTTOM, HEIGHT, Frame, axis, legend

MOST: Final = 2000
T = TypeVar("T")


@dataclass(frozen=True)
class Point:
    """One trained trial in the plane of cost and score.

    Attributes:
        n: Number of the trial.
        cost: Milliseconds or MACs.
        score: Search score.
        interval: Interval of the cost; None when there is none.
        analytic: Whether the latency is computed, not measured.
        on_front: Whether no other beats it in both.
        chosen: Whether it is the answer.
        legal: Whether it keeps the constraints.
    """

    n: int
    cost: float
    score: float
    interval: tuple[float, float] | None = None
    analytic: bool = False
    on_front: bool = False
    chosen: bool = False
    legal: bool = True


def thin(items: Sequence[T], most: int = MOST) -> list[T]:
    """Returns at most `most` items, evenly chosen, first and last included."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def front_plot(points: Sequence[Point], metric: str, unit: str, limit: float | None = None,
               aim: float | None = None, marked: str = "the answer") -> str:
    """Returns score against cost: dominated trials grey, the front joined, the answer marked.

    Args:
        points: Trained trials; those that are not finite are left out.
        metric: Name of the score.
        unit: ``ms on cpu`` or ``MACs``.
        limit: Largest cost allowed, drawn as a line.
        aim: Cost aimed at, likewise.
        marked: What the marked point is.
    """
    shown = [point for point in points if _drawable(point.cost) and _drawable(point.score)]
    special = [point for point in shown if point.on_front or point.chosen]
    others = thin([point for point in shown if not (point.on_front or point.chosen)])
    ends = [end for point in special for end in (point.interval or ()) if _drawable(end)]
    title = "MACs of one example" if unit == "MACs" else f"latency in {unit}"
    frame = _frame([*(point.cost for point in shown), *ends], [point.score for point in shown], title, metric,
                   say.count if unit == "MACs" else lambda value: f"{value:.3g}")
    line = sorted((point for point in shown if point.on_front), key=lambda point: point.cost)
    body = [frame.grid()]
    body += [_upright(frame, value, word) for value, word in ((limit, "limit"), (aim, "aim"))
             if value is not None and frame.x.low < value < frame.x.high]
    body.append(_steps([(frame.px(p.cost), frame.py(p.score)) for p in line], "stroke:var(--accent);opacity:.8"))
    body += [_front_mark(frame, point, metric, unit) for point in [*others, *special]]
    body.append(legend([(_disc("var(--accent)"), "front"), (_disc("var(--dim)"), "beaten"),
                        (_diamond("var(--dim)"), "analytic latency"), (_ring(), marked)]))
    best = max((p.score for p in shown), default=None)
    said = (f"{len(shown)} trained architectures, score ({metric}) against {title}. " + (
        f"{len(line)} on the front: " + "; ".join(f"trial {p.n} {say.score(p.score, metric)} at "
                                                  f"{p.cost:.4g} {unit}" for p in line[:12])
        + f". Best score {say.score(best, metric)}." if line else "None on the front."))
    return svg.document(680, 380, f"{metric} against {title}", said, "".join(body) + _nothing(shown))


def anytime_plot(trainings: Sequence[tuple[float, float | None]], end_s: float, metric: str,
                 x_title: str = "clock of the run") -> str:
    """Returns the best search score so far over time, every training a tick.

    Args:
        trainings: Second at which each ended, and its search score; None when it failed or breaks a constraint.
        end_s: Where the curve ends, in seconds.
        metric: Name of the score.
        x_title: What the time is.
    """
    ordered = sorted(((when, value if _drawable(value) else None) for when, value in trainings
                      if _drawable(when)), key=lambda pair: pair[0])
    best: list[tuple[float, float]] = []
    for when, value in ordered:
        if value is not None and (not best or value > best[-1][1]):
            best.append((when, value))
    scored = [(when, value) for when, value in ordered if value is not None]
    last = max([end_s if _drawable(end_s) else 0.0, *(when for when, _ in ordered)], default=0.0)
    divisor, unit = (3600, "h") if last >= 7200 else (60, "min") if last >= 120 else (1, "s")
    frame = _frame([0.0, last / divisor], [value for _, value in scored], f"{x_title} in {unit}", metric,
                   lambda value: f"{value:.3g}", log=False)
    body = [frame.grid()]
    for when, _ in thin(ordered):
        x = frame.px(when / divisor)
        body.append(svg.element("line", x1=x, x2=x, y1=HEIGHT - BOTTOM - 7, y2=HEIGHT - BOTTOM,
                                style="stroke:var(--soft);opacity:.6"))
    body += [svg.element("circle", cx=frame.px(when / divisor), cy=frame.py(value), r=2.6, style="fill:var(--dim)")
             for when, value in thin(scored)]
    corners = [(frame.px(when / divisor), frame.py(value)) for when, value in best]
    if best:
        corners.append((frame.px(last / divisor), corners[-1][1]))
    body.append(_steps(corners, "stroke:var(--accent);stroke-width:2.4"))
    body.append(legend([(_disc("var(--accent)"), "best so far"), (_disc("var(--dim)"), "one training")]))
    said = f"{len(ordered)} trainings. " + (
        "Best score so far: " + "; ".join(f"{say.score(value, metric)} after {say.duration(when)}"
                                          for when, value in thin(best, 12)) + "." if best else "No score yet.")
    return svg.document(680, 380, f"Best {metric} over time", said, "".join(body) + _nothing(scored))


def rank_plot(pairs: Sequence[tuple[float, float]], metric: str) -> str:
    """Returns trained score against proxy rank, with Spearman's correlation; positive when the proxies are right.

    Args:
        pairs: Rank within its batch (1 best) and search score.
        metric: Name of the score.
    """
    shown = [(rank, value) for rank, value in pairs if _drawable(rank) and _drawable(value)]
    frame = _frame([rank for rank, _ in shown], [value for _, value in shown], "proxy rank within its batch (1 = best)",
                   metric, lambda value: f"{value:.0f}" if float(value).is_integer() else "", log=False)
    body = [frame.grid()]
    body += [svg.element("circle", cx=frame.px(rank), cy=frame.py(value), r=4, style="fill:var(--accent);opacity:.55")
             for rank, value in thin(shown)]
    found = spearman([-rank for rank, _ in shown], [value for _, value in shown])
    words = f"Spearman {found:+.2f}, n = {len(shown)}" if found is not None else f"n = {len(shown)}: too few to say"
    body.append(svg.text(658, 24, words, "bold", "end"))
    said = f"Trained score against proxy rank. {words}. Positive means that better ranks trained better."
    return svg.document(680, 380, "Proxy rank against trained score", said, "".join(body) + _nothing(shown))


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Returns Spearman's rank correlation; None for fewer than four pairs or a constant side."""
    kept = [(a, b) for a, b in zip(left, right, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(kept) < 4 or len({a for a, _ in kept}) < 2 or len({b for _, b in kept}) < 2:
        return None
    from scipy.stats import spearmanr

    found = float(spearmanr([a for a, _ in kept], [b for _, b in kept]).statistic)
    return found if math.isfinite(found) else None


def _frame(xs: Sequence[float], ys: Sequence[float], title: str, metric: str, words: say.Words,
           log: bool | None = None) -> Frame:
    percent = say.is_percent(metric)
    y_title = f"validation {metric}" + (" in %" if percent else "")
    top = 1.0 if percent and max(ys, default=0.0) <= 1 else None
    down = (lambda value: f"{100 * value:.4g}") if percent else (lambda value: f"{value:.4g}")
    return Frame(axis(xs, title, words, log, (0.0 if min(xs, default=0.0) >= 0 else None, None)),
                 axis(ys, y_title, down, log=False, bounds=(None, top)))


def _front_mark(frame: Frame, point: Point, metric: str, unit: str) -> str:
    x, y = frame.px(point.cost), frame.py(point.score)
    colour = "var(--accent)" if point.on_front else "var(--dim)"
    source = " (analytic)" if point.analytic else ""
    parts = [svg.title(f"trial {point.n}: {say.score(point.score, metric)}, {point.cost:.4g} {unit}{source}"
                       + ("" if point.legal else ", breaks a constraint"))]
    if point.interval is not None and (point.on_front or point.chosen) and all(map(_drawable, point.interval)):
        parts.append(svg.element("line", x1=frame.px(point.interval[0]), x2=frame.px(point.interval[1]), y1=y, y2=y,
                                 style=f"stroke:{colour};stroke-width:1.5;opacity:.55"))
    mark = _diamond(colour) if point.analytic else _disc(colour)
    mark = mark + _ring() if point.chosen else mark
    parts.append(svg.element("g", mark, transform=f"translate({x:.1f} {y:.1f})",
                             opacity=None if point.legal else "0.45"))
    if point.chosen:
        parts.append(svg.text(x + (12 if x < 560 else -12), y - 9, f"trial {point.n}", "bold",
                              "start" if x < 560 else "end"))
    return svg.element("g", "".join(parts))


def _upright(frame: Frame, cost: float, word: str) -> str:
    """Returns a dashed line at a cost, with its name."""
    x, y = frame.px(cost), 52 if word == "limit" else 66
    return svg.element("line", x1=x, x2=x, y1=40, y2=HEIGHT - BOTTOM,
                       style="stroke:var(--warm);stroke-dasharray:5 4") + svg.text(x - 5, y, word, "small soft", "end")


def _drawable(value: float | None) -> bool:
    """Whether an axis can hold the value; larger ones are faults, not measurements."""
    return value is not None and abs(value) < 1e100


def _steps(corners: Sequence[tuple[float, float]], style: str) -> str:
    """Returns a staircase: level until the next corner, then up."""
    if len(corners) < 2:
        return ""
    path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in corners[1:])
    return svg.element("path", d=path, style=f"fill:none;stroke-width:1.8;stroke-linejoin:round;{style}")


def _disc(colour: str) -> str:
    return svg.element("circle", r=4.5, style=f"fill:{colour}")


def _diamond(colour: str) -> str:
    return svg.element("path", d="M0 -5.5L5.5 0L0 5.5L-5.5 0Z",
                       style=f"fill:var(--card);stroke:{colour};stroke-width:2")


def _ring() -> str:
    return svg.element("circle", r=8, style="fill:none;stroke:var(--good);stroke-width:2.2")


def _nothing(shown: Sequence[object]) -> str:
    return "" if shown else svg.text(366, 190, "nothing to show yet", "soft", "middle")
