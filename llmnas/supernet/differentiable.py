"""`darts_job`: weights and architecture learnt together by gradient descent (DARTS and what came after it)."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from math import cos, pi
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from llmnas.network import Network
from llmnas.supernet import guard
from llmnas.supernet.bilevel import Loss, Weights, curvature, first_order, second_order
from llmnas.supernet.checkpoint import RESERVE_S, Saves, load
from llmnas.supernet.gates import Gates, Sampler, binary_gates, kept_mass
from llmnas.supernet.halves import halves
from llmnas.supernet.module import Active, Supernet, placed
from llmnas.supernet.payload import DartsPayload
from llmnas.train.device import choose_device
from llmnas.train.failure import TrainingError
from llmnas.train.order import Order
from llmnas.train.recipe import recipe_for
from llmnas.train.schedule import Stop
from llmnas.train.watch import LossWatch

RATE, LEAST_RATE, MOMENTUM, DECAY, CLIP = 0.025, 0.001, 0.9, 3e-4, 5.0
"""Of the weights: SGD with a cosine schedule (DARTS, appendix A.1.1)."""
ALPHA_RATE, ALPHA_BETAS, ALPHA_DECAY = 3e-4, (0.5, 0.999), 1e-3
"""Of the architecture: Adam, likewise."""
PAPER_STEPS: Final = 50 * 390
"""Steps of the paper: with fewer, α moves in larger ones, so that it can go as far."""
MOST_ALPHA_RATE: Final = 0.03
GUARDED: Final = 64
"""Examples on which the Hessian is taken, the same ones every epoch."""
_CHECK_CUDA: Final = 25


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch.

    Attributes:
        epoch: From 1.
        loss: Mean training loss of the weights' half.
        entropy: Mean entropy of the ops' distributions, 1 at the start.
        path: The derived architecture.
        skips: How many of its slots are skips.
        eigenvalue: Largest eigenvalue of the Hessian of the validation loss in α; None without a guard or the time.
        seconds: Wall seconds of the epoch.
        alpha: α.
    """

    epoch: int
    loss: float
    entropy: float
    path: tuple[int, ...]
    skips: int
    eigenvalue: float | None
    seconds: float
    alpha: list[list[float]]


def darts_job(payload: dict[str, Any], stop: Stop) -> dict[str, Any]:
    """Searches and returns α, the derived architecture and the history as JSON values.

    Args:
        payload: A `DartsPayload` as JSON values.
        stop: The deadline; cut by it, the search answers with its last whole epoch.

    Raises:
        TrainingError: The loss is not finite, or not one epoch fits before the deadline.
        InputError: Channels cannot be divided as asked, or a checkpoint cannot be read.
    """
    task = DartsPayload.model_validate(payload)
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    return Differentiable(task).run(stop)


