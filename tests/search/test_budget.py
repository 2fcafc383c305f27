"""Durations, the clock, and the plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmnas.budget import SATURATED, Clock, epoch_seconds, format_duration, make_plan, parse_duration, scaled_seconds
from llmnas.errors import InputError
from llmnas.records import Settings
from llmnas.space import load_space


@pytest.mark.parametrize(("text", "seconds"), [
    ("30min", 1800), ("90s", 90), ("1h30", 5400), ("1h30min", 5400), ("2 ms", 0.002), ("45", 45), ("1.5h", 5400),
    ("2m", 120), ("1d", 86400), ("1 hour", 3600)])
def test_durations_as_people_write_them(text, seconds):
    """Every documented form is read."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "-3s", "0s", "min", "3min4", "1h-3"])
def test_nonsense_lists_the_forms(text):
    """What is not a duration is refused with the forms that are."""
    with pytest.raises(InputError, match="30min"):
        parse_duration(text)


@given(millis=st.integers(1, 10**9))
def test_format_is_read_back(millis):
    """Formatting and parsing are inverse, to the millisecond."""
    assert parse_duration(format_duration(millis / 1000)) == pytest.approx(millis / 1000)


def test_the_clock_carries_on():
    """A resumed run's clock starts where the earlier process left it."""
    now = [100.0]
    clock = Clock(60.0, used_s=25.0, now=lambda: now[0])
    now[0] += 5
    assert (clock.t(), clock.left(), clock.monotonic(40.0)) == (30.0, 30.0, 115.0)


def networks(name, shape):
    space = load_space(name)
    return [space.network(graph, shape, 10) for graph in space.prior()]


@pytest.mark.parametrize("budget", [20, 60, 120, 600, 1800, 7200])
@pytest.mark.parametrize(("name", "shape", "examples"), [("nb201", (1, 8, 8), 1150), ("convnet", (3, 32, 32), 8000),
                                                         ("conv1d", (1, 40), 3200)])
def test_plans_add_up(budget, name, shape, examples):
    """The shares fill the budget, something is always trained, and a hopeless budget is warned of."""
    plan = make_plan(Settings(budget_s=budget), networks(name, shape), examples, 64, "cpu", 2, True, True)
    assert plan.search_s + plan.final_s + plan.full_s + plan.wrap_s == pytest.approx(budget)
    assert 0 < plan.short_s < plan.search_s
    assert plan.batch >= plan.promote >= 1
    assert bool(plan.warning) == (plan.trainings // plan.promote < 3)


def test_some_design_always_fits_the_time():
    """However small the budget, the cheapest known-good design may be trained."""
    designs = networks("convnet", (3, 224, 224))
    plan = make_plan(Settings(budget_s=30), designs, 100_000, 128, "cpu", 2, False, False)
    cheapest = min(epoch_seconds(n, plan.rates, plan.train_batch, plan.train_steps) for n in designs)
    assert cheapest <= plan.max_epoch_s


def test_a_short_training_is_the_final_one_scaled_down():
    """Networks that saturate get equal epochs, a dearer one the same share of its final training."""
    short = {cost: scaled_seconds(cost, final_s=400, longest_s=40) / cost for cost in (0.1, 1.0, 6.0, 20.0)}
    assert short[0.1] == pytest.approx(short[1.0]) == pytest.approx(short[6.0]) == pytest.approx(SATURATED / 10)
    assert short[20.0] * 20 == 40
    assert short[20.0] / (400 / 20) == pytest.approx(short[6.0] / SATURATED)


def test_short_trainings_cost_what_the_plan_says_on_average():
    """Over the designs that fit, the scaled trainings take `short_s` on average; none takes more than `longest_s`."""
    space = load_space("nb201")
    designs = [space.network(graph, (1, 8, 8), 10) for graph in space.prior()]
    plan = make_plan(Settings(budget_s=120), designs, 1151, 64, "cpu", 2, False, True)
    costs = [epoch_seconds(one, plan.rates, plan.train_batch, plan.train_steps) for one in designs]
    taken = [scaled_seconds(cost, plan.final_s, plan.longest_s) for cost in costs if cost <= plan.max_epoch_s]
    assert sum(taken) / len(taken) == pytest.approx(plan.short_s)
    assert max(taken) <= plan.longest_s
