"""The local executor: results, deadlines that hold, deaths that are told, nothing left behind."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from llmnas.errors import LlmnasError
from llmnas.executors import Job, LocalExecutor
from llmnas.executors.nursery import KILL_AFTER_S, TERM_AFTER_S

HERE = "executor_jobs"
FOLDER = str(Path(__file__).parent)
if FOLDER not in sys.path:  # the server is given this path and imports the jobs from it
    sys.path.insert(0, FOLDER)


@pytest.fixture(scope="module")
def executor():
    """An executor that has only the test jobs loaded."""
    with LocalExecutor(preload=(HERE,)) as made:
        yield made


def job(name, deadline_s=None, threads=1, **payload):
    """Returns a job of `executor_jobs`."""
    return Job(kind=f"{HERE}:{name}", payload=payload, deadline_s=deadline_s, threads=threads)


def run(executor, name, **more):
    """Runs a job to its outcome."""
    return executor.submit(job(name, **more)).wait(15)


def gone(*pids, within=2.5):
    """Returns whether all processes end in time; one that is dead but not reaped counts as gone."""
    end = time.monotonic() + within
    while (alive := [pid for pid in pids if running(pid)]) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive


def running(pid):
    """Returns whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def appears(path, within=15):
    """Returns the process ids a job wrote to `path`, when it has."""
    end = time.monotonic() + within
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)
    return [int(word) for word in path.read_text().split()]


def test_result_and_environment(executor):
    """A job gets its payload, thread limit and deadline, in a process and session of its own."""
    outcome = run(executor, "echo", deadline_s=30, threads=2, word="hé")
    assert outcome.status == "ok"
    assert outcome.result["payload"] == {"word": "hé"}
    assert outcome.result["threads"] == "2"
    assert 25 < outcome.result["left"] <= 30
    assert outcome.result["pid"] == outcome.result["group"] == outcome.result["session"] != os.getpid()
    assert outcome.peak_rss_mb > 1


def test_starts_fast(executor):
    """A warm executor starts a job in a small fraction of an import of torch."""
    run(executor, "echo")
    start = time.monotonic()
    for _ in range(5):
        assert run(executor, "echo").status == "ok"
    assert (time.monotonic() - start) / 5 < 0.25


def test_fresh_process_per_job(executor):
    """No process serves two jobs."""
    assert run(executor, "echo").result["pid"] != run(executor, "echo").result["pid"]


def test_jobs_run_side_by_side(executor):
    """Jobs start when submitted; `concurrent.futures.wait` works on their futures."""
    slow, fast = executor.submit(job("hold", deadline_s=5, pids=os.devnull + "x")), executor.submit(job("echo"))
    done, _ = concurrent.futures.wait([slow.future, fast.future], timeout=10,
                                      return_when=concurrent.futures.FIRST_COMPLETED)
    assert fast.future in done
    slow.cancel()
    slow.wait(5)


def test_cooperative_stop(executor, tmp_path):
    """A job that watches its deadline ends on it and keeps its result."""
    outcome = run(executor, "hold", deadline_s=0.3, pids=str(tmp_path / "pids"))
    assert outcome.status == "ok"
    assert 0.3 <= outcome.seconds < 0.3 + TERM_AFTER_S


def test_stubborn_job_is_killed_with_its_children(executor, tmp_path):
    """A job that ignores SIGTERM is killed with its whole group, at most two seconds after its deadline."""
    outcome = run(executor, "stubborn", deadline_s=0.3, pids=str(tmp_path / "pids"))
    assert outcome.status == outcome.kind == "timeout"
    assert "0.3 s" in outcome.error
    assert outcome.seconds < 0.3 + 2.0
    assert TERM_AFTER_S + KILL_AFTER_S < 2.0
    assert gone(*appears(tmp_path / "pids"))


def test_cancel(executor, tmp_path):
    """A cancelled job that listens keeps its result; one that does not is killed; twice is harmless."""
    polite = executor.submit(job("hold", pids=str(tmp_path / "polite")))
    rude = executor.submit(job("stubborn", pids=str(tmp_path / "rude")))
    appears(tmp_path / "polite")
    pids = appears(tmp_path / "rude")
    assert polite.wait(0.01) is None
    assert not rude.done()
    for handle in (polite, rude, rude):
        handle.cancel()
    assert polite.wait(5).result == {"stopped": True}
    assert rude.wait(5).status == "killed"
    assert gone(*pids)
    rude.cancel()


