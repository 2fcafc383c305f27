"""Processes that are really killed."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    """`kill -9` at random moments and `resume` give the trials and the best of the run that was left alone."""
    command = ["bench", "resume", "--kills", "3", "--evals", "4", "--budget", "4min", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-m", "llmnas", *command, "--json"], capture_output=True, text=True,
                          check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["schema"] == "llmnas.bench.resume/1"
