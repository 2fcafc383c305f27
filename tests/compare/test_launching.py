"""Really launching runs on real data, killed in the middle: minutes, so a slow test."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest


@pytest.mark.slow
def test_interrupted_it_goes_on(tmp_path):
    """Ctrl-C with a run under way kills that run; the same command keeps what is finished and goes on with the rest."""
    command = [sys.executable, "-m", "llmnas", "compare", "--data", "digits", "--strategies", "random,evolution",
               "--seeds", "2", "--budget", "40s", "--out", str(tmp_path / "c"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    log = tmp_path / "c" / "runs" / "evolution-0" / "events.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    begun = log.read_text().splitlines()[0]
    finished = (tmp_path / "c" / "runs" / "random-0" / "events.jsonl").read_text()
    assert "finished" in finished
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 of 4 runs in" in again.stderr
    assert (tmp_path / "c" / "runs" / "random-0" / "events.jsonl").read_text() == finished
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert log.read_text().splitlines()[0] == begun
    assert any(line["body"]["kind"] == "resumed" for line in lines)
    found = json.loads(again.stdout)
    assert found["source"] == "training"
    assert [arm["seeds"] for arm in found["arms"]] == [[0, 1], [0, 1]]
    assert not [note for note in found["notes"] if "split" in note]
    assert (tmp_path / "c" / "compare.html").is_file()
