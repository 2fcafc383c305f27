"""Fronts, the reward, the choice and the constraints, on several targets."""

import pytest

from llmnas.front import choices, choose, contenders, front, latency_limits, merit, reward, violations
from llmnas.records import (
    Counts,
    Energy,
    Event,
    Latency,
    Measured,
    Origin,
    Proposal,
    RunStarted,
    Settings,
    Told,
    Trained,
    Trial,
)
from llmnas.store import fold
from tests.search.loop import PLAN

COUNTS = Counts(params=1000, macs=5000, memory_mb=1.0, layers=3)
TARGETS = ("cpu", "t4", "t4@batch=32")


def timed(key, ms, source="measured"):
    return Latency(ms=ms, low=ms * 0.9, high=ms * 1.1, device=key, source=source)


def used(key, mj):
    return Energy(mj=mj, low=mj / 2, high=mj * 2, device=key, source="prior")


def trial(n, score, violates=(), full=None, macs=5000, **ms):
    rungs = {"short": score, "full": full}
    proposal = Proposal(graph=None, origin=Origin(strategy="t", operator="t", step=0))
    return Trial(n=n, status="trained", proposal=proposal,
                 key=f"k{n}", counts=COUNTS.model_copy(update={"macs": macs}), violates=violates,
                 latency={key: timed(key, value) for key, value in ms.items()},
                 trained={rung: Trained(metric="accuracy", val_score=value, val_loss=0, epochs=1, seconds=1, seed=0)
                          for rung, value in rungs.items() if value is not None})


def numbers(trials):
    return [one.n for one in trials]


TRIALS = [trial(1, 0.80, cpu=1.0, t4=3.0), trial(2, 0.85, cpu=2.0, t4=2.0), trial(3, 0.90, cpu=8.0, t4=9.0)]


def test_every_target_has_a_front_of_its_own():
    """The order of cost differs between targets, and so do the fronts."""
    assert numbers(front(TRIALS, "cpu")) == [1, 2, 3]
    assert numbers(front(TRIALS, "t4")) == [2, 3]


def test_milliseconds_and_macs_do_not_mix():
    """A trial without a latency is not compared with those that have one; without any latency MACs are the cost."""
    untimed = trial(4, 0.99, macs=1)
    assert numbers(front([*TRIALS, untimed], "cpu")) == [1, 2, 3]
    assert numbers(front([*TRIALS, untimed], "jetson")) == [4]
    assert numbers(front([trial(1, 0.5, macs=9), trial(2, 0.4, macs=3)], None)) == [2, 1]


def test_reward_is_equation_2():
    """Score times (latency / aim)^w, w by the side of the aim; without an aim it is the score."""
    soft = Settings(aim_latency_ms=4.0)
    assert reward(0.8, 8.0, soft) == pytest.approx(0.8 * 2**-0.07)
    assert reward(0.8, 2.0, soft) == pytest.approx(0.8 * 2**0.07)
    hard = Settings(aim_latency_ms=4.0, aim_weight=(0, -1))
    assert [reward(0.8, ms, hard) for ms in (1.0, 4.0, 8.0)] == pytest.approx([0.8, 0.8, 0.4])
    assert reward(0.8, 8.0, Settings()) == 0.8


def test_merit_is_the_one_place():
    """Without an aim it is the search score; with one, an unknown latency makes it unknown, not 0."""
    assert merit(TRIALS[0], Settings(), "cpu") == 0.80
    aimed = Settings(aim_latency_ms=1.0)
    assert merit(TRIALS[2], aimed, "cpu") == pytest.approx(0.9 * 8**-0.07)
    assert merit(TRIALS[2], aimed, "jetson") is None
    assert merit(TRIALS[2], aimed, None) is None


def test_the_aim_changes_the_choice_and_says_so():
    """The highest reward is chosen on the first target; on the others the score alone decides."""
    assert choose(TRIALS, Settings(), "cpu")[0].n == 3
    aimed = Settings(aim_latency_ms=1.0, aim_weight=(-0.07, -0.07))
    chosen, why = choose(TRIALS, aimed, "cpu")
    assert chosen.n == 2
    assert "reward" in why
    assert "w = -0.07" in why
    assert numbers(contenders(TRIALS, aimed, "cpu", 2)) == [2, 1]
    assert choices(TRIALS, aimed, TARGETS[:2]) == {"t4": 3}


