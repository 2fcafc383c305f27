"""`train`: one training of one network by the fixed recipe, as a job for a child process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmnas.build import build
from llmnas.data import read
from llmnas.errors import InputError
from llmnas.network import Network
from llmnas.records import Trained
from llmnas.train.average import Average
from llmnas.train.batches import Batches, chosen
from llmnas.train.device import choose_device, compiles
from llmnas.train.failure import TrainingError
from llmnas.train.metrics import score
from llmnas.train.order import Order
from llmnas.train.payload import TrainPayload
from llmnas.train.recipe import Recipe, recipe_for
from llmnas.train.schedule import Clock, Stop
from llmnas.train.watch import LossWatch

EVAL_BATCH: Final = 256
PROBE: Final = 32
"""Examples used to measure, before the training, how long a validation takes."""
VALIDATIONS: Final = 10
"""Validations over a training of more epochs than this, or by time."""
MARGIN: Final = 1.3
"""Factor on measured times that are reserved."""
SPARE_S: Final = 0.1
"""Seconds reserved for writing weights and the result."""
PROGRESS_S: Final = 2.0
_CHECK_CUDA: Final = 25  # steps between looks at the loss on CUDA, each of which waits for the device


def train(payload: dict[str, Any], stop: Stop) -> dict[str, Any]:
    """Trains a network and returns a `Trained` as JSON values.

    Args:
        payload: A `TrainPayload` as JSON values.
        stop: The deadline. Cut by it, a training still validates what it has and says ``cut``.

    Raises:
        TrainingError: The loss is not finite, memory is exhausted, or not one step fits before the deadline.
        InputError: The data or the initial weights cannot be used.
    """
    started = time.monotonic()
    task = TrainPayload.model_validate(payload)
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    try:
        return _Training(task, stop, started).run().model_dump(mode="json")
    except (MemoryError, RuntimeError) as fault:  # torch.OutOfMemoryError is a RuntimeError
        if isinstance(fault, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(fault):
            says = str(fault).splitlines()[0] if str(fault) else "no memory"
            raise TrainingError("out_of_memory", f"memory ran out: {says}") from fault
        raise


class _Training:
    """One training in progress."""

    def __init__(self, task: TrainPayload, stop: Stop, started: float) -> None:
        self.task = task
        self.started = started
        self.device = choose_device(task.device)
        self.train_part, self.val_part = _loaded(task, self.device.device)
        self.recipe = recipe_for(task.data, len(self.train_part))
        self.per_epoch = max(1, len(self.train_part) // self.recipe.batch)
        self.model = _started_from(task, self.device.device)
        self.average = Average(self.model)
        self.forward: Callable[[Tensor], Tensor] = self.model
        if compiles(self.device, task.time_limit_s):
            self.forward = torch.compile(self.model)
        self.optimiser = _optimiser(self.model, self.recipe)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.device.scales)
        self.eval_s = self._probed_eval_s()
        self.clock = Clock(max(1, round(task.epochs * self.per_epoch)), started, task.time_limit_s, stop,
                           self._reserve_s())
        self.curve: list[float] = []
        self.loss = float("nan")
        self._valued = (0, (float("nan"), float("nan")))  # step, and what was measured there
        self._told = 0.0

    def run(self) -> Trained:
        """Trains to the end or the cut, and scores the result."""
        self._fit()
        if self.clock.step == 0:
            raise TrainingError("too_slow", f"not one step fits: a validation alone takes {self.eval_s:.1f} s",
                                 "allow more time, or propose a smaller network")
        val_score, val_loss = self._validated()
        test_score, test_loss = self._tested() if self.task.test else (None, None)
        if self.task.weights is not None:
            _save(self.average.module, Path(self.task.weights))
        return Trained(metric=self.task.metric, val_score=val_score, val_loss=val_loss, test_score=test_score,
                       test_loss=test_loss, epochs=round(self.clock.step / self.per_epoch, 4),
                       seconds=time.monotonic() - self.started, seed=self.task.seed, curve=tuple(self.curve),
                       cut=self.clock.cut, examples=self.clock.step * self.recipe.batch, weights=self.task.weights)

    def _fit(self) -> None:
        clock, watch = self.clock, LossWatch(1 if self.device.device.type == "cpu" else _CHECK_CUDA)
        order = Order(len(self.train_part), self.recipe.batch, self.task.seed, self.device.device)
        due = self._validation_points()
        self.model.train()
        clock.resume()
        while not clock.over():
            x, y = self.train_part.augmented(order.next(), self.recipe, order.generator)
            self.loss = watch.saw(self._step(x, y), clock.step)
            clock.tick()
            progress = clock.progress()
            if due and progress >= due[0] and clock.step < clock.steps:
                due = [point for point in due if point > progress]
                self._validated()
                clock.resume()
            elif time.monotonic() - self._told > PROGRESS_S:
                self._tell(None)
        watch.look(clock.step)

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        """Takes one step of the optimiser, and of the average, and returns the loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.lr(self.clock.progress())
        with self._precision():
            loss = functional.cross_entropy(self.forward(x), y, label_smoothing=self.recipe.smoothing)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.average.follow(self.recipe.decay(self.clock.step))
        return loss.detach()

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.device.type, self.device.amp, enabled=self.device.amp is not None)

    def _validation_points(self) -> list[float]:
        """Returns at what progress to validate, before the last validation that always comes.

        Every epoch of a short training, `VALIDATIONS` times in a longer one; by time only as often as a twentieth
        of the time allows.
        """
        count = VALIDATIONS
        if self.task.validations is not None:
            count = self.task.validations
        elif self.task.time_limit_s is None:
            count = min(VALIDATIONS, max(1, round(self.task.epochs)))
        else:
            count = min(count, int(0.05 * self.task.time_limit_s / max(self.eval_s, 1e-6)))
        return [point / count for point in range(1, count)]

    def _probed_eval_s(self) -> float:
        """Returns the seconds a validation will take, by a small part of it (which also warms up)."""
        x, _ = next(iter(self.val_part.plain(PROBE)))
        with torch.inference_mode(), self._precision():
            self.average.module(x)
            start = time.monotonic()
            self.average.module(x).argmax(1).tolist()  # waits for the device
        return (time.monotonic() - start) * len(self.val_part) / len(x)

    def _reserve_s(self) -> float:
        share = 1.0 + (self.task.data.sizes["test"] / len(self.val_part) if self.task.test else 0.0)
        return MARGIN * self.eval_s * share + SPARE_S

    def _validated(self) -> tuple[float, float]:
        """Returns score and loss on the validation part; measured once for the same weights.

        So a training cut right after a validation does not need the time for another.
        """
        if self._valued[0] == self.clock.step:
            return self._valued[1]
        start = time.monotonic()
        found = self._scored(self.val_part)
        self.eval_s = time.monotonic() - start
        self.clock.reserve_s = self._reserve_s()
        if not np.isfinite(found[1]):
            raise TrainingError("diverged", f"diverged at step {self.clock.step}: the validation loss is {found[1]}")
        self._valued = (self.clock.step, found)
        self.curve.append(found[0])
        self._tell(found[0])
        return found

    def _tested(self) -> tuple[float, float]:
        reason = f"final training, seed {self.task.seed}, {self.clock.step} steps"
        x, y = read(self.task.data, "test", reason=reason)
        return self._scored(Batches(x, y, self.task.data, self.device.device))

    def _scored(self, part: Batches) -> tuple[float, float]:
        """Returns score and cross-entropy of the averaged weights on a part."""
        outputs: list[Tensor] = []
        with torch.inference_mode(), self._precision():
            for x, _ in part.plain(EVAL_BATCH):
                outputs.append(self.average.module(x).float())
        logits = torch.cat(outputs)
        loss = float(functional.cross_entropy(logits, part.y))
        return score(self.task.metric, part.y.cpu().numpy(), logits.argmax(1).cpu().numpy(),
                     self.task.data.classes), loss

    def _tell(self, val: float | None) -> None:
        self._told = time.monotonic()
        if self.task.progress is None:
            return
        line = {"epoch": round(self.clock.step / self.per_epoch, 3), "step": self.clock.step,
                "steps": self.clock.steps, "val": val, "loss": self.loss,
                "t": round(self._told - self.started, 3)}
        with Path(self.task.progress).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _loaded(task: TrainPayload, device: torch.device) -> tuple[Batches, Batches]:
    x, y = read(task.data, "train")
    rows = chosen(y, task.fraction)
    part = (x, y) if len(rows) == len(y) else (x[rows], y[rows])
    return Batches(*part, task.data, device), Batches(*read(task.data, "val"), task.data, device)


def _started_from(task: TrainPayload, device: torch.device) -> nn.Module:
    network = Network.from_data(task.network)
    if network.input_shape != task.data.shape or network.classes != task.data.classes:
        raise InputError(f"the network maps {network.input_shape} to {network.classes} classes, the data are "
                         f"{task.data.shape} with {task.data.classes} classes", "build the network for these data")
    model: nn.Module = build(network, task.seed)
    if task.init_weights is not None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            model.load_state_dict(load_file(task.init_weights))
        except (OSError, RuntimeError, SafetensorError) as fault:
            raise InputError(f"{task.init_weights}: not weights of this network: {fault}") from fault
    if network.dims == 2:
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
    return model.to(device)


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe.weight_decay},
              {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.peak_lr, momentum=recipe.momentum, nesterov=True)


def _save(model: nn.Module, path: Path) -> None:
    """Writes weights, whole or not at all."""
    from safetensors.torch import save_file

    partial = path.with_name(path.name + ".tmp")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
    partial.replace(path)
