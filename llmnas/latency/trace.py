"""The operator calls of any torch module, found by running it on tensors without memory.

`trace` gives for a module what `llmnas.latency.kernels` gives for a network: one `Kernel` a call, eager or fused as a
compiler would. Views and allocations are left out; a linear layer and an attention product are one call each, however
torch takes them apart, except within `nn.MultiheadAttention`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from llmnas.errors import InputError
from llmnas.latency.analytic import predict_calls
from llmnas.latency.datasheet import Runtime
from llmnas.latency.kernels import BUILT, Kernel, KernelClass
from llmnas.latency.launches import Host
from llmnas.latency.predictor import Predictor
from llmnas.latency.target import Target
from llmnas.network import Shape
from llmnas.records import Latency

_CONVOLUTIONS: Final = frozenset({"convolution", "_convolution"})
_PRODUCTS: Final = frozenset({"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot"})
_NORMS: Final = frozenset({"native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
                           "_batch_norm_no_update", "cudnn_batch_norm", "native_layer_norm", "native_group_norm",
                           "_fused_rms_norm"})
_ACTIVATIONS: Final = frozenset({"relu", "relu_", "silu", "silu_", "gelu", "hardswish", "hardswish_", "sigmoid",
                                 "sigmoid_", "hardtanh", "hardtanh_", "clamp", "clamp_min", "leaky_relu",
                                 "leaky_relu_", "tanh"})
_ELEMENTWISE: Final = frozenset({"relu", "silu", "gelu", "hardswish", "sigmoid", "add", "mul"})
_FREE: Final = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "scalar_tensor",
                          "_local_scalar_dense", "detach", "lift_fresh", "sym_size", "_reshape_alias", "_unsafe_view"})
_COPIES: Final = frozenset({"clone", "copy_", "_to_copy", "contiguous"})  # values move, nothing is computed
_NAMES: Final = {"hardswish": "hswish", "mean": "global_pool", "cat": "concat"}


def trace(module: nn.Module, input_shape: Shape, runtime: Runtime = "eager") -> tuple[Kernel, ...]:
    """Returns the calls a runtime makes for one pass of a module in eval mode, in order.

    Args:
        module: What to trace; it is neither changed nor moved, and its weights are not copied.
        input_shape: Shape of one example.
        runtime: A compiled runtime folds a norm into the convolution before it and activations into what they follow.
            Unlike in a network, layers whose result nobody uses stay.

    Returns:
        Kernels as those of a network; `layer` is the number of the call.

    Raises:
        InputError: The module does not run without values, for example because it branches on them.
    """
    recorder = _Recorder(fuse=runtime in BUILT)
    bare, x = _without_memory(module).eval(), torch.empty((1, *input_shape), device="meta")
    try:
        with torch.no_grad(), _whole_attention(), recorder, _Whole(recorder):
            bare(x)
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError) as fault:
        raise InputError(f"{type(module).__name__} cannot be traced on input of shape {input_shape}: {fault}",
                         "give one example's shape, and a forward that does not depend on values") from fault
    return tuple(recorder.calls)


def predict_module(module: nn.Module, input_shape: Shape, target: Target, host: Host | None = None,
                   predictor: Predictor | None = None) -> Latency:
    """Returns the expected latency of any module with a 90 % interval, as `predict` does for networks.

    Args:
        module: What to time; it is not run.
        input_shape: Shape of one example.
        target: Where it would run.
        host: Launch costs; None takes the prior for the target's runtime.
        predictor: Of this target, when it is calibrated.

    Raises:
        InputError: The module cannot be traced.
    """
    if predictor is None:
        return predict_calls(trace(module, input_shape, target.runtime), target, host)
    return predictor.predict_calls(*traced(module, input_shape))


def traced(module: nn.Module, input_shape: Shape) -> tuple[tuple[Kernel, ...], tuple[Kernel, ...]]:
    """Returns the calls of a module as an eager framework makes them, and as a compiler leaves them; see `trace`."""
    return trace(module, input_shape), trace(module, input_shape, "compiled")


def _without_memory(module: nn.Module) -> nn.Module:
    """Returns a copy of the module whose parameters and buffers have shapes but no values."""
    bare: dict[int, Any] = {id(each): nn.Parameter(each.detach().to("meta"), requires_grad=False)
                            for each in module.parameters()}
    bare |= {id(each): each.detach().to("meta") for each in module.buffers()}
    return copy.deepcopy(module, bare)


@contextmanager
def _whole_attention() -> Iterator[None]:
    """Keeps `nn.MultiheadAttention` from its one opaque operator."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Recorder(TorchDispatchMode):
    """Writes down every operator that reaches the dispatcher.

    Attributes:
        calls: What was written down.
        paused: Whether something else writes down what is running.
    """

    def __init__(self, fuse: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Kernel] = []
        self.paused = False
        self._fuse = fuse
        self._made_by: dict[int, str] = {}  # by storage: the last call that wrote it

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        found = _same_shape(func, args)
        if found is None:
            found = func(*args, **(kwargs or {}))
        if not self.paused and not _is_free(func):
            self._operator(func.overloadpacket.__name__, args, found)
        return found

    def _operator(self, name: str, args: Sequence[Any], found: Any) -> None:
        out = found[0] if isinstance(found, (tuple, list)) and found else found  # statistics and indices are not read
        if isinstance(out, Tensor):
            self.record(name, _kind(name, args), _flops(name, args, out), list(_tensors(args)), out, _op(name, args))

    def record(self, name: str, kind: KernelClass, flops: float, read: list[Tensor], out: Tensor, op: str) -> None:
        """Writes a call down, unless a compiler would run it inside the one before."""
        weights = [each for each in read if isinstance(each, nn.Parameter)]
        values = [each for each in read if not isinstance(each, nn.Parameter) and not _is_statistic(kind, each, read)]
        before = self._made_by.get(_storage(values[0]), "") if values else ""
        self._made_by[_storage(out)] = name if kind == "light" else kind
        if self._fuse and _fused(name, kind, before):
            return
        self.calls.append(Kernel(kind, len(self.calls), flops, out.numel() + sum(each.numel() for each in values),
                                 sum(each.numel() for each in weights), op))


