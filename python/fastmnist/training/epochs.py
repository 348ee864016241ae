"""Epochs of training, whatever is to be learnt: the one loop that there is.

What a step minimizes is an :class:`Objective`: the loss of outputs and targets in
:func:`fastmnist.train`, that and more in :func:`fastmnist.distill`.
"""

from __future__ import annotations

import math
import numbers
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import nn

from fastmnist.data.arguments import run_model
from fastmnist.data.augmentation import Augment, Augmenter, checked_augment
from fastmnist.data.batches import (
    Batch,
    BatchFn,
    check_repeatable,
    count_samples,
    iter_batches,
)
from fastmnist.data.bundle import Data
from fastmnist.data.meaning import meaning_of
from fastmnist.display.progress import ProgressBar
from fastmnist.measuring.evaluation import device_of, evaluate, in_mode
from fastmnist.measuring.metrics import ACCURACY, Metric, MetricLike, metric_of
from fastmnist.measuring.scoring import LossFn, compute_loss
from fastmnist.measuring.tally import Tally
from fastmnist.pixels import set_model_pixels
from fastmnist.rewriting.masks import apply_masks
from fastmnist.training.history import EpochRecord, History
from fastmnist.training.threads import few_threads, rows_of_a_step

OptimizerLike: TypeAlias = (
    torch.optim.Optimizer | Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
)


class Objective:
    """What a step minimizes: here the loss of outputs and targets.

    Parameters
    ----------
    loss_fn : callable or None
        None is cross entropy.
    """

    needs_targets = True

    def __init__(self, loss_fn: LossFn | None) -> None:
        self.loss_fn = loss_fn

    def of(self, model: nn.Module, batch: Batch) -> tuple[Any, torch.Tensor]:
        """Give the outputs for a batch, and the loss to go down from."""
        outputs = run_model(model, batch, "data")
        return outputs, compute_loss(self.loss_fn, outputs, batch.target)

    def parameters(self) -> list[nn.Parameter]:
        """Give what is learnt beside the model, and thrown away."""
        return []


