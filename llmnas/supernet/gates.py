"""What turns the architecture's parameters α into weights of ops, and the terms of the loss that hold on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import torch
from torch import Tensor

from llmnas.supernet.places import Decisions

ZERO_ONE: Final = 10.0
"""Weight of FairDARTS' zero-one loss (arXiv 1911.12126, section 4.3)."""
_TINY: Final = 1e-12
Kind = Literal["softmax", "sigmoid"]


class Gates:
    """Weights of ops as a function of α.

    α is a matrix (slots, ops); where slots have different numbers of ops, the places beyond count for nothing.

    Args:
        slots: The decisions.
        kind: ``softmax`` over a slot's ops (DARTS), or ``sigmoid`` of each by itself (FairDARTS).
        costs: Latency of every op of every slot, for `expected_cost`; none for no such term.
        device: Where it is computed.

    Attributes:
        mask: Which places hold an op, (slots, ops).
    """

    def __init__(self, slots: Decisions, kind: Kind = "softmax", costs: Sequence[Sequence[float]] = (),
                 device: torch.device | None = None) -> None:
        self.slots, self.kind = slots, kind
        widest = max(len(ops) for _, ops in slots)
        self.mask = torch.tensor([[n < len(ops) for n in range(widest)] for _, ops in slots], device=device)
        self._named = torch.tensor([[n < len(ops) and ops[n] != "none" for n in range(widest)] for _, ops in slots],
                                   device=device)
        self._costs = torch.zeros(self.mask.shape, device=device)
        for row, values in zip(self._costs, costs, strict=False):
            row[:len(values)] = torch.tensor(values)

    def __call__(self, alpha: Tensor) -> Tensor:
        """Returns the weights (slots, ops)."""
        return self.probabilities(alpha) if self.kind == "softmax" else torch.sigmoid(alpha) * self.mask

    def probabilities(self, alpha: Tensor) -> Tensor:
        """Returns a distribution over each slot's ops: the softmax, or the sigmoids divided by their sum."""
        if self.kind == "softmax":
            return torch.softmax(alpha.masked_fill(~self.mask, -torch.inf), dim=1)
        open_ = torch.sigmoid(alpha) * self.mask
        return open_ / open_.sum(1, keepdim=True)

    def derived(self, alpha: Tensor) -> tuple[int, ...]:
        """Returns the strongest op of each slot other than ``none`` (DARTS, section 2.4)."""
        return tuple(self(alpha).masked_fill(~self._named, -1.0).argmax(1).tolist())

    def entropy(self, alpha: Tensor) -> Tensor:
        """Returns the mean entropy of the slots' distributions, 1 where all ops weigh the same."""
        p = self.probabilities(alpha)
        each = -(p * p.clamp_min(_TINY).log()).sum(1) / self.mask.sum(1).log()
        return each.mean()

    def expected_cost(self, alpha: Tensor) -> Tensor:
        """Returns the expected latency, as a share of the dearest network's (ProxylessNAS, equations 2 and 3)."""
        return (self.probabilities(alpha) * self._costs).sum()

    def undecided(self, alpha: Tensor) -> Tensor:
        """Returns FairDARTS' zero-one loss, - mean (σ(α) - 1/2)²; the less, the nearer each op is to 0 or 1."""
        apart = (torch.sigmoid(alpha) - 0.5).square() * self.mask
        return -apart.sum() / self.mask.sum()

    def penalty(self, alpha: Tensor, entropy: float, latency: float) -> Tensor:
        """Returns what is added to the validation loss, with these weights of its terms."""
        total = alpha.sum() * 0.0
        if entropy:
            total = total + entropy * self.entropy(alpha)
        if latency:
            total = total + latency * self.expected_cost(alpha)
        if self.kind == "sigmoid":
            total = total + ZERO_ONE * self.undecided(alpha)
        return total

    def lists(self, values: Tensor) -> list[list[float]]:
        """Returns the rows of a matrix of α's shape, each as long as its slot has ops."""
        return [row[:len(ops)] for row, (_, ops) in zip(values.tolist(), self.slots, strict=True)]


class Sampler:
    """Draws candidates from the gates, so that no more than one or two are in memory (ProxylessNAS, section 3.2).

    Args:
        gates: The gates.
        generator: Chance; on the CPU, so that the draws are the same on every device.
    """

    def __init__(self, gates: Gates, generator: torch.Generator) -> None:
        self._gates, self._generator = gates, generator

    def draw(self, alpha: Tensor, count: int) -> list[list[int]]:
        """Returns `count` different ops of each slot, drawn by their probability."""
        p = self._gates.probabilities(alpha.detach()).cpu().clamp_min(_TINY) * self._gates.mask.cpu()
        drawn: list[list[int]] = torch.multinomial(p, count, generator=self._generator).tolist()
        return drawn

    def choose(self, alpha: Tensor, pairs: Sequence[Sequence[int]]) -> list[int]:
        """Returns which op of each pair opens its gate."""
        p = torch.softmax(alpha.detach().cpu().gather(1, torch.tensor(pairs)), dim=1)
        place = torch.multinomial(p, 1, generator=self._generator)[:, 0].tolist()
        return [pair[n] for pair, n in zip(pairs, place, strict=True)]


def binary_gates(alpha: Tensor, pairs: Tensor, opened: Tensor) -> Tensor:
    """Returns gates (slots, ops) that are 1 for the open op and 0 for the other, with the gradient of the softmax.

    ∂L/∂α is estimated through ∂p/∂α of the pair's softmax with ∂L/∂g for ∂L/∂p (BinaryConnect; ProxylessNAS,
    equation 4 and appendix).

    Args:
        alpha: α.
        pairs: Two ops of each slot, (slots, 2).
        opened: The open one of each, (slots,).
    """
    p = torch.zeros_like(alpha).scatter(1, pairs, torch.softmax(alpha.gather(1, pairs), dim=1))
    hard = torch.zeros_like(alpha).scatter(1, opened[:, None], 1.0)
    return hard + p - p.detach()


def kept_mass(before: Tensor, after: Tensor, pairs: Tensor) -> Tensor:
    """Returns α after a step on pairs, each pair shifted so that the ops outside it keep their probability."""
    shift = torch.logsumexp(before.gather(1, pairs), 1) - torch.logsumexp(after.gather(1, pairs), 1)
    return after.scatter_add(1, pairs, shift[:, None].expand(-1, 2).contiguous())
