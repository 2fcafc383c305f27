"""`Supernet`: the torch module of a supernet, of which all candidates, or one of each place, run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from llmnas.build import Net, build
from llmnas.network import Network
from llmnas.supernet.places import BETWEEN, Decisions, Place, places

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
SKIP = ("skip_connect", "identity")
Active = Sequence[Sequence[int]]
"""Per slot the places of the ops that run."""


class Choice(nn.Module):
    """The candidates of one place, added up by their gates.

    Args:
        place: What there is to choose.
        skip: Place of the op that passes its input on; None where there is none.
        parts: Parts of the channels of which the candidates get the first; the others pass (PC-DARTS).
    """

    def __init__(self, place: Place, skip: int | None, parts: int) -> None:
        super().__init__()
        self.slot, self.skip, self.parts = place.slot, skip, parts
        self.candidates = nn.ModuleList(Net(candidate) for candidate in place.candidates)
        self._zero = [all(layer.kind == "zero" for layer in candidate.layers) for candidate in place.candidates]

    def forward(self, x: Tensor, gates: Tensor | None, active: Active | None, auxiliary: float) -> Tensor:
        """Returns the weighted sum of what the active candidates give, of shape (B, C, …).

        Args:
            x: Input (B, C, …).
            gates: Weights (slots, ops); None for 1.
            active: Which candidates run; None for all.
            auxiliary: Weight of an additional skip (DARTS-, arXiv 2009.01027, equation 3).
        """
        part = x if self.parts == 1 else x[:, :x.shape[1] // self.parts]
        total: Tensor | None = part * auxiliary if auxiliary and self.skip is not None else None
        for op in range(len(self.candidates)) if active is None else active[self.slot]:
            if self._zero[op]:
                continue
            term = self.candidates[op](part)
            term = term if gates is None else term * gates[self.slot, op]
            total = term if total is None else total + term
        total = part.mul(0.0) if total is None else total
        if self.parts == 1:
            return total
        return shuffled(torch.cat([total, x[:, x.shape[1] // self.parts:]], dim=1), self.parts)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Returns x (B, C, …) with channels mixed over `groups` groups, so that each part gets another one next time."""
    batch, channels, *space = x.shape
    return x.reshape(batch, groups, channels // groups, *space).transpose(1, 2).reshape(batch, channels, *space)


class Supernet(nn.Module):
    """A supernet.

    Batch normalisation uses the statistics of the batch, always: those of the past belong to other weights of the
    architecture. In the candidates it has no scale and shift of its own, which would undo the gates (DARTS, section
    3.1.1 of the paper).

    Args:
        network: Its layers.
        slots: Its decisions.
        parts: Parts of the channels of which candidates get one.

    Attributes:
        slots: Its decisions.
        skips: Per decision the place of the op that passes its input on, or None.
    """

    def __init__(self, network: Network, slots: Decisions, parts: int = 1) -> None:
        super().__init__()
        self.slots = slots
        self.skips = [next((n for n, op in enumerate(ops) if op in SKIP), None) for _, ops in slots]
        found = places(network, slots, parts)
        self._run_at = {min(place.ends): n for n, place in enumerate(found)}
        self._value_of = {end: min(place.ends) for place in found for end in place.ends}
        self._sources = [place.source for place in found]
        self.choices = nn.ModuleList(Choice(place, self.skips[place.slot], parts) for place in found)
        self.fixed = nn.ModuleDict({str(i): module for i, module in enumerate(_modules(network))
                                    if BETWEEN not in network.layers[i].node})
        self._reads = [self._read(layer.inputs) for layer in network.layers]
        self._last = len(network.layers) - 1
        for norm in self.norms():
            _forget(norm)
        for norm in (one for one in self.choices.modules() if isinstance(one, NORMS)):
            norm.requires_grad_(False)

    def _read(self, inputs: Sequence[int]) -> list[int]:
        """Returns what a layer reads, all candidates of a place being one value."""
        return list(dict.fromkeys(self._value_of.get(source, source) for source in inputs))

    def forward(self, x: Tensor, gates: Tensor | None = None, active: Active | None = None,
                auxiliary: float = 0.0) -> Tensor:
        """Returns logits (B, classes) of examples (B, *input_shape); see `Choice.forward`."""
        values: dict[int, Tensor] = {-1: x}
        for index in range(self._last + 1):
            if index in self._run_at:
                place = self._run_at[index]
                source = self._value_of.get(self._sources[place], self._sources[place])
                values[index] = self.choices[place](values[source], gates, active, auxiliary)
            elif str(index) in self.fixed:
                read = [values[source] for source in self._reads[index]]
                values[index] = read[0] if self._is_sum_of_one(index) else self.fixed[str(index)](*read)
        return values[self._last]

    def _is_sum_of_one(self, index: int) -> bool:
        return len(self._reads[index]) == 1 and type(self.fixed[str(index)]).__name__ == "Add"

    def norms(self) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
        """Returns every batch normalisation."""
        return [module for module in self.modules() if isinstance(module, NORMS)]

    @torch.no_grad()
    def recalibrate(self, batches: Sequence[Tensor], active: Active) -> None:
        """Gives batch normalisation the statistics of one path: the mean over batches; ends in evaluation mode.

        Statistics gathered in training belong to other paths (SPOS, section 3.4).
        """
        for norm in self.norms():
            _remember(norm)
        self.train()
        for x in batches:
            self(x, None, active)
        self.eval()


def _modules(network: Network) -> nn.ModuleList:
    """Returns the modules of all layers; those of candidates are left unused, so their weights are made small first."""
    return build(_without_candidates(network)).layers


def _without_candidates(network: Network) -> Network:
    layers = [layer._replace(kind="identity") if BETWEEN in layer.node else layer for layer in network.layers]
    return Network(network.input_shape, tuple(layers))


def _forget(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    norm.track_running_stats = False
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def _remember(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    norm.track_running_stats, norm.momentum = True, None  # None: the plain mean over batches
    norm.running_mean = torch.zeros(norm.num_features, device=norm.weight.device, dtype=norm.weight.dtype)
    norm.running_var = torch.ones_like(norm.running_mean)
    norm.num_batches_tracked = torch.tensor(0, device=norm.weight.device)


def placed(model: Supernet, device: torch.device) -> Supernet:
    """Returns the supernet on a device, in the memory order that convolutions are fast with."""
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
    return model.to(device)