class Differentiable:
    """One differentiable search in progress.

    Args:
        task: What it is told.
    """

    def __init__(self, task: DartsPayload) -> None:
        self.task = task
        self.device = choose_device(task.device).device
        self.train_half, self.alpha_half = halves(task.data, task.seed, self.device)
        self.recipe = recipe_for(task.data, len(self.train_half))
        self.per_epoch = max(1, len(self.train_half) // self.recipe.batch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            self.model = Supernet(Network.from_data(task.network), task.slots, task.partial)
        self.model = placed(self.model, self.device)
        self.gates = Gates(task.slots, task.gate, task.costs, self.device)
        noise = torch.randn(self.gates.mask.shape, generator=torch.Generator().manual_seed(task.seed))
        self.alpha = (1e-3 * noise).to(self.device).requires_grad_()
        self.trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.SGD(self.trained.values(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
        self.architect = self._architect()
        self.history: list[Epoch] = []
        self.stopped: str | None = None
        self.spent_s = 0.0
        self._guarded = self._guard_batch()

    def _architect(self) -> torch.optim.Adam:
        rate = min(MOST_ALPHA_RATE, ALPHA_RATE * PAPER_STEPS / (self.task.epochs * self.per_epoch))
        if self.task.paths == "one":  # no momentum and no decay: ops that were not drawn stay as they are
            return torch.optim.Adam([self.alpha], lr=rate, betas=(0.0, 0.999))
        return torch.optim.Adam([self.alpha], lr=rate, betas=ALPHA_BETAS, weight_decay=ALPHA_DECAY)

    def _guard_batch(self) -> tuple[Tensor, Tensor]:
        return next(self.alpha_half.some(GUARDED, self.task.seed).plain(GUARDED))

    # -- the search

    def run(self, stop: Stop) -> dict[str, Any]:
        """Searches until the epochs are done, the guard stops it, or the deadline comes."""
        self._restore()
        saves, cut = Saves(self.task.saves), False
        while not self._is_done():
            longest = max((one.seconds for one in self.history), default=0.0)
            if stop.left() < 1.1 * longest or not self._epoch(stop):
                cut = True
                break
            self.stopped = self._alarm()
            saves.keep(self._state, self._says(), self._is_done())
        if not self.history:
            raise TrainingError("too_slow", "not one epoch of the supernet fits before the deadline",
                                "allow more time, or give fewer channels or cells")
        return self._result(cut)

    def _is_done(self) -> bool:
        return len(self.history) >= self.task.epochs or self.stopped is not None

    def _epoch(self, stop: Stop) -> bool:
        """Trains for an epoch; returns False when the deadline came in the midst of it."""
        started, task, epoch = time.monotonic(), self.task, len(self.history)
        watch = LossWatch(1 if self.device.type == "cpu" else _CHECK_CUDA)
        orders = [Order(len(half), self.recipe.batch, (task.seed * 2_003 + epoch) * 2 + n, self.device)
                  for n, half in enumerate((self.train_half, self.alpha_half))]
        sampler = Sampler(self.gates, torch.Generator().manual_seed(task.seed * 2_003 + epoch))
        total = 0.0
        self.model.train()
        for step in range(self.per_epoch):
            if stop.expired() or stop.left() < RESERVE_S:
                return False
            progress = (epoch * self.per_epoch + step) / (task.epochs * self.per_epoch)
            train, validation = (half.augmented(order.next(), self.recipe, order.generator) for half, order in
                                 zip((self.train_half, self.alpha_half), orders, strict=True))
            self._step_architecture(train, validation, progress, sampler)
            loss = self._step_weights(train, progress, sampler)
            watch.saw(loss, epoch * self.per_epoch + step)
            total += float(loss)
        watch.look((epoch + 1) * self.per_epoch)
        self._record(total / self.per_epoch, started, stop)
        return True

    def _step_weights(self, batch: tuple[Tensor, Tensor], progress: float, sampler: Sampler) -> Tensor:
        """Takes one step of the weights on a batch of their half and returns the loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(progress)
        drawn = sampler.draw(self.alpha, 1) if self.task.paths == "one" else None
        gates = None if drawn is not None else self.gates(self.alpha.detach())
        loss = functional.cross_entropy(self.model(batch[0], gates, drawn, self._auxiliary(progress)), batch[1])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(list(self.trained.values()), CLIP)
        self.optimiser.step()
        return loss.detach()

    def _step_architecture(self, train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], progress: float,
                           sampler: Sampler) -> None:
        """Takes one step of α on a batch of its half."""
        weights, alpha, auxiliary = self._weights(), self.alpha.detach(), self._auxiliary(progress)
        if self.task.paths == "one":
            self._step_pairs(validation, weights, auxiliary, sampler)
            return
        judged = self._penalised(self.loss(validation, auxiliary))
        if self.task.order == 1:
            slope = first_order(judged, weights, alpha)
        else:
            slope = second_order(self.loss(train, auxiliary), judged, weights, alpha, self._velocity(),
                                 self._rate(progress), MOMENTUM, DECAY)
        self.alpha.grad = slope
        self.architect.step()

    def _step_pairs(self, batch: tuple[Tensor, Tensor], weights: Weights, auxiliary: float, sampler: Sampler) -> None:
        """Takes one step on two drawn ops of each slot, of which one is open (ProxylessNAS)."""
        drawn = sampler.draw(self.alpha, 2)
        opened = torch.tensor(sampler.choose(self.alpha, drawn), device=self.device)
        pairs, before = torch.tensor(drawn, device=self.device), self.alpha.detach().clone()

        def open_loss(w: Weights, a: Tensor) -> Tensor:
            return self._entropy(w, batch, binary_gates(a, pairs, opened), drawn, auxiliary)

        slope = first_order(self._penalised(open_loss), weights, before)
        inside = torch.zeros_like(slope, dtype=torch.bool).scatter(1, pairs, True)
        self.alpha.grad = slope * inside
        self.architect.step()
        self.alpha.data = kept_mass(before, self.alpha.detach(), pairs)

    # -- losses

    def loss(self, batch: tuple[Tensor, Tensor], auxiliary: float) -> Loss:
        """Returns the cross-entropy on a batch as a function of weights and α, all candidates running."""
        return lambda weights, alpha: self._entropy(weights, batch, self.gates(alpha), None, auxiliary)

    def _entropy(self, weights: Weights, batch: tuple[Tensor, Tensor], gates: Tensor, active: Active | None,
                 auxiliary: float) -> Tensor:
        logits: Tensor = functional_call(self.model, weights, (batch[0], gates, active, auxiliary))
        return functional.cross_entropy(logits, batch[1])

    def _penalised(self, loss: Loss) -> Loss:
        return lambda weights, alpha: loss(weights, alpha) + self.gates.penalty(alpha, self.task.entropy,
                                                                                self.task.latency)

    def _weights(self) -> Weights:
        return {name: p.detach() for name, p in self.trained.items()}

    def _velocity(self) -> Weights:
        state = self.optimiser.state
        return {name: state[p]["momentum_buffer"] for name, p in self.trained.items()
                if state.get(p, {}).get("momentum_buffer") is not None}

    def _rate(self, progress: float) -> float:
        return LEAST_RATE + 0.5 * (RATE - LEAST_RATE) * (1 + cos(pi * progress))

    def _auxiliary(self, progress: float) -> float:
        """Returns the weight of the skip that fades away, 1 to 0 (DARTS-, arXiv 2009.01027, section 3.3)."""
        return 1.0 - progress if self.task.skip_decay else 0.0

    # -- what is known after an epoch

    def _record(self, loss: float, started: float, stop: Stop) -> None:
        alpha = self.alpha.detach()
        path = self.gates.derived(alpha)
        skips = sum(place == skip for place, skip in zip(path, self.model.skips, strict=True))
        # the Hessian costs about half of a small epoch: near the deadline the epoch counts for more than its eigenvalue
        looks = self.task.guard != "off" and stop.left() > RESERVE_S + time.monotonic() - started
        eigenvalue = self._eigenvalue() if looks else None
        seconds = time.monotonic() - started
        self.spent_s += seconds
        self.history.append(Epoch(len(self.history) + 1, loss, float(self.gates.entropy(alpha)), path, skips,
                                  eigenvalue, seconds, self.gates.lists(alpha)))

    def _eigenvalue(self) -> float:
        """Returns the largest eigenvalue of the Hessian of the validation loss in α, on the guard's batch."""
        auxiliary = self._auxiliary((len(self.history) + 1) / self.task.epochs)
        loss, weights, alpha = self.loss(self._guarded, auxiliary), self._weights(), self.alpha.detach()
        start = torch.randn(alpha.shape, generator=torch.Generator().manual_seed(0)).to(self.device) * self.gates.mask
        return guard.largest_eigenvalue(lambda v: curvature(loss, weights, alpha, v), start)

    def _alarm(self) -> str | None:
        """Returns why the guard stops the search; None when it goes on."""
        if self.task.guard != "stop":
            return None
        if guard.is_rising(self._eigenvalues()):
            return "eigenvalue"
        if guard.is_filled(self.history[-1].skips, len(self.task.slots)):
            return "skips"
        return None

    def _eigenvalues(self) -> list[float]:
        return [one.eigenvalue for one in self.history if one.eigenvalue is not None]

    def _says(self) -> str:
        last = self.history[-1]
        lead = "" if last.eigenvalue is None else f", largest eigenvalue {last.eigenvalue:.3g}"
        return (f"epoch {last.epoch} of {self.task.epochs}: loss {last.loss:.3f}, {last.skips} of "
                f"{len(self.task.slots)} skips{lead}")

    def _answer(self) -> Epoch:
        """Returns the epoch whose α counts: the last one, or the one that the guard goes back to."""
        back = {"eigenvalue": guard.BACK, "skips": 1}.get(self.stopped or "", 0)
        return self.history[max(0, len(self.history) - 1 - back)]

    def _result(self, cut: bool) -> dict[str, Any]:
        answer = self._answer()
        alpha = torch.zeros(self.gates.mask.shape)
        for row, values in zip(alpha, answer.alpha, strict=True):
            row[:len(values)] = torch.tensor(values)
        probabilities = self.gates.lists(self.gates.probabilities(alpha.to(self.device)))
        rises = [guard.rise(self._eigenvalues()[:n]) for n in range(1, len(self._eigenvalues()) + 1)]
        history = [{name: value for name, value in asdict(one).items() if name != "alpha"} for one in self.history]
        return {"alpha": answer.alpha, "probabilities": probabilities, "path": list(answer.path), "history": history,
                "epoch": answer.epoch, "epochs": len(self.history), "planned": self.task.epochs, "cut": cut,
                "stopped": self.stopped, "rises": rises, "skips": answer.skips, "seconds": self.spent_s}

    # -- checkpoints

    def _state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "sgd": self.optimiser.state_dict(), "alpha": self.alpha.detach(),
                "adam": self.architect.state_dict(), "history": [asdict(one) for one in self.history],
                "stopped": self.stopped, "seconds": self.spent_s}

    def _restore(self) -> None:
        """Goes on from a checkpoint, if there is one, as if nothing had happened."""
        if self.task.start is None:
            return
        state = load(self.task.start, self.device)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["sgd"])
        self.alpha.data = state["alpha"]
        self.architect.load_state_dict(state["adam"])
        self.history = [Epoch(**{**one, "path": tuple(one["path"])}) for one in state["history"]]
        self.stopped, self.spent_s = state["stopped"], state["seconds"]
