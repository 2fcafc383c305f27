"""Jobs for the tests of executors: each does one thing a real job might do."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def echo(payload, stop):
    """Returns what it was given, and where it ran."""
    sys.stdout.write("echoing\n")
    return {"payload": payload, "pid": os.getpid(), "group": os.getpgid(0), "session": os.getsid(0),
            "threads": os.environ["OMP_NUM_THREADS"], "left": min(stop.left(), 1e9),
            "torch_threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None}


def hold(payload, stop):
    """Runs until told to stop, then returns."""
    _announce(payload)
    while not stop.expired():
        time.sleep(0.01)
    return {"stopped": True}


def stubborn(payload, stop):
    """Ignores SIGTERM and never ends; its own child does neither."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-S", "-c", "import signal, time\n"
                              "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"])
    _announce(payload, child.pid)
    while True:
        time.sleep(1)


def leave_child(payload, stop):
    """Returns at once, leaving a process behind."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    return {"child": child.pid}


def exit_silently(payload, stop):
    """Ends without a result."""
    os.write(1, b"goodbye\n")
    os._exit(3)


def crash(payload, stop):
    """Reads address 0."""
    ctypes.string_at(0)


def fail(payload, stop):
    """Raises an error with a kind."""
    error = ValueError("no good")
    error.kind = "diverged"
    raise error


def unserialisable(payload, stop):
    """Returns what JSON cannot hold."""
    return {"value": object()}


def allocate(payload, stop):
    """Uses a given number of megabytes."""
    block = bytearray(payload["mb"] * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    return {"bytes": len(block)}


def count_threads(payload, stop):
    """Returns how many threads the process has."""
    return {"threads": threading.active_count(), "system": len(list(Path("/proc/self/task").iterdir()))}


def ignores_interrupt(payload, stop):
    """Sends itself SIGINT and lives."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
    return {"alive": True}


def _announce(payload, *more):
    path = Path(payload["pids"])
    partial = path.with_suffix(".tmp")
    partial.write_text(" ".join(map(str, (os.getpid(), *more))))
    partial.replace(path)
