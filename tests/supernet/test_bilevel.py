"""The gradients of α against finite differences, and the eigenvalue against the whole Hessian, in float64."""

import pytest
import torch
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn import functional

from llmnas.network import Network
from llmnas.supernet import guard
from llmnas.supernet.bilevel import curvature, first_order, second_order
from llmnas.supernet.gates import Gates, Sampler, binary_gates, kept_mass
from llmnas.supernet.module import Supernet
from tests.supernet.tiny import supernet

RATE, MOMENTUM, DECAY = 0.1, 0.9, 3e-4


@pytest.fixture(scope="module")
def problem():
    """Returns (training loss, validation loss, weights, α, velocity) of a tiny supernet."""
    task, _, data = supernet("conv1d_cell", (1, 12), 2)
    torch.manual_seed(0)
    model = Supernet(Network.from_data(task["network"]), data.slots).double()
    gates = Gates(data.slots)
    batches = [(torch.randn(8, 1, 12, dtype=torch.float64), torch.randint(10, (8,))) for _ in range(2)]
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def loss(batch):
        return lambda w, a: functional.cross_entropy(functional_call(model, w, (batch[0], gates(a))), batch[1])

    velocity = {name: 0.01 * torch.randn_like(p) for name, p in weights.items()}
    alpha = 0.5 * torch.randn(6, 4, dtype=torch.float64)
    return loss(batches[0]), loss(batches[1]), weights, alpha, velocity


def stepped(train, weights, alpha, velocity):
    """Returns the weights after one step of the optimiser."""
    slope = torch.func.grad(train)(weights, alpha)
    return {n: w - RATE * (MOMENTUM * velocity[n] + slope[n] + DECAY * w) for n, w in weights.items()}


def differences(of, alpha, size=1e-6):
    """Returns central differences of a function of α."""
    found = torch.zeros_like(alpha)
    for at in range(alpha.numel()):
        move = torch.zeros(alpha.numel(), dtype=alpha.dtype)
        move[at] = size
        move = move.view_as(alpha)
        found.view(-1)[at] = (of(alpha + move) - of(alpha - move)) / (2 * size)
    return found


def test_first_order_is_the_gradient(problem):
    _, validation, weights, alpha, _ = problem
    torch.testing.assert_close(first_order(validation, weights, alpha),
                               differences(lambda a: validation(weights, a), alpha), rtol=1e-5, atol=1e-8)


def test_second_order_is_the_gradient_through_the_step(problem):
    """Differences of L_val(w'(α), α), the step taken anew for each α."""
    train, validation, weights, alpha, velocity = problem
    exact = second_order(train, validation, weights, alpha, velocity, RATE, MOMENTUM, DECAY)
    through = differences(lambda a: validation(stepped(train, weights, a, velocity), a), alpha)
    torch.testing.assert_close(exact, through, rtol=1e-4, atol=1e-8)
    assert not torch.allclose(exact, first_order(validation, weights, alpha), rtol=1e-3)


def test_second_order_agrees_with_the_finite_differences_of_the_paper(problem):
    """Equation 8 with radius R → 0; at the paper's R‖∇_w' L_val‖ = .01 this little network is past a kink of a ReLU."""
    train, validation, weights, alpha, velocity = problem
    ahead = stepped(train, weights, alpha, velocity)
    vector, direct = torch.func.grad(validation, argnums=(0, 1))(ahead, alpha)
    exact = second_order(train, validation, weights, alpha, velocity, RATE, MOMENTUM, DECAY)

    def error(length):
        radius = length / torch.sqrt(sum((v**2).sum() for v in vector.values()))
        up, down = (torch.func.grad(train, argnums=1)({n: w + sign * radius * vector[n] for n, w in weights.items()},
                                                      alpha) for sign in (1, -1))
        return float((direct - RATE * (up - down) / (2 * radius) - exact).norm() / exact.norm())

    assert error(1e-4) < error(1e-3) < 1e-4


def test_largest_eigenvalue_is_that_of_the_hessian(problem):
    _, validation, weights, alpha, _ = problem
    whole = hessian(lambda a: validation(weights, a.view(6, 4)), alpha.flatten())
    values = torch.linalg.eigvalsh(whole)
    start = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = guard.largest_eigenvalue(lambda v: curvature(validation, weights, alpha, v), start, 100, 1e-7)
    assert found == pytest.approx(float(values[-1]), rel=1e-3)


def test_largest_not_largest_absolute():
    """A matrix with a strong negative eigenvalue."""
    turned, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    matrix = turned @ torch.diag(torch.tensor([-5.0, -1.0, 0.5, 2.0], dtype=torch.float64)) @ turned.T
    found = guard.largest_eigenvalue(lambda v: matrix @ v, torch.ones(4, dtype=torch.float64), 200, 1e-12)
    assert found == pytest.approx(2.0, rel=1e-6)
    assert guard.largest_eigenvalue(lambda v: 0 * v, torch.ones(3)) == 0.0


