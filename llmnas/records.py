"""The nouns that cross borders and go to disk: proposals, trials, measurements, events.

All are frozen. Unknown is None, never 0. Units stand in the names: ``_s`` seconds, ``_ms`` milliseconds, ``_mb``
megabytes of 2**20 bytes, ``_mj`` millijoules.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from llmnas.graph import ArchGraph, Frozen, Issue

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Exponent = Annotated[float, Field(le=0, ge=-10)]
Share = Annotated[float, Field(gt=0, le=1)]
Status = Literal["invalid", "duplicate", "screened", "pending", "trained", "failed", "timeout"]
Rung = Literal["short", "full", "final"]
Source = Literal["measured", "calibrated", "analytic", "table"]
SUPERNET: Final = "supernet"
"""Name of the score that an architecture has with the shared weights of a supernet."""
StopReason = Literal["budget", "max_evals", "max_usd", "max_tokens", "patience", "space_exhausted", "stalled",
                     "target_reached", "llm_failed", "fit_failed", "stop_file", "interrupted"]
PERSON_ENDED: Final = ("interrupted", "stop_file")
"""Reasons by which a person ended a search: nothing was finally trained or tested, and `llmnas resume` goes on."""

JOIN: Final = " + "
"""Between the names of several language models that share a run."""


def is_mock(model: str | None) -> bool:
    """Returns whether a model of this name, one of several, or what a replay replays, is the mock."""
    return any(part.rpartition(" of ")[2].startswith("mock") for part in (model or "").split(JOIN))


class Origin(Frozen):
    """Where a proposal comes from.

    Attributes:
        strategy: Name of the strategy.
        operator: What it did: ``random``, ``mutate``, ``llm_fresh``, ``start`` …
        step: The ask this proposal answers.
        parents: Keys of the architectures it was made from.
        prompt: ``name@hash`` of the prompt, when a model made it.
        call: Id of the model call.
        repairs: How many times it was sent back for repair before this form.
    """

    strategy: str
    operator: str
    step: int
    parents: tuple[str, ...] = ()
    prompt: str | None = None
    call: str | None = None
    repairs: int = 0


class Proposal(Frozen):
    """One proposed architecture, valid or not.

    Attributes:
        raw: What came, before parsing; None when code made the graph.
        graph: The parsed graph; None when `raw` is not one.
        issues: Why it cannot be used; empty when it can.
        origin: Who made it.
        rationale: The proposer's reason, if it gave one.
        scores: What the proposer itself scored it with, by name: `SUPERNET`. Never a trained score, and no part of the
            order in which proposals are trained.
        share: Share of the short training's epochs that is asked for; 0 has it screened, and trained no sooner than
            it is promoted.
        promotes: Number of a trial that is to be trained for a larger share than it was. Then this is no new
            architecture and makes no new trial.
    """

    raw: Any = None
    graph: ArchGraph | None
    issues: tuple[Issue, ...] = ()
    origin: Origin
    rationale: str = ""
    scores: dict[str, float] = Field(default_factory=dict)
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    promotes: int | None = None


class Counts(Frozen):
    """Size of a network for one example.

    Attributes:
        params: Trainable parameters.
        macs: Multiply-accumulates of convolutions and linear layers, bias additions of the classifier included.
        memory_mb: Peak of weights and live activations in float32 at batch 1, in MB.
        layers: Layers that the runtime launches.
    """

    params: int
    macs: int
    memory_mb: float
    layers: int


class Latency(Frozen):
    """Inference latency with its interval and its source.

    Attributes:
        ms: Median, in milliseconds per batch.
        low: Lower end of the 90 % interval.
        high: Upper end of the 90 % interval.
        device: Key of the target, ``t4@batch=32``: two targets on one device are two.
        batch: Batch size.
        runtime: eager, compiled …
        source: How the figure was obtained.
        n: Runs timed or nets calibrated on; None for analytic.
    """

    ms: float
    low: float
    high: float
    device: str
    batch: int = 1
    runtime: str = "eager"
    source: Source
    n: int | None = None


class Energy(Frozen):
    """Energy of one inference call with its interval and its source. Unknown energy is None where this would stand.

    Attributes:
        mj: Millijoules per batch.
        low: Lower end of the 90 % interval.
        high: Upper end of the 90 % interval.
        device: Key of the target's device.
        batch: Batch size.
        runtime: eager, compiled …
        source: ``measured`` by a counter, ``calibrated`` on measured networks, or ``prior``: power times latency.
        n: Windows measured or networks calibrated on; None for a prior.
    """

    mj: float
    low: float
    high: float
    device: str
    batch: int = 1
    runtime: str = "eager"
    source: Literal["measured", "calibrated", "prior"]
    n: int | None = None


class Trained(Frozen):
    """The result of one training.

    Attributes:
        metric: Name of the score, higher is better.
        val_score: Score on the validation split.
        val_loss: Cross-entropy on the validation split.
        test_score: Score on the test split; None unless this is the selected model's final training.
        test_loss: Likewise.
        epochs: Epochs done; a fraction when cut.
        seconds: Wall time of the training, loading and validation included.
        seed: Seed of weights, order and augmentation.
        curve: Validation score after each validation.
        cut: Whether the deadline ended it before its schedule did.
        examples: Training examples seen.
        weights: Path of the saved weights relative to the run directory.
        share: Share of its rung's epochs that it was given. Scores of different shares do not compare.
    """

    metric: str
    val_score: float
    val_loss: float
    test_score: float | None = None
    test_loss: float | None = None
    epochs: float
    seconds: float
    seed: int
    curve: tuple[float, ...] = ()
    cut: bool = False
    examples: int = 0
    weights: str | None = None
    share: Share = 1.0


class Usage(Frozen):
    """Tokens and money of model calls. Cached tokens are part of input, reasoning tokens part of output.

    Attributes:
        attempts: Requests sent, failed ones included.
        input_tokens: None when the server does not say.
        cached_tokens: None when the server does not say.
        output_tokens: None when the server does not say.
        reasoning_tokens: None when the server does not say.
        usd: None when the price is unknown.
        wait_s: Seconds spent waiting between attempts.
        seconds: Seconds from first request to last reply, waiting included.
    """

    attempts: int = 0
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    usd: float | None = None
    wait_s: float = 0.0
    seconds: float = 0.0


class Trial(Frozen):
    """One proposal and everything that was measured of it.

    Attributes:
        n: Its number in the run, from 1.
        proposal: What was proposed.
        status: How far it came.
        key: The function it computes; None when invalid.
        duplicate_of: Number of the earlier trial with the same key.
        counts: Size; None when invalid.
        scores: Proxy scores by name, raw.
        unscored: Why a proxy has no score, by name.
        latency: By target key.
        energy: By target key; a target whose energy is unknown is not in it.
        violates: Constraints it breaks, in words.
        rank: Combined proxy rank within its batch, 1 best; None when not ranked.
        trained: Results by rung.
        partial: Results of trainings at a smaller share of the short rung, the smallest first.
        note: Why a training failed.
        spent_s: Seconds its screening and trainings took.
    """

    n: int
    proposal: Proposal
    status: Status
    key: str | None = None
    duplicate_of: int | None = None
    counts: Counts | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    unscored: dict[str, str] = Field(default_factory=dict)
    latency: dict[str, Latency] = Field(default_factory=dict)
    energy: dict[str, Energy] = Field(default_factory=dict)
    violates: tuple[str, ...] = ()
    rank: int | None = None
    trained: dict[Rung, Trained] = Field(default_factory=dict)
    partial: tuple[Trained, ...] = ()
    note: str = ""
    spent_s: float = 0.0

    @property
    def best_rung(self) -> Trained | None:
        """The result of the furthest rung this trial reached, of the short one at the largest share."""
        return next((self.trained[rung] for rung in ("final", "full", "short") if rung in self.trained),
                    self.partial[-1] if self.partial else None)

    @property
    def score(self) -> float | None:
        """The search score: of the short rung, the one all trained trials share; None when a deadline cut it."""
        return self.score_at(1.0)

    @property
    def share(self) -> float:
        """The largest share of the short rung that this trial was trained for; 0 before any training."""
        return 1.0 if "short" in self.trained else self.partial[-1].share if self.partial else 0.0

    def score_at(self, share: float) -> float | None:
        """Returns the score after a share of the short rung; None when there is none or a deadline cut it."""
        short = self.trained.get("short")
        found = short if share == 1 else next((one for one in self.partial if one.share == share), None)
        return None if found is None or found.cut else found.val_score


class Settings(Frozen):
    """What a person asked for: one field per option of ``llmnas run``.

    Attributes are documented by the command line (`llmnas run --help`). ``max_latency_ms``, ``max_energy_mj`` and
    ``aim_latency_ms`` hold on the first target; ``max_latency_on`` and ``max_energy_on`` are limits on the others, by
    target key once the run has begun. ``llm`` is one model or several. ``aim_weight`` holds the two exponents of
    `llmnas.front.reward`.
    """

    data: str = "digits"
    space: str = "auto"
    metric: str = "accuracy"
    strategy: str = "agent"
    target: tuple[str, ...] = ("cpu",)
    budget_s: float = 1800.0
    max_latency_ms: float | None = None
    max_params: int | None = None
    max_memory_mb: float | None = None
    max_energy_mj: float | None = None
    max_latency_on: dict[str, Positive] = Field(default_factory=dict)
    max_energy_on: dict[str, Positive] = Field(default_factory=dict)
    aim_latency_ms: Positive | None = None
    aim_weight: tuple[Exponent, Exponent] = (-0.07, -0.07)
    min_accuracy: float | None = None
    llm: str | tuple[str, ...] = "auto"
    prompt: str = "base"
    base_url: str | None = None
    structured: str = "auto"
    temperature: float | None = None
    seed: int = 0
    max_evals: int | None = None
    max_usd: float | None = None
    max_tokens: int | None = None
    patience: int | None = None
    screen: int | None = None
    prior: bool = True
    workers: int = 1
    executor: str = "local"
    device: str = "auto"
    start: str | None = None
    on_llm_failure: Literal["stop", "random"] = "stop"


class Rates(Frozen):
    """Nominal cost of one training step, forward, backward and update together.

    Attributes:
        mac_s: Seconds per multiply-accumulate and example of ordinary convolutions and linear layers.
        depthwise_s: Likewise of depth-wise and grouped convolutions.
        value_s: Seconds per activation value and example: what norms, activations and sums cost.
        layer_s: Seconds per layer, whatever its size.
    """

    mac_s: float
    depthwise_s: float
    value_s: float
    layer_s: float


class Plan(Frozen):
    """How the budget is divided, fixed when the run starts and recorded, so that a resumed run keeps it.

    Attributes:
        search_s: Seconds for the search.
        final_s: Seconds for the final training.
        wrap_s: Seconds kept for test, export and report.
        full_s: Nominal seconds of all full trainings together; 0 when the budget is too small for them.
        finalists: How many get the full rung.
        short_s: Nominal seconds of one short training, on average over the known-good designs.
        longest_s: Nominal seconds of a short training of the dearest networks; None in logs from before there was such
            a difference, when all took `short_s`.
        train_deadline_s: Hard limit of one short training.
        batch: Proposals asked for at once.
        promote: How many of a batch are trained.
        trainings: Short trainings expected to fit.
        proposals: Proposals expected to fit.
        calls: Model calls expected to fit; None when the strategy uses none.
        rates: Nominal cost of training on this device.
        train_batch: Examples per step.
        train_steps: Steps of an epoch.
        max_epoch_s: Nominal seconds of an epoch above which a network is not trained: it would see too few epochs in
            its final training.
        proxies: Names of the proxies computed for every screened network.
        warning: What is wrong with the budget; empty when nothing.
    """

    search_s: float
    final_s: float
    wrap_s: float
    full_s: float
    finalists: int
    short_s: float
    train_deadline_s: float
    batch: int
    promote: int
    trainings: int
    proposals: int
    calls: int | None
    rates: Rates
    train_batch: int
    train_steps: int
    max_epoch_s: float
    proxies: tuple[str, ...]
    warning: str = ""
    longest_s: float | None = None


class Rule(Frozen):
    """One rule of the knowledge base, written by the model, checked against the trials.

    Attributes:
        text: The rule in one sentence.
        supports: Numbers of trials that agree with it.
        contradicts: Numbers of trials that do not.
        step: The step at which it was written or last confirmed.
    """

    text: str
    supports: tuple[int, ...] = ()
    contradicts: tuple[int, ...] = ()
    step: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of the cited trials that support it; 0 when none is cited."""
        cited = len(self.supports) + len(self.contradicts)
        return len(self.supports) / cited if cited else 0.0


