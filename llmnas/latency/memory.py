"""Peak memory of one call on the CPU, as torch's allocator saw it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def allocated_peak(call: Callable[[], Any]) -> int | None:
    """Returns the most bytes that a call held at once in tensors and workspaces on the CPU.

    Every allocation and release of torch's CPU allocator is recorded by its profiler: the copies that convolutions make
    of their input are in it, which a count of layers cannot know; memory that libraries take by themselves is not.

    Args:
        call: What to run; run it once before, so that nothing is prepared for the first time.

    Returns:
        None when this torch does not hand out the records.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it tells stderr of every start and stop
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
        call()
    try:
        events = recorded.profiler.kineto_results.events()
        moves = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    except AttributeError:  # no public way to these records
        return None
    held = peak = 0
    for _, size in moves:
        held += size
        peak = max(peak, held)
    return peak
