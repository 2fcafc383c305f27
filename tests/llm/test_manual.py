"""Prompts and replies as files: numbers that stay, several open at once, a terminal to paste into."""

import io
import threading
import time

import pytest
from llm_blocks import cell_block, prompt

from llmnas.llm import Message, OutOfTime
from llmnas.llm.manual import ManualModel
from llmnas.llm.terminal import Terminal

ASK = [Message(role="user", content="Give a.")]


def pause(seconds):
    """Lets other threads run."""
    threading.Event().wait(0.001)


def names(folder):
    """Returns the files of a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_run_finds_its_question_and_the_answer(tmp_path, fake_time):
    """What was open when a process died keeps its number; an answer written meanwhile is taken at once."""
    for _ in range(2):  # the second process asks again and writes nothing new
        with pytest.raises(OutOfTime):
            ManualModel(tmp_path, clock=fake_time.clock, sleep=fake_time.sleep).chat(ASK, {}, 7, fake_time.now + 1)
        assert names(tmp_path) == ["prompt-0001.md", "schema-0001.json"]
    (tmp_path / "reply-0001.json").write_text('{"late": "but there"}')
    before = list(fake_time.slept)
    model = ManualModel(tmp_path, clock=fake_time.clock, sleep=fake_time.sleep)
    assert model.chat(ASK, {}, 7).text == '{"late": "but there"}'
    assert fake_time.slept == before
    assert not [name for name in names(tmp_path) if "0002" in name]


def test_another_seed_is_another_question(tmp_path, fake_time):
    """The same messages with another seed, or asked twice by one process, are new questions with new numbers."""
    (tmp_path / "reply-0001.json").write_text("{}")  # of nobody: its number is taken
    model = ManualModel(tmp_path, clock=fake_time.clock, sleep=fake_time.sleep)
    for seed in (1, 2, 2):
        with pytest.raises(OutOfTime):
            model.chat(ASK, None, seed, fake_time.now + 1)
    assert names(tmp_path) == ["prompt-0002.md", "prompt-0003.md", "prompt-0004.md", "reply-0001.json"]


def test_many_questions_at_once(tmp_path):
    """Threads of two models on one folder: every question has a number of its own and gets its own answer."""
    count, models = 12, [ManualModel(tmp_path, sleep=pause) for _ in range(2)]
    found = {}

    def ask(place):
        messages = [Message(role="user", content=f"question <{place}>")]
        found[place] = models[place % 2].chat(messages, None, place, time.monotonic() + 60).text

    threads = [threading.Thread(target=ask, args=(place,), daemon=True) for place in range(count)]
    for thread in threads:
        thread.start()
    answered = set()
    while len(answered) < count and any(thread.is_alive() for thread in threads):
        for path in set(tmp_path.glob("prompt-*.md")) - answered:
            place = path.read_text().partition("question <")[2].partition(">")[0]
            fresh = tmp_path / "answer"
            fresh.write_text(f'{{"to": {place}}}')
            fresh.replace(path.with_name(path.name.replace("prompt", "reply")).with_suffix(".json"))
            answered.add(path)
    for thread in threads:
        thread.join(20)
    assert found == {place: f'{{"to": {place}}}' for place in range(count)}
    assert len(list(tmp_path.glob("prompt-*.md"))) == count


class Pipe(io.TextIOBase):
    """Lines that come when they are given."""

    def __init__(self):
        self.lines, self.some = [], threading.Semaphore(0)

    def give(self, *lines):
        """Gives lines; an empty one stands for Ctrl-D."""
        self.lines.extend(lines)
        self.some.release(len(lines))

    def readline(self):
        self.some.acquire()
        return self.lines.pop(0)


class Screen(io.StringIO):
    """What is shown; a person who pastes the next reply when a prompt appears."""

    def __init__(self, pipe, *replies):
        super().__init__()
        self.pipe, self.replies = pipe, list(replies)

    def write(self, text):
        if "Paste the answer" in text and self.replies:
            self.pipe.give(*self.replies.pop(0))
        return super().write(text)


def test_pasted_replies_answer_the_oldest_prompt(tmp_path):
    """An empty line behind JSON ends a reply, inside it it does not; Ctrl-D takes what there is."""
    pasted = Pipe()
    shown = Screen(pasted, ['{"a":\n', "\n", " 1}\n", "\n"], ["no idea\n", ""])
    model = ManualModel(tmp_path, terminal=Terminal(pasted, shown), sleep=pause)
    end = time.monotonic() + 60
    assert model.chat(prompt(cell_block()), {}, 0, end).text == '{"a":\n\n 1}\n'
    assert "```json" in shown.getvalue()
    assert "write it to reply-0001.json" in shown.getvalue()
    assert model.chat(ASK, None, 1, end).text == "no idea\n"
    assert names(tmp_path)[-2:] == ["reply-0002.json", "schema-0001.json"]


def test_a_file_closes_the_prompt_on_the_terminal(tmp_path):
    """Two open prompts: the older is shown; when a file answers it the next one is, and gets what is pasted then."""
    pasted, shown = Pipe(), io.StringIO()
    terminal = Terminal(pasted, shown)
    for number in (1, 2):
        (tmp_path / f"prompt-{number}").write_text(f"prompt number {number}")
        terminal.ask(tmp_path / f"prompt-{number}", tmp_path / f"reply-{number}.json")
    assert "prompt number 2" not in shown.getvalue()
    terminal.over(tmp_path / "reply-1.json")
    assert "prompt number 2" in shown.getvalue()
    pasted.give("{}\n", "\n", "", "")
    terminal._reader.join(20)
    assert (tmp_path / "reply-2.json").read_text() == "{}\n"
    assert not (tmp_path / "reply-1.json").exists()
