"""Passes over noise: the response of the values before the pool to a small change, and the correlations of channels."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from llmnas.build import Net
from llmnas.proxies.base import UnscorableError
from llmnas.proxies.taps import outputs_kept, pool_input

CHANGE: Final = 0.01
_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d)


def noise_pass(net: Net, like: Tensor, seed: int) -> dict[str, Any]:
    """Returns ``noise_response`` and ``norm_variances``: two forwards of N(0, 1) inputs with N(0, 1) weights.

    Norms start from running variance 1 and are read after both forwards, as in the released code: the value depends
    on their momentum, which is 0.1.

    Args:
        net: The network, in train mode.
        like: The batch: its size, device and memory format are used, not its values.
        seed: Of weights and inputs.
    """
    before = pool_input(net)
    if before < 0:
        raise UnscorableError("the network does not pool over all positions before its logits")
    generator = torch.Generator(like.device).manual_seed(seed)
    state = _gaussian(net, generator)
    x = torch.empty_like(like).normal_(generator=generator)
    change = torch.empty_like(like).normal_(generator=generator)
    kept: dict[str, Tensor] = {}
    with torch.no_grad(), outputs_kept({"f": net.layers[before]}, kept):
        functional_call(net, state, (x,))
        first = kept["f"]
        functional_call(net, state, (x + CHANGE * change,))
    response = (first - kept["f"]).abs().flatten(1).sum(1).mean()
    variances = tuple(float(state[f"{name}.running_var"].mean()) for name, module in net.named_modules()
                      if isinstance(module, _NORMS))
    return {"noise_response": float(response), "norm_variances": variances}


def _gaussian(net: Net, generator: torch.Generator) -> dict[str, Tensor]:
    """Returns a state with N(0, 1) weights, biases of zero and fresh norms."""
    state = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    for name, module in net.named_modules():
        if isinstance(module, _NORMS):
            state[f"{name}.weight"].fill_(1.0)
            state[f"{name}.running_var"].fill_(1.0)
        elif (weight := state.get(f"{name}.weight")) is not None:
            weight.normal_(generator=generator)
    return state


def layers_pass(net: Net, seed: int) -> dict[str, Any]:
    """Returns ``least_correlations``, from one N(0, 1) input of twice the data's size.

    Every layer's output (C, positions) gives the smallest eigenvalue of the correlations of its channels; a constant
    channel correlates with nothing, itself included.

    Args:
        net: The network, in train mode.
        seed: Of the input.
    """
    channels, *size = net.network.input_shape
    device = next(net.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((1, channels, *(2 * side for side in size)), generator=generator).to(device)
    found: dict[tuple[int, ...], list[Tensor]] = {}
    kept: dict[int, Tensor] = {}
    with torch.no_grad(), outputs_kept(dict(enumerate(net.layers)), kept):
        net(x)
    for index in range(len(net.layers)):
        if kept[index].dim() > 2 and kept[index][0][0].numel() > 1:
            correlations = torch.corrcoef(kept[index][0].flatten(1).double()).nan_to_num(0.0, 0.0, 0.0)
            found.setdefault(tuple(correlations.shape), []).append(correlations)
    if not found:
        raise UnscorableError("no layer has more than one position")
    values = (torch.linalg.eigvalsh(torch.stack(group))[:, 0] for group in found.values())
    return {"least_correlations": tuple(float(value) for group in values for value in group)}
