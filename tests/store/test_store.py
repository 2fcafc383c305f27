"""The run on disk: locking, torn lines, damage, names."""

import pytest

from llmnas.errors import RunError
from llmnas.records import Warned
from llmnas.store import RunStore, find_run, new_run_name, read_events, read_run


def write(directory, n=3):
    with RunStore(directory, create=True) as store:
        for i in range(n):
            store.emit(Warned(message=str(i)), float(i))


def test_round_trip(tmp_path):
    """What was written is what is read, in order, with its time."""
    write(tmp_path / "a")
    assert [(e.seq, e.t_s, e.body.message) for e in read_events(tmp_path / "a" / "events.jsonl")] == [
        (0, 0.0, "0"), (1, 1.0, "1"), (2, 2.0, "2")]


def test_second_writer_is_refused(tmp_path):
    """A run that is in use cannot be opened again for writing, but can be read."""
    with RunStore(tmp_path / "a", create=True) as store:
        store.emit(Warned(message="x"), 0.0)
        with pytest.raises(RunError, match="in use"):
            RunStore(tmp_path / "a", create=False)
        assert read_run(tmp_path / "a").warnings == ["x"]


def test_existing_run_is_not_overwritten(tmp_path):
    """A new run into a folder that holds one is refused with the way to continue it."""
    write(tmp_path / "a")
    with pytest.raises(RunError, match="resume"):
        RunStore(tmp_path / "a", create=True)


def test_torn_last_line_is_dropped_and_overwritten(tmp_path):
    """A line torn by a crash is ignored, and the log goes on behind the last whole one."""
    write(tmp_path / "a")
    log = tmp_path / "a" / "events.jsonl"
    log.write_bytes(log.read_bytes() + b'{"seq": 3, "t_')
    with RunStore(tmp_path / "a", create=False) as store:
        store.emit(Warned(message="3"), 3.0)
    assert read_run(tmp_path / "a").warnings == ["0", "1", "2", "3"]


@pytest.mark.parametrize("damage", [lambda lines: [lines[0], b"junk\n", lines[2]], lambda lines: [lines[0], lines[2]]],
                         ids=["junk", "gap"])
def test_damage_is_an_error_with_its_line(tmp_path, damage):
    """A damaged or missing line in the middle is an error that names file and line."""
    write(tmp_path / "a")
    log = tmp_path / "a" / "events.jsonl"
    log.write_bytes(b"".join(damage(log.read_bytes().splitlines(keepends=True))))
    with pytest.raises(RunError, match=r"events\.jsonl:2"):
        read_run(tmp_path / "a")


def test_runs_are_found_by_part_of_their_name(tmp_path):
    """A unique part of a name finds a run; an ambiguous or unknown one says so."""
    for name in ("aa-1", "aa-2", "bb-1"):
        write(tmp_path / name)
    assert find_run("bb", tmp_path).name == "bb-1"
    with pytest.raises(RunError, match="2 runs fit"):
        find_run("aa", tmp_path)
    with pytest.raises(RunError, match="no run"):
        find_run("cc", tmp_path)


def test_names_do_not_collide():
    """Names made in the same second differ."""
    assert len({new_run_name("gpu:t4", "agent") for _ in range(50)}) > 45
