"""One request to an OpenAI-compatible endpoint. The only file that imports ``openai``, and only when first used.

Every way a request can fail becomes an `AttemptFailed`, in words that never hold the key.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from llmnas.errors import InputError
from llmnas.llm.base import Attempt, Status
from llmnas.llm.retry import AttemptFailed, Clock, retry_after, status_of
from llmnas.records import Usage

if TYPE_CHECKING:
    import httpx2
    import openai

MAX_REPLY_BYTES: Final = 5_000_000
MAX_REQUEST_S: Final = 600.0
NOT_BILLED: Final = Usage(attempts=1, input_tokens=0, cached_tokens=0, output_tokens=0, reasoning_tokens=0, usd=0.0)


class _TooLargeError(Exception):
    """A body longer than `MAX_REPLY_BYTES`."""


class Connection:
    """The connection to one endpoint, opened at the first request.

    Args:
        base_url: The endpoint; usually ends in ``/v1``.
        api_key: Sent to the endpoint and never written anywhere; None for servers that need none.
        http_client: An ``httpx2.Client`` to use instead of the SDK's own; closed with this object.
        clock: Monotonic seconds.
    """

    def __init__(self, base_url: str, api_key: str | None, http_client: httpx2.Client | None, clock: Clock) -> None:
        self.base_url = normal_url(base_url)
        self.place = public_url(self.base_url)
        self._key = api_key or "none"
        self._http_client = http_client
        self._clock = clock
        self._lock = threading.Lock()
        self._made: openai.OpenAI | None = None

    def __repr__(self) -> str:
        return f"Connection({self.place!r})"

    def complete(self, fields: dict[str, Any], mode: str, left_s: float) -> tuple[Attempt, str]:
        """Returns the attempt and the body of one chat completion."""
        return self._request(lambda timeout: self._client().chat.completions.with_raw_response.create(
            **fields, timeout=timeout), mode, left_s)

    def list_models(self, left_s: float) -> tuple[Attempt, str]:
        """Returns the attempt and the body of the list of models."""
        return self._request(lambda timeout: self._client().models.with_raw_response.list(timeout=timeout), "", left_s)

    def malformed(self, attempt: Attempt, error: str) -> AttemptFailed:
        """Returns the failure of a request whose answer makes no sense."""
        return AttemptFailed(attempt.model_copy(update={"status": "malformed", "error": self.safe(error)}),
                             f"is {self.place} the address of a chat-completions server?{self._v1_hint()}")

    def safe(self, text: str) -> str:
        """Returns a server's words on one line, short, and without the key."""
        plain = text if self._key == "none" else text.replace(self._key, "[key]")
        return " ".join(plain.replace(self.base_url, self.place).split())[:300]

    def close(self) -> None:
        """Closes the connection; safe to call twice."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()
        elif self._http_client is not None:
            self._http_client.close()

    def _v1_hint(self) -> str:
        return "" if "/v1" in self.base_url else f" did you mean {self.place}/v1?"

    def _request(self, call: Callable[[float], Any], mode: str, left_s: float) -> tuple[Attempt, str]:
        """Makes one request; every way it can fail becomes an `AttemptFailed` without the key."""
        import openai

        started = self._clock()
        failure: AttemptFailed | None = None
        try:
            response = call(max(min(left_s, MAX_REQUEST_S), 0.001)).http_response
        except openai.APIStatusError as error:
            failure = self._refused(error)
        except openai.APITimeoutError:
            failure = self._broken("timeout", f"{self.place} did not answer in time", "")
        except (openai.APIConnectionError, UnicodeError) as error:
            why = str(error.__cause__ or error)
            failure = self._broken("unreachable", f"cannot reach {self.place}: {self.safe(why)}",
                                   "is the server running, and the base URL right?")
        except _TooLargeError:
            failure = self._broken("too_large", f"the reply is larger than {MAX_REPLY_BYTES} bytes",
                                   "limit the reply length at the server", 200)
        seconds = self._clock() - started
        # Raised outside the handlers, so that no cause with the request headers hangs on to it.
        if failure is not None:
            cost = failure.attempt.usage.model_copy(update={"seconds": seconds})
            failure.attempt = failure.attempt.model_copy(update={"mode": mode, "usage": cost})
            raise failure
        return Attempt(status="ok", http=response.status_code, mode=mode,
                       usage=Usage(attempts=1, seconds=seconds)), response.text

    def _refused(self, error: openai.APIStatusError) -> AttemptFailed:
        body = error.body if isinstance(error.body, dict) else {}
        message = self.safe(str(body.get("message") or (json.dumps(body) if body else error.message)))
        status = status_of(error.status_code, str(body.get("code") or ""), message)
        if status == "bad_request" and _is_context(message, body.get("code")):
            status = "context"
        hints = {"auth": "check OPENAI_API_KEY", "quota": "the account has no quota left",
                 "not_found": f"check the model name and the base URL.{self._v1_hint()}",
                 "context": "use a model with a longer context, or raise it at the server (num_ctx in Ollama)"}
        attempt = Attempt(status=status, http=error.status_code, usage=NOT_BILLED,
                          error=f"{self.place} answered {error.status_code}: {message}")
        param = body.get("param")
        return AttemptFailed(attempt, hints.get(status, ""), retry_after_s=retry_after(error.response.headers),
                             param=param if isinstance(param, str) else None, said=message)

    def _broken(self, status: Status, message: str, hint: str, http: int | None = None) -> AttemptFailed:
        return AttemptFailed(Attempt(status=status, http=http, error=message), hint)

    def _client(self) -> openai.OpenAI:
        with self._lock:
            if self._made is None:
                self._made = _make_client(self.base_url, self._key, self._http_client)
            return self._made


def normal_url(url: str) -> str:
    """Returns a base URL with its scheme, without a trailing slash or the path of the chat endpoint."""
    plain = url.strip().rstrip("/").removesuffix("/chat/completions")
    plain = plain if "://" in plain else f"http://{plain}"
    parts = urlsplit(plain)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"expected a base URL like http://localhost:8000/v1, got {public_url(plain)!r}")
    return plain


def public_url(url: str) -> str:
    """Returns a URL without user, password and query, fit for logs and files."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _is_context(message: str, code: Any) -> bool:
    words = ("context length", "context window", "context size", "maximum context")
    return code == "context_length_exceeded" or any(word in message.lower() for word in words)


def _make_client(base_url: str, key: str, http_client: httpx2.Client | None) -> openai.OpenAI:
    import httpx2
    import openai

    class Bounded(httpx2.SyncByteStream):
        """A body that ends at a size and a time; the SDK's timeout counts from the last byte."""

        def __init__(self, inner: Any, seconds: float | None, request: httpx2.Request) -> None:
            self._inner, self._request = inner, request
            self._until = None if seconds is None else time.monotonic() + seconds

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for chunk in self._inner:
                size += len(chunk)
                if size > MAX_REPLY_BYTES:
                    raise _TooLargeError
                if self._until is not None and time.monotonic() > self._until:
                    raise httpx2.ReadTimeout("the reply took too long", request=self._request)
                yield chunk

        def close(self) -> None:
            self._inner.close()

    def bound(response: httpx2.Response) -> None:
        seconds = response.request.extensions.get("timeout", {}).get("read")
        response.stream = Bounded(response.stream, seconds, response.request)

    inner = http_client or openai.DefaultHttpxClient()
    inner.event_hooks = {**inner.event_hooks, "response": [*inner.event_hooks.get("response", []), bound]}
    return openai.OpenAI(api_key=key, base_url=base_url, max_retries=0, http_client=inner,
                         default_headers={"Accept-Encoding": "identity"})
