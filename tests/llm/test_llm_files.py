"""Models made of files: cassettes, replay, manual; and how a spec becomes a model."""

import json
import subprocess
import sys

import pytest
from llm_blocks import cell_block, prompt

from llmnas.errors import InputError, ModelError, RunError
from llmnas.llm import CallFailed, CallRecord, Message, OutOfTime, call_key, open_model, record
from llmnas.llm.manual import ManualModel
from llmnas.llm.mock import MockModel
from llmnas.llm.prices import usd, user_prices
from llmnas.llm.replay import ReplayModel
from llmnas.testing.chat_model import SCHEMA, ChatModelSuite, contract_messages
from llmnas.testing.llm_server import MODEL, LlmServer

ASK = [Message(role="user", content="Give a.")]
LATE = OutOfTime("too late")


def log_run(folder, *outcomes, ask=ASK, seed=0, role=""):
    """Writes calls with these outcomes and returns the folder."""
    for index, outcome in enumerate(outcomes, 1):
        record(f"c{index}", ask, None, seed, outcome, model="mock:0", role=role).write(
            folder / "calls" / f"{index:04d}.json")
    return folder


def reply(text):
    """Returns a reply with this text."""
    made = MockModel().chat(prompt(cell_block()), None, 0)
    return made.model_copy(update={"text": text})


def test_cassette_round_trip(tmp_path):
    """A record read back is the record written, for a reply and for a failure."""
    for outcome in (reply("ü"), CallFailed("no", status="server_error")):
        kept = record("7", ASK, {"type": "object"}, 3, outcome, model="m", role="propose", step=2, prompt="base@b2:1")
        kept.write(tmp_path / "calls" / "7.json")
        assert CallRecord.read(tmp_path / "calls" / "7.json") == kept
        assert [path.name for path in (tmp_path / "calls").iterdir()] == ["7.json"]


def test_damaged_cassette_names_the_file(tmp_path):
    """A file that is no record is an error with its path."""
    (tmp_path / "1.json").write_text('{"call": 1}')
    with pytest.raises(RunError, match=r"1\.json"):
        CallRecord.read(tmp_path / "1.json")


def test_key_depends_on_what_is_asked():
    """Model, messages, schema, sampling and seed change the key; the order of JSON keys does not."""
    key = call_key("m", ASK, {"a": 1, "b": 2}, {}, 0)
    assert key.startswith("c1:")
    assert key == call_key("m", ASK, {"b": 2, "a": 1}, {}, 0)
    others = [call_key("n", ASK, {"a": 1, "b": 2}, {}, 0), call_key("m", ASK, None, {}, 0),
              call_key("m", ASK, {"a": 1, "b": 2}, {"temperature": 1}, 0), call_key("m", ASK, {"a": 1, "b": 2}, {}, 1),
              call_key("m", [], {"a": 1, "b": 2}, {}, 0)]
    assert len({key, *others}) == 6


def test_replay_serves_in_order(tmp_path):
    """The same question gets its logged replies one after another, then a typed failure."""
    model = ReplayModel(log_run(tmp_path, reply("one"), reply("two")))
    assert [model.chat(ASK, None, 0).text for _ in range(2)] == ["one", "two"]
    with pytest.raises(CallFailed, match="no unused reply for this question q1:") as caught:
        model.chat(ASK, None, 0)
    assert (caught.value.status, caught.value.permanent) == ("missing_reply", True)


def test_replay_repeats_usage_and_failures(tmp_path):
    """A replay costs its decisions what the run was charged, and fails where the run failed."""
    wanted = reply("one")
    model = ReplayModel(log_run(tmp_path, wanted, CallFailed("down", status="server_error"), LATE))
    assert model.chat(ASK, None, 0) == wanted
    with pytest.raises(CallFailed, match="down"):
        model.chat(ASK, None, 0)
    with pytest.raises(OutOfTime):
        model.chat(ASK, None, 0)


def test_replay_with_other_messages(tmp_path):
    """Other messages of the same role and seed are answered with a notice, or refused when exactness is asked for."""
    log_run(tmp_path, reply("one"), ask=prompt(cell_block()), seed=4, role="propose")
    other = prompt(cell_block(count=9))
    with pytest.raises(CallFailed, match="propose question"):
        ReplayModel(tmp_path, exact=True).chat(other, None, 4)
    model = ReplayModel(tmp_path)
    assert model.chat(other, None, 4).text == "one"
    assert "other messages" in model.take_notices()[0]


def test_replay_of_nothing(tmp_path):
    """A folder without calls is refused when it is opened."""
    with pytest.raises(RunError, match="no logged model calls"):
        open_model(f"replay:{tmp_path}")


def test_manual_waits_for_a_whole_reply(tmp_path, fake_time):
    """Prompt and schema are files; a half-written reply is not taken."""
    steps = ['{"a"', '{"a": 1}']

    def sleep(seconds):
        fake_time.sleep(seconds)
        if steps:
            (tmp_path / "reply-0001.json").write_text(steps.pop(0))

    model = ManualModel(tmp_path, clock=fake_time.clock, sleep=sleep)
    reply = model.chat(prompt(cell_block()), SCHEMA, 0, deadline=fake_time.now + 60)
    assert (reply.text, reply.usage.usd, reply.usage.input_tokens) == ('{"a": 1}', None, None)
    assert "```json" in (tmp_path / "prompt-0001.md").read_text()
    assert "reply-0001.json" in (tmp_path / "prompt-0001.md").read_text()
    assert json.loads((tmp_path / "schema-0001.json").read_text()) == SCHEMA