class RunStarted(Frozen):
    """The first event: what was asked, and everything needed to judge or repeat the run.

    Attributes:
        run: Name of the run directory.
        settings: The resolved settings.
        plan: How the budget is divided.
        task: Shape, classes and sizes of the data, with split digests.
        environment: Versions, device, host, git.
        model: The language model in use, or None.
        argv: The command.
        targets: Keys of the targets, the first one judged by; empty in logs from before they were recorded.
    """

    kind: Literal["run_started"] = "run_started"
    run: str
    settings: Settings
    plan: Plan
    task: dict[str, Any]
    environment: dict[str, Any]
    model: str | None
    argv: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


class Resumed(Frozen):
    """The run was continued by a new process; `lost_s` is the time nobody was running, not charged."""

    kind: Literal["resumed"] = "resumed"
    settings: Settings
    lost_s: float


class Asked(Frozen):
    """The strategy was asked for `n` proposals, having seen the events before `seen`."""

    kind: Literal["asked"] = "asked"
    step: int
    n: int
    seen: int


class Called(Frozen):
    """One call of a language model, with everything it cost. The full text is in `file`.

    Attributes:
        call: Id, unique in the run: step, role and count.
        step: The ask it belongs to.
        role: propose, repair, reflect.
        prompt: ``name@hash``.
        model: Model in use.
        mode: Structured-output mode that produced the reply.
        status: ok, or the kind of failure.
        finish: The server's finish reason.
        usage: What it cost.
        message: The error, when it failed.
        file: Path of the full request and reply relative to the run directory.
    """

    kind: Literal["called"] = "called"
    call: str
    step: int
    role: str
    prompt: str
    model: str
    mode: str
    status: str
    finish: str | None
    usage: Usage
    message: str = ""
    file: str = ""


