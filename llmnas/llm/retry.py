"""The only retry layer: which failures are tried again, how long to wait, when to stop.

A client with retries inside a loop with retries multiplies: three by four makes sixteen requests for one answer. So
the HTTP client gets none, and everything is decided here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

import tenacity

from llmnas.llm.base import Attempt, CallFailed, OutOfTime, Status

MAX_ATTEMPTS: Final = 6  # transient failures of one call, all structured-output modes together
MAX_WAIT_S: Final = 120.0
TRANSIENT: Final[frozenset[str]] = frozenset({"rate_limited", "server_error", "unreachable", "timeout"})

_STATUS: Final[dict[int, Status]] = {401: "auth", 402: "quota", 403: "auth", 404: "not_found"}

Sent = TypeVar("Sent")
Clock = Callable[[], float]
Sleep = Callable[[float], None]


class AttemptFailed(Exception):
    """One request failed. It never leaves `llmnas.llm`: `Patience` turns the last one into a `CallFailed`.

    Attributes:
        attempt: The request as it is recorded.
        hint: What to do about it.
        retry_after_s: Seconds the server asks to wait.
        param: The request parameter the server names.
        said: The server's own words.
    """

    def __init__(self, attempt: Attempt, hint: str = "", *, retry_after_s: float | None = None,
                 param: str | None = None, said: str = "") -> None:
        super().__init__(attempt.error)
        self.attempt = attempt
        self.hint = hint
        self.retry_after_s = retry_after_s
        self.param = param
        self.said = said

    @property
    def status(self) -> Status:
        """How the request ended."""
        return self.attempt.status


def status_of(http: int, code: str = "", message: str = "") -> Status:
    """Returns what an HTTP error means here."""
    if http == 429:
        return "quota" if "insufficient_quota" in (code, *message.split()) else "rate_limited"
    if http in (408, 409) or http >= 500:
        return "server_error"
    return _STATUS.get(http, "bad_request")


def retry_after(headers: Mapping[str, str], now: Clock = time.time) -> float | None:
    """Returns the seconds a server asks to wait (``retry-after-ms``, or ``retry-after`` in seconds or as a date)."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _until(value, now)
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    return None


def _until(date: str, now: Clock) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - now()
    except (ValueError, TypeError, OverflowError):
        return math.nan


class Patience:
    """The patience of one call: its attempts so far, its deadline, and the waits between.

    Args:
        deadline: Latest moment on `clock`; None for none.
        clock: Monotonic seconds.
        sleep: Waits; injectable, so that tests do not.
    """

    def __init__(self, deadline: float | None, clock: Clock, sleep: Sleep) -> None:
        self.attempts: list[Attempt] = []
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._waited = 0.0  # before the next attempt
        self._out_of_time = False
        self._backoff = tenacity.wait_exponential_jitter(multiplier=1, max=30)

    def left(self) -> float:
        """Returns the seconds left; infinite without a deadline."""
        return math.inf if self._deadline is None else self._deadline - self._clock()

    def run(self, send: Callable[[], tuple[Attempt, Sent]]) -> Sent:
        """Returns what `send` brings, trying again while that can help.

        Args:
            send: Sends one request; returns its attempt and what it brought, or raises `AttemptFailed`.

        Raises:
            AttemptFailed: The request was refused in a way that another request may cure (`bad_request`).
            OutOfTime: The deadline is here, or would come before the next attempt.
            CallFailed: Anything else that went wrong for good.
        """
        policy = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, AttemptFailed) and e.status in TRANSIENT),
            wait=self._wait, stop=self._stop, sleep=self._pause, reraise=True)
        failure: AttemptFailed | None = None
        try:
            brought: Sent = policy(self._once, send)
            return brought
        except AttemptFailed as caught:
            failure = caught
        # Raised outside the handler: the cause holds the request, and the request holds the key.
        if failure.status == "bad_request":
            raise failure
        raise self.failed(failure)

    def failed(self, failure: AttemptFailed) -> CallFailed:
        """Returns the failure of the call that ends with `failure`."""
        if self._out_of_time:
            return OutOfTime(f"no reply before the deadline; last: {failure}", failure.hint, attempts=self.attempts)
        return CallFailed(str(failure), failure.hint, status=failure.status, attempts=self.attempts)

    def _once(self, send: Callable[[], tuple[Attempt, Sent]]) -> Sent:
        if self.left() <= 0:
            raise OutOfTime("no time left to ask the language model", attempts=self.attempts)
        waited, self._waited = self._waited, 0.0
        try:
            attempt, brought = send()
        except AttemptFailed as failure:
            failure.attempt = failure.attempt.model_copy(update={"wait_s": waited})
            self.attempts.append(failure.attempt)
            raise
        self.attempts.append(attempt.model_copy(update={"wait_s": waited}))
        return brought

    def _wait(self, state: tenacity.RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after_s if isinstance(failure, AttemptFailed) else None
        return self._backoff(state) if asked is None else min(asked, MAX_WAIT_S)

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        # A wait that would reach the deadline is not begun: the time is better spent elsewhere.
        self._out_of_time = state.upcoming_sleep >= self.left()
        return self._out_of_time or sum(attempt.status in TRANSIENT for attempt in self.attempts) >= MAX_ATTEMPTS

    def _pause(self, seconds: float) -> None:
        self._waited += seconds
        self._sleep(seconds)
