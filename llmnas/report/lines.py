"""One plain line per event, for logs and pipes."""

from __future__ import annotations

from llmnas.front import share_text
from llmnas.records import (
    Asked,
    Called,
    Checkpointed,
    Disguised,
    Event,
    Finished,
    Fitted,
    Measured,
    Pooled,
    Reflected,
    Resumed,
    RunStarted,
    Selected,
    Stopped,
    Told,
    Warned,
    is_mock,
)
from llmnas.report import facts
from llmnas.report import format as say
from llmnas.store import RunState


def line(event: Event, state: RunState) -> str:
    """Returns the line for an event that `state` has already taken in: the run's clock, then what happened."""
    return f"[{say.clock(event.t_s):>7}] {say.one_line(words(event, state), 400)}"


def words(event: Event, state: RunState) -> str:  # noqa: PLR0912  # one case for every kind of event
    """Returns what an event says, without the clock."""
    match event.body:
        case RunStarted() as body:
            return _started(body)
        case Resumed() as body:
            return f"resumed; budget {say.duration(body.settings.budget_s)}, {say.duration(body.lost_s)} not charged"
        case Asked() as body:
            return f"step {body.step}: asked for {say.plural(body.n, 'proposal')}"
        case Called() as body:
            return _called(body)
        case Pooled() as body:
            return f"step {body.step}: screened {say.plural(body.graphs, 'graph')} to choose among"
        case Told() as body:
            return _told(body)
        case Measured() as body:
            return _measured(body, state)
        case Reflected() as body:
            return f"step {body.step}: the model keeps {say.plural(len(body.rules), 'rule')}"
        case Disguised() as body:
            return f"the prompts hide {say.plural(len(body.names), 'name')}: op_a and so on are this run's own"
        case Checkpointed() as body:
            return f"saved {body.what} as {body.file}"
        case Fitted() as body:
            return f"{body.what} " + (f"failed ({body.failed}): {body.note}" if body.failed else "is fitted") + (
                f", took {say.duration(body.seconds)}")
        case Warned() as body:
            return f"warning: {body.message}"
        case Selected() as body:
            return f"selected trial {body.n}: {body.why}" + "".join(
                f"; best on {key}: trial {n}" for key, n in body.choices.items())
        case Stopped() as body:
            return f"search stopped ({body.reason}): {body.says}"
        case Finished() as body:
            return f"finished after {say.duration(body.seconds)}: {', '.join(sorted(body.files)) or 'no files'}"


def _started(body: RunStarted) -> str:
    settings, plan = body.settings, body.plan
    calls = "" if plan.calls is None else f", {say.plural(plan.calls, 'model call')}"
    model = body.model or "none"
    mock = " (mock: no language model takes part)" if is_mock(model) else ""
    return (f"run {body.run}: {settings.data} in space {settings.space}, strategy {settings.strategy}, model "
            f"{model}{mock}, target {', '.join(settings.target)}; in {say.duration(settings.budget_s)} about "
            f"{say.plural(plan.proposals, 'proposal')}, {say.plural(plan.trainings, 'training')}{calls}, "
            f"{say.duration(plan.final_s)} kept for the final training"
            + (f"; warning: {plan.warning}" if plan.warning else ""))


def _called(body: Called) -> str:
    usage = body.usage
    used = (f"{say.whole(usage.input_tokens)} + {say.whole(usage.output_tokens)} tokens, {say.usd(usage)}, "
            f"{say.duration(usage.seconds)}")
    return (f"step {body.step}: model call {body.role} {body.status}, {used}"
            + (f": {body.message}" if body.message else ""))


def _told(body: Told) -> str:
    kinds = [trial.status for trial in body.trials]
    codes = sorted({issue.code for trial in body.trials if trial.status == "invalid"
                    for issue in trial.proposal.issues})
    parts = [f"{len(kinds) - kinds.count('invalid') - kinds.count('duplicate')} new"]
    if n := kinds.count("duplicate"):
        parts.append(f"{n} duplicate")
    if n := kinds.count("invalid"):
        parts.append(f"{n} invalid ({', '.join(codes) or 'no reason given'})")
    chosen = ", ".join(str(n) + (f" (for {share_text(body.shares[n])})" if n in body.shares else "")
                       for n in body.promoted[:20])
    return (f"step {body.step}: {', '.join(parts)}; " + (f"training trials {chosen}" if chosen else "none trained"))


def _measured(body: Measured, state: RunState) -> str:
    trial = facts.find(state, body.n)
    said = []
    if body.trained is not None:
        found = body.trained
        said.append(f"{_training(body.rung, found.share)}, {found.metric} {say.score(found.val_score, found.metric)}"
                    + (f", test {say.score(found.test_score, found.metric)}" if found.test_score is not None else "")
                    + (" (best so far)" if body.rung == "short" and _is_best(state, body) else "")
                    + (" (cut by the deadline)" if found.cut else ""))
    elif body.failed is not None:
        what = f"{body.rung} training" if body.rung else "measurement"
        said.append(f"{what} {'ran into its deadline' if body.failed == 'timeout' else 'failed'}"
                    + (f": {body.note}" if body.note else ""))
    if trial is not None and trial.counts is not None and body.rung == "short":
        said.append(f"{say.count(trial.counts.params)} parameters")
    if body.latency is not None:
        said.append(f"{say.cost_text(body.latency, body.energy)} on {body.latency.device}")
    elif trial is not None and body.rung and (timed := facts.latency(state, trial)) is not None:
        said.append(f"{say.latency_text(timed)} on {timed.device}")
    if trial is not None and body.rung == "short" and trial.score is not None and (
            gained := facts.reward(state, trial)) is not None:
        said.append(f"reward {gained}")
    return f"trial {body.n}: " + ", ".join([*said, f"took {say.duration(body.seconds)}"])


def _training(rung: str | None, share: float) -> str:
    return f"{rung} training" if share == 1 else f"{share_text(share)} of a {rung} training"


def _is_best(state: RunState, body: Measured) -> bool:
    return state.best is not None and state.best.n == body.n and body.trained is not None and body.trained.share == 1