def test_a_reward_that_nobody_has_falls_back_to_the_score():
    """When no latency is known the choice is still made, by score."""
    assert choose(TRIALS, Settings(aim_latency_ms=1.0), "jetson")[0].n == 3


def test_least_latency_is_that_of_each_target():
    """With a least score, every target has its own fastest; finalists' full trainings count."""
    settings = Settings(min_accuracy=0.8)
    assert choose(TRIALS, settings, "cpu")[0].n == 1
    assert choices(TRIALS, settings, TARGETS[:2]) == {"t4": 2}
    assert numbers(contenders(TRIALS, settings, "cpu")) == [1, 2, 3]
    longer = [trial(1, 0.8, full=0.7, cpu=1.0), trial(2, 0.7, full=0.9, cpu=2.0), trial(3, 0.99, cpu=0.1)]
    assert choose(longer, settings, "cpu")[0].n == 2
    assert choose(TRIALS, Settings(min_accuracy=0.99), "cpu")[1].startswith("none reached 0.99")
    assert choose([], settings, "cpu") == (None, "nothing was trained")


def test_constraints_hold_on_their_target():
    """Each limit is on one target, named in the words; an unknown figure breaks none."""
    settings = Settings(max_latency_ms=5, max_latency_on={"t4": 2.0}, max_energy_on={"t4": 10.0})
    assert latency_limits(settings, TARGETS) == {"cpu": 5.0, "t4": 2.0}
    both = {"cpu": timed("cpu", 4.0), "t4": timed("t4", 3.0, "analytic"), "t4@batch=32": timed("t4@batch=32", 99.0)}
    assert violations(settings, TARGETS, COUNTS, both, {"t4": used("t4", 12.0)}) == (
        "3 ms (analytic) exceed 2 ms on t4", "12 mJ (prior) exceed 10 mJ on t4")
    assert violations(settings, TARGETS, COUNTS, {}, {}) == ()
    assert violations(Settings(max_params=1, max_memory_mb=0.5), TARGETS, COUNTS, {}, {}) == (
        "1,000 parameters exceed 1", "1.00 MB exceed 0.5 MB")


def run(settings, *bodies):
    begun = RunStarted(run="r", settings=settings, plan=PLAN, task={}, environment={}, model=None, targets=TARGETS[:2])
    return fold([Event(seq=i, t_s=i, body=body) for i, body in enumerate((begun, *bodies))])


def told(one):
    waiting = one.model_copy(update={"status": "pending", "trained": {}})
    return (Told(step=one.n, trials=(waiting,), promoted=(one.n,)),
            Measured(n=one.n, rung="short", trained=one.trained["short"]))


def test_a_later_timing_is_judged_by_the_constraints():
    """What is timed anew gains or loses its violation; violations of another kind stay."""
    settings = Settings(max_latency_on={"t4": 2.5}, max_energy_on={"t4": 10.0})
    slow = trial(1, 0.9, ("3 ms (measured) exceed 2.5 ms on t4", "too dear"), t4=3.0)
    state = run(settings, *told(slow), Measured(n=1, latency=timed("t4", 2.0)))
    assert state.trial(1).violates == ("too dear",)
    quick = trial(1, 0.9, t4=2.0)
    state = run(settings, *told(quick), Measured(n=1, latency=timed("t4", 2.6), energy=used("t4", 11)))
    assert state.trial(1).violates == ("2.6 ms (measured) exceed 2.5 ms on t4", "11 mJ (prior) exceed 10 mJ on t4")
    assert state.trial(1).energy["t4"].mj == 11


def test_the_best_so_far_goes_by_the_reward():
    """Progress, hence patience, is that of the reward when a latency is aimed at."""
    bodies = [body for one in (trial(1, 0.85, cpu=1.0), trial(2, 0.90, cpu=50.0)) for body in told(one)]
    assert run(Settings(), *bodies).best.n == 2
    state = run(Settings(aim_latency_ms=1.0), *bodies)
    assert (state.best.n, state.since_best) == (1, 1)
    assert state.merit(state.trial(2)) == pytest.approx(0.9 * 50**-0.07)
