"""A real HTTP server that speaks chat completions and misbehaves on demand.

Every fault that endpoints are known for is a function here. A server is given a script, one entry a request, and
filters, which answer whatever they match at any time; when both are silent it answers with the mock.

    with LlmServer(script=[rate_limited("2"), ok({"a": 1})]) as server:
        ...  # server.url, server.requests

The mock's dials are the server's too: a late reply is a connection that is cut after ``timeout`` seconds, the cost is
for the client's price table.

From a shell: ``python -m llmnas.testing.llm_server --port 8000 --fault refuses_json_schema --mock 0:invalid=.3``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final

from llmnas.llm.base import Message
from llmnas.llm.dials import Dials, read_mock
from llmnas.llm.mock import MockModel

MODEL: Final = "faulty"
SAMPLING: Final = ("temperature", "top_p", "seed", "max_tokens")


@dataclass(frozen=True)
class Request:
    """One request as it came; the names of headers in lower case."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def mode(self) -> str:
        """How JSON is asked for: json_schema_strict, json_schema, tool, json_object or prompted."""
        if "tools" in self.body:
            return "tool"
        asked = self.body.get("response_format") or {}
        strict = (asked.get("json_schema") or {}).get("strict")
        return "json_schema_strict" if strict else str(asked.get("type", "prompted"))


@dataclass(frozen=True)
class Answer:
    """One answer as it goes out. A `silent` one never does: after `hold_s` seconds the connection is cut."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False
    hold_s: float | None = None


Behaviour = Callable[[Request], Answer | None]


def completion(message: Mapping[str, Any], finish: str = "stop",
               usage: Mapping[str, Any] | None = None) -> Answer:
    """Returns a chat completion; `usage` None is sent as null."""
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": MODEL, "usage": usage,
            "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}]}
    return Answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})


def error(status: int, message: str, *, code: str | None = None, param: str | None = None,
          headers: Mapping[str, str] | None = None) -> Answer:
    """Returns an error in OpenAI's form."""
    body = {"error": {"message": message, "type": "error", "code": code, "param": param}}
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})


def tokens(prompt: int = 100, output: int = 20) -> dict[str, Any]:
    """Returns a usage block."""
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": 10}}


def _tool_message(text: str) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "answer", "arguments": text}}
    return {"content": None, "tool_calls": [call]}


def ok(value: Any) -> Behaviour:
    """Answers with `value` as JSON, through the tool when one is forced."""
    text = json.dumps(value)
    return lambda request: completion(_tool_message(text) if request.mode == "tool" else {"content": text},
                                      usage=tokens())


def content(text: str, finish: str = "stop", usage: Mapping[str, Any] | None = None) -> Behaviour:
    """Answers with `text` as it is; for prose, fences, cut JSON, empty content."""
    return lambda _: completion({"content": text}, finish, usage or tokens())