def fit(
    model: nn.Module,
    data: Any,
    epochs: int,
    objective: Objective,
    *,
    batch_size: int = 32,
    lr: float = 1e-3,
    optimizer: OptimizerLike | None = None,
    metric: MetricLike = None,
    seed: int | None = None,
    validation: Any = None,
    device: torch.device | str | None = None,
    batch_fn: BatchFn | None = None,
    progress: bool | None = None,
    shuffle: bool = True,
    augment: Augment = None,
    beside: Any = None,
) -> History:
    """Train a model in place, as :func:`fastmnist.train` says.

    `beside` holds tensors with a value for each row of `data`, which batches carry along.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs: expected an integer of at least 1, got {epochs!r}")
    if epochs > 1:
        check_repeatable(data, "data", f"for {epochs} epochs")
        check_repeatable(validation, "validation", f"after each of {epochs} epochs")
    if not (objective.loss_fn is None or callable(objective.loss_fn)):
        raise TypeError(
            f"loss_fn: expected a function of outputs and targets, got {objective.loss_fn!r}: such "
            "as torch.nn.MSELoss()"
        )
    if seed is not None and not isinstance(seed, numbers.Integral):
        raise TypeError(f"seed: expected an integer or None, got {seed!r}")
    chosen = metric_of(metric)
    if augment is not None:
        augment = checked_augment(augment)
    if device is not None:
        model.to(device)
    optimizer = _optimizer(model, objective.parameters(), optimizer, lr)
    validation_data = _validation(validation, data)
    loop = _Loop(model, optimizer, objective, chosen)
    pixels = meaning_of(data, model).pixels
    history = History()
    samples = count_samples(data, "train")
    total = None if samples is None else samples * epochs
    with (
        torch.random.fork_rng(enabled=seed is not None),
        few_threads(model, rows_of_a_step(data, batch_size)),
    ):
        if seed is not None:
            torch.manual_seed(int(seed))
        augmenter = None if augment is None else Augmenter(augment, pixels)
        try:
            with ProgressBar("training", total, show=progress) as bar:
                for epoch in range(1, epochs + 1):
                    bar.description = f"epoch {epoch}/{epochs}"
                    batches = iter_batches(
                        data,
                        split="train",
                        batch_size=batch_size,
                        shuffle=shuffle,
                        batch_fn=batch_fn,
                        pixels=pixels,
                        model=model,
                        purpose="train" if objective.needs_targets else "",
                        beside=beside,
                    )
                    if augmenter is not None:
                        batches = augmenter.batches(batches)
                    record = loop.epoch(epoch, batches, bar)
                    # Recorded once it has learnt from them, even if it is stopped later.
                    if pixels is not None:
                        set_model_pixels(model, pixels)
                    if validation_data is not None:
                        score = evaluate(
                            model,
                            validation_data,
                            loss_fn=objective.loss_fn,
                            metric=chosen,
                            batch_fn=batch_fn,
                            progress=False,
                        )
                        record = replace(
                            record,
                            val_loss=score.loss,
                            val_score=float(score),
                            metric=score.metric,
                        )
                    history.append(record)
        except KeyboardInterrupt:
            history.interrupted = True
            print(
                f"fastmnist: training stopped after {len(history)} of {epochs} epochs; the model "
                "keeps what it has learnt so far",
                file=sys.stderr,
            )
        finally:
            optimizer.zero_grad(set_to_none=True)
            apply_masks(model)
    return history


class _Loop:
    """What stays the same from epoch to epoch."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        metric: Metric | None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.objective = objective
        self.metric = metric
        self.device = device_of(model)
        self.normalizes = any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()
        )

    def epoch(self, epoch: int, batches: Iterable[Batch], bar: ProgressBar) -> EpochRecord:
        """Go through the data once."""
        start = time.perf_counter()
        n = 0
        loss_sum = 0.0
        tally = Tally(self.metric, self.objective.loss_fn, required=False)

        def text() -> str:
            return f"loss {loss_sum / max(n, 1):.4f}{tally.so_far()}"

        with in_mode(self.model, training=True), torch.enable_grad():
            for step, batch in enumerate(batches, start=1):
                if self.normalizes and batch.size == 1 and n:
                    continue
                loss_sum += self.step(batch, f"in epoch {epoch}, step {step}", tally) * batch.size
                n += batch.size
                bar.advance(batch.size, text)
        seconds = time.perf_counter() - start
        name = (tally.metric or ACCURACY).name
        return EpochRecord(epoch, loss_sum / n, tally.value(), seconds, metric=name)

    def step(self, batch: Batch, where: str, tally: Tally) -> float:
        """Learn from one batch; give its mean loss."""
        if self.device.type != "cpu":
            batch = batch.to(self.device)
        outputs, loss = self.objective.of(self.model, batch)
        # On a CPU this waits for nothing, and it keeps a bad step from reaching the weights.
        value = loss.item()
        if not math.isfinite(value):
            raise ValueError(
                f"loss: expected a finite number, got {value} {where}: lower lr=, or look for NaN "
                "and infinity in the data; the weights are those before this step"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            tally.add(outputs, batch.target)
        return value


def _optimizer(
    model: nn.Module, beside: list[nn.Parameter], optimizer: OptimizerLike | None, lr: float
) -> torch.optim.Optimizer:
    params = [p for p in model.parameters() if p.requires_grad]
    if not params:
        raise ValueError(
            "model: expected parameters to train, got none that requires grad: fm.prepare_qat "
            "makes a quantized model trainable, requires_grad_(True) a frozen one"
        )
    params += beside
    if optimizer is None:
        if not 0 <= lr < math.inf:
            raise ValueError(f"lr: expected a finite number of at least 0, got {lr}")
        try:
            # One call instead of some ten for each parameter: half of a small network's time.
            return torch.optim.Adam(params, lr=lr, fused=True)
        except RuntimeError:  # not on this device or for this type
            return torch.optim.Adam(params, lr=lr)
    if not isinstance(optimizer, torch.optim.Optimizer):
        made = optimizer(params) if callable(optimizer) else optimizer
        if not isinstance(made, torch.optim.Optimizer):
            raise TypeError(
                "optimizer: expected a torch Optimizer, or a function from parameters to one, got "
                f"{type(made).__name__}"
            )
        optimizer = made
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in held for p in params):
        raise ValueError(
            "optimizer: expected one of this model's parameters, got one of another model (or of "
            "what it was copied from): give a function, optimizer=lambda p: Adam(p, lr=1e-3)"
        )
    return optimizer


def _validation(validation: Any, data: Any) -> Any:
    if validation is None or validation is False:
        return None
    if validation is not True:
        return validation
    if not isinstance(data, Data):
        raise ValueError(
            "validation: expected data, or True with a bundle, which has a test half, got True "
            f"with {type(data).__name__}: give the validation data itself"
        )
    return data.test
