"""The shared passes over one network: each proxy's evidence, everything that can share a pass sharing it.

One forward of the batch in train mode serves activations, patterns, block values and every gradient; each gradient is
one backward over the graph of that forward. Curvature, noise, layers, examples and synflow have forwards of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmnas.build import Net
from llmnas.proxies.base import Evidence, Pass, UnscorableError
from llmnas.proxies.blocks import gains_of, spectrum_of
from llmnas.proxies.curvature import curvature_pass
from llmnas.proxies.examples import examples_pass
from llmnas.proxies.noise import layers_pass, noise_pass
from llmnas.proxies.scaled import synflow_pass
from llmnas.proxies.taps import Agreement, Patterns, Products, gates_seen, outputs_kept
from llmnas.proxies.thin import thin_pass

SHARED: Final[frozenset[Pass]] = frozenset({"forward", "backward", "halves", "channels", "input_grad", "activations",
                                            "patterns", "blocks", "gains"})
"""Passes over the graph of one forward of the batch."""
LOSS: Final[frozenset[Pass]] = frozenset({"backward", "halves", "channels"})
"""Passes that need the gradient of the loss."""
_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d)


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """Returns the weights of convolutions and linear layers by parameter name, without biases and norms."""
    return {f"{name}.weight" if name else "weight": module.weight for name, module in weighted(net).items()}


def weighted(net: nn.Module) -> dict[str, Any]:
    """Returns convolutions and linear layers by name."""
    return {name: module for name, module in net.named_modules() if isinstance(module, (*_CONVOLUTIONS, nn.Linear))}


@contextmanager
def untouched(net: nn.Module) -> Iterator[None]:
    """Puts modes, buffers, gradient flags and the generators back, whatever happens inside.

    Weights and their ``.grad`` are never written to by the passes, which differentiate with `torch.autograd.grad` and
    put other weights in place with `torch.func.functional_call`.
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


Problems = dict[Pass, str]


