"""Predicting a GPU that was never timed, from its datasheet: every GPU of a published table is left out in turn.

What predicts it is fitted on the other GPUs and on other kernels or networks than those it is scored on. Intervals come
from the same game among the GPUs that are left: each of them is predicted from the rest, and the spread of those errors
is the spread expected here. The timings of the GPU left out serve for scoring only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmnas.bench.process import Say
from llmnas.bench.unseen_gpt import Transformers
from llmnas.bench.unseen_kernels import KINDS, Calls
from llmnas.proxies.validity import spearman

Floats = NDArray[np.float64]
Foretell = Callable[[frozenset[str], str], Floats]
"""From the GPUs fitted on and the GPU predicted to milliseconds, of shape (kernels or networks,)."""
_TAILS: Final = (.05, .95)


def new_gpu_neusight(folder: Path, say: Say = lambda _: None, every: int = 1) -> list[dict[str, Any]]:
    """Returns one row per kernel class and GPU of NeuSight's kernel timings (fp32, isolated calls).

    Args:
        folder: Holds ``neusight`` and ``latency``.
        say: Told what is going on.
        every: Takes every such kernel; 1 is all of them.

    Raises:
        InputError: A table is not there, or has other columns.
    """
    rows = []
    for kind in KINDS:
        say(f"kernels: {kind}")
        calls = Calls(folder, kind, every)
        rows += left_out("new-gpu-neusight", kind, calls.devices, calls.tested, calls.measured, calls.roofline,
                         calls.foretell)
    return rows


def new_gpu_hwgpt(folder: Path, say: Say = lambda _: None, every: int = 10) -> list[dict[str, Any]]:
    """Returns one row per GPU of HW-GPT-Bench (small): whole networks in half precision.

    Args:
        folder: Holds ``hwgpt``.
        say: Told what is going on.
        every: Takes every such network of the 10,000.

    Raises:
        InputError: The table is not there, or has other columns.
    """
    say("networks of HW-GPT-Bench")
    networks = Transformers(folder, every)
    return left_out("new-gpu-hwgpt", None, networks.devices, networks.devices, networks.measured, networks.roofline,
                    networks.foretell)


def left_out(task: str, kernel: str | None, devices: Sequence[str], tested: Sequence[str],
             measured: Mapping[str, Floats], roofline: Mapping[str, Floats],
             foretell: Foretell) -> list[dict[str, Any]]:
    """Returns one row per GPU in `tested`, predicted from the `devices` that it is not.

    Args:
        task: Name of the test.
        kernel: Class of the kernels; None for networks.
        devices: GPUs to fit on.
        tested: GPUs to predict; one that is not among `devices` is fitted on all of them.
        measured: Milliseconds by GPU.
        roofline: Likewise, by max(FLOP / peak, bytes / bandwidth).
        foretell: The predictor.
    """
    rows = []
    for device in tested:
        known = frozenset(devices) - {device}
        ms, expected = measured[device], foretell(known, device)
        low, high = np.quantile(np.concatenate([
            np.log(measured[other] / foretell(known - {other}, other)) for other in sorted(known)]), _TAILS)
        error, base = np.abs(expected / ms - 1), float(np.mean(np.abs(roofline[device] / ms - 1)))
        off = np.log(ms / expected)
        rows.append({"task": task, "device": device, "kernel": kernel, "n": len(ms), "n_samples": 0, "trimmed": False,
                     "spearman": spearman(expected.tolist(), ms.tolist()), "mape": float(np.mean(error)),
                     "within10": float(np.mean(error <= .1)),
                     "coverage90": float(np.mean((low <= off) & (off <= high))),
                     "interval": float(np.exp(high - low) - 1), "roofline_mape": base,
                     "ratio": float(np.mean(error)) / base if base else None})
    return rows


def lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields the rows in words."""
    for row in rows:
        yield (f"{row['task']:17} {row['kernel'] or '':7} {row['device']:14} n {row['n']:5}  Spearman "
               f"{row['spearman']:.3f}  error {100 * row['mape']:.1f} % (roofline {100 * row['roofline_mape']:.1f} %, "
               f"ratio {row['ratio']:.2f})  within 10 % {100 * row['within10']:.0f} %  coverage "
               f"{100 * row['coverage90']:.0f} %  interval {row['interval']:.2f}")
