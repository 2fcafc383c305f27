"""Language models behind one protocol: `open_model` gives a `ChatModel`, `ChatModel.chat` a `Reply`."""

from llmnas.llm.base import Attempt, CallFailed, ChatModel, JsonSchema, Message, OutOfTime, Reply, Status, total
from llmnas.llm.block import read_block
from llmnas.llm.cassette import CallRecord, call_key, record
from llmnas.llm.modes import MODES, Mode
from llmnas.llm.opening import SPECS, Specs, open_model
from llmnas.llm.panel import Panel, members_of
from llmnas.llm.reading import cut_off, read_object
from llmnas.llm.schema import violations

__all__ = ["MODES", "SPECS", "Attempt", "CallFailed", "CallRecord", "ChatModel", "JsonSchema", "Message", "Mode",
           "OutOfTime", "Panel", "Reply", "Specs", "Status", "call_key", "cut_off", "members_of", "open_model",
           "read_block", "read_object", "record", "total", "violations"]
