"""`probe`: what the machine has, found out in a child process so that the caller never imports torch."""

from __future__ import annotations

import os
import platform
from typing import Any

from llmnas.executors.base import Stop
from llmnas.latency.state import cpu_name


def probe(payload: dict[str, Any], stop: Stop) -> dict[str, Any]:
    """Returns versions, cores and CUDA devices of this machine."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.cuda.get_device_name(i) for i in range(count)]
    return {"torch": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus, "cores": cores(),
            "python": platform.python_version(), "system": platform.platform(), "cpu": cpu_name()}


def cores() -> int:
    """Returns the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
