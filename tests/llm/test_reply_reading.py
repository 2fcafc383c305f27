"""One JSON object out of any text, or the exact reason why not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmnas.llm import cut_off, read_object, violations

GOOD = {"proposals": [{"rationale": "a } in a string", "nodes": []}]}
TEXT = json.dumps(GOOD)


@pytest.mark.parametrize("text", [
    TEXT, f"  {TEXT}\n", f"```json\n{TEXT}\n```", f"Here you are:\n```\n{TEXT}\n```\nGood luck!",
    f"Sure! {TEXT} Hope it helps.", f"<think>maybe {{\"a\": 1}}</think>{TEXT}",
    f"First {{\"a\": 1}}, then {TEXT}", f'<tool_call>{{"name": "answer", "arguments": {TEXT}}}</tool_call>',
    json.dumps({"name": "answer", "arguments": TEXT}), json.dumps({"name": "answer", "parameters": GOOD}),
    json.dumps({"tool_calls": [{"id": "1", "function": {"name": "answer", "arguments": TEXT}}]}),
    json.dumps(GOOD, indent=2).replace("\n", "\r\n")])
def test_finds_the_object(text):
    """Fences, prose, thinking and tool calls written as text are seen through."""
    assert read_object(text) == (GOOD, [])


@pytest.mark.parametrize(("text", "says"), [
    ("", "no JSON object"), ("I would use a residual network.", "no JSON object"), ("[1, 2]", "got an array"),
    ('{"a": 1, "a": 2}', "'a' appears twice"), ('{"a": NaN}', "NaN"), ('{"a": -Infinity}', "Infinity"),
    ('{"a": 1e999}', "too large"), ('{"a": [1, 2,]}', "not JSON at character"), ('{"a": "\\ud800"}', "surrogate"),
    ('{"a": ' + "9" * 5000 + "}", "digits"), ("[" * 100_000, "nested"), ('{"a":' * 100_000, "nested"),
    ("x" * 3_000_000, "3000000 characters")])
def test_says_why_not(text, says):
    """Each fault is named; nothing is repaired by guessing."""
    value, issues = read_object(text)
    assert value is None
    assert says in issues[0].says
    assert not cut_off(issues)


@pytest.mark.parametrize("text", [TEXT[:cut] for cut in range(1, len(TEXT))] + [f"```json\n{TEXT[:-3]}\n```"])
def test_a_cut_reply_is_told_apart(text):
    """A reply that ends early is recognised wherever it was cut, and no inner object is taken for the answer."""
    value, issues = read_object(text)
    assert value is None
    assert cut_off(issues)


@given(st.text())
def test_never_raises(text):
    """Any text gives an object or an issue."""
    value, issues = read_object(text)
    assert (value is None) == bool(issues)


@given(st.text(alphabet='{}[]",:\\`truefalsn0123456789eE+-. \n', max_size=200))
def test_never_raises_on_near_json(text):
    """Text made of JSON's own characters gives an object or an issue."""
    value, issues = read_object(text)
    assert (value is None) == bool(issues)


whole_text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(st.none() | st.booleans() | st.integers() | whole_text,
                           lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", max_size=3), inner),
                           max_leaves=10)


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=3), json_values))
def test_reads_back_what_was_written(value):
    """Whatever object was written is read."""
    assert read_object(json.dumps(value)) == (value, [])


SCHEMA = {"type": "object", "additionalProperties": False, "required": ["op", "k", "in"], "properties": {
    "op": {"type": "string", "enum": ["conv"]}, "k": {"type": ["integer", "null"], "enum": [1, 3, None]},
    "in": {"type": "array", "items": {"type": "string"}}}}


@pytest.mark.parametrize(("value", "at"), [
    ({"op": "conv", "k": 3, "in": ["a"]}, []), ({"op": "conv", "k": None, "in": []}, []),
    ({"op": "pool", "k": 3, "in": []}, ["r.op"]), ({"op": "conv", "k": True, "in": []}, ["r.k"]),
    ({"op": "conv", "in": [1, "a"]}, ["r.k", "r.in[0]"]), ({"op": "conv", "k": 1, "in": [], "x": 0}, ["r.x"]),
    ([], ["r"]), ({"op": "conv", "k": 2, "in": []}, ["r.k"])])
def test_schema_faults_have_places(value, at):
    """Each departure from the schema is reported at its place."""
    assert [issue.at for issue in violations(value, SCHEMA, "r")] == at


@given(json_values)
def test_violations_never_raise(value):
    """Any JSON value can be checked."""
    violations(value, SCHEMA)