class _Whole(TorchFunctionMode):
    """Writes linear layers and attention products down as one call each, instead of what torch makes of them."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        named = dict(kwargs or {})
        write = _WHOLE.get(func)
        if write is None or self._recorder.paused:
            return func(*args, **named)
        self._recorder.paused = True
        try:
            out = func(*args, **named)
        finally:
            self._recorder.paused = False
        read = list(_tensors((*args, *named.values())))
        op = "linear" if func is functional.linear else "attend"
        self._recorder.record("linear", "linear", write(read, out), read, out, op)
        return out


def _linear_flops(read: Sequence[Tensor], out: Tensor) -> float:
    """Two per multiply-accumulate; the bias counts as one more input, as in the counts of a network."""
    return 2.0 * out.numel() * (read[1].shape[1] + (len(read) > 2))


def _attention_flops(read: Sequence[Tensor], out: Tensor) -> float:
    """The products of queries with keys and of weights with values; softmax is not counted."""
    query, key, value = read[:3]
    pairs = prod(query.shape[:-1]) * key.shape[-2]
    return 2.0 * pairs * (query.shape[-1] + value.shape[-1])


_WHOLE: Final[dict[Any, Callable[[Sequence[Tensor], Tensor], float]]] = {
    functional.linear: _linear_flops, functional.scaled_dot_product_attention: _attention_flops}


def _same_shape(func: Any, args: Sequence[Any]) -> Any:
    """Returns what the most frequent operators give, made without their rules for shapes; None for the others.

    The rules are Python and take most of the time of a trace; these operators keep the shape of their first input.
    """
    name = func.overloadpacket.__name__
    if name in _NORMS and isinstance(args[0], Tensor):
        return torch.empty_like(args[0]), args[0], args[0]  # nobody reads the statistics in eval mode
    if name in _ELEMENTWISE and args[0].is_floating_point():
        others = [each for each in args[1:] if isinstance(each, Tensor)]
        if all(each.shape == args[0].shape and each.dtype == args[0].dtype for each in others):
            return torch.empty_like(args[0])
    return None


_free: dict[Any, bool] = {}


def _is_free(func: Any) -> bool:
    """Returns whether an operator launches nothing: an allocation or another view of the same values."""
    if func not in _free:
        returned = func._schema.returns
        view = bool(returned) and all(each.alias_info is not None and not each.alias_info.is_write
                                      for each in returned)
        _free[func] = view or func.overloadpacket.__name__ in _FREE
    return _free[func]


def _kind(name: str, args: Sequence[Any]) -> KernelClass:
    if name in _CONVOLUTIONS:
        return "conv" if args[8] == 1 else "grouped"
    if name in _PRODUCTS:
        return "linear"
    if name in _NORMS:
        return "norm"
    return "pool" if "pool" in name else "light"


def _op(name: str, args: Sequence[Any]) -> str:
    """Returns what runs by the name that `llmnas.latency.kernels` has for it; else torch's own."""
    if name in _CONVOLUTIONS:
        weight, transposed, groups = args[1], args[6], args[8]
        family = ("transposed" if transposed else "conv" if groups == 1 else
                  "depthwise" if groups == weight.shape[0] else "grouped")
        return f"{family}{weight.shape[-1]}"
    if name in _PRODUCTS:
        return "attend" if name in {"bmm", "baddbmm"} else "linear"
    if name in _NORMS:
        return "norm"
    if name in _COPIES:
        return "copy"
    if name == "mul" and args[1:] and not isinstance(args[1], Tensor) and args[1] == 0:
        return "zero"  # as a network of ours is built
    plain = name.rstrip("_")
    pools = [pool for pool in ("max_pool", "avg_pool") if pool in plain]
    return pools[0] if pools else _NAMES.get(plain, plain)


def _flops(name: str, args: Sequence[Any], out: Tensor) -> float:
    """Returns the operations of one call: two per multiply-accumulate, else one per value that comes out."""
    if name in _CONVOLUTIONS:
        transposed = args[6]
        positions = prod((args[0] if transposed else out).shape[2:])
        return float(2 * out.shape[0] * args[1].numel() * positions)
    if name in _PRODUCTS:
        left = args[1] if name in {"addmm", "baddbmm", "addmv"} else args[0]
        return float(2 * out.numel() * left.shape[-1])
    return 0.0 if name in _COPIES else float(out.numel())


def _tensors(args: Sequence[Any]) -> Iterator[Tensor]:
    for each in args:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, (tuple, list)):
            yield from _tensors(each)


def _is_statistic(kind: KernelClass, each: Tensor, read: Sequence[Tensor]) -> bool:
    """Returns whether a tensor is a norm's running mean or variance: small, and not counted for a network either."""
    return kind == "norm" and each is not read[0]


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _fused(name: str, kind: KernelClass, before: str) -> bool:
    """Returns whether a compiler runs a call inside the one that made what it reads.

    Of norms only batch normalisation folds: its statistics do not depend on the values.
    """
    if kind == "norm":
        return "batch_norm" in name and before in {"conv", "grouped", "linear"}
    return name in _ACTIVATIONS and before in {"conv", "grouped", "linear", "norm", "add", "add_"}