@dataclass
class Collection:
    """The passes over one network.

    Attributes:
        net: The network; its state is the same afterwards.
        x: Examples (B, *input_shape).
        y: Labels (B,).
        wanted: Passes.
        seed: Of the noise that some passes draw.
        found: Fields of `Evidence`.
        problems: Why a pass failed.
    """

    net: Net
    x: Tensor
    y: Tensor
    wanted: frozenset[Pass]
    seed: int
    found: dict[str, Any] = field(default_factory=dict)
    problems: Problems = field(default_factory=dict)

    def run(self) -> None:
        """Runs every wanted pass once; a pass that fails leaves a problem and no evidence."""
        self.named = weights_of(self.net)
        self.found["weights"] = tuple(weight.detach() for weight in self.named.values())
        with untouched(self.net):
            self.net.train()
            if shared := self.wanted & SHARED:
                self.found["labels"] = self.y
                self._guarded(shared, self._batch)
            self._own_forwards()

    def _own_forwards(self) -> None:
        """Runs the passes with forwards of their own; none needs gradients of the module's own parameters."""
        self.net.requires_grad_(False)
        passes: dict[Pass, Callable[[], dict[str, Any]]] = {
            "curvature": lambda: curvature_pass(self.net, self.named, self.x, self.y),
            "noise": lambda: noise_pass(self.net, self.x, self.seed),
            "layers": lambda: layers_pass(self.net, self.seed),
            "examples": lambda: examples_pass(self.net, weighted(self.net), self.x, self.y),
            "thin": lambda: thin_pass(self.net.network, self.seed),
            "synflow": lambda: dict(zip(("flow", "flow_log_scale"), synflow_pass(self.net, self.named), strict=True)),
        }
        for name, work in passes.items():
            if name in self.wanted:
                self._guarded({name}, lambda work=work: self.found.update(work()))  # type: ignore[misc]

    def _guarded(self, passes: set[Pass] | frozenset[Pass], work: Callable[[], None]) -> None:
        """Runs a pass; what torch or a proxy raises about this network becomes the problem of its passes."""
        try:
            work()
        except UnscorableError as fault:
            self.problems.update(dict.fromkeys(passes, str(fault)))
        except (RuntimeError, ValueError, ArithmeticError, MemoryError) as fault:  # out of memory, one value a channel
            says = str(fault).splitlines()[0] if str(fault) else ""
            self.problems.update(dict.fromkeys(passes, f"{type(fault).__name__}: {says}"))

    # -- one forward of the batch and what is read off it

    def _batch(self) -> None:
        """Runs the forward and the backwards over it."""
        wanted = self.wanted
        outs: dict[str, Tensor] = {}
        ends: dict[int, Tensor] = {}
        logits, x = self._forward(outs, ends)
        values = [ends[index] for index in self.net.network.blocks if index in ends]
        if "input_grad" in wanted:
            self._guarded({"input_grad"}, lambda: self._input_gradient(logits, x, bool(wanted & (LOSS | {"gains"}))))
        if "blocks" in wanted:
            self._guarded({"blocks"}, lambda: self._blocks(values))
        if "gains" in wanted:
            self._guarded({"gains"}, lambda: self.found.update(gains=gains_of(values, self.seed)))
        if wanted & LOSS:
            self._guarded(wanted & LOSS, lambda: self._loss(logits, outs))

    def _forward(self, outs: dict[str, Tensor], ends: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Runs the forward with every tap that is needed; returns the logits and the examples in their graph.

        Args:
            outs: Gets the outputs of convolutions and linear layers.
            ends: Gets the values at the ends of blocks.
        """
        wanted = self.wanted
        self.net.requires_grad_(False)  # gradients of the input and of blocks need none of a weight
        for weight in self.named.values():
            weight.requires_grad_(bool(wanted & LOSS))
        x = self.x.detach().requires_grad_(bool(wanted & {"input_grad", "gains"}))
        agreement, patterns = Agreement(), Patterns()
        watchers = [watcher for name, watcher in (("activations", agreement), ("patterns", patterns)) if name in wanted]
        with torch.set_grad_enabled(bool(wanted & (LOSS | {"input_grad", "gains"}))), ExitStack() as stack:
            stack.enter_context(gates_seen(self.net, watchers))
            if "channels" in wanted:
                stack.enter_context(outputs_kept(weighted(self.net), outs))
            if wanted & {"blocks", "gains"}:
                modules = {index: self.net.layers[index] for index in set(self.net.network.blocks)}
                stack.enter_context(outputs_kept(modules, ends))
            logits = self.net(x)
        self.found.update(agreement=agreement.counted, patterns=patterns.counts or None)
        return logits, x

    def _input_gradient(self, logits: Tensor, x: Tensor, retain: bool) -> None:
        self.found["input_grads"] = torch.autograd.grad(logits.sum(), x, retain_graph=retain, allow_unused=True,
                                                        materialize_grads=True)[0]

    def _blocks(self, values: list[Tensor]) -> None:
        if len(values) < 2:
            raise UnscorableError("the network has fewer than two blocks")
        self.found["spectra"] = tuple(spectrum_of(value.detach()) for value in values)

    def _loss(self, logits: Tensor, outs: dict[str, Tensor]) -> None:
        """Differentiates the loss of the batch, or of its halves."""
        products = Products(outs, {name: isinstance(module, nn.Linear) for name, module in weighted(self.net).items()})
        leaves = list(self.named.values())
        halves = "halves" in self.wanted and len(self.x) > 1
        parts = _parts(len(self.x), halves)
        shares = [(part.stop - part.start) / len(self.x) for part in parts]
        grads = []
        for index, part in enumerate(parts):
            products.share = shares[index]
            loss = functional.cross_entropy(logits[part], self.y[part])
            grads.append(torch.autograd.grad(loss, leaves, retain_graph=index + 1 < len(parts), allow_unused=True,
                                             materialize_grads=True))
        self.found["loss_grads"] = tuple(sum(share * each for share, each in zip(shares, column, strict=True))
                                         for column in zip(*grads, strict=True)) if halves else grads[0]
        self.found["half_grads"] = tuple(grads) if halves else None
        if "channels" in self.wanted:
            self.found["channel_products"] = products.found()


def _parts(count: int, halves: bool) -> list[slice]:
    return [slice(0, count // 2), slice(count // 2, count)] if halves else [slice(0, count)]


def collect(net: Net, x: Tensor, y: Tensor, wanted: set[Pass], seed: int = 0) -> tuple[Evidence, Problems]:
    """Runs the wanted passes once each and returns what they found, and why a pass failed.

    Args:
        net: The network; its state is the same afterwards.
        x: Examples (B, *input_shape).
        y: Labels (B,).
        wanted: Passes.
        seed: Of the noise that some passes draw.
    """
    collection = Collection(net, x, y, frozenset(wanted), seed)
    collection.run()
    return Evidence(net.network, **collection.found), collection.problems
