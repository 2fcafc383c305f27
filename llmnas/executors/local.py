"""`LocalExecutor`: jobs as child processes on this machine, with deadlines that hold."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from llmnas.errors import LlmnasError
from llmnas.executors.base import Job, Outcome
from llmnas.executors.child import Request

PRELOAD: Final = ("torch", "llmnas.train.trainer")
"""What jobs need and takes seconds to import."""
CANCEL_GRACE_S: Final = 0.7
"""Seconds between SIGTERM and SIGKILL of a cancelled job."""
CLOSE_S: Final = 2.0
"""Seconds the nursery is given to end when the executor is closed."""
_QUIET: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Idle threads sleep. By default they spin, and a training that shares its cores becomes ten times slower."""
_TAIL: Final = 600  # characters of a dead job's log that go into its error


class LocalHandle:
    """A job submitted to a `LocalExecutor`.

    Args:
        number: Number of the job.
        request: What was sent.
        owner: The executor.
    """

    def __init__(self, number: int, request: Request, owner: LocalExecutor) -> None:
        self.number = number
        self.request = request
        self.pid: int | None = None
        self._future: Future[Outcome] = Future()
        self._owner = owner

    @property
    def future(self) -> Future[Outcome]:
        """The outcome to come; never holds an exception."""
        return self._future

    @property
    def log(self) -> Path:
        """File with everything the job prints."""
        return Path(self.request.log)

    def done(self) -> bool:
        """Returns whether the outcome is known."""
        return self._future.done()

    def wait(self, timeout: float | None = None) -> Outcome | None:
        """Returns the outcome, or None when it is not known after `timeout` seconds."""
        with suppress(concurrent.futures.TimeoutError):
            return self._future.result(timeout)
        return None

    def cancel(self, grace_s: float = CANCEL_GRACE_S) -> None:
        """Ends the job: SIGTERM, after `grace_s` SIGKILL. A job that answers in time keeps its result."""
        self._owner._cancel(self, grace_s)


