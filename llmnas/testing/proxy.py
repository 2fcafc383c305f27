"""`ProxyContract`: what every proxy must keep, as a suite of tests.

Subclass it in a test file, as ``class TestMine(ProxyContract): name = "mine"``, for a proxy registered under that name.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, ClassVar

from llmnas.network import Draft, Network, Shape
from llmnas.proxies import PROXIES, ScoreResult, find_proxy, score, score_net

if TYPE_CHECKING:
    import torch

BATCH = 8
CLASSES = 4


def image_network() -> Network:
    """Returns a small image network with a branch, norms, a pool and a bias."""
    return _network((3, 8, 8))


def sequence_network() -> Network:
    """Returns the same network over sequences."""
    return _network((2, 16))


def dead_network() -> Network:
    """Returns a network in which nothing reaches the logits."""
    return _network((3, 8, 8), dead=True)


def _network(shape: Shape, dead: bool = False) -> Network:
    draft = Draft(shape)
    x = draft.end_block(draft.pointwise(draft.norm(draft.conv(-1, 8, 3)), "relu"))
    branches = [draft.norm(draft.conv(x, 8, 3, groups=2, bias=True)), draft.pool(x, "avg_pool", 3)]
    x = draft.pointwise(draft.add(branches), "relu")
    x = draft.end_block(draft.pointwise(x, "zero") if dead else x)
    draft.linear(draft.global_pool(draft.end_block(draft.conv(x, 12, 3, stride=2))), CLASSES)
    return draft.finish()


def batch(shape: Shape, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns noise examples (8, *shape) and labels (8,)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return (torch.randn((BATCH, *shape), generator=generator),
            torch.randint(CLASSES, (BATCH,), generator=generator))


class ProxyContract:
    """Tests of one proxy.

    Attributes:
        name: The proxy under test.
        counts_only: Whether it may score a dead network: true for sizes.
    """

    name: ClassVar[str]
    counts_only: ClassVar[bool] = False

    def _score(self, network: Network, seed: int = 0) -> ScoreResult:
        return score(network, *batch(network.input_shape), [self.name], seed)[self.name]

    def test_declaration_is_complete(self) -> None:
        """A proxy says where it misleads, where it comes from, its direction and what it costs."""
        proxy = find_proxy(self.name)
        assert proxy.validity
        assert proxy.source
        assert proxy.direction in {1, -1}
        assert proxy.cost >= 0
        assert self.name in PROXIES

    def test_same_seed_same_score(self) -> None:
        """Equal arguments give bit-equal scores, whatever the caller's generator has done in between."""
        import torch

        first = self._score(image_network())
        torch.rand(3)
        assert self._score(image_network()) == first
        assert first.value is not None

    def test_score_alone_equals_score_among_others(self) -> None:
        """Sharing passes with every other proxy does not change the score."""
        network = image_network()
        together = score(network, *batch(network.input_shape), list(PROXIES), 0)[self.name]
        alone = self._score(network)
        assert alone.value is not None
        assert together.value is not None
        assert abs(together.value - alone.value) <= 1e-5 * abs(alone.value)

    def test_state_is_restored_bit_for_bit(self) -> None:
        """Weights, buffers, gradients, modes, gradient flags and the generator are the same after scoring."""
        import torch

        from llmnas.build import build

        network = image_network()
        net = build(network, seed=0).eval()
        net.layers[0].train()  # a mixture of modes
        first = next(net.parameters())
        first.requires_grad_(False)
        first.grad = torch.ones_like(first)
        before = {key: value.clone() for key, value in net.state_dict().items()}
        modes, generator = [module.training for module in net.modules()], torch.get_rng_state()
        score_net(net, *batch(network.input_shape), [self.name])
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
        assert [module.training for module in net.modules()] == modes
        assert torch.equal(torch.get_rng_state(), generator)
        assert [p.requires_grad for p in net.parameters()] == [p is not first for p in net.parameters()]
        assert first.grad is not None
        assert torch.equal(first.grad, torch.ones_like(first))
        assert all(p.grad is None for p in net.parameters() if p is not first)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())

    def test_dead_network_is_a_typed_problem(self) -> None:
        """Where nothing reaches the logits there is a reason instead of a number, a NaN or a sentinel."""
        result = self._score(dead_network())
        if self.counts_only:
            assert result.value is not None
        else:
            assert result.value is None
            assert result.problem

    def test_sequences_are_scored(self) -> None:
        """A one-dimensional network has a finite score or a reason."""
        result = self._score(sequence_network())
        assert (result.value is None) == bool(result.problem)
        assert result.value is None or isfinite(result.value)

    def test_hostile_batch_is_finite_or_typed(self) -> None:
        """One example, and examples that are all equal, never give NaN or an exception."""
        network = image_network()
        x, y = batch(network.input_shape)
        for odd in (x[:1], x[:1].expand(BATCH, -1, -1, -1), x * float("inf")):
            result = score(network, odd, y[:len(odd)], [self.name], 0)[self.name]
            assert (result.value is None) == bool(result.problem)
            assert result.value is None or isfinite(result.value)
