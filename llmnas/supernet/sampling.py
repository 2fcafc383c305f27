"""`paths_job`: the weights of a supernet trained for paths drawn at random (SPOS, FairNAS)."""

from __future__ import annotations

import time
from math import cos, pi
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmnas.network import Network
from llmnas.supernet.checkpoint import RESERVE_S, Saves, load
from llmnas.supernet.halves import halves
from llmnas.supernet.module import Active, Supernet, placed
from llmnas.supernet.payload import PathsPayload
from llmnas.train.device import choose_device
from llmnas.train.failure import TrainingError
from llmnas.train.order import Order
from llmnas.train.recipe import recipe_for
from llmnas.train.schedule import Stop
from llmnas.train.watch import LossWatch

RATE, MOMENTUM, DECAY, CLIP = 0.05, 0.9, 3e-4, 5.0
"""SGD with a cosine schedule to 0; the rate of FairNAS is .045, that of SPOS .5 at 16 times the batch."""
_CHECK_CUDA: Final = 25


def paths_job(payload: dict[str, Any], stop: Stop) -> dict[str, Any]:
    """Trains the weights and returns the history as JSON values; the weights are in the checkpoint.

    Args:
        payload: A `PathsPayload` as JSON values.
        stop: The deadline; cut by it, the weights are as far as they came.

    Raises:
        TrainingError: The loss is not finite, or not one epoch fits before the deadline.
        InputError: A checkpoint cannot be read.
    """
    task = PathsPayload.model_validate(payload)
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    return OneShot(task).run(stop)


class OneShot:
    """One training of a one-shot model in progress.

    Args:
        task: What it is told.
    """

    def __init__(self, task: PathsPayload) -> None:
        self.task = task
        self.device = choose_device(task.device).device
        self.part, _ = halves(task.data, task.seed, self.device)
        self.recipe = recipe_for(task.data, len(self.part))
        self.per_epoch = max(1, len(self.part) // self.recipe.batch)
        self.model = started(task.network, task.slots, task.seed, self.device)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.SGD(self.trained, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
        self.history: list[dict[str, float]] = []

    def run(self, stop: Stop) -> dict[str, Any]:
        """Trains until the epochs are done or the deadline comes."""
        if self.task.start is not None:
            state = load(self.task.start, self.device)
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["sgd"])
            self.history = state["history"]
        saves, cut = Saves(self.task.saves), False
        while len(self.history) < self.task.epochs:
            longest = max((one["seconds"] for one in self.history), default=0.0)
            if stop.left() < 1.1 * longest or not self._epoch(stop):
                cut = True
                break
            saves.keep(self._state, self._says(), len(self.history) >= self.task.epochs)
        if cut and self.history:
            saves.keep(self._state, self._says(), last=True)
        if not self.history:
            raise TrainingError("too_slow", "not one epoch of the supernet fits before the deadline",
                                "allow more time, or give fewer channels or cells")
        return {"history": self.history, "epochs": len(self.history), "planned": self.task.epochs, "cut": cut,
                "seconds": sum(one["seconds"] for one in self.history)}

    def _epoch(self, stop: Stop) -> bool:
        """Trains for an epoch; returns False when the deadline came in the midst of it."""
        began, epoch = time.monotonic(), len(self.history)
        watch = LossWatch(1 if self.device.type == "cpu" else _CHECK_CUDA)
        order = Order(len(self.part), self.recipe.batch, self.task.seed * 2_003 + epoch, self.device)
        chance = torch.Generator().manual_seed(self.task.seed * 2_003 + epoch)  # on the CPU: the same on every device
        total = 0.0
        self.model.train()
        for step in range(self.per_epoch):
            if stop.expired() or stop.left() < RESERVE_S:
                return False
            number = epoch * self.per_epoch + step
            for group in self.optimiser.param_groups:
                group["lr"] = 0.5 * RATE * (1 + cos(pi * number / (self.task.epochs * self.per_epoch)))
            loss = self._step(self.part.augmented(order.next(), self.recipe, order.generator), chance)
            watch.saw(loss, number)
            total += float(loss)
        watch.look((epoch + 1) * self.per_epoch)
        self.history.append({"epoch": epoch + 1, "loss": total / self.per_epoch, "seconds": time.monotonic() - began})
        return True

    def _step(self, batch: tuple[Tensor, Tensor], chance: torch.Generator) -> Tensor:
        """Takes one step on the mean gradient of the drawn paths and returns their mean loss."""
        self.optimiser.zero_grad(set_to_none=True)
        drawn = self._drawn(chance)
        total = torch.zeros((), device=self.device)
        for path in drawn:
            loss = functional.cross_entropy(self.model(batch[0], None, path), batch[1]) / len(drawn)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.optimiser.step()
        return total

    def _drawn(self, chance: torch.Generator) -> list[Active]:
        """Returns the paths of a step.

        Uniform: one. Fair: as many as a slot has ops, and each op of a slot is in one of them; a slot with fewer ops
        than others repeats its own in turn.
        """
        sizes = [len(ops) for _, ops in self.task.slots]
        if self.task.sampling == "uniform":
            return [[[int(torch.randint(size, (1,), generator=chance))] for size in sizes]]
        orders = [torch.randperm(size, generator=chance).tolist() for size in sizes]
        return [[[order[n % len(order)]] for order in orders] for n in range(max(sizes))]

    def _state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "sgd": self.optimiser.state_dict(), "history": self.history}

    def _says(self) -> str:
        return f"epoch {len(self.history)} of {self.task.epochs}: loss {self.history[-1]['loss']:.3f}"


def started(network: dict[str, Any], slots: Any, seed: int, device: torch.device) -> Supernet:
    """Returns a supernet with weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Supernet(Network.from_data(network), slots)
    return placed(model, device)
