"""What happens between fork and exit: one job in a process of its own.

The result goes to a file that is renamed into place when complete, so a result is there whole or not at all.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from llmnas.executors.base import Stop
from llmnas.graph import Frozen

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class Request(Frozen):
    """A job as the nursery receives it.

    Attributes:
        id: Number of the job.
        target: ``module:function``.
        payload: Its argument.
        deadline_s: Seconds until it should stop; None for no limit.
        threads: CPU threads.
        log: File for what it prints.
        result: File for what it returns.
    """

    id: int
    target: str
    payload: dict[str, Any]
    deadline_s: float | None
    threads: int
    log: str
    result: str


def become(request: Request, parent: int) -> NoReturn:
    """Turns the process just forked into the job and ends it when the job is done.

    Args:
        request: The job.
        parent: Process id of the nursery.
    """
    code = 1
    try:
        stop = Stop(request.deadline_s)
        _detach(request, stop, parent)
        code = _run(request, stop)
    except BaseException:  # noqa: BLE001  # nothing may return into the nursery's loop
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _detach(request: Request, stop: Stop, parent: int) -> None:
    os.setsid()  # a process group of its own, killed as one; Ctrl-C in the terminal does not reach it
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.tell())
    _die_with_parent(parent)
    log = os.open(request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, _highest_fd())  # the nursery's pipes: who holds them open hides its death
    faulthandler.enable()


def _die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when the nursery dies, where the kernel can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def _highest_fd() -> int:
    with suppress(OSError):
        return max(int(name) for name in os.listdir("/proc/self/fd")) + 1  # noqa: PTH208  # before any pathlib work
    return 1024


def _run(request: Request, stop: Stop) -> int:
    gc.enable()  # the nursery had it off
    _limit_threads(request.threads)
    try:
        answer: dict[str, Any] = {"result": _resolve(request.target)(request.payload, stop)}
        text = json.dumps(answer)
    except BaseException as error:  # noqa: BLE001  # the outcome says what it was
        traceback.print_exc()
        kind = str(getattr(error, "kind", type(error).__name__))
        text = json.dumps({"error": str(error) or type(error).__name__, "kind": kind})
    partial = Path(request.result + ".tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(request.result)
    return 0


def _resolve(target: str) -> Callable[[dict[str, Any], Stop], dict[str, Any]]:
    module, _, name = target.partition(":")
    function: Callable[[dict[str, Any], Stop], dict[str, Any]] = getattr(importlib.import_module(module), name)
    return function


def _limit_threads(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)  # for libraries loaded from here on
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
