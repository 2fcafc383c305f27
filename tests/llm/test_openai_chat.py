"""Every fault of an endpoint ends as documented: the real client against a real server, request counts exact."""

import json
import subprocess
import sys
import time

import httpx2
import pytest

from llmnas.errors import InputError, LlmnasError
from llmnas.llm import CallFailed, Message, OutOfTime, record
from llmnas.llm.modes import MODES, ModeMemory
from llmnas.llm.openai_chat import OpenAIChat
from llmnas.llm.prices import Price
from llmnas.llm.retry import retry_after
from llmnas.testing import llm_server as faults
from llmnas.testing.chat_model import ChatModelSuite
from llmnas.testing.llm_server import LlmServer

KEY = "sk-test-0123456789abcdef"
ASK = [Message(role="system", content="JSON."), Message(role="user", content="Give a.")]
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["a"],
          "properties": {"a": {"type": "integer", "enum": [1, 2]}}}
GOOD = {"a": 1}


@pytest.fixture
def serve(fake_time):
    """Gives a function that starts a server and a client of it; both are closed afterwards."""
    opened = []

    def start(*script, filters=(), clock=None, **options):
        server = LlmServer(list(script), list(filters))
        server.__enter__()
        model = OpenAIChat("faulty", base_url=options.pop("base_url", server.url), api_key=KEY,
                           clock=clock or fake_time.clock, sleep=fake_time.sleep, **options)
        opened.append((server, model))
        return server, model

    yield start
    for server, model in opened:
        model.close()
        server.__exit__(None, None, None)


def test_good_reply(serve):
    """One request, the strongest mode, the seed sent, usage read, the key in the header and nowhere else."""
    server, model = serve(faults.ok(GOOD), temperature=0.7)
    reply = model.chat(ASK, SCHEMA, seed=5)
    assert json.loads(reply.text) == GOOD
    assert (reply.mode, reply.finish, reply.model) == ("json_schema_strict", "stop", "faulty")
    assert (reply.usage.attempts, reply.usage.input_tokens, reply.usage.cached_tokens) == (1, 100, 10)
    assert reply.usage.output_tokens == 20
    assert reply.usage.usd is None
    [request] = server.requests
    assert (request.body["seed"], request.body["temperature"]) == (5, 0.7)
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(request.body)
    assert model.take_notices() == ()


def test_free_text_asks_for_no_mode(serve):
    """Without a schema nothing is asked of the format."""
    server, model = serve(faults.content("Hello."))
    reply = model.chat(ASK, None, seed=0)
    assert (reply.text, reply.mode) == ("Hello.", "text")
    assert "response_format" not in server.requests[0].body


@pytest.mark.parametrize(("header", "value", "seconds"), [
    ("Retry-After", "7", 7.0), ("retry-after-ms", "1500", 1.5), ("Retry-After", "9999", 120.0)])
def test_rate_limit_waits_as_told(serve, fake_time, header, value, seconds):
    """429 waits what Retry-After says, at most 120 s, then asks once more; the wait is metered."""
    server, model = serve(faults.rate_limited(value, header), faults.ok(GOOD))
    reply = model.chat(ASK, SCHEMA, seed=0)
    assert fake_time.slept == [seconds]
    assert len(server.requests) == 2
    assert [attempt.status for attempt in reply.attempts] == ["rate_limited", "ok"]
    assert (reply.usage.attempts, reply.usage.wait_s, reply.usage.input_tokens) == (2, seconds, 100)


def test_rate_limit_past_the_deadline(serve, fake_time):
    """A wait that would reach the deadline is not begun: one request, no sleep, OutOfTime."""
    server, model = serve(faults.rate_limited("60"))
    with pytest.raises(OutOfTime) as caught:
        model.chat(ASK, SCHEMA, seed=0, deadline=fake_time.now + 30)
    assert (len(server.requests), fake_time.slept, caught.value.usage.attempts) == (1, [], 1)


def test_server_errors_stop_at_six(serve, fake_time):
    """Six requests in all for a server that always fails, with growing waits of at most 30 s."""
    server, model = serve(filters=[faults.server_error(503)])
    with pytest.raises(CallFailed) as caught:
        model.chat(ASK, SCHEMA, seed=0)
    assert len(server.requests) == 6
    assert caught.value.status == "server_error"
    assert not caught.value.permanent
    assert caught.value.usage.attempts == 6
    assert len(fake_time.slept) == 5
    assert all(wait <= 31 for wait in fake_time.slept)


