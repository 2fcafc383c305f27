"""``--llm manual``: whole searches led by another process that reads prompts and writes replies."""

import json
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest

from llmnas.llm import Message
from llmnas.llm.mock import MockModel
from llmnas.store import read_run


def answer_all(folder, process, limit_s):
    """Answers every prompt by the mock until the process ends; returns how many there were."""
    answered, pause, end = set(), Event(), time.monotonic() + limit_s
    while process.poll() is None and time.monotonic() < end:
        for prompt in set(folder.glob("prompt-*.md")) - answered:
            asked = [Message(role="user", content=prompt.read_text())]
            text = MockModel(1).chat(asked, None, int(prompt.stem[-4:])).text
            fresh = folder / "answer.part"
            fresh.write_text(text)
            fresh.replace(folder / f"reply-{prompt.stem[-4:]}.json")
            answered.add(prompt)
        pause.wait(0.02)
    process.kill()
    return len(answered)


def start(*arguments, cwd):
    """Starts a command."""
    return subprocess.Popen([sys.executable, "-m", "llmnas", *arguments], cwd=cwd, stdin=subprocess.DEVNULL, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_search_is_led_by_another_process(tmp_path):
    """Every call of the search is a file, and so is its answer."""
    process = start("bench", "search", "--bench", "conv1d", "--strategy", "agent", "--llm", "manual:asked", "--evals",
                    "4", "--seeds", "1", "--workers", "1", "--json", cwd=tmp_path)
    count = answer_all(tmp_path / "asked", process, 60)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    (row,) = json.loads(said)["rows"]
    assert (row["model"], row["mock"], row["calls"], row["charged"]) == ("manual:asked", False, count, 4)
    assert row["input_tokens"] is None


@pytest.mark.slow
def test_a_run_is_led_by_another_process_and_survives_a_kill(tmp_path):
    """A whole run with trainings; killed with a question open, it goes on with the same number."""
    process = start("run", "--llm", "manual", "--budget", "60s", "--max-evals", "3", "--out", "run", "--target",
                    "gpu:t4", cwd=tmp_path)
    folder, pause, end = tmp_path / "run" / "manual", Event(), time.monotonic() + 60
    while not list(folder.glob("prompt-*.md")) and time.monotonic() < end and process.poll() is None:
        pause.wait(0.05)
    process.kill()
    process.communicate()
    assert [path.name for path in folder.glob("prompt-*.md")] == ["prompt-0001.md"]
    process = start("resume", "run", cwd=tmp_path)
    count = answer_all(folder, process, 90)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    state = read_run(Path(tmp_path / "run"))
    assert state.spent.calls == count == len(list(folder.glob("prompt-*.md")))
    assert state.trained()