class Told(Frozen):
    """The trials of one step as screened, and what will be trained, in this order.

    Attributes:
        step: Its number.
        trials: What is new.
        promoted: Numbers of those that will be trained; earlier trials too, when they are trained for a larger share.
        seconds: What screening took.
        weights: What every proxy counted in the order; None when it did not come from proxies, or the log is older.
        shares: Share of the short rung asked for, by number; 1 for those that are not in it.
        cost: What the trainings cost, in evaluations; None in logs from before there were shares: 1 each.
        unpaid: Whether a training was not started because it would have gone beyond ``max_evals``.
    """

    kind: Literal["told"] = "told"
    step: int
    trials: tuple[Trial, ...]
    promoted: tuple[int, ...]
    seconds: float = 0.0
    weights: dict[str, float] | None = None
    shares: dict[int, Share] = Field(default_factory=dict)
    cost: float | None = None
    unpaid: bool = False


class Candidate(Frozen):
    """A graph that was screened though nobody proposed it, and what is known of it (as in `Trial`)."""

    graph: ArchGraph
    counts: Counts
    scores: dict[str, float] = Field(default_factory=dict)
    latency: dict[str, Latency] = Field(default_factory=dict)
    violates: tuple[str, ...] = ()


class Pooled(Frozen):
    """A strategy had graphs screened that it may not propose: `graphs` counted, `scored` of them by proxies.

    Candidates are kept, so that a strategy finds at every later step what was paid for at an earlier one.
    """

    kind: Literal["pooled"] = "pooled"
    step: int
    graphs: int
    scored: int
    candidates: tuple[Candidate, ...] = ()
    seconds: float = 0.0

    @property
    def kept(self) -> int:
        """How many of them keep all limits; all, where a log does not say."""
        return sum(not one.violates for one in self.candidates) if self.candidates else self.graphs


