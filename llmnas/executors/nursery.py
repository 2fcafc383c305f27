"""The process that forks jobs: imports the heavy libraries once, so that a job starts in milliseconds.

Run as ``python -m llmnas.executors.nursery MODULE …`` with the modules to import first. Reads one JSON line per order
on stdin (a `Request` under ``start``, or a job's number under ``cancel``), writes one JSON line per event on stdout.
It keeps the deadlines: at a job's deadline the job stops by itself, `TERM_AFTER_S` later its process group receives
SIGTERM, `KILL_AFTER_S` after that SIGKILL. When stdin closes or the parent is gone, it kills every job and exits.

It starts no thread and never touches CUDA, because neither survives a fork.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmnas.executors.child import Request, become

TERM_AFTER_S: Final = 1.0
"""Seconds after its deadline in which a job may finish by itself."""
KILL_AFTER_S: Final = 0.7
"""Seconds between SIGTERM and SIGKILL. With the above a deadline is overshot by 1.7 s at most, and some scheduling."""


@dataclass
class _Running:
    """A job in its process.

    Attributes:
        id: Number of the job.
        pid: Its process, and process group.
        started: Monotonic time of the fork.
        next_at: When the next signal is due; infinity when none is.
        why: Why it is being ended: ``timeout`` or ``killed``; empty while it is not.
    """

    id: int
    pid: int
    started: float
    next_at: float
    why: str = ""


class Nursery:
    """The loop: orders in, signals due, children gone, events out.

    Args:
        orders: Descriptor orders are read from.
        events: Descriptor events are written to.
    """

    def __init__(self, orders: int, events: int) -> None:
        self.orders = orders
        self.events = events
        self.jobs: dict[int, _Running] = {}
        self._buffer = b""
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Runs until the parent is gone, then kills every job."""
        self._selector.register(self.orders, selectors.EVENT_READ, "orders")
        self._selector.register(_child_signals(), selectors.EVENT_READ, "children")
        if (parent := _parent_descriptor()) is not None:
            self._selector.register(parent, selectors.EVENT_READ, "parent")
        try:
            while self._turn():
                pass
        finally:
            for job in self.jobs.values():
                _signal_group(job.pid, signal.SIGKILL)

    def _turn(self) -> bool:
        """Waits for the next thing to do and does it; returns False when the parent is gone."""
        due = min((job.next_at for job in self.jobs.values()), default=float("inf"))
        wait = None if due == float("inf") else max(0.0, due - time.monotonic())
        ready = {key.data: key.fd for key, _ in self._selector.select(wait)}
        if "children" in ready:
            _drain(ready["children"])
        self._reap()
        self._send_due_signals()
        return "parent" not in ready and ("orders" not in ready or self._read_orders())

    def _read_orders(self) -> bool:
        received = os.read(self.orders, 1 << 16)
        *lines, self._buffer = (self._buffer + received).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "start" in order:
                self._start(Request.model_validate(order["start"]))
            else:
                self._cancel(order["cancel"], order["grace_s"])
        return bool(received)

    def _start(self, request: Request) -> None:
        nursery = os.getpid()
        started = time.monotonic()
        try:
            pid = os.fork()
        except OSError as fault:  # no memory or no process left
            self._emit({"ended": request.id, "signal": 0, "code": 1, "why": "", "seconds": 0.0, "rss_mb": None,
                        "note": f"no process could be started: {fault}"})
            return
        if pid == 0:
            become(request, nursery)
        end = float("inf") if request.deadline_s is None else started + request.deadline_s + TERM_AFTER_S
        self.jobs[pid] = _Running(request.id, pid, started, end)
        self._emit({"started": request.id, "pid": pid})

    def _cancel(self, number: int, grace_s: float) -> None:
        for job in self.jobs.values():
            if job.id == number and not job.why:
                job.why, job.next_at = "killed", time.monotonic() + grace_s
                _signal_group(job.pid, signal.SIGTERM)

    def _send_due_signals(self) -> None:
        now = time.monotonic()
        for job in self.jobs.values():
            if job.next_at > now:
                continue
            if job.why:  # it was asked already
                _signal_group(job.pid, signal.SIGKILL)
                job.next_at = float("inf")
            else:
                job.why, job.next_at = "timeout", now + KILL_AFTER_S
                _signal_group(job.pid, signal.SIGTERM)

    def _reap(self) -> None:
        for pid, job in list(self.jobs.items()):
            gone, status, usage = os.wait4(pid, os.WNOHANG)
            if not gone:
                continue
            del self.jobs[pid]
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # processes it left behind
            code = os.waitstatus_to_exitcode(status)
            self._emit({"ended": job.id, "signal": max(0, -code), "code": max(0, code), "why": job.why,
                        "seconds": time.monotonic() - job.started, "rss_mb": _megabytes(usage.ru_maxrss), "note": ""})

    def _emit(self, event: dict[str, Any]) -> None:
        os.write(self.events, json.dumps(event).encode() + b"\n")  # short enough to be written whole


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
        return
    with suppress(ProcessLookupError):  # so young that it has no group of its own yet
        os.kill(pid, number)


def _megabytes(maxrss: int) -> float:
    return maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _child_signals() -> int:
    """Returns a descriptor that becomes readable when a child ends."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def _drain(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass


def _parent_descriptor() -> int | None:
    """Returns a descriptor that becomes readable when the parent dies (Linux).

    The end of stdin says the same, unless another process inherited the writing end.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            return os.pidfd_open(os.getppid())
    return None


def main(directory: str, modules: list[str]) -> None:
    """Serves until the parent is gone; then `directory`, which holds results, is removed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = os.dup(1)
    os.dup2(2, 1)  # what an import prints is not an event
    for module in modules:
        importlib.import_module(module)
    gc.disable()
    gc.freeze()  # a collection in a child would copy every page it shares
    try:
        Nursery(0, events).serve()
    finally:
        shutil.rmtree(Path(directory), ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
