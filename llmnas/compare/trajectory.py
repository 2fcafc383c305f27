"""The nouns of a comparison: `Arm`, what is compared, and `Trajectory`, what one seed of an arm did and was charged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final
from urllib.parse import quote

import numpy as np
from pydantic import Field

from llmnas.errors import InputError
from llmnas.graph import Frozen
from llmnas.records import is_mock

_ROUNDING: Final = 1e-6


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes:
        label: How it is called: the strategy's name, ``@PROMPT`` where it has a prompt set of its own, and ``#K`` for
            another stream of random numbers.
        strategy: Name of the strategy.
        stream: 1, or K. Arms that differ in the stream alone are an A/A pair: nothing but chance differs.
        prompt: Its prompt set; None takes that of the comparison.
    """

    label: str
    strategy: str
    stream: int = 1
    prompt: str | None = None

    @property
    def file(self) -> str:
        """The label as part of a file's name: a prompt may be a path."""
        return quote(self.label, safe=" :=#@,+")

    def seed(self, seed: int) -> int:
        """Returns the seed that a search of this arm gets: `seed` itself in the first stream, else one drawn from it.

        So equal seeds mean common random numbers for all arms of the first stream, and none across streams.
        """
        return seed if self.stream == 1 else int(np.random.SeedSequence([seed, self.stream]).generate_state(1)[0] >> 1)


def parse_arms(text: str) -> list[Arm]:
    """Returns the arms in ``random,agent@terse,random#2``; one that comes again gets the next free stream.

    Raises:
        InputError: There is none, one is malformed, or one comes twice with the same stream.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"--strategies: expected names by comma, got {text!r}", "example: random,evolution,agent")
    arms: dict[str, Arm] = {}
    for name in names:
        found = re.fullmatch(r"(([^#@]+)(?:@([^#]+))?)(?:#([1-9]\d*))?", name)
        if found is None:
            raise InputError(f"--strategies: {name!r} is not NAME, NAME@PROMPT or NAME#STREAM",
                             "example: random,random#2,agent@base,agent@terse")
        whole, stream = found[1], int(found[4] or 1)
        if found[4] is None:
            while _label(whole, stream) in arms:
                stream += 1
        if _label(whole, stream) in arms:
            raise InputError(f"--strategies: {name!r} is named twice", "give every arm a stream of its own: NAME#3")
        arms[_label(whole, stream)] = Arm(_label(whole, stream), found[2], stream, found[3])
    return list(arms.values())


def _label(name: str, stream: int) -> str:
    return name if stream == 1 else f"{name}#{stream}"


class Paid(Frozen):
    """One evaluation that was charged.

    Attributes:
        what: The architecture: name of a row, or key.
        score: Validation score, higher is better; None when the training failed or broke a constraint.
        at: Evaluations charged up to and with it, where parts of trainings were charged too; None for its place.
        at_s: Seconds charged up to and with it; None when unknown.
        latency_ms: Latency on the first target; None when unknown.
    """

    what: str
    score: float | None
    at: float | None = None
    at_s: float | None = None
    latency_ms: float | None = None


class Charges(Frozen):
    """What a search cost. Unknown is None, never 0.

    Attributes:
        proposals: All that were made.
        invalid: Of those, not architectures of the space.
        duplicate: Of those, seen before.
        refused: Of those, beyond a constraint or not listed.
        passed_over: Of those, legal and new, but another one of their batch was evaluated.
        repaired: Of those, valid only after repair; None where it was not counted.
        evaluations: Evaluations charged; a part of a training is a part of one.
        predicted: Of those, answered by a surrogate.
        proxies: Architectures whose proxies were looked at.
        calls: Calls of a language model, failed ones included.
        input_tokens: Of all calls.
        output_tokens: Of all calls.
        usd: Of all calls.
        llm_s: Seconds of all calls.
        proxy_s: Seconds of screening by proxies; None for published ones, which nobody timed.
        train_s: Seconds of training; on a table those of its column, if it has one.
        energy_j: Energy of the trainings; nothing meters it yet.
        cpu_s: Processor seconds of the search itself; measured, so no two runs agree.
    """

    proposals: int
    invalid: int = 0
    duplicate: int = 0
    refused: int = 0
    passed_over: int = 0
    repaired: int | None = None
    evaluations: float
    predicted: int = 0
    proxies: int = 0
    calls: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: float | None = None
    llm_s: float | None = None
    proxy_s: float | None = None
    train_s: float | None = None
    energy_j: float | None = None
    cpu_s: float | None = None


class Answers(Frozen):
    """What a language model proposed, its own proposals alone.

    Attributes:
        proposals: All of them, a reply that cannot be read counting as one.
        repaired: Of those, legal only after repair.
        invalid: Of those, never legal.
        duplicate: Of those, legal but seen before in the same search.
    """

    proposals: int
    repaired: int
    invalid: int
    duplicate: int


class Trajectory(Frozen):
    """What one seed of an arm did, in the order of its evaluations.

    Attributes:
        arm: Label of the arm.
        strategy: Name of its strategy.
        seed: The seed that pairs it with the other arms.
        paid: Its evaluations; trainings cut short by design are not among them, but are in what was charged.
        charges: What it cost.
        stopped: Why it ended.
        model: The language model it asked; None when it asks none.
        prompt: ``name@hash`` of the prompt set it was asked with; None when none was, or nobody kept it.
        answers: What its proposals were worth; None when there is no model, or nobody counted.
        measures: Figures of its result by name, filled in when every search is over; None where there is none.
        end_s: Seconds charged when it ended; None when unknown.
    """

    arm: str
    strategy: str
    seed: int
    paid: tuple[Paid, ...]
    charges: Charges
    stopped: str
    model: str | None = None
    prompt: str | None = None
    answers: Answers | None = None
    measures: dict[str, float | None] = Field(default_factory=dict)
    end_s: float | None = None

    @property
    def mock(self) -> bool:
        """Whether its proposals came from the mock in place of a language model."""
        return is_mock(self.model)

    @property
    def places(self) -> list[int]:
        """The number of evaluations charged when each one was done, parts rounded up."""
        return [place if one.at is None else ceil(one.at - _ROUNDING) for place, one in enumerate(self.paid, start=1)]

    @property
    def length(self) -> int:
        """How many evaluations were charged in all, parts rounded up."""
        return max(len(self.paid), ceil(self.charges.evaluations - _ROUNDING))

    def best(self) -> Paid | None:
        """Returns the evaluation with the best validation score, the first one of equals; None without any."""
        scored = [one for one in self.paid if one.score is not None]
        return max(scored, key=lambda one: one.score or 0.0, default=None)


def by_arm(trajectories: Sequence[Trajectory]) -> dict[str, list[Trajectory]]:
    """Returns the trajectories of every arm by seed; arms in the order in which they first come."""
    found: dict[str, list[Trajectory]] = {}
    for one in trajectories:
        found.setdefault(one.arm, []).append(one)
    return {arm: sorted(own, key=lambda one: one.seed) for arm, own in found.items()}
