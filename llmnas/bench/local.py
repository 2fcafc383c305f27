"""How well latency on this CPU is predicted after a calibration of half a minute; and what a prediction costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Final

import numpy as np
from scipy.stats import spearmanr

from llmnas.bench.process import Say
from llmnas.latency.calibrate import BUDGET_S, NETWORKS, calibrate
from llmnas.latency.counting import Floats
from llmnas.latency.measure import interleaved
from llmnas.latency.predictor import Expected, known
from llmnas.latency.target import parse_target
from llmnas.latency.timing import load_average
from llmnas.network import Network, ShapeFault
from llmnas.space import load_space

SPACES: Final = ("nb201", "convnet", "mbconv")
CANDIDATES: Final = 400
FRESH: Final = 30
MOST_MACS: Final = 300_000_000
"""Larger networks are left out: they would take the time of ten."""
_TIMING_S: Final = 2.0


def local_cpu(seed: int = 0, say: Say = lambda _: None) -> Iterator[dict[str, Any]]:
    """Yields one row for this CPU, by CPU time of one thread: calibrated once for three spaces, then fresh networks.

    Args:
        seed: Of candidates and fresh networks.
        say: Told what is going on.
    """
    target, rng = parse_target("cpu", False), np.random.default_rng(seed)
    candidates = [network for space in SPACES for network in networks(space, CANDIDATES // len(SPACES), rng)]
    say(f"calibrating for {BUDGET_S:g} s at most")
    started = time.monotonic()
    calibration = calibrate(target, candidates, NETWORKS, BUDGET_S)
    seconds, predictor = time.monotonic() - started, calibration.predictor(target)
    fresh = [network for space in SPACES for network in networks(space, FRESH // len(SPACES), rng)]
    say(f"timing {len(fresh)} fresh networks")
    measured = [found.latency.ms if found else np.nan for found in interleaved(fresh, target, _TIMING_S)]
    expected = predictor.expect(known(fresh))
    took = [_seconds(lambda network=network: predictor.predict(network)) for network in fresh]
    yield {"task": "local-cpu", "device": "cpu", "n_samples": len(calibration.samples), "trimmed": False,
           **figures(np.array(measured), expected), "networks": len(fresh), "calibration_s": seconds,
           "operators": len(calibration.operators), "clock": "thread_time", "load_average": load_average(),
           "predict_ms": 1e3 * median(took), "spaces": _by_space(np.array(measured), expected)}


def networks(space: str, n: int, rng: np.random.Generator) -> list[Network]:
    """Returns random networks of a space that are not too large."""
    drawn, found = load_space(space), list[Network]()
    while len(found) < n:
        try:
            network = drawn.network(drawn.sample(rng))
        except ShapeFault:
            continue
        if network.counts.macs <= MOST_MACS:
            found.append(network)
    return found


def figures(ms: Floats, expected: Expected) -> dict[str, float]:
    """Returns how predictions compare with measurements.

    Args:
        ms: Measured, of shape (networks,).
        expected: Predicted.

    Returns:
        Spearman's coefficient, mean absolute relative error, median relative bias, share within 10 %, share within
        the 90 % interval, and its mean width relative to the prediction.
    """
    error = np.abs(expected.ms / ms - 1)
    return {"spearman": float(spearmanr(expected.ms, ms)[0]), "mape": float(error.mean()),
            "bias": float(np.median(expected.ms / ms) - 1), "within10": float((error <= .1).mean()),
            "coverage90": float(((expected.low <= ms) & (ms <= expected.high)).mean()),
            "interval": float(np.mean((expected.high - expected.low) / expected.ms))}


def _by_space(ms: Floats, expected: Expected) -> dict[str, dict[str, float]]:
    size = len(ms) // len(SPACES)
    parts: Sequence[slice] = [slice(i * size, (i + 1) * size) for i in range(len(SPACES))]
    return {space: figures(ms[part], Expected(*(each[part] for each in expected)))
            for space, part in zip(SPACES, parts, strict=True)}


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
