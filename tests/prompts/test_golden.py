"""What a model sees, letter by letter: rendered prompts against files. ``LLMNAS_GOLDEN=write`` rewrites the files."""

import json
import os
from pathlib import Path

import pytest
from prompt_context import bare, context

from llmnas.agent.disguise import disguise_of
from llmnas.llm import read_block
from llmnas.llm.mock import MockModel
from llmnas.prompts import ROLES, load_prompt
from llmnas.space import load_space

GOLDEN = Path(__file__).parent / "golden"
HIDDEN = disguise_of(load_space("nb201"), 0)
CASES = {f"{name}-{role}": (name, context(role), role) for name in ("base", "terse") for role in ROLES}
CASES["base-propose-first"] = ("base", bare("propose"), "propose")
CASES |= {f"no_reflection-{role}": ("no_reflection", {**bare(role), "block": bare(role)["block"] | {"rules": []}}, role)
          for role in ("propose", "repair")}
CASES |= {f"anonymous-{role}": ("anonymous", HIDDEN.context(context(role, facts=[])), role) for role in ROLES}


@pytest.mark.parametrize("case", CASES)
def test_the_whole_text(case):
    """Each template renders to the golden text, system message included."""
    name, given, role = CASES[case]
    messages = load_prompt(name).render(role, given)
    text = "".join(f"=== {message.role}\n{message.content}" for message in messages)
    path = GOLDEN / f"{case}.md"
    if os.environ.get("LLMNAS_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_the_block_arrives(case):
    """The block is read back from the message as it was given, and the mock can answer it."""
    name, given, role = CASES[case]
    messages = load_prompt(name).render(role, given)
    assert read_block(messages) == given["block"]
    answer = json.loads(MockModel().chat(messages, None, 0).text)
    assert list(answer) == (["rules"] if role == "reflect" else ["proposals"])


@pytest.mark.parametrize("name", ["base", "terse"])
def test_a_dag_renders(name):
    """The templates know open graphs too."""
    given = bare("propose")
    given["block"] = {key: value for key, value in given["block"].items() if key not in ("slots", "fixed", "output")}
    given["block"] |= {"topology": "dag", "min_nodes": 3, "max_nodes": 24,
                       "ops": {"conv": {"inputs": [1, 1], "attributes": {"channels": [8, 16]}}}}
    user = load_prompt(name).render("propose", given)[1].content
    assert name == "terse" or "3 to 24 nodes without a cycle" in user