class LocalExecutor:
    """Runs every job in a fresh child process with a hard deadline.

    A server process (`llmnas.executors.nursery`) imports torch once and forks a child per job, so a job starts in
    milliseconds. When this process dies, in whatever way, the server kills the jobs and exits. When the server dies,
    its jobs are reported as failed and the next `submit` starts a new one.

    Args:
        logs: Folder for the jobs' output, one file per job; None keeps it until `close` only.
        preload: Modules the server imports first.
    """

    def __init__(self, logs: Path | None = None, preload: Sequence[str] = PRELOAD) -> None:
        if not hasattr(os, "fork"):
            raise LlmnasError("the local executor needs fork, which this system does not have", "use Linux or macOS")
        self._preload = tuple(preload)
        self._logs = logs
        self._count = 0
        self._lock = threading.RLock()
        self._closed = False
        self._server = _Server(self._preload)

    def submit(self, job: Job) -> LocalHandle:
        """Starts `job` in a fresh process and returns at once.

        Raises:
            LlmnasError: The executor is closed, or the kind of job is not known.
        """
        target = job.target
        with self._lock:
            if self._closed:
                raise LlmnasError("this executor is closed", "make a new one")
            if not self._server.alive:
                self._server.close()
                self._server = _Server(self._preload)
            self._count += 1
            logs = self._logs or self._server.directory
            logs.mkdir(parents=True, exist_ok=True)
            request = Request(id=self._count, target=target, payload=job.payload, deadline_s=job.deadline_s,
                              threads=job.threads, log=str((logs / f"job-{self._count:04d}.log").resolve()),
                              result=str(self._server.directory / f"{self._count}.json"))
            handle = LocalHandle(self._count, request, self)
            self._server.start(handle)
            return handle

    def _cancel(self, handle: LocalHandle, grace_s: float) -> None:
        self._server.order({"cancel": handle.number, "grace_s": grace_s})

    def close(self) -> None:
        """Kills what still runs, ends the server and removes its files. May be called twice."""
        with self._lock:
            self._closed = True
            self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class _Server:
    """The nursery as its parent sees it: sends orders, and turns its events into outcomes on a thread."""

    def __init__(self, preload: tuple[str, ...]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="llmnas-jobs-"))
        self.handles: dict[int, LocalHandle] = {}
        self._lock = threading.Lock()  # of `handles`
        self._writing = threading.Lock()  # of the pipe; not the same, or a full pipe would stop the reader
        self._log = self.directory / "nursery.log"
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "llmnas.executors.nursery", str(self.directory), *preload],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
                env={**_QUIET, **os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"})  # no threads before fork
        self.alive = True
        self._end = weakref.finalize(self, _end_process, self._process, self.directory)  # also at interpreter exit
        self._reader = threading.Thread(target=self._follow, name="llmnas-executor", daemon=True)
        self._reader.start()

    def start(self, handle: LocalHandle) -> None:
        """Sends a job; one that cannot be sent any more gets its outcome here."""
        with self._lock:
            self.handles[handle.number] = handle
        if not self.order({"start": handle.request.model_dump()}):
            self._lose(handle)

    def order(self, order: dict[str, Any]) -> bool:
        """Sends one order and returns whether the server could still take it."""
        assert self._process.stdin is not None
        with self._writing:
            try:
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()
            except (BrokenPipeError, ValueError):  # it died; it was closed
                return False
        return True

    def _follow(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as events:
            for line in events:
                self._take(json.loads(line))
        self.alive = False
        with self._lock:
            lost = list(self.handles.values())
        for handle in lost:
            self._lose(handle)

    def _take(self, event: dict[str, Any]) -> None:
        if "started" in event:
            self.handles[event["started"]].pid = event["pid"]
            return
        with self._lock:
            handle = self.handles.pop(event["ended"])
        handle.future.set_result(_outcome(handle, event))

    def _lose(self, handle: LocalHandle) -> None:
        """Settles a job whose server is gone, and makes sure its process is gone too."""
        with self._lock:
            if self.handles.pop(handle.number, None) is None:
                return
        if handle.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(handle.pid, signal.SIGKILL)
        tail = _tail(self._log)
        handle.future.set_result(Outcome(status="killed" if not self._end.alive else "failed", kind="died",
                                         error="the process that starts jobs died" + (f": {tail}" if tail else "")))

    def close(self) -> None:
        """Ends the process; jobs still running are killed and settled."""
        self._end()
        self._reader.join(CLOSE_S)


def _end_process(process: subprocess.Popen[bytes], directory: Path) -> None:
    """Closes the server's stdin, upon which it kills its jobs and exits; insists if it does not."""
    with suppress(BrokenPipeError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        process.wait(CLOSE_S)
    except subprocess.TimeoutExpired:  # it is still importing: it has no jobs yet
        process.kill()
        process.wait()
    shutil.rmtree(directory, ignore_errors=True)


def _outcome(handle: LocalHandle, event: dict[str, Any]) -> Outcome:
    """Returns the outcome of a process that ended: its result if there is one, else why there is none."""
    spent = {"seconds": event["seconds"], "peak_rss_mb": event["rss_mb"]}
    with suppress(FileNotFoundError):
        path = Path(handle.request.result)
        answer = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        if "error" in answer:
            return Outcome(status="failed", error=answer["error"], kind=answer["kind"], **spent)
        return Outcome(status="ok", result=answer["result"], **spent)
    if event["why"] == "timeout":
        return Outcome(status="timeout", kind="timeout", **spent,
                       error=f"still running after its deadline of {handle.request.deadline_s:g} s, and killed")
    if event["why"] == "killed":
        return Outcome(status="killed", kind="killed", error="cancelled", **spent)
    return Outcome(status="failed", kind="died", error=event["note"] or _death(handle, event), **spent)


def _death(handle: LocalHandle, event: dict[str, Any]) -> str:
    if event["signal"]:
        says = f"its process was ended by {signal.Signals(event['signal']).name}"
        if event["signal"] == signal.SIGKILL:
            says += ", probably because memory ran out"
    else:
        says = f"its process exited with code {event['code']} before it had a result"
    tail = _tail(handle.log)
    return f"{says}; the end of its log: {tail}" if tail else says


def _tail(log: Path) -> str:
    with suppress(OSError):
        return log.read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip()
    return ""