class Measured(Frozen):
    """One training or measurement of one trial."""

    kind: Literal["measured"] = "measured"
    n: int
    rung: Rung | None = None
    trained: Trained | None = None
    latency: Latency | None = None
    energy: Energy | None = None
    failed: Literal["failed", "timeout"] | None = None
    note: str = ""
    seconds: float = 0.0


class Reflected(Frozen):
    """The knowledge base as the model rewrote it."""

    kind: Literal["reflected"] = "reflected"
    step: int
    call: str
    rules: tuple[Rule, ...]


class Disguised(Frozen):
    """The names under which a run's prompts hide what ops and attributes are: true name → code."""

    kind: Literal["disguised"] = "disguised"
    names: dict[str, str]


class Checkpointed(Frozen):
    """Learnt state too large for the log, as a file named by its digest."""

    kind: Literal["checkpointed"] = "checkpointed"
    what: str
    file: str
    digest: str


class Fitted(Frozen):
    """A strategy has learnt something by training of its own: one piece of its fit is done, or failed.

    Attributes:
        what: Name of the piece, unique in the run.
        job: The kind of job that did it.
        nominal_s: Its declared cost on the nominal clock.
        seconds: Wall seconds of its process.
        result: What came of it, small enough for the log; large state is a file (`Checkpointed`).
        failed: Kind of failure (``diverged``, ``out_of_memory``, ``timeout`` …); None when it did not fail.
        note: Why it failed.
    """

    kind: Literal["fitted"] = "fitted"
    what: str
    job: str
    nominal_s: float
    seconds: float
    result: dict[str, Any] = Field(default_factory=dict)
    failed: str | None = None
    note: str = ""


