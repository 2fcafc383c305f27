"""`Clock`: how far a training is, and when it must end."""

from __future__ import annotations

import time
from typing import Protocol


class Stop(Protocol):
    """What a training needs to know of its deadline; the executor's `Stop` is one."""

    def expired(self) -> bool:
        """Returns whether the job should end now."""

    def left(self) -> float:
        """Returns seconds to the deadline, infinity when there is none."""


class Never:
    """A deadline that never comes."""

    def expired(self) -> bool:
        """Returns False."""
        return False

    def left(self) -> float:
        """Returns infinity."""
        return float("inf")


class Clock:
    """Progress by steps, or by steps and time.

    Without a time limit progress is ``step / steps``: the same on a fast and a slow machine. With one it is the
    larger of that and the share of the time used, so that the learning rate reaches zero when the time is over, even
    if that is within the first epoch.

    Args:
        steps: Steps of the whole training.
        started: Monotonic time at which the job began.
        limit_s: Seconds from `started` to the end of everything, or None.
        stop: The deadline that cuts.
        reserve_s: Seconds needed after the last step, for validation and test.
    """

    def __init__(self, steps: int, started: float, limit_s: float | None, stop: Stop, reserve_s: float) -> None:
        self.steps = steps
        self.step = 0
        self.reserve_s = reserve_s
        self.cut = False
        self._begin = time.monotonic()
        self._end = None if limit_s is None else started + limit_s
        self._stop = stop
        self._stepped_s = 0.0
        self._last = self._begin

    def tick(self, now: float | None = None) -> None:
        """Notes that a step is done; time since `resume` or the last tick was spent on it."""
        now = time.monotonic() if now is None else now
        self.step += 1
        self._stepped_s += now - self._last
        self._last = now

    def resume(self) -> None:
        """Notes that time since the last tick was not spent on a step."""
        self._last = time.monotonic()

    @property
    def step_s(self) -> float:
        """Mean seconds of a step so far; 0 before the first."""
        return self._stepped_s / self.step if self.step else 0.0

    def progress(self) -> float:
        """Returns progress in [0, 1] at the middle of the coming step."""
        by_step = (self.step + 0.5) / self.steps
        return min(1.0, max(by_step, self._by_time(time.monotonic() + 0.5 * self.step_s)))

    def over(self) -> bool:
        """Returns whether the training is at its end: by schedule, by time, or cut by the deadline (`cut`)."""
        if self.step >= self.steps or self._by_time(time.monotonic() + 0.5 * self.step_s) >= 1:
            return True
        self.cut = self._stop.expired() or self._stop.left() < self.reserve_s + self.step_s
        return self.cut

    def _by_time(self, now: float) -> float:
        """Returns the share of the training time used at `now`; 0 without a limit, 1 when nothing is left."""
        if self._end is None:
            return 0.0
        whole = self._end - self.reserve_s - self._begin
        return (now - self._begin) / whole if whole > 0 else 1.0
