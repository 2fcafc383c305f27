"""The evaluator: from names of proxies to passes to scores."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from llmnas.errors import InputError
from llmnas.network import Network
from llmnas.proxies.base import Evidence, Pass, Proxy, ScoreResult, UnscorableError, find_proxy

if TYPE_CHECKING:
    from llmnas.build import Net


DEFAULT_SET: Final = ("params", "flops", "l2_norm", "plain", "grad_norm", "snip", "fisher", "synflow", "jacov", "nwot",
                      "epe_nas", "zen", "zico", "meco", "swap", "swap_reg", "az_expressivity",
                      "az_progressivity", "az_trainability")
"""Everything that shares the forward of one batch, or is cheap beside it: all but grasp, gradsign and te_nas."""


def score(network: Network, batch_x: Any, batch_y: Any, names: Sequence[str], seed: int = 0, *,
          device: str = "cpu") -> dict[str, ScoreResult]:
    """Returns the scores of one network at torch's default initialisation.

    Equal arguments give equal scores on one machine (on the CPU; CUDA convolutions may differ in the last digits).

    Args:
        network: What to score.
        batch_x: Examples (B, *input_shape), normalised: an array or tensor, float. May be None when no proxy in
            `names` needs data.
        batch_y: Labels (B,), integers; likewise.
        names: Proxies.
        seed: Seed of the initialisation; the caller's generators are left untouched.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: Unknown proxy, or a batch that does not fit the network.
    """
    chosen = [find_proxy(name) for name in names]
    if not _passes(chosen):
        return {proxy.name: _result(proxy, Evidence(network), {}) for proxy in chosen}
    import torch

    from llmnas.build import build

    net = build(network, seed).to(device)
    if network.dims == 2:  # convolutions over channels-last images take a third of the time on a CPU
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return score_net(net, batch_x, batch_y, names, seed)


def score_net(net: Net, batch_x: Any, batch_y: Any, names: Sequence[str], seed: int = 0) -> dict[str, ScoreResult]:
    """Returns the scores of a network as it is; weights, buffers, gradients, modes and generators stay as they were.

    Args:
        net: The network, on the device to use.
        batch_x: See `score`.
        batch_y: See `score`.
        names: Proxies.
        seed: Of the noise that some proxies draw, and of the weights that some put in place of the network's.

    Raises:
        InputError: Unknown proxy, or a batch that does not fit the network.
    """
    import torch

    from llmnas.proxies.passes import collect

    chosen = [find_proxy(name) for name in names]
    x = y = torch.empty(0)
    if any(proxy.data != "none" for proxy in chosen):
        device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
        x = torch.as_tensor(batch_x).to(device, torch.float32)
        y = torch.as_tensor(batch_y).to(device, torch.int64)
        _check_batch(net.network, tuple(x.shape), [int(label) for label in y.tolist()])
        if x.dim() == 4:
            x = x.contiguous(memory_format=_format(net))
    evidence, problems = collect(net, x, y, _passes(chosen), seed)
    return {proxy.name: _result(proxy, evidence, problems) for proxy in chosen}


def _format(net: Net) -> Any:
    """Returns the memory format of the network's kernels."""
    import torch

    kernels = [parameter for parameter in net.parameters() if parameter.dim() == 4 and parameter[0].numel() > 1]
    last = kernels and all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    return torch.channels_last if last else torch.contiguous_format


def nominal_examples(names: Sequence[str], batch: int = 64) -> float:
    """Returns the cost of scoring these proxies together, in forward passes of one example.

    Times the network's multiply-accumulates this is what the nominal clock charges. A backward to weights counts
    as two forwards, one to inputs or blocks as one. synflow is one example forward and backward, in double precision,
    twice as dear; the examples pass forms a gradient per example on top of two backwards.
    """
    wanted = _passes([find_proxy(name) for name in names])
    costs: dict[Pass, float] = {"halves": 2.0, "curvature": 8.0, "input_grad": 1.0, "gains": 1.0, "noise": 2.0,
                                "examples": 5.0, "layers": 4.0 / batch, "thin": 1.0 / batch, "synflow": 6.0 / batch}
    forwards = sum(cost for each, cost in costs.items() if each in wanted)
    forwards += 1.0 if wanted & _BATCH else 0.0
    forwards += 2.0 if wanted & {"backward", "halves", "channels"} else 0.0
    return forwards * batch


_BATCH: frozenset[Pass] = frozenset({"forward", "backward", "halves", "channels", "input_grad", "activations",
                                     "patterns", "blocks", "gains"})


def _passes(chosen: Sequence[Proxy]) -> set[Pass]:
    return {each for proxy in chosen for each in proxy.passes}


def _result(proxy: Proxy, evidence: Evidence, problems: dict[Pass, str]) -> ScoreResult:
    failed = next((problems[each] for each in sorted(proxy.passes) if each in problems), None)
    if failed is not None:
        return ScoreResult(value=None, problem=failed)
    try:
        value = proxy.score(evidence)
    except UnscorableError as fault:
        return ScoreResult(value=None, problem=str(fault))
    except Exception as fault:  # noqa: BLE001  # an eigensolver does not converge, or another package's formula fails
        return ScoreResult(value=None, problem=f"{type(fault).__name__}: {fault}")
    return (ScoreResult(value=value) if isfinite(value) else
            ScoreResult(value=None, problem=f"not finite: {value}"))


def _check_batch(network: Network, shape: tuple[int, ...], labels: list[int]) -> None:
    if shape[1:] != network.input_shape or shape[0] < 1:
        raise InputError(f"expected examples of shape (B, {', '.join(map(str, network.input_shape))}), got {shape}",
                         "score with data of the shape the network was made for")
    if len(labels) != shape[0]:
        raise InputError(f"expected {shape[0]} labels, got {len(labels)}", "give one label per example")
    if min(labels) < 0 or max(labels) >= network.classes:
        raise InputError(f"expected labels from 0 to {network.classes - 1}, got {min(labels)} to {max(labels)}",
                         "score with data of as many classes as the network has logits")
