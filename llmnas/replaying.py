"""Replays: whether a run can be followed event by event, and the check that it was."""

from __future__ import annotations

from collections.abc import Callable

from llmnas.errors import RunError
from llmnas.evaluate.replayed import Replayed
from llmnas.recording import Recording, differences
from llmnas.records import Event, Settings
from llmnas.search import Observer
from llmnas.store import RunState

SPEC = "replay:"


def recording_of(settings: Settings) -> tuple[Recording | None, str]:
    """Returns the recording that a run with these settings follows, and why it follows none although it replays.

    Raises:
        RunError: There is no such run.
    """
    if not isinstance(settings.llm, str) or not settings.llm.startswith(SPEC):
        return None, ""
    from llmnas.llm.opening import replayed_run

    directory = replayed_run(settings.llm)
    if not (directory / "events.jsonl").is_file():
        return None, f"{directory} is no run, only calls"
    recording = Recording(directory.resolve())
    why = recording.problem or recording.unlike(settings)
    return (None, why) if why else (recording, "")


class Following:
    """An observer that compares every event of a replay with the recording, and passes it on.

    Args:
        observer: Who looks on.
        recording: The recording.
        interrupted: Whether the person wants to stop; then the end is another one.

    Attributes:
        evaluator: Told how far the replay is, once there is one.
    """

    def __init__(self, observer: Observer, recording: Recording, interrupted: Callable[[], bool]) -> None:
        self.observer, self.recording, self.interrupted = observer, recording, interrupted
        self.evaluator: Replayed | None = None

    def event(self, event: Event, state: RunState) -> None:
        """Takes an event in.

        Raises:
            RunError: It is not that of the recording.
        """
        self.observer.event(event, state)
        recorded = self.recording.events[event.seq:event.seq + 1]
        if not self.interrupted() and (other := next(differences(recorded, [event]), "")):
            raise RunError(f"the replay leaves {self.recording.directory}: {other}",
                           "it was recorded by another version, or something in it was changed")
        if self.evaluator is not None:
            self.evaluator.advance(state.events)

    def tick(self, state: RunState, clock_s: float, activity: str) -> None:
        """Is told what is going on."""
        self.observer.tick(state, clock_s, activity)