@pytest.mark.parametrize(("fault", "status", "hint"), [
    (faults.unauthorized, "auth", "OPENAI_API_KEY"), (faults.no_quota, "quota", "quota"),
    (faults.unknown_model, "not_found", "model name"), (faults.too_long, "context", "num_ctx"),
    (faults.huge, "too_large", "reply length")], ids=["401", "quota", "404", "context", "huge"])
def test_refusals_are_not_repeated(serve, fake_time, fault, status, hint):
    """401, 404, exhausted quota, a too long prompt and a too large reply: one request, a hint, exit code 4."""
    server, model = serve(fault(), fault())
    with pytest.raises(CallFailed) as caught:
        model.chat(ASK, SCHEMA, seed=0)
    assert (len(server.requests), fake_time.slept) == (1, [])
    assert (caught.value.status, caught.value.exit_code, len(caught.value.attempts)) == (status, 4, 1)
    assert hint in caught.value.hint
    assert caught.value.permanent == (status in ("auth", "quota", "not_found"))


def test_an_unanswered_request_ends_at_the_deadline(serve):
    """A server that never answers costs one request and no more than the time left."""
    server, model = serve(faults.never_answers(), clock=time.monotonic)
    started = time.monotonic()
    with pytest.raises(OutOfTime) as caught:
        model.chat(ASK, SCHEMA, seed=0, deadline=started + 0.3)
    assert time.monotonic() - started < 2
    assert len(server.requests) == 1
    assert caught.value.attempts[0].status == "timeout"
    assert caught.value.usage.input_tokens is None


def test_no_server_at_all(fake_time):
    """A refused connection is tried six times and says where it went."""
    model = OpenAIChat("m", base_url="http://127.0.0.1:9/v1", clock=fake_time.clock, sleep=fake_time.sleep)
    with pytest.raises(CallFailed, match=r"127\.0\.0\.1:9") as caught:
        model.chat(ASK, SCHEMA, seed=0)
    model.close()
    assert (caught.value.status, len(caught.value.attempts)) == ("unreachable", 6)


@pytest.mark.parametrize(("refused", "left"), [(MODES[:1], MODES[1]), (MODES[:2], MODES[2]), (MODES[:3], MODES[3]),
                                               (MODES[:4], MODES[4])], ids=MODES[1:])
def test_refused_modes_are_stepped_down(serve, refused, left):
    """Each mode is tried once, in order; the next call starts at the one that works; notices say so."""
    server, model = serve(faults.ok(GOOD), faults.ok(GOOD), filters=[faults.refuses_mode(*refused)])
    reply = model.chat(ASK, SCHEMA, seed=0)
    assert (reply.mode, json.loads(reply.text)) == (left, GOOD)
    assert server.modes == [*refused, left]
    assert len(model.take_notices()) == len(refused)
    assert model.take_notices() == ()
    model.chat(ASK, SCHEMA, seed=1)
    assert server.modes[len(refused) + 1:] == [left]
    assert refused[-1] in model.habit.reason


def test_modes_without_enforcement_get_the_schema_as_text(serve):
    """In json_object and prompted mode the schema stands behind the last message."""
    server, model = serve(faults.ok(GOOD), structured="prompted")
    model.chat(ASK, SCHEMA, seed=0)
    assert [m["role"] for m in server.requests[0].body["messages"]] == ["system", "user"]
    assert '"enum":[1,2]' in server.requests[0].body["messages"][-1]["content"]


def test_empty_content_steps_down_at_once(serve):
    """Empty content is asked again in the next mode."""
    server, model = serve(faults.empty(), faults.ok(GOOD))
    assert model.chat(ASK, SCHEMA, seed=0).mode == "json_schema"
    assert server.modes == ["json_schema_strict", "json_schema"]


def test_empty_in_every_mode(serve):
    """When every mode brings empty content the call fails, with every request charged."""
    server, model = serve(filters=[faults.empty()])
    with pytest.raises(CallFailed) as caught:
        model.chat(ASK, SCHEMA, seed=0)
    assert (caught.value.status, server.modes) == ("empty", list(MODES))
    assert caught.value.usage.input_tokens == 500


@pytest.mark.parametrize("bad", [faults.content("I would use a residual network."), faults.ok({"a": 3})],
                         ids=["prose", "illegal value"])
def test_two_replies_outside_the_schema_step_down(serve, bad):
    """One bad reply is handed on; two in a row mean the mode is not honoured."""
    server, model = serve(bad, faults.ok(GOOD), bad, bad, faults.ok(GOOD))
    modes = [model.chat(ASK, SCHEMA, seed=seed).mode for seed in range(5)]
    assert modes == ["json_schema_strict"] * 4 + ["json_schema"]
    assert len(server.requests) == 5
    assert "two replies in a row" in model.take_notices()[0]