def truncated(value: Any) -> Behaviour:
    """Answers with the first half of `value` and finish reason length."""
    text = json.dumps(value)
    return content(text[:len(text) // 2], "length")


def empty() -> Behaviour:
    """Answers with empty content."""
    return lambda _: completion({"content": ""}, usage=tokens())


def tool_as_text(value: Any) -> Behaviour:
    """Writes the tool call into the content instead of making it."""
    call = json.dumps({"name": "answer", "arguments": value})
    return content(f"<tool_call>\n{call}\n</tool_call>")


def reasoning_only(value: Any) -> Behaviour:
    """Puts the answer into reasoning_content and leaves content null."""
    return lambda _: completion({"content": None, "reasoning_content": json.dumps(value)}, usage=tokens())


def no_usage(value: Any) -> Behaviour:
    """Answers without saying what it cost."""
    return lambda _: completion({"content": json.dumps(value)}, usage=None)


def rate_limited(retry_after: str, header: str = "Retry-After") -> Behaviour:
    """Answers 429 with a time to wait."""
    return lambda _: error(429, "slow down", code="rate_limit_exceeded", headers={header: retry_after})


def no_quota() -> Behaviour:
    """Answers 429 for good."""
    return lambda _: error(429, "You exceeded your current quota.", code="insufficient_quota")


def unauthorized() -> Behaviour:
    """Answers 401 and repeats the key, as some servers do."""
    return lambda request: error(401, f"Incorrect API key provided: {request.headers['authorization']}")


def unknown_model() -> Behaviour:
    """Answers 404."""
    return lambda request: error(404, f"The model {request.body.get('model')!r} does not exist",
                                 code="model_not_found")


def server_error(status: int = 500) -> Behaviour:
    """Answers with a server error."""
    return lambda _: error(status, "internal error")


def never_answers() -> Behaviour:
    """Takes the request and says nothing until the server is closed."""
    return lambda _: Answer(silent=True)


def huge(size: int = 10_000_000) -> Behaviour:
    """Answers with a body of `size` bytes."""
    return lambda _: Answer(200, b'{"choices": [' + b" " * size + b"]}", {"Content-Type": "application/json"})


def too_long() -> Behaviour:
    """Refuses the prompt for its length."""
    return lambda _: error(400, "This model's maximum context length is 4096 tokens.", code="context_length_exceeded")


def refuses_mode(*modes: str) -> Behaviour:
    """Answers 400 to the given modes; a filter."""
    return lambda request: error(400, "'response_format' of type json_schema is not supported, nor are tools",
                                 param="response_format") if request.mode in modes else None


def refuses_sampling(name: str = "temperature") -> Behaviour:
    """Answers 400 while a sampling parameter is sent; a filter."""
    return lambda request: error(400, f"Unsupported parameter: {name!r} is not supported with this model.",
                                 param=name) if any(key in request.body for key in SAMPLING) else None


FAULTS: Final[dict[str, Callable[[], Behaviour]]] = {
    "refuses_json_schema": lambda: refuses_mode("json_schema_strict", "json_schema"),
    "refuses_sampling": refuses_sampling, "unauthorized": unauthorized, "server_error": server_error,
    "never_answers": never_answers, "huge": huge, "empty": empty, "no_quota": no_quota,
    "prose": lambda: content("I would use a residual network."),
    "rate_limited": lambda: rate_limited("1")}


class LlmServer:
    """The server, on the loopback interface and a free port; a context manager.

    Args:
        script: Behaviours used up one a request.
        filters: Behaviours that are asked first, at every request.
        port: 0 for a free one.
        mock: The model that answers when script and filters have nothing to say.
    """

    def __init__(self, script: Sequence[Behaviour] = (), filters: Sequence[Behaviour] = (), *, port: int = 0,
                 mock: MockModel | None = None) -> None:
        self.requests: list[Request] = []
        self._script = list(script)
        self._filters = list(filters)
        self._mock = mock or MockModel()
        self._punctual = self._mock.punctual()
        self._late: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def modes(self) -> list[str]:
        """The structured-output mode of each chat request so far."""
        return [request.mode for request in self.requests]

    def __enter__(self) -> LlmServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request) -> Answer:
        """Returns the answer to a chat request, and remembers the request."""
        with self._lock:
            self.requests.append(request)
            for behave in self._filters:
                found = behave(request)
                if found is not None:
                    return found
            behaviour = self._script.pop(0) if self._script else self._by_mock
        return behaviour(request) or self._by_mock(request)

    def wait_for_close(self, seconds: float | None = None) -> None:
        """Waits until the server is closed, or for so long."""
        self._closing.wait(seconds)

    def _by_mock(self, request: Request) -> Answer:
        messages = [Message(role=m["role"], content=m["content"]) for m in request.body["messages"]]
        seed = request.body.get("seed", 0)
        question = json.dumps([request.body["messages"], seed])
        if self._mock.is_late(seed):  # once: whoever asks again is answered, or nobody could tell late from dead
            if question not in self._late:
                self._late.add(question)
                return Answer(silent=True, hold_s=self._mock.dials.timeout)
            reply = self._punctual.chat(messages, None, seed)
        else:
            reply = self._mock.chat(messages, None, seed)
        message = _tool_message(reply.text) if request.mode == "tool" else {"content": reply.text}
        cost = tokens(reply.usage.input_tokens or 0, reply.usage.output_tokens or 0)
        return completion(message, reply.finish or "stop", cost)


def _handler(server: LlmServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            models = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
            known = self.path.endswith("/v1/models")
            self._send(Answer(200, json.dumps(models).encode()) if known else error(404, "no such path"))

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if not self.path.endswith("/v1/chat/completions"):
                self._send(error(404, "no such path"))
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._send(server.answer(Request(self.path, headers, json.loads(raw))))

        def _send(self, answer: Answer) -> None:
            if answer.silent:
                server.wait_for_close(answer.hold_s)
                return
            with contextlib.suppress(ConnectionError):  # the client may have had enough
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Logs nothing."""

    return Handler


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until interrupted; the first line on stdout is the base URL."""
    parser = argparse.ArgumentParser(prog="python -m llmnas.testing.llm_server", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fault", action="append", default=[], choices=sorted(FAULTS))
    parser.add_argument("--mock", type=read_mock, default=(0, Dials()), metavar="SEED:DIAL=VALUE")
    chosen = parser.parse_args(argv)
    with LlmServer(filters=[FAULTS[name]() for name in chosen.fault], port=chosen.port,
                   mock=MockModel(*chosen.mock)) as server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            server.wait_for_close()


if __name__ == "__main__":
    main()
