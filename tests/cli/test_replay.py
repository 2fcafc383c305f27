"""A replay of a run gives its events again, whoever recorded it and with however many workers."""

import json
import shutil

import pytest

from llmnas import job
from llmnas.errors import InputError, RunError
from llmnas.llm.dials import Dials
from llmnas.llm.mock import MockModel
from llmnas.recording import Recording, differences
from llmnas.records import Settings
from llmnas.store import read_events
from llmnas.testing.llm_server import LlmServer

TERMS = {"data": "digits", "target": "gpu:t4", "seed": 3}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Gives a run by two workers, led by a server whose replies need repairs, are cut and refused."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    dials = Dials(invalid=.4, truncated=.2, refused=.1)
    with LlmServer(mock=MockModel(3, dials)) as server:
        job.run(out=folder, llm="openai:faulty", base_url=server.url, budget="30s", workers=2, **TERMS)
    return folder


def events(folder):
    """Returns the events of a run."""
    return list(read_events(folder / "events.jsonl"))


def test_a_replay_is_equal_event_by_event(recorded, tmp_path):
    """Replies, screenings, trainings and timings come again in the logged order, and with them everything else."""
    result = job.run(out=tmp_path / "again", llm=f"replay:{recorded}", budget="30s", workers=1, **TERMS)
    first, again = events(recorded), events(tmp_path / "again")
    assert list(differences(first, again)) == []
    assert result.state.spent.calls > 1
    assert any(call.role == "repair" for call in result.state.calls)
    assert result.state.spent.trainings > 0
    assert [path.name for path in sorted((tmp_path / "again" / "calls").iterdir())] == [
        path.name for path in sorted((recorded / "calls").iterdir())]
    assert all((tmp_path / "again" / "calls" / path.name).read_bytes() == path.read_bytes()
               for path in (recorded / "calls").iterdir())
    assert (tmp_path / "again" / "report.html").is_file()
    with pytest.raises(RunError, match="not gone on with"):
        job.resume(tmp_path / "again", budget="35s")


def test_a_replay_that_leaves_its_recording_says_where(recorded, tmp_path):
    """The first event that is not that of the recording ends the replay, and is named."""
    shutil.copytree(recorded, tmp_path / "changed")
    log = tmp_path / "changed" / "events.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = next(line for line in lines if line["body"]["kind"] == "told")
    told["body"]["trials"][-1]["proposal"]["rationale"] = "Somebody else's reason."
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RunError, match=r"leaves .*changed: event \d+, told.trials\[\d+\].proposal.rationale"):
        job.run(out=tmp_path / "again", llm=f"replay:{tmp_path / 'changed'}", budget="30s", **TERMS)


def test_what_can_be_replayed_event_by_event(recorded):
    """Other terms, or a log of two processes, leave only the replies, and it is said why."""
    recording = Recording(recorded)
    same = {"budget_s": 30.0, "target": ("gpu:t4",), "data": "digits", "seed": 3, "llm": f"replay:{recorded}"}
    assert (recording.problem, recording.unlike(Settings(**same))) == ("", "")
    assert recording.unlike(Settings(**same, workers=5, temperature=.3)) == ""
    assert recording.unlike(Settings(**{**same, "seed": 4})) == "seed is 4 and was 3"
    assert "max_latency_ms is 5.0" in recording.unlike(Settings(**same, max_latency_ms=5))
    with pytest.raises((RunError, InputError)):
        job.run(llm="replay:nowhere-at-all", budget="30s")
