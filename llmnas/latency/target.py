"""`Target`: the device, runtime, precision and batch a latency is meant for, read from what a person typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from llmnas.errors import ONNX_PACKAGES, InputError, nearest, need_extra
from llmnas.graph import Frozen
from llmnas.latency.datasheet import Datasheet, Runtime, datasheet, find, known_names, plain, recognise

DEFAULT_GPU: Final = "t4"
TIMED: Final = {"cpu": ("eager", "onnx"), "gpu": ("eager",)}  # runtimes that can be timed here
OPTIONS: Final = ("batch", "runtime", "dtype", "memory_format", "threads")


class Target(Frozen):
    """Where a network is to run.

    Everything that changes a latency is part of the key: channels_last alone can reverse the order of two networks.

    Attributes:
        key: Canonical text, accepted by `parse_target`: ``cpu``, ``t4@batch=32``.
        device: Key of the datasheet.
        kind: ``cpu`` or ``gpu``.
        runtime: ``eager``: one call per operator. ``compiled``: dead layers removed, norms and activations fused.
            ``exported``: likewise, but what zeros feed still runs. ``onnx``: ONNX Runtime, timed on the CPU of this
            machine, predicted like ``compiled``. ``cudagraph``: the eager kernels without the host.
        dtype: Precision; ``tf32`` is fp32 storage with TF32 products.
        batch: Examples per call.
        memory_format: Layout of images.
        threads: CPU threads; one is the figure that survives a busy machine. 1 for GPUs.
        measurable: Whether it can be timed here.
        reason: How device and measurability were decided.
    """

    key: str
    device: str
    kind: Literal["cpu", "gpu"]
    runtime: Runtime = "eager"
    dtype: Literal["fp32", "tf32", "fp16"] = "fp32"
    batch: Annotated[int, Field(ge=1, le=65536)] = 1
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    measurable: bool
    reason: str

    @property
    def value_bytes(self) -> int:
        """Bytes of one value in its precision."""
        return 2 if self.dtype == "fp16" else 4


def parse_target(spec: str, cuda_available: bool, gpu_name: str = "") -> Target:
    """Returns the target a person typed.

    Args:
        spec: ``cpu`` (this machine), ``gpu`` (the CUDA device here, else a T4), ``gpu:NAME`` or a device's name; then
            optionally ``@batch=32,runtime=eager,dtype=fp32,memory_format=channels_last,threads=1``.
        cuda_available: Whether a CUDA device is here.
        gpu_name: What its driver calls it.

    Raises:
        InputError: Unknown device or option; names the nearest.
    """
    name, _, rest = spec.partition("@")
    sheet, here, reason = _device(name.strip(), cuda_available, gpu_name)
    options = _options(rest, spec)
    _check_combination(sheet, options, spec)
    runtime = options.get("runtime", sheet.runtime)
    if here and runtime not in TIMED[sheet.kind]:
        timed = " and ".join(TIMED[sheet.kind])
        here, reason = False, f"{reason}; runtime {runtime} is predicted, only {timed} can be timed"
    try:
        return Target(key=_key(sheet, options), device=sheet.key, kind=sheet.kind, runtime=runtime,
                      **{key: value for key, value in options.items() if key != "runtime"},
                      measurable=here, reason=reason)
    except ValidationError as fault:
        first = fault.errors()[0]
        raise InputError(f"target {spec!r}: {first['loc'][0]}: {first['msg']}, got {first['input']!r}",
                         "example: gpu:t4@batch=32,runtime=eager") from fault


def parse_targets(specs: Sequence[str], cuda_available: bool, gpu_name: str = "") -> list[Target]:
    """Returns the targets a person typed, in their order; see `parse_target`.

    Raises:
        InputError: One is not a target, or two of them are the same.
    """
    found: dict[str, tuple[str, Target]] = {}
    for spec in specs:
        target = parse_target(spec, cuda_available, gpu_name)
        if target.key in found:
            raise InputError(f"targets {found[target.key][0]!r} and {spec!r} are the same: {target.key}",
                             "name each target once")
        found[target.key] = spec, target
    return [target for _, target in found.values()]


def named(name: str, targets: Sequence[Target], specs: Sequence[str] = ()) -> Target:
    """Returns the one of `targets` that a person means by its key, by what was typed for it, or by its device.

    Args:
        name: ``t4@batch=32``, ``gpu``, ``T4`` …
        targets: The targets of the run.
        specs: What was typed for them, in the same order.

    Raises:
        InputError: None of them, or several; names the keys, the nearest first.
    """
    keys = {target.key: target for target in targets}
    exact = keys | dict(zip(specs, targets, strict=False))
    if found := exact.get(name.strip()) or exact.get(_canonical(name)):
        return found
    wanted = plain(name.partition(":")[2] or name)
    fitting = [target for target in targets if wanted in datasheet(target.device).names]
    if len(fitting) > 1:
        raise InputError(f"{name!r} may be any of {', '.join(target.key for target in fitting)}", "write one of these")
    if not fitting:
        raise InputError(f"{name!r} is no target of this run", nearest(name, list(keys)))
    return fitting[0]


def _canonical(name: str) -> str:
    """Returns the key of a name with options, however typed; the name itself when it has none or is no target."""
    try:
        return parse_target(name, False).key if "@" in name else name
    except InputError:
        return name


def need_runtime(target: Target) -> None:
    """Checks that a target that is to be timed here can be.

    Raises:
        MissingExtra: Its runtime is not installed.
    """
    if target.measurable and target.runtime == "onnx":
        need_extra("timing in ONNX Runtime", "onnx", *ONNX_PACKAGES)


def _device(name: str, cuda_available: bool, gpu_name: str) -> tuple[Datasheet, bool, str]:
    """Returns the datasheet, whether it is this machine, and why."""
    if plain(name) == "cpu":
        return datasheet("cpu"), True, "the CPU of this machine"
    local = (recognise(gpu_name) or datasheet("cuda")) if cuda_available else None
    if plain(name) in {"gpu", "cuda"}:
        if local is not None:
            return local, True, f"the CUDA device of this machine ({gpu_name or 'its name is not known'})"
        return datasheet(DEFAULT_GPU), False, f"no CUDA device here: {DEFAULT_GPU}, often rented, stands in"
    sheet = _named(name)
    if local is not None and sheet.key == local.key:
        return sheet, True, f"the CUDA device of this machine ({gpu_name})"
    return sheet, False, f"{sheet.name} is not known to be here: predicted from its datasheet"


def _named(name: str) -> Datasheet:
    prefix, colon, rest = name.partition(":")
    wanted = rest if colon and plain(prefix) in {"gpu", "cpu"} else name
    sheet = find(wanted)
    if sheet is None:
        raise InputError(f"unknown target {name!r}", nearest(plain(wanted), ["gpu", *known_names()]))
    if wanted is rest and sheet.kind != plain(prefix):
        raise InputError(f"target {name!r}: {sheet.name} is a {sheet.kind}", f"write {sheet.key}")
    return sheet


def _options(text: str, spec: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in OPTIONS or not equals:
            raise InputError(f"target {spec!r}: expected option=value, got {part!r}", nearest(key, list(OPTIONS)))
        found[key] = value
    return found


def _check_combination(sheet: Datasheet, options: dict[str, Any], spec: str) -> None:
    if sheet.kind == "cpu" and (options.get("dtype", "fp32") != "fp32" or options.get("runtime") == "cudagraph"):
        raise InputError(f"target {spec!r}: a CPU runs fp32: eager, compiled or onnx", "leave dtype and cudagraph out")
    if options.get("runtime") == "onnx" and options.get("memory_format", "contiguous") != "contiguous":
        raise InputError(f"target {spec!r}: ONNX Runtime lays images out itself", "leave memory_format out")
    if sheet.kind == "gpu" and "threads" in options:
        raise InputError(f"target {spec!r}: threads is an option of CPUs", "leave it out")


def _key(sheet: Datasheet, options: dict[str, Any]) -> str:
    """Returns the canonical text: options in a fixed order, defaults left out."""
    usual = {name: str(field.default) for name, field in Target.model_fields.items()} | {"runtime": sheet.runtime}
    listed = [f"{name}={options[name]}" for name in OPTIONS if name in options and options[name] != usual[name]]
    return sheet.key + ("@" + ",".join(listed) if listed else "")
