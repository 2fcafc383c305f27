"""The shared passes over one network: each proxy's evidence, everything that can share a pass sharing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmnas.build import Net
from llmnas.proxies.base import Evidence, Pass, UnscorableError
from llmnas.proxies.scaled import synflow_pass

GATES: Final = (nn.ReLU, nn.SiLU, nn.GELU, nn.Hardswish)
_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d)


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """Returns the weights of convolutions and linear layers by parameter name, without biases and norms."""
    return {f"{name}.weight" if name else "weight": module.weight for name, module in net.named_modules()
            if isinstance(module, (*_CONVOLUTIONS, nn.Linear))}


@contextmanager
def untouched(net: nn.Module) -> Iterator[None]:
    """Puts modes, buffers, gradient flags and the generators back, whatever happens inside.

    Weights and their ``.grad`` are never written to by the passes, which differentiate with `torch.autograd.grad`.
    """
    modes = [(module, module.training) for module in net.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    flags = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, saved in buffers:
                buffer.copy_(saved)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


class Agreement:
    """Counts, for every pair of examples, the units that are both on or both off.

    Attributes:
        counted: (B, B) float64; None before the first gate.
    """

    def __init__(self) -> None:
        self.counted: Tensor | None = None

    def hook(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Adds the gate whose input this is: A Aᵀ + (1-A)(1-A)ᵀ, (B, B)."""
        on = (inputs[0].detach() > 0).flatten(1).float()  # A, (B, units)
        both = on @ on.T
        single = both.diagonal()  # units on, per example
        off = on.shape[1] - single[:, None] - single[None, :] + both  # (1-A)(1-A)ᵀ without a second product
        self.counted = (both + off).double() + (0.0 if self.counted is None else self.counted)

    @contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """Listens to every gate of the network."""
        with ExitStack() as stack:
            for module in net.modules():
                if isinstance(module, GATES):
                    stack.callback(module.register_forward_pre_hook(self.hook).remove)
            yield


Problems = dict[Pass, str]


def collect(net: Net, x: Tensor, y: Tensor, wanted: set[Pass]) -> tuple[Evidence, Problems]:
    """Runs the wanted passes once each and returns what they found, and why a pass failed.

    One forward in train mode serves the loss, the input gradient and the activations; the loss and the logits each
    have one backward over it.

    Args:
        net: The network; its state is the same afterwards.
        x: Examples (B, *input_shape).
        y: Labels (B,).
        wanted: Passes.
    """
    named = weights_of(net)
    found: dict[str, Any] = {"weights": tuple(weight.detach() for weight in named.values())}
    problems: Problems = {}
    with untouched(net):
        batch_passes = wanted & {"forward", "backward", "input_grad", "activations"}
        if batch_passes:
            _guarded(batch_passes, problems, lambda: found.update(_batch(net, x, y, named, batch_passes)))
        if "synflow" in wanted:
            def flow() -> None:
                found["flow"], found["flow_log_scale"] = synflow_pass(net, named)

            _guarded({"synflow"}, problems, flow)
    return Evidence(net.network, **found), problems


def _guarded(passes: set[Pass], problems: Problems, run: Callable[[], None]) -> None:
    """Runs a pass; what torch or a proxy raises about this network becomes the problem of its passes."""
    try:
        run()
    except UnscorableError as fault:
        problems.update(dict.fromkeys(passes, str(fault)))
    except (RuntimeError, ValueError, ArithmeticError, MemoryError) as fault:  # out of memory, one value per channel
        problems.update(dict.fromkeys(passes, f"{type(fault).__name__}: {str(fault).splitlines()[0]}"))


def _batch(net: Net, x: Tensor, y: Tensor, named: dict[str, Tensor], wanted: set[Pass]) -> dict[str, Any]:
    """Runs one forward and up to two backwards over it."""
    agreement, needs_grad = Agreement(), bool(wanted & {"backward", "input_grad"})
    net.train()
    for parameter in net.parameters():
        parameter.requires_grad_("backward" in wanted)  # the input gradient alone needs no weight gradient
    x = x.detach().requires_grad_("input_grad" in wanted)
    with torch.set_grad_enabled(needs_grad), ExitStack() as stack:
        if "activations" in wanted:
            stack.enter_context(agreement.watching(net))
        logits = net(x)
    found: dict[str, Any] = {"agreement": agreement.counted}
    if "input_grad" in wanted:
        found["input_grads"] = torch.autograd.grad(logits.sum(), x, retain_graph="backward" in wanted,
                                                   allow_unused=True, materialize_grads=True)[0]
    if "backward" in wanted:
        loss = functional.cross_entropy(logits, y)
        found["loss_grads"] = torch.autograd.grad(loss, list(named.values()), allow_unused=True,
                                                  materialize_grads=True)
    return found