class Warned(Frozen):
    """Something a person should know; shown once on the console and in the report."""

    kind: Literal["warned"] = "warned"
    message: str


class Selected(Frozen):
    """The trial chosen as the answer, and why.

    Attributes:
        n: Its number: the best on the first target.
        why: What made it the best.
        front: The front on the first target, cheapest first.
        fronts: The front on every target, by target key; empty in logs from before there were several.
        choices: The best trial on every further target, by target key.
    """

    kind: Literal["selected"] = "selected"
    n: int
    why: str
    front: tuple[int, ...]
    fronts: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    choices: dict[str, int] = Field(default_factory=dict)


class Stopped(Frozen):
    """The search ended; the true reason."""

    kind: Literal["stopped"] = "stopped"
    reason: StopReason
    says: str


class Finished(Frozen):
    """The command is done: where the artefacts are."""

    kind: Literal["finished"] = "finished"
    files: dict[str, str]
    seconds: float


Body = Annotated[
    RunStarted | Resumed | Asked | Called | Told | Pooled | Measured | Reflected | Disguised | Checkpointed | Fitted
    | Warned | Selected | Stopped | Finished, Field(discriminator="kind")]


class Event(Frozen):
    """One line of the log.

    Attributes:
        seq: Number in the run, from 0, without gaps.
        t_s: Seconds on the run's own clock, which stands still while no process runs.
        body: What happened.
    """

    seq: int
    t_s: float
    body: Body


EVENT: TypeAdapter[Event] = TypeAdapter(Event)
