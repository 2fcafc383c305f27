"""Two pictures of what proposals became: step by step, and by operator beside its share of the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from llmnas.report import format as say
from llmnas.report import svg
from llmnas.report.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Frame, axis, legend
from llmnas.report.tally import Outcome

KINDS: Final = (("novel", "var(--accent)"), ("novel after repair", "var(--card);stroke:var(--accent);stroke-width:1.5"),
                ("duplicate", "var(--dim)"), ("invalid", "var(--warm)"))
"""What proposals may become, from the bottom of a column to its top, and the fill; repaired ones are hollow."""
MOST_STEPS: Final = 120
MOST_MAKERS: Final = 9


@dataclass(frozen=True)
class Step:
    """The proposals of models in one step, or in several steps in a row.

    Attributes:
        first: Its number.
        last: The number of the last step that is counted with it.
        counts: Proposals of each of `KINDS`.
        failed: Calls without a reply.
    """

    first: int
    last: int
    counts: tuple[int, int, int, int]
    failed: int = 0

    @property
    def name(self) -> str:
        """The steps in words."""
        return f"step {self.first}" if self.first == self.last else f"steps {self.first} to {self.last}"


def merged(steps: Sequence[Step], most: int = MOST_STEPS) -> list[Step]:
    """Returns at most `most` steps: where there are more, as many in a row are counted together as it takes."""
    width = -(-len(steps) // most) if steps else 1
    groups = [steps[start:start + width] for start in range(0, len(steps), width)]
    return [Step(group[0].first, group[-1].last,
                 tuple(map(sum, zip(*(one.counts for one in group), strict=True))),  # type: ignore[arg-type]
                 sum(one.failed for one in group)) for group in groups]


def steps_plot(steps: Sequence[Step]) -> str:
    """Returns what the models' proposals became, one column a step; a cross below marks calls without a reply."""
    shown = merged(steps)
    tallest = max((sum(one.counts) for one in shown), default=0)
    columns = max(len(shown), 4)
    across = Axis(0.0, float(columns), False, (), "step of the search", str)
    upright = axis([0.0, float(max(tallest, 1))], "proposals of the model", _whole, log=False, bounds=(0.0, None))
    frame = Frame(across, upright)
    body = [frame.grid(), *(_column(frame, place, one) for place, one in enumerate(shown)),
            *_names(frame, shown), legend([(_square(colour), kind) for kind, colour in KINDS]
                                          + [(_cross(), "call without a reply")])]
    totals = [sum(one.counts[kind] for one in shown) for kind in range(len(KINDS))]
    said = (f"{say.plural(len(steps), 'step')} with proposals of a model: "
            + ", ".join(f"{n} {kind}" for n, (kind, _) in zip(totals, KINDS, strict=True))
            + f"; {say.plural(sum(one.failed for one in shown), 'call')} without a reply.")
    return svg.document(WIDTH, HEIGHT, "What the model's proposals became, step by step", said, "".join(body))


def _whole(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else ""


def _column(frame: Frame, place: int, step: Step) -> str:
    left, right = frame.px(place + 0.14), frame.px(place + 0.86)
    said = [f"{n} {kind}" for n, (kind, _) in zip(step.counts, KINDS, strict=True) if n]
    said += [f"{say.plural(step.failed, 'call')} without a reply"] if step.failed else []
    parts = [svg.title(f"{step.name}: {', '.join(said) or 'nothing'}")]
    ends = list(accumulate(step.counts))
    for n, top, (_, colour) in zip(step.counts, ends, KINDS, strict=True):
        if n:
            parts.append(svg.element("rect", x=left, y=frame.py(top), width=right - left,
                                     height=frame.py(top - n) - frame.py(top), style=f"fill:{colour}"))
    if step.failed:
        parts.append(svg.element("g", _cross(), transform=f"translate({(left + right) / 2:.1f} "
                                                          f"{frame.py(ends[-1]) - 8:.1f})"))
    return svg.element("g", "".join(parts))


def _names(frame: Frame, shown: Sequence[Step]) -> list[str]:
    """Returns the numbers of the steps below their columns, as many as fit."""
    every = -(-len(shown) // 14) if shown else 1
    return [svg.text(frame.px(place + 0.5), HEIGHT - BOTTOM + 18, one.first, "soft", "middle")
            for place, one in enumerate(shown) if place % every == 0]


def makers_plot(makers: Sequence[tuple[str, Outcome, float | None]]) -> str:
    """Returns each way of proposing with its share of all proposals and its share of the front.

    Args:
        makers: Name, outcome, and share of the front (0 to 1; None when the front is empty), most proposals first.
    """
    shown = list(makers[:MOST_MAKERS])
    total = sum(found.proposals for _, found, _ in makers)
    row, left = (HEIGHT - TOP - 20) / max(len(shown), 4), 200.0
    body = [legend([(_square("var(--dim)"), "share of all proposals"),
                    (_square("var(--accent)"), "share of the front")])]
    for place, (name, found, share) in enumerate(shown):
        body.append(_maker(TOP + place * row, row, left, name, found, found.proposals / total if total else 0.0, share))
    if not shown:
        body.append(svg.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT / 2, "nothing to show yet", "soft", "middle"))
    said = "; ".join(f"{name}: {say.percent(found.proposals / total if total else 0.0)} of proposals, "
                     f"{say.percent(share)} of the front" for name, found, share in shown)
    return svg.document(WIDTH, HEIGHT, "Who made the proposals, and who made the front", said, "".join(body))


def _maker(y: float, row: float, left: float, name: str, found: Outcome, part: float, share: float | None) -> str:
    room, thick = WIDTH - left - 130, min(18.0, row * 0.34)
    middle = y + row / 2
    bars = [(middle - thick - 1, part, "var(--dim)", f"{say.percent(part, 0)} ({found.proposals})"),
            (middle + 1, share or 0.0, "var(--accent)",
             f"{say.percent(share, 0)} ({found.on_front})" if share is not None else "no front yet")]
    parts = [svg.title(f"{name}: {bars[0][3]} of the proposals, {bars[1][3]} of the front"),
             svg.text(left - 12, middle + 5, say.one_line(name, 26), "bold", "end")]
    for top, width, colour, words in bars:
        parts.append(svg.element("rect", x=left, y=top, width=max(1.0, width * room), height=thick, rx=3,
                                 style=f"fill:{colour}"))
        parts.append(svg.text(left + max(1.0, width * room) + 8, top + thick / 2 + 4, words, "small soft"))
    return svg.element("g", "".join(parts))


def _square(colour: str) -> str:
    return svg.element("rect", x=-5, y=-5, width=10, height=10, rx=2, style=f"fill:{colour}")


def _cross() -> str:
    return svg.element("path", d="M-4 -4L4 4M-4 4L4 -4", style="stroke:var(--warm);stroke-width:2.2")