def test_left_over_processes_are_killed(executor):
    """What a job leaves running in its group ends with it."""
    assert gone(run(executor, "leave_child").result["child"])


@pytest.mark.parametrize(("name", "kind", "words"), [
    ("exit_silently", "died", "code 3"), ("crash", "died", "SIGSEGV"), ("fail", "diverged", "no good"),
    ("unserialisable", "TypeError", "not JSON serializable"), ("absent", "AttributeError", "absent")])
def test_failures_are_told(executor, name, kind, words):
    """Every way to fail gives a failed outcome that says what happened, and the next job runs."""
    outcome = run(executor, name)
    assert (outcome.status, outcome.kind, outcome.result) == ("failed", kind, None)
    assert words in outcome.error
    assert run(executor, "echo").status == "ok"


def test_dead_job_shows_its_log(executor):
    """The end of the log of a process that died is part of the error."""
    assert "goodbye" in run(executor, "exit_silently").error


def test_peak_memory(executor):
    """The peak memory reported covers what the job used."""
    outcome = run(executor, "allocate", mb=200)
    assert outcome.status == "ok"
    assert 200 < outcome.peak_rss_mb < 1000


def test_interrupt_is_ignored_in_jobs(executor):
    """Ctrl-C does not kill a job: its parent decides."""
    assert run(executor, "ignores_interrupt").result == {"alive": True}


def test_logs_folder(tmp_path):
    """What a job prints is kept in the folder given."""
    with LocalExecutor(logs=tmp_path / "logs", preload=()) as made:
        handle = made.submit(job("echo"))
        assert handle.wait(15).status == "ok"
        assert handle.log.parent == tmp_path / "logs"
    assert "echoing" in handle.log.read_text()


def test_server_is_restarted(tmp_path):
    """When the server is killed, its jobs are dead and reported, and the next job runs in a new one."""
    with LocalExecutor(preload=()) as made:
        handle = made.submit(job("hold", pids=str(tmp_path / "pids")))
        pids = appears(tmp_path / "pids")
        made._server._process.kill()
        outcome = handle.wait(5)
        assert outcome.status == "failed"
        assert "died" in outcome.error
        assert gone(*pids)
        assert run(made, "echo").status == "ok"


def test_server_that_cannot_start():
    """An import error of the server is told by the job's outcome."""
    with LocalExecutor(preload=("no_such_module",)) as made:
        outcome = run(made, "echo")
        assert outcome.status == "failed"
        assert "no_such_module" in outcome.error


def test_close_kills_jobs_and_cleans_up(tmp_path):
    """Closing ends running jobs, removes files, and refuses further jobs."""
    made = LocalExecutor(preload=())
    handle = made.submit(job("stubborn", pids=str(tmp_path / "pids")))
    pids = appears(tmp_path / "pids")
    directory = made._server.directory
    made.close()
    made.close()
    assert handle.wait(3).status == "killed"
    assert gone(*pids)
    assert not directory.exists()
    with pytest.raises(LlmnasError, match="closed"):
        made.submit(job("echo"))


PARENT = """
    import sys, time
    sys.path.insert(0, {folder!r})
    from llmnas.executors import Job, LocalExecutor
    made = LocalExecutor(preload=())
    made.submit(Job(kind="executor_jobs:stubborn", payload={{"pids": {pids!r}}}))
    print(made._server._process.pid, made._server.directory, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_parent(tmp_path, how):
    """A parent killed outright leaves no process and no file; its script needs no main guard."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(PARENT.format(folder=FOLDER, pids=str(tmp_path / "pids"))))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        nursery, directory = parent.stdout.readline().split()
        pids = appears(tmp_path / "pids")
        parent.send_signal(how)
    assert gone(int(nursery), *pids)
    assert not Path(directory).exists()


def test_unknown_kind(executor):
    """A kind that is not in the table is refused with the nearest name."""
    with pytest.raises(LlmnasError, match="did you mean 'train'"):
        executor.submit(Job(kind="trian"))


def test_torch_is_forked_before_it_has_threads():
    """The server imports torch without starting threads, and the job's thread limit reaches torch."""
    with LocalExecutor(preload=("torch",)) as made:
        assert run(made, "count_threads").result == {"threads": 1, "system": 1}
        assert run(made, "echo", threads=2).result["torch_threads"] == 2