def test_a_pinned_mode_stays(serve):
    """A pinned mode is not left, whatever happens."""
    server, model = serve(filters=[faults.refuses_mode("json_object")], structured="json_object")
    with pytest.raises(CallFailed) as caught:
        model.chat(ASK, SCHEMA, seed=0)
    assert (caught.value.status, server.modes) == ("bad_request", ["json_object"])


def test_sampling_parameters_are_stripped_together(serve):
    """A refused temperature costs one request, once; seed and max_tokens go with it; the mode stays."""
    server, model = serve(faults.ok(GOOD), faults.ok(GOOD), filters=[faults.refuses_sampling()], temperature=1.0,
                          max_tokens=50)
    assert model.chat(ASK, SCHEMA, seed=1).mode == "json_schema_strict"
    model.chat(ASK, SCHEMA, seed=2)
    sent = [sorted({"temperature", "seed", "max_tokens"} & set(request.body)) for request in server.requests]
    assert sent == [["max_tokens", "seed", "temperature"], [], []]
    assert len(model.take_notices()) == 1


def test_any_other_bad_request_fails(serve):
    """A 400 that names neither a mode nor sampling is not tried again."""
    server, model = serve(lambda _: faults.error(400, "messages must alternate", param="messages"))
    with pytest.raises(CallFailed, match="must alternate"):
        model.chat(ASK, SCHEMA, seed=0)
    assert len(server.requests) == 1


def test_truncation_is_reported(serve):
    """A cut reply keeps its finish reason and does not count against the mode."""
    _, model = serve(faults.truncated(GOOD), faults.truncated(GOOD), faults.content("", "length"))
    replies = [model.chat(ASK, SCHEMA, seed=seed) for seed in range(3)]
    assert [(reply.finish, reply.cut, reply.mode) for reply in replies] == [("length", True, MODES[0])] * 3
    assert replies[2].text == ""


@pytest.mark.parametrize("usage", [faults.tokens(4000, 96), faults.tokens(4096, 7)], ids=["sum", "prompt"])
def test_context_cut_is_named(serve, usage):
    """Tokens that land on a context length mean that prompt or reply was cut there."""
    _, model = serve(faults.content("{", "stop", usage))
    reply = model.chat(ASK, SCHEMA, seed=0)
    assert (reply.finish, reply.cut) == ("context", True)
    assert "context cut at 4096 tokens" in reply.note
    assert "num_ctx" in model.take_notices()[0]


@pytest.mark.parametrize("answer", [faults.tool_as_text(GOOD), faults.reasoning_only(GOOD),
                                    faults.content(f"```json\n{json.dumps(GOOD)}\n```")],
                         ids=["tool call as text", "reasoning", "fence"])
def test_answers_in_odd_places_are_found(serve, answer):
    """A tool call as text, reasoning content and a fence are answers too: one request, no step down."""
    from llmnas.llm import read_object
    server, model = serve(answer, answer)
    replies = [model.chat(ASK, SCHEMA, seed=seed) for seed in range(2)]
    assert [read_object(reply.text)[0] for reply in replies] == [GOOD, GOOD]
    assert server.modes == ["json_schema_strict"] * 2


def test_unknown_usage_is_none(serve):
    """A server that does not count leaves tokens and money unknown, priced or not."""
    _, model = serve(faults.no_usage(GOOD), prices={"faulty": Price(input=1, output=1)})
    usage = model.chat(ASK, SCHEMA, seed=0).usage
    assert (usage.attempts, usage.input_tokens, usage.output_tokens, usage.usd) == (1, None, None, None)


def test_user_prices(serve):
    """A price table gives dollars, cached tokens at their own price."""
    _, model = serve(faults.ok(GOOD), prices={"faulty": Price(input=2, output=10, cached=1)})
    assert model.priced
    assert model.chat(ASK, SCHEMA, seed=0).usage.usd == pytest.approx((90 * 2 + 10 * 1 + 20 * 10) / 1e6)


@pytest.mark.parametrize("body", [b"<html>proxy</html>", b'{"error": {"message": "overloaded"}}', b"[]", b""])
def test_a_200_that_is_no_completion(serve, body):
    """A 200 without choices is a failure of its own, not tried again."""
    server, model = serve(lambda _: faults.Answer(200, body))
    with pytest.raises(CallFailed) as caught:
        model.chat(ASK, SCHEMA, seed=0)
    assert (caught.value.status, len(server.requests)) == ("malformed", 1)


