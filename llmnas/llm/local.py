"""``local:FILE.gguf``: a llama.cpp server inside this process, on the loopback interface, asked like any endpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from llmnas.errors import InputError, MissingExtra, ModelError
from llmnas.llm.base import ChatModel, JsonSchema, Message, Reply
from llmnas.llm.openai_chat import OpenAIChat
from llmnas.llm.prices import Price
from llmnas.llm.retry import Clock, Sleep

CONTEXT: Final = 8192
MAX_TOKENS: Final = 2048  # a small model may not find an end by itself


class LocalModel(ChatModel):
    """A model file served from this process by the ``xllamacpp`` wheel, until `close`.

    Args:
        file: The weights, GGUF.
        structured: ``auto`` or a structured-output mode.
        temperature: None leaves it to the server.
        context: Context length in tokens, prompt and reply together.
        max_tokens: Longest reply in tokens.
        clock: Monotonic seconds.
        sleep: Waits between attempts.
    """

    offline = False
    instant = False
    priced = True

    def __init__(self, file: Path, *, structured: str = "auto", temperature: float | None = None,
                 context: int = CONTEXT, max_tokens: int = MAX_TOKENS,
                 clock: Clock = time.monotonic, sleep: Sleep = time.sleep) -> None:
        self.name = f"local:{file}"
        self.reason = ""
        self._server, address = _serve(file, context)
        free = {file.stem: Price(input=0.0, output=0.0)}  # it runs on the user's own machine
        self._chat = OpenAIChat(file.stem, base_url=f"{address}/v1", structured=structured, temperature=temperature,
                                max_tokens=max_tokens, prices=free, clock=clock, sleep=sleep)
        self.sampling = self._chat.sampling

    def chat(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int,
             deadline: float | None = None) -> Reply:
        """Returns the model's answer; see `ChatModel.chat`."""
        return self._chat.chat(messages, schema, seed, deadline)

    def take_notices(self) -> tuple[str, ...]:
        """Returns what was adapted since the last call."""
        return self._chat.take_notices()

    def close(self) -> None:
        """Stops the server and frees the weights."""
        self._chat.close()
        self._server = None


def _serve(file: Path, context: int) -> tuple[Any, str]:
    """Returns a running server and its address; the server stops when it is dropped."""
    if not file.is_file():
        raise InputError(f"expected a GGUF file, there is no {file}", "local:PATH/TO/MODEL.gguf")
    try:
        import xllamacpp
    except ImportError:
        raise MissingExtra("a local model file", "local") from None
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free port
    params.n_ctx = context
    params.n_parallel = 1
    params.verbosity = -1  # its log would end up between ours
    params.ui = False
    params.warmup = False
    try:
        server = xllamacpp.Server(params)
    except Exception as error:  # noqa: BLE001  # whatever the extension module raises
        raise ModelError(f"llama.cpp cannot load {file}: {error}", "is it a GGUF file of a supported model?") from None
    return server, str(server.listening_address)
