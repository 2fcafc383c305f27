"""A finished run as a recording: what a replay takes from it, and what must come out equal.

Everything in two logs is equal but the times of events (`TIMES`) and what names a run (`NAMES`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from llmnas.budget import Clock
from llmnas.errors import RunError
from llmnas.records import PERSON_ENDED, Event, Resumed, RunStarted, Settings, Stopped, Told, Warned
from llmnas.store import read_events

TIMES: Final[dict[str, tuple[str, ...]]] = {"told": ("seconds",), "pooled": ("seconds",), "finished": ("seconds",),
                                            "resumed": ("lost_s",)}
"""Seconds of the process that replays, by kind of event; beside them only an event's ``t_s``. Seconds of trainings and
of model calls are those of the recording."""
NAMES: Final = ("run", "argv", "model")
"""What names a run in its first event; of its settings ``llm``."""
FREE: Final = frozenset({"llm", "workers", "executor", "base_url", "structured", "temperature"})
"""Settings that change nothing when all replies and measurements are there already."""
_LIMITS: Final = (("max_latency_ms", "max_latency_on"), ("max_energy_mj", "max_energy_on"))


class Recording:
    """The log of a finished run.

    Args:
        directory: The run's folder.

    Attributes:
        events: Its events.
        problem: Why it cannot be replayed event by event; empty when it can.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.events = tuple(read_events(directory / "events.jsonl"))
        self.problem = self._problem()

    def _problem(self) -> str:
        bodies = [event.body for event in self.events]
        if not bodies or not isinstance(bodies[0], RunStarted):
            return "its log does not begin with the start of a run"
        if any(isinstance(body, Resumed) for body in bodies):
            return "it was resumed, and what two processes saw is not in one order"
        if bodies[-1].kind != "finished":
            return "it is not finished"
        return "a person ended it" if self.stopped.reason in PERSON_ENDED else ""

    @property
    def begun(self) -> RunStarted:
        """The first event's body."""
        body = self.events[0].body
        assert isinstance(body, RunStarted)
        return body

    @cached_property
    def stopped(self) -> Stopped:
        """The end of the search."""
        found = self.events[self._stop].body
        assert isinstance(found, Stopped)
        return found

    @cached_property
    def _stop(self) -> int:
        found = [event.seq for event in self.events if isinstance(event.body, Stopped)]
        if not found:
            raise RunError(f"{self.directory}: the search did not end", "replay a finished run")
        return found[-1]

    @cached_property
    def _over(self) -> int:
        """The first event that came of the search being over: its end, or what stood in for proposals."""
        before = self.events[self._stop - 1].body
        stood_in = isinstance(before, Told) and bool(before.trials) and all(
            trial.proposal.origin.operator == "stand_in" for trial in before.trials)
        return self._stop - 2 if stood_in else self._stop

    def time(self, position: int) -> float:
        """Returns the time, on the recorded clock, before the event at `position`: that of the event before it.

        Before the end of the search it is the time of that end, which is why the search ends there.
        """
        if self._over <= position <= self._stop:
            return self.events[self._stop].t_s
        return self.events[min(position, len(self.events)) - 1].t_s if position else 0.0

    @property
    def opening(self) -> tuple[str, ...]:
        """The warnings before the search."""
        found: list[str] = []
        for event in self.events[1:]:
            if not isinstance(event.body, Warned):
                break
            found.append(event.body.message)
        return tuple(found)

    def unlike(self, given: Settings) -> str:
        """Returns why a run with these settings would be another one; empty when it would be this one."""
        mine, other = self.begun.settings, given
        names = [name for name in Settings.model_fields if name not in FREE
                 and not any(name in pair for pair in _LIMITS) and getattr(mine, name) != getattr(other, name)]
        if given.space == "auto":
            names = [name for name in names if name != "space"]
        names += [first for first, on in _LIMITS if _limits(mine, first, on) != _limits(other, first, on)]
        return ", ".join(f"{name} is {getattr(other, name)} and was {getattr(mine, name)}" for name in names)


class RecordedClock(Clock):
    """The clock of a replay: it shows the time that the recording had got to.

    Args:
        recording: The recording.
        position: How many events the replay has written.
    """

    def __init__(self, recording: Recording, position: Callable[[], int]) -> None:
        super().__init__(recording.begun.settings.budget_s)
        self._recording, self._position = recording, position

    def t(self) -> float:
        """Returns seconds on the recorded clock."""
        return self._recording.time(self._position())


def _limits(settings: Settings, first: str, on: str) -> list[float]:
    """Returns limits by size: a log has them by the keys of targets, a person may have named them otherwise."""
    one = getattr(settings, first)
    return sorted([*([] if one is None else [one]), *getattr(settings, on).values()])


def essence(event: Event) -> dict[str, Any]:
    """Returns an event as JSON without what may differ in a replay."""
    found = event.model_dump(mode="json", exclude={"t_s"})
    body = found["body"]
    for name in TIMES.get(body["kind"], ()):
        del body[name]
    if isinstance(event.body, RunStarted):
        for name in NAMES:
            del body[name]
        del body["settings"]["llm"]
    return found


def differences(left: Sequence[Event], right: Sequence[Event]) -> Iterator[str]:
    """Yields every difference of two logs, with the place in the event; nothing when one is a replay of the other."""
    for one, two in zip(left, right, strict=False):
        yield from (f"event {one.seq}, {place}" for place in _unequal(essence(one)["body"], essence(two)["body"],
                                                                            one.body.kind))
    if len(left) != len(right):
        yield f"{len(left)} events against {len(right)}"


def _unequal(left: Any, right: Any, at: str) -> Iterator[str]:
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        for name in left:
            yield from _unequal(left[name], right[name], f"{at}.{name}")
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for place, (one, two) in enumerate(zip(left, right, strict=True)):
            yield from _unequal(one, two, f"{at}[{place}]")
    elif left != right:
        yield f"{at}: {str(left)[:120]} against {str(right)[:120]}"