def test_missing_v1_is_suggested(serve):
    """A base URL without /v1 is not guessed at but hinted at."""
    server, model = serve()
    wrong = OpenAIChat("faulty", base_url=server.url.removesuffix("/v1"))
    with pytest.raises(CallFailed, match="did you mean http://127") as caught:
        wrong.chat(ASK, SCHEMA, seed=0)
    wrong.close()
    assert caught.value.status == "not_found"
    assert model.models() == (faults.MODEL,)


@pytest.mark.parametrize("fault", [faults.unauthorized(), faults.server_error(), faults.huge(), faults.no_quota()],
                         ids=["auth", "500", "huge", "quota"])
def test_the_key_is_nowhere(serve, fault, caplog, tmp_path):
    """Neither error, repr, log, chained exception nor cassette holds the key, even when the server repeats it."""
    caplog.set_level("DEBUG")
    _, model = serve(filters=[fault])
    with pytest.raises(CallFailed) as caught:
        model.chat(ASK, SCHEMA, seed=0)
    record("1", ASK, SCHEMA, 0, caught.value, model=model.name).write(tmp_path / "1.json")
    told = [str(caught.value), repr(caught.value), repr(caught.value.attempts), repr(model), caplog.text,
            (tmp_path / "1.json").read_text(), repr(model.take_notices())]
    assert all(KEY not in text for text in told)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_memory_outlives_the_process(serve, tmp_path):
    """What was learnt of an endpoint is read from the file, without user and password of its address."""
    file = tmp_path / "endpoints.json"
    server, model = serve(faults.ok(GOOD), faults.ok(GOOD), filters=[faults.refuses_mode("json_schema_strict")],
                          memory=ModeMemory(file))
    model.chat(ASK, SCHEMA, seed=0)
    again = OpenAIChat("faulty", base_url=server.url.replace("http://", "http://me:secret@"), memory=ModeMemory(file))
    assert again.habit.mode == "json_schema"
    assert "secret" not in file.read_text() + repr(again)
    file.write_text('{"x": 1}')
    with pytest.raises(InputError, match="delete it"):
        ModeMemory(file)


def test_the_callers_http_client_is_used(fake_time):
    """A given httpx2 client carries the requests, so that tests need no server."""
    seen = []

    def handler(request):
        seen.append(request.url.path)
        answer = faults.completion({"content": json.dumps(GOOD)}, usage=faults.tokens())
        return httpx2.Response(answer.status, content=answer.body)

    client = httpx2.Client(transport=httpx2.MockTransport(handler))
    model = OpenAIChat("m", base_url="localhost:1/v1/", http_client=client, clock=fake_time.clock)
    assert json.loads(model.chat(ASK, SCHEMA, seed=0).text) == GOOD
    model.close()
    assert (seen, client.is_closed) == (["/v1/chat/completions"], True)


@pytest.mark.parametrize(("headers", "seconds"), [
    ({}, None), ({"retry-after": "2.5"}, 2.5), ({"retry-after": "-3"}, 0.0), ({"retry-after": "soon"}, None),
    ({"retry-after-ms": "250", "retry-after": "9"}, 0.25), ({"retry-after": "nan"}, None),
    ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90.0)], ids=str)
def test_retry_after_forms(headers, seconds):
    """Seconds, milliseconds and dates are understood; nonsense is ignored."""
    assert retry_after(headers, now=lambda: 10.0) == seconds


def test_the_server_runs_by_itself():
    """The faulty server can be started from a shell; its first line is its address."""
    command = [sys.executable, "-m", "llmnas.testing.llm_server", "--fault", "unauthorized"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        model = OpenAIChat("faulty", base_url=process.stdout.readline().strip(), api_key=KEY)
        with pytest.raises(CallFailed, match="401"):
            model.chat(ASK, SCHEMA, seed=0)
        model.close()
        process.terminate()


def test_bad_settings_are_refused():
    """A base URL or a mode that makes no sense is an error of the user."""
    with pytest.raises(InputError, match="expected a base URL"):
        OpenAIChat("m", base_url="ftp://x")
    with pytest.raises(LlmnasError, match="json_schema"):
        OpenAIChat("m", structured="json_shema")


class TestContract(ChatModelSuite):
    """The client keeps the contract of a chat model."""

    @pytest.fixture
    def model(self):
        """Gives a client of a server that answers like the mock."""
        with LlmServer() as server:
            made = OpenAIChat("faulty", base_url=server.url, api_key=KEY)
            yield made
            made.close()
