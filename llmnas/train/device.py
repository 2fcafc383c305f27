"""Which device a training uses, with which precision, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from llmnas.errors import InputError

COMPILE_FROM_S: Final = 600.0
"""Compiling takes about a minute and saves a fraction of every step: it pays on CUDA from this time limit on."""


@dataclass(frozen=True)
class Device:
    """A device as it is used.

    Attributes:
        device: For torch.
        amp: Type of automatic mixed precision, or None for float32 throughout.
        reason: Why this device and this precision, in words.
    """

    device: torch.device
    amp: torch.dtype | None
    reason: str

    @property
    def scales(self) -> bool:
        """Whether the loss must be scaled: float16 gradients underflow."""
        return self.amp == torch.float16


def choose_device(spec: str) -> Device:
    """Returns the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: There is no such device.
    """
    if spec == "cpu":
        return Device(torch.device("cpu"), None, "cpu: asked for")
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if spec == "auto":
        return _cuda(0, "auto: the first CUDA device") if present else Device(
            torch.device("cpu"), None, "cpu: auto, and torch sees no CUDA device")
    name, _, number = spec.partition(":")
    index = int(number) if number.isdigit() else 0
    if name != "cuda" or (number and not number.isdigit()):
        raise InputError(f"unknown device {spec!r}", "known: auto, cpu, cuda, cuda:N")
    if index >= present:
        raise InputError(f"device {spec!r} is not there: torch sees {present} CUDA devices", "use cpu or auto")
    return _cuda(index, "asked for")


def _cuda(index: int, why: str) -> Device:
    """Returns a CUDA device: bfloat16 where the hardware has it (compute capability 8), else float16."""
    device = torch.device("cuda", index)
    half = torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return Device(device, half, f"cuda:{index} ({torch.cuda.get_device_name(device)}): {why}; {half}")


def compiles(device: Device, time_limit_s: float | None) -> bool:
    """Returns whether the module should be compiled: on CUDA, when the time limit is long enough to pay it back."""
    return device.device.type == "cuda" and time_limit_s is not None and time_limit_s >= COMPILE_FROM_S