def test_the_guard_compares_windows():
    """Means of five, four epochs apart; nothing before there are nine, and no ratio to what is not positive."""
    assert guard.rise([1.0] * 8) is None
    assert guard.rise([1.0] * 5 + [2.0] * 4) == pytest.approx(1.8)
    assert guard.is_rising([1.0] * 5 + [2.0] * 4)
    assert not guard.is_rising([1.0] * 20)
    assert guard.rise([-1.0] * 9) is None
    assert guard.is_filled(4, 6)
    assert not guard.is_filled(3, 6)


SLOTS = (("a", ("none", "skip_connect", "conv")), ("b", ("skip_connect", "conv")))


def test_gates_leave_out_what_is_no_op():
    alpha = torch.tensor([[3.0, 1.0, 2.0], [0.0, 0.0, 9.0]])
    soft, open_ = Gates(SLOTS), Gates(SLOTS, "sigmoid")
    torch.testing.assert_close(soft(alpha)[1], torch.tensor([0.5, 0.5, 0.0]))
    torch.testing.assert_close(open_(alpha)[0], torch.sigmoid(alpha[0]))
    assert float(open_(alpha)[1, 2]) == 0.0
    assert soft.derived(alpha) == open_.derived(alpha) == (2, 0)  # never none, though it is the strongest
    assert [len(row) for row in soft.lists(alpha)] == [3, 2]
    torch.testing.assert_close(open_.probabilities(alpha).sum(1), torch.ones(2))


def test_terms_of_the_loss():
    """Entropy is 1 for equal ops and 0 for one; the cost is an expectation; the zero-one loss is least when decided."""
    gates = Gates(SLOTS, costs=((0.0, 0.1, 0.6), (0.1, 0.3)))
    flat, sharp = torch.zeros(2, 3), torch.tensor([[0.0, 0.0, 99.0], [99.0, 0.0, 0.0]])
    assert float(gates.entropy(flat)) == pytest.approx(1.0)
    assert float(gates.entropy(sharp)) == pytest.approx(0.0, abs=1e-6)
    assert float(gates.expected_cost(flat)) == pytest.approx(0.7 / 3 + 0.2)
    assert float(gates.expected_cost(sharp)) == pytest.approx(0.7)
    assert float(gates.penalty(flat, 0.5, 2.0)) == pytest.approx(0.5 + 2 * (0.7 / 3 + 0.2))
    assert float(gates.penalty(flat, 0.0, 0.0)) == 0.0
    open_ = Gates(SLOTS, "sigmoid")
    assert float(open_.undecided(flat)) == 0.0
    assert float(open_.undecided(sharp * 2 - 99)) == pytest.approx(-0.25)


def test_binary_gates_open_one_and_learn_of_both():
    """Forward one-hot, backward the softmax of the pair; what was not drawn keeps its probability."""
    alpha = torch.tensor([[0.1, 0.7, -0.4]], dtype=torch.float64)
    pairs, opened = torch.tensor([[1, 2]]), torch.tensor([2])
    weight = torch.tensor([[5.0, 1.0, 3.0]], dtype=torch.float64)
    assert binary_gates(alpha, pairs, opened).tolist() == [[0.0, 0.0, 1.0]]
    slope = torch.func.grad(lambda a: (binary_gates(a, pairs, opened) * weight).sum())(alpha)
    soft = torch.func.grad(lambda a: (torch.softmax(a[:, 1:], 1) * weight[:, 1:]).sum())(alpha)
    torch.testing.assert_close(slope, soft)
    after = kept_mass(alpha, alpha - slope, pairs)
    before = torch.softmax(alpha, 1)
    torch.testing.assert_close(torch.softmax(after, 1)[:, 0], before[:, 0])
    assert float(torch.softmax(after, 1)[0, 1]) != pytest.approx(float(before[0, 1]))


def test_draws_follow_the_probabilities():
    gates = Gates(SLOTS)
    sampler = Sampler(gates, torch.Generator().manual_seed(0))
    alpha = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 50.0]])
    drawn = [sampler.draw(alpha, 2) for _ in range(300)]
    assert all(len(set(pair)) == 2 for one in drawn for pair in one)
    assert all(set(one[1]) == {0, 1} for one in drawn)
    singles = [sampler.draw(alpha, 1)[0][0] for _ in range(600)]
    assert singles.count(2) / 600 == pytest.approx(float(torch.softmax(alpha[0], 0)[2]), abs=0.06)
