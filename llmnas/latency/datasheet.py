"""`Datasheet`: what is known of a device, every number with where it comes from. One JSON file a device."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from llmnas.errors import InputError, nearest
from llmnas.graph import Frozen

Runtime = Literal["eager", "compiled", "exported", "cudagraph", "onnx"]
VARIANTS: Final = frozenset({"ti", "super", "laptop", "mobile", "with", "d", "ada"})  # other chips of a like name
FOLDER: Final = Path(__file__).parent / "devices"


class Sourced(Frozen):
    """A number and its provenance.

    Attributes:
        value: The number, in the unit that the field's name states.
        src: ``published: …``, ``fitted: …``, ``computed: …``, ``from memory: unverified`` or ``guess: …``.
    """

    value: Annotated[float, Field(gt=0)]
    src: Annotated[str, Field(pattern=r"^(published|fitted|computed|from memory|guess): ")]


class Datasheet(Frozen):
    """A device. Rates are nominal; a field that is None is unknown or does not apply.

    Attributes:
        key: Its name, which is also the name of its file.
        name: Its name in words.
        kind: ``gpu`` or ``cpu``.
        aliases: Other names a person may type.
        runtime: What it runs by default.
        fp32_tflops: Peak in 1e12 FLOP/s (one multiply-accumulate is two), TF32 off. GPUs only.
        tf32_tflops: Likewise with TF32, dense.
        fp16_tflops: Likewise in half precision, dense, tensor cores included.
        fp32_gflops_core: Peak of one core in 1e9 FLOP/s. CPUs only.
        cores: Cores used together.
        ghz: Clock.
        bandwidth_gbs: Memory bandwidth in 1e9 bytes/s.
        sms: Streaming multiprocessors.
        l2_mb: Second-level cache in MB.
        tdp_w: Power limit in W.
        inference_w: Median power at inference, in W; of which networks, says its source.
        inference_w_sigma: Standard deviation of the logarithm of that power, other kinds of networks included.
        achieved_bandwidth: Fraction of the bandwidth that large kernels reach.
        achieved_linear: Fraction of the fp32 peak that large matrix products reach.
        achieved_conv: Fraction of the fp32 peak that the median 3x3 convolution reaches.
        host_overhead: Cost of launching an operator on its host, as a multiple of a desktop's.
    """

    key: str
    name: str
    kind: Literal["gpu", "cpu"]
    aliases: tuple[str, ...] = ()
    runtime: Runtime = "eager"
    fp32_tflops: Sourced | None = None
    tf32_tflops: Sourced | None = None
    fp16_tflops: Sourced | None = None
    fp32_gflops_core: Sourced | None = None
    cores: Sourced | None = None
    ghz: Sourced | None = None
    bandwidth_gbs: Sourced
    sms: Sourced | None = None
    l2_mb: Sourced | None = None
    tdp_w: Sourced | None = None
    inference_w: Sourced | None = None
    inference_w_sigma: Sourced | None = None
    achieved_bandwidth: Sourced | None = None
    achieved_linear: Sourced | None = None
    achieved_conv: Sourced | None = None
    host_overhead: Sourced | None = None

    @property
    def peak(self) -> Sourced:
        """The fp32 peak of the whole GPU, or of one core of the CPU."""
        found = self.fp32_tflops if self.kind == "gpu" else self.fp32_gflops_core
        if found is None:
            wanted = "fp32_tflops" if self.kind == "gpu" else "fp32_gflops_core"
            raise InputError(f"device {self.key!r}: a {self.kind} needs {wanted}", f"add it to {self.key}.json")
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The key, the full name and the aliases, as `plain` writes them."""
        return tuple(dict.fromkeys((self.key, *map(plain, (self.name, *self.aliases)))))


def plain(name: str) -> str:
    """Returns `name` in the form names are compared in: lower case, words joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def read_datasheet(path: Path) -> Datasheet:
    """Returns the device described in a file.

    Raises:
        InputError: The file is not a datasheet; says which field.
    """
    try:
        sheet = Datasheet.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, json.JSONDecodeError) as fault:
        raise InputError(f"{path}: not a device: {fault}", "compare it with t4.json") from fault
    if sheet.key != path.stem:
        raise InputError(f"{path}: expected key {path.stem!r}, got {sheet.key!r}", "name the file after its key")
    _ = sheet.peak  # raises when the rate is missing
    return sheet


@cache
def datasheets() -> dict[str, Datasheet]:
    """Returns every known device by key, in alphabetical order."""
    return {path.stem: read_datasheet(path) for path in sorted(FOLDER.glob("*.json"))}


def find(name: str) -> Datasheet | None:
    """Returns the device with this key, name or alias; None when there is none."""
    wanted = plain(name)
    return next((sheet for sheet in datasheets().values() if wanted in sheet.names), None)


def datasheet(name: str) -> Datasheet:
    """Returns the device with this key, name or alias.

    Raises:
        InputError: There is none; names the nearest.
    """
    found = find(name)
    if found is None:
        raise InputError(f"unknown device {name!r}", nearest(plain(name), known_names()))
    return found


def known_names() -> list[str]:
    """Returns the keys and aliases a person may type."""
    return [name for sheet in datasheets().values() for name in (sheet.key, *sheet.aliases)]


def recognise(reported: str) -> Datasheet | None:
    """Returns the GPU that a driver reports under this name, such as ``NVIDIA GeForce RTX 4090``; None if unknown.

    The longest known name within the reported one wins, so that an A100 80GB is not taken for an A100. A name that
    goes on with *Ti*, *Super*, *Laptop* … is another chip.
    """
    words = f"_{plain(reported)}_"
    found = [(name, sheet) for sheet in datasheets().values() if sheet.kind == "gpu"
             for name in sheet.names if f"_{name}_" in words]
    if not found:
        return None
    name, sheet = max(found, key=lambda pair: len(pair[0]))
    after = words.partition(f"_{name}_")[2].partition("_")[0]
    return None if after in VARIANTS else sheet
