"""Prompt folders: names, identity, differences, and errors that name file and line."""

import shutil

import pytest
from prompt_context import context

from llmnas.errors import InputError
from llmnas.prompts import PromptSet, difference, list_prompts, load_prompt, token_estimate


@pytest.fixture
def mine(tmp_path):
    """Gives a copy of the terse prompt to spoil."""
    folder = tmp_path / "mine"
    shutil.copytree(load_prompt("terse").folder, folder)
    return folder


def test_the_prompts_that_ship():
    """Base and terse are found by name and say what they are."""
    known = {prompt.name: prompt for prompt in list_prompts()}
    assert {"base", "terse"} <= set(known)
    assert all(prompt.about.description for prompt in known.values())
    assert known["base"].id.startswith("base@b2:")
    assert len(known["base"].id) == len("base@b2:") + 12


def test_identity_follows_what_a_model_sees(mine):
    """The hash changes with a template and with what is shown or hidden, and with nothing else."""
    before, settings = load_prompt(mine).id.partition("@")[2], (mine / "prompt.toml").read_text()
    assert before == load_prompt("terse").id.partition("@")[2]
    (mine / "prompt.toml").write_text(settings.replace("One instruction", "Other").replace("ion = 2", "ion = 9"))
    assert load_prompt(mine).id.partition("@")[2] == before
    for other in ('hides = ["ops"]', "reflects = false"):
        (mine / "prompt.toml").write_text(f"{other}\n{settings}")
        assert load_prompt(mine).id.partition("@")[2] != before
    (mine / "prompt.toml").write_text(settings.replace("facts = false", "facts = true"))
    assert load_prompt(mine).id.partition("@")[2] != before
    (mine / "prompt.toml").write_text(settings)
    (mine / "system.j2").write_text("Answer with JSON.\n")
    assert PromptSet(mine).id.partition("@")[2] != before


def test_undefined_variable_names_file_and_line(mine):
    """A variable nobody gives is an error with file, line and name."""
    (mine / "propose.j2").write_text("one\n{% if count %}\n{{ nonsense }}\n{% endif %}\n")
    with pytest.raises(InputError, match=r"propose\.j2, line 3: 'nonsense' is undefined.*known variables: block"):
        load_prompt(mine).render("propose", context("propose"))


@pytest.mark.parametrize(("text", "says"), [
    ("{% if %}", "line 1"), ("\n{{ 1 / 0 }}", "line 2: division"), ("{{ ().__class__.__mro__ }}", "unsafe"),
    ("no block", "expected one fenced json block, got 0"), ("```json\n1\n```\n" * 2, "got 2"),
    ("{{ block.nothing.at_all }}", "no attribute 'nothing'")])
def test_faulty_templates(mine, text, says):
    """A template that cannot be used says so; the sandbox holds."""
    (mine / "propose.j2").write_text(text)
    with pytest.raises(InputError, match=says):
        load_prompt(mine).render("propose", context("propose"))


def test_faulty_folders(mine):
    """A missing template, an unknown key, an unknown name: each is told with what is known."""
    settings = (mine / "prompt.toml").read_text()
    for text, says in (('descripton = "x"\n', "descript"), (settings + "exmplars = 1\n", "mean 'exemplars'"),
                       (settings + "exemplars = 40\n", "shows.exemplars: .*less than"),
                       (settings + "exemplars = \"x", "prompt.toml"), ('hides = ["op"]\n' + settings, "hides.0"),
                       ('extends = "bas"\n' + settings, "did you mean 'base'"),
                       ('extends = "."\n' + settings, "in a circle")):
        (mine / "prompt.toml").write_text(text)
        with pytest.raises(InputError, match=says):
            load_prompt(mine)
    (mine / "prompt.toml").write_text(settings)
    (mine / "repair.j2").unlink()
    with pytest.raises(InputError, match=r"missing repair\.j2"):
        load_prompt(mine)
    with pytest.raises(InputError, match="did you mean 'base'"):
        load_prompt("bas")


def test_difference(mine):
    """Two prompts with the same templates do not differ; others differ in a unified diff."""
    assert difference(load_prompt("terse"), load_prompt(mine)) == ""
    text = difference(load_prompt("base"), load_prompt("terse"))
    assert text.startswith("--- base/prompt.toml\n+++ terse/prompt.toml\n")
    assert "--- base/system.j2\n+++ terse/system.j2\n" in text
    varied = difference(load_prompt("base"), load_prompt("base:facts=no"))
    assert [line for line in varied.splitlines() if line[0] in "+-"][2:] == ["-facts = true", "+facts = false"]


def test_token_estimate():
    """The estimate is a quarter of the characters."""
    messages = load_prompt("terse").render("propose", context("propose"))
    assert token_estimate(messages) == sum(len(message.content) for message in messages) // 4
