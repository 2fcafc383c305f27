"""Several models share the calls of a run: who is asked, who drops out, what is refused."""

import json

import numpy as np
import pytest

from llmnas.agent.sharing import BREAKER, choose, credits, nominal_usd, rewards
from llmnas.errors import InputError, ModelError
from llmnas.llm import CallFailed, Panel, Reply, open_model
from llmnas.llm.mock import MockModel
from llmnas.records import Called, Usage, is_mock
from llmnas.space import load_space
from llmnas.strategies.base import proposal
from llmnas.testing.chat_model import ChatModelSuite
from llmnas.testing.strategy import context, measured

from .test_agent import GRAPHS, Scripted, agent, wire

SPACE = load_space("nb201")


FREE = Usage(attempts=1, input_tokens=1000, output_tokens=100, usd=0.0)


def called(n, model, status="ok", usage=FREE, role="propose"):
    """Returns the event of a call."""
    return Called(call=f"c{n}", step=n, role=role, prompt="p", model=model, mode="", status=status, finish=None,
                  usage=usage)


def trial(n, call, score, status="trained"):
    """Returns a measured trial that a call brought."""
    made = proposal("agent", "llm_propose", n, GRAPHS[n % len(GRAPHS)])
    made = made.model_copy(update={"origin": made.origin.model_copy(update={"call": call})})
    return measured(n, made, score, SPACE).model_copy(update={"status": status})


def test_rewards_count_what_is_new_and_what_enters_the_front():
    """Half for legal and new, half for the front of score and cost at its time."""
    trials = [trial(1, "c1", 0.5), trial(2, "c2", 0.4), trial(3, "c3", 0.1), trial(4, "c3", 0.1, "duplicate")]
    trials[1] = trials[1].model_copy(update={"counts": trials[0].counts})  # as dear as the first, and worse
    trials[2] = trials[2].model_copy(update={"counts": trials[0].counts})
    trials[3] = trials[3].model_copy(update={"counts": trials[0].counts})
    assert rewards(trials, None) == {"c1": 1.0, "c2": 0.5, "c3": 0.25}


def test_every_model_is_tried_then_the_better_bargain_is_asked():
    """Equal rewards: the cheaper is asked; equal prices: the better; prices unknown: fewer nominal seconds."""
    cheap, dear = Usage(input_tokens=1000, output_tokens=100, usd=0.001), Usage(input_tokens=1000, output_tokens=100,
                                                                                usd=0.01)
    assert choose(credits(["a", "b"], [], [])) == "a"
    assert choose(credits(["a", "b"], [called(1, "a")], [])) == "b"
    both = [called(1, "a", usage=dear), called(2, "b", usage=cheap)]
    trials = [trial(1, "c1", 0.4), trial(2, "c2", 0.5)]
    assert choose(credits(["a", "b"], both, trials)) == "b"
    fair = [call for n in range(1, 21) for call in [called(n, "a" if n % 2 else "b")]]
    good = [trial(n, f"c{n}", 0.3 + n / 100, "trained" if n % 2 else "duplicate") for n in range(1, 21)]
    assert choose(credits(["a", "b"], fair, good)) == "a"
    slow = Usage(input_tokens=1000, output_tokens=2000)
    assert nominal_usd(slow) > nominal_usd(Usage(input_tokens=1000, output_tokens=100)) > 0
    assert nominal_usd(Usage()) > 0


def test_reflections_cost_no_credit():
    """A look back brings rules, not proposals; it is not held against who made it."""
    (credit,) = credits(["a"], [called(1, "a"), called(2, "a", role="reflect")], []).values()
    assert credit.calls == 1


def test_a_lost_model_drops_out_with_a_warning_and_the_last_one_ends_the_run():
    """Refused for good: another one is asked at once, and who answered stands in the log."""
    events = []
    base = context(1)
    ctx = type(base)(**{**vars(base), "emit": events.append,
                        "calls": lambda: tuple(one for one in events if isinstance(one, Called))})
    good, bad = Scripted({"proposals": [wire(GRAPHS[2])]}), Scripted(CallFailed("no key", status="auth"))
    good.name, bad.name = "good", "bad"
    found = agent(Panel([bad, good])).ask(1, np.random.default_rng(0), ctx)
    assert found[0].graph is not None
    assert [(one.model, one.status) for one in ctx.calls()] == [("bad", "auth"), ("good", "ok")]
    assert [one.message for one in events if one.kind == "warned"] == [
        "the language model bad is lost and is not asked again: no key"]
    good.answers = [CallFailed("no key either", status="auth")]
    with pytest.raises(ModelError, match="good: no key either"):
        agent(Panel([bad, good])).ask(1, np.random.default_rng(0), ctx)


def test_calls_that_fail_in_a_row_count_by_model():
    """The one that always fails is lost after so many calls; the other's failures between do not count for it."""
    calls = [called(n, "ab"[n % 2], "timeout" if n % 2 else "ok") for n in range(2 * BREAKER)]
    credit = credits(["a", "b"], calls, [])
    assert (credit["a"].lost, credit["b"].lost) == (False, True)
    assert choose(credit) == "a"


def test_a_panel_says_what_it_is_made_of():
    """Its name has all names, opens from several specs, is priced when all are, and marks a mock among them."""
    panel = open_model(("mock:1", "mock:2:cost=1"))
    assert (panel.name, panel.priced, panel.offline) == ("mock:1 + mock:2:cost=1", True, True)
    assert not open_model(("mock:1", "openai:x"), base_url="http://localhost/v1").priced
    assert is_mock("openai:x + mock:1")
    assert is_mock("replay:runs/a of openai:x + mock:1")
    assert not is_mock("openai:x + openai:y")
    assert not is_mock(None)
    with pytest.raises(InputError, match="did you mean 'mock'"):
        open_model(("mock:1", "mok:2"))


def test_a_reply_brings_its_notices_and_its_note():
    """What was adapted on the way is a warning of the run and stands in the record of the call."""
    events, kept = [], []
    base = context(1)
    ctx = type(base)(**{**vars(base), "emit": events.append, "save": lambda one: kept.append(one) or "file"})

    class Noted(Scripted):
        def chat(self, *given):
            return Reply(text=json.dumps({"proposals": [wire(GRAPHS[2])]}), usage=Usage(attempts=1), finish="stop",
                         mode="tool", model="m", note="cut")

        def take_notices(self):
            return ("steps down",)

    agent(Noted()).ask(1, np.random.default_rng(0), ctx)
    assert [one.kind for one in events] == ["called", "warned"]
    assert (kept[0].notices, kept[0].note, kept[0].outcome().note) == (("steps down",), "cut", "cut")


class TestPanelContract(ChatModelSuite):
    """A panel keeps the contract of a chat model."""

    @pytest.fixture
    def model(self):
        """Gives a panel of two mocks."""
        return Panel([MockModel(1), MockModel(2)])