def test_manual_takes_an_unchanging_reply_that_is_no_json(tmp_path, fake_time):
    """Text that stays as it is was meant so; judging it is for the caller."""
    def sleep(seconds):
        fake_time.sleep(seconds)
        (tmp_path / "reply-0001.json").write_text("no idea")

    model = ManualModel(tmp_path, clock=fake_time.clock, sleep=sleep)
    assert model.chat(ASK, None, 0).text == "no idea"


def test_manual_ends_at_the_deadline_and_counts_on(tmp_path, fake_time):
    """Nobody answers: OutOfTime exactly at the deadline; the next question gets the next number."""
    for number in (1, 2):
        model = ManualModel(tmp_path, clock=fake_time.clock, sleep=fake_time.sleep)
        deadline = fake_time.now + 3.2
        with pytest.raises(OutOfTime, match=f"reply-000{number}"):
            model.chat(ASK, None, number, deadline=deadline)
        assert fake_time.now == pytest.approx(deadline)


def test_auto_is_the_mock_and_says_so():
    """Without a configured endpoint auto is the mock, with the reason."""
    model = open_model("auto")
    assert (model.name, model.offline, model.instant) == ("mock:0", True, True)
    assert "no endpoint is configured" in model.reason


def test_auto_takes_the_configured_endpoint(monkeypatch):
    """With OPENAI_BASE_URL auto is that endpoint, with LLMNAS_MODEL or the first model listed."""
    with LlmServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        first = open_model("auto")
        assert (first.name, first.offline) == (f"openai:{MODEL}", False)
        assert "OPENAI_BASE_URL is set; first of the 1 models" in first.reason
        monkeypatch.setenv("LLMNAS_MODEL", "mine")
        assert open_model("auto").name == "openai:mine"


def test_auto_does_not_hide_a_dead_endpoint(monkeypatch, fake_time):
    """A configured endpoint that does not answer is an error, not a mock."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(ModelError, match="127"):
        open_model("auto", clock=fake_time.clock, sleep=fake_time.sleep)


@pytest.mark.parametrize(("spec", "says"), [
    ("openal:x", "did you mean 'openai'"), ("", "known"), ("openai:", "expected openai:NAME"), ("mock:x", "mock:SEED"),
    ("mock:1,invald=1", "did you mean 'invalid'"), ("mock:1,late=2", "from 0 to 1"),
    ("mock:1:delay=-1", "delay: expected a number of at least 0, got '-1'"), ("mock:1:late", "expected late=VALUE"),
    ("mock:1:late=1:late=0", "once"), ("mock:1:late=x", "late: expected a number from 0 to 1, got 'x'"),
    (("mock:1", "mock:1"), "named twice"), ("local:none.gguf", "none.gguf"),
    ("auto:x", "unknown language model")])
def test_wrong_specs(spec, says):
    """A spec that makes no sense says what was expected."""
    with pytest.raises(InputError, match=says):
        open_model(spec)


def test_openai_without_a_key():
    """OpenAI without a key is exit code 4 with the three ways out."""
    with pytest.raises(ModelError, match="--llm mock"):
        open_model("openai:gpt-x")


def test_price_tables(monkeypatch, tmp_path):
    """LLMNAS_PRICES is JSON or a file of it; a wrong one is an error; an unknown model has no price."""
    table = '{"m": {"input": 1, "output": 2}}'
    monkeypatch.setenv("LLMNAS_PRICES", table)
    counts = {"input_tokens": 1_000_000, "cached_tokens": 0, "output_tokens": 1_000_000}
    assert usd("m", "http://localhost/v1", user_prices(), **counts) == 3
    assert usd("other", "http://localhost/v1", user_prices(), **counts) is None
    (tmp_path / "prices.json").write_text(table)
    assert user_prices(str(tmp_path / "prices.json")) == user_prices()
    for wrong in ("{", "nowhere.json", '{"m": {"input": -1, "output": 0}}', '{"m": {}}'):
        with pytest.raises(InputError, match="LLMNAS_PRICES"):
            user_prices(wrong)


def test_import_is_light():
    """Importing the package and opening a client loads neither openai nor torch."""
    code = ("import sys, llmnas.llm as l, llmnas.prompts; l.open_model('openai:m', base_url='http://localhost/v1');"
            "print([m for m in ('openai', 'torch', 'httpx2') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestMockContract(ChatModelSuite):
    """The mock keeps the contract of a chat model."""

    @pytest.fixture
    def model(self):
        """Gives a mock."""
        return MockModel(3)


class TestReplayContract(ChatModelSuite):
    """The replay keeps the contract of a chat model."""

    @pytest.fixture
    def model(self, tmp_path):
        """Gives a replay of the suite's own questions."""
        for seed in (0, 3):
            for index in range(2):
                made = MockModel().chat(contract_messages(), SCHEMA, seed)
                record(f"{seed}-{index}", contract_messages(), SCHEMA, seed, made, model="mock:0").write(
                    tmp_path / "calls" / f"{seed}-{index}.json")
        return ReplayModel(tmp_path)


class TestManualContract(ChatModelSuite):
    """The manual model keeps the contract of a chat model."""

    @pytest.fixture
    def model(self, tmp_path, fake_time):
        """Gives a manual model that is answered at once."""
        def answer(_):
            for path in tmp_path.glob("prompt-*.md"):
                path.with_name(path.name.replace("prompt", "reply")).with_suffix(".json").write_text("{}")

        return ManualModel(tmp_path, sleep=answer)
