"""A student trained on what a teacher says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastmnist.data.arguments import run_model
from fastmnist.data.augmentation import Augment
from fastmnist.data.batch import Batch, BatchFn
from fastmnist.data.batches import check_repeatable, iter_batches, select_half
from fastmnist.data.in_memory import in_memory
from fastmnist.data.meaning import meaning_of
from fastmnist.display.progress import ProgressBar
from fastmnist.distillation.config import Distillation
from fastmnist.distillation.hidden import Hints, watched
from fastmnist.distillation.teachers import Teachers, mean_of, read_teacher
from fastmnist.layers.registry import kind_of
from fastmnist.measuring.evaluation import in_mode
from fastmnist.measuring.metrics import MetricLike
from fastmnist.measuring.scoring import (
    LossFn,
    are_probabilities,
    compute_loss,
    is_cross_entropy,
)
from fastmnist.rewriting.copies import check_module, plain_copy
from fastmnist.training.epochs import Objective, OptimizerLike, fit

_PROBED = 8  # rows to check shapes with, before training


def distill(
    student: nn.Module,
    teacher: Any,
    data: Any,
    config: Distillation | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    lr: float = 1e-3,
    optimizer: OptimizerLike | None = None,
    loss_fn: LossFn | None = None,
    metric: MetricLike = None,
    seed: int | None = None,
    validation: Any = None,
    batch_fn: BatchFn | None = None,
    progress: bool | None = None,
    shuffle: bool = True,
    augment: Augment = None,
) -> nn.Module:
    """Return a copy of `student` that is trained to reproduce the outputs of `teacher`.

    It helps if a large network, or several together, are clearly better than the small one trained
    alone, and if there are rows without targets (``alpha=1``). It hurts if the teacher is no
    better, and costs the teacher's time: for data in memory, its outputs are computed once and
    kept; with `augment`, and for other data, the teacher runs on every batch. Measured on MNIST
    with ``fm.teacher()`` of 99.31 %, the digits network 784-96-256-10 without dropout, 12 epochs
    with batches of 128 (two seeds): 97.5 % alone, 98.4 % taught; 30 epochs: 97.9 and 98.8 %, and
    98.9 % with ``augment=Affine(translate=0.08)``.

    Parameters
    ----------
    student : torch.nn.Module
        Left unchanged: float, pruned (the zeros stay), or prepared for quantization
        (:func:`fastmnist.prepare_qat`).
    teacher : module, CompiledModel, list of them, tensor or array
        With outputs of the student's shape. For several teachers, the mean of their probabilities
        at the temperature is used (with "mse", the mean of their outputs). A tensor holds the
        outputs (logits) for the rows of `data`, in order. A teacher whose pixel normalization
        differs from the data's gets uint8 pixels in its own normalization.
    data : Data, Split, DataLoader, Dataset, (x, y), list of batches
        As for :func:`fastmnist.train`; targets are not needed at ``alpha=1``.
    config : Distillation
    epochs, batch_size, lr, optimizer, metric, seed, validation, batch_fn, progress, shuffle
        As for :func:`fastmnist.train`; `optimizer` is a function from parameters to an optimizer.
    loss_fn : callable, optional
        The loss against the targets, instead of cross entropy.
    augment : Affine, Elastic or a sequence of them, optional
        Augments the images; student and teacher see the same ones.

    Returns
    -------
    torch.nn.Module
        Of the student's class, float32 on the CPU, in eval mode. Its ``history`` is what
        :func:`fastmnist.train` returns; its training losses are those of `config`, its validation
        losses those of `loss_fn`.

    Raises
    ------
    TypeError, ValueError
        Before training: if the student has nothing to train (is already int8), outputs of student
        and teacher differ in shape, a layer of ``layers`` does not exist, or an argument is
        invalid. During training: as for :func:`fastmnist.train`.

    Examples
    --------
    >>> import fastmnist as fm
    >>> data = fm.load_dataset("digits")
    >>> teacher = fm.LeNet300()
    >>> _ = fm.train(teacher, data, epochs=5, seed=0)
    >>> student = fm.distill(fm.NeuralNetwork(), teacher, data, epochs=2, seed=0)
    >>> len(student.history), student.training
    (2, False)
    """
    config = Distillation() if config is None else config
    if not isinstance(config, Distillation):
        raise TypeError(f"config: expected a Distillation, got {type(config).__name__}")
    _check_student(student)
    check_repeatable(data, "data", "as its first rows are looked at before")
    if isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(
            "optimizer: expected a function from parameters to an optimizer, as a copy of the "
            "student is trained, got an optimizer: give lambda p: torch.optim.SGD(p, lr=0.1)"
        )
    made = plain_copy(check_module(student))
    pixels = meaning_of(data, made).pixels
    models, outputs = read_teacher(teacher, pixels)
    if outputs is not None:
        _check_rows(outputs, data, augment)
    if config.layers and (models is None or len(models.models) > 1 or not models.modules):
        raise ValueError(
            "layers: expected one module as the teacher, whose layers have names, got "
            f"{'outputs' if models is None else 'several, or a compiled model'}"
        )

    def batches(size: int, limit: int | None = None) -> Iterator[Batch]:
        return iter_batches(
            data,
            split="train",
            batch_size=size,
            max_samples=limit,
            batch_fn=batch_fn,
            pixels=pixels,
            model=made,
        )

    with ExitStack() as stack:
        for module in [] if models is None else models.modules:
            stack.enter_context(in_mode(module, training=False))
        with torch.random.fork_rng(devices=[]):  # a DataLoader draws numbers
            first = next(batches(_PROBED, _PROBED))
        said = [] if models is None else models.outputs(first)
        said += [] if outputs is None else [outputs[: first.size]]
        with in_mode(made, training=False), torch.no_grad():
            got = run_model(made, first, "data")
        _check_alike(got, said)
        is_kl = _are_classes(got, first.target, loss_fn)
        objective = _Taught(models, config, loss_fn, is_kl=is_kl)
        if objective.is_kl and config.alpha > 0 and not callable(config.soft_loss):
            _check_where_classes_are(got, first.target, loss_fn)
        if config.layers:
            with torch.random.fork_rng(enabled=seed is not None):
                if seed is not None:
                    torch.manual_seed(seed)
                objective.match(made, first)
        is_kept = models is not None and augment is None and objective.hints is None
        if is_kept and in_memory(select_half(data, "train"), "data") is not None:
            with ProgressBar("asking the teacher", None, show=progress) as bar:
                outputs = _all_outputs(objective, batches(1024), bar)
        history = fit(
            made,
            data,
            epochs,
            objective,
            batch_size=batch_size,
            lr=lr,
            optimizer=optimizer,
            metric=metric,
            seed=seed,
            validation=validation,
            batch_fn=batch_fn,
            progress=progress,
            shuffle=shuffle,
            augment=augment,
            beside=outputs,
        )
    made.eval()
    object.__setattr__(made, "history", history)
    return made


class _Taught(Objective):
    """The loss with the targets, with the teacher's outputs, and with its hidden layers."""

    def __init__(
        self, models: Teachers | None, config: Distillation, loss_fn: LossFn | None, *, is_kl: bool
    ) -> None:
        super().__init__(loss_fn)
        self.needs_targets = config.alpha < 1
        self.hints: Hints | None = None
        self._config, self._models = config, models
        self.is_kl = is_kl if config.soft_loss is None else config.soft_loss == "kl"

    def match(self, student: nn.Module, first: Batch) -> None:
        """Look at what the hidden layers give, so that their differences can be learnt from."""
        layers = self._config.layers or {}
        with in_mode(student, training=False), torch.no_grad():
            with watched(student, {name: name for name in layers}, "student") as mine:
                run_model(student, first, "data")
            with watched(self._only(), layers, "teacher") as theirs:
                self.said(first)
        self.hints = Hints(layers, mine, theirs)

    def _only(self) -> nn.Module:
        assert self._models is not None
        return self._models.modules[0]

    def parameters(self) -> list[nn.Parameter]:
        return [] if self.hints is None else self.hints.parameters()

    def said(self, batch: Batch) -> Tensor:
        """What the teacher, or the ensemble, says of a batch."""
        assert self._models is not None
        temperature = self._config.temperature if self.is_kl else None
        return mean_of(self._models.outputs(batch), temperature)

    def of(self, model: nn.Module, batch: Batch) -> tuple[Any, Tensor]:
        if self.hints is None:
            outputs = run_model(model, batch, "data")
            said = batch.beside if batch.beside is not None else self.said(batch)
            return outputs, self._loss(outputs, said, batch)
        layers = self._config.layers or {}
        with watched(model, {name: name for name in layers}, "student") as mine:
            outputs = run_model(model, batch, "data")
        with watched(self._only(), layers, "teacher") as theirs:
            said = self.said(batch)
        loss = self._loss(outputs, said, batch)
        return outputs, loss + self._config.layer_weight * self.hints.loss(mine, theirs)

    def _loss(self, outputs: Any, said: Tensor, batch: Batch) -> Tensor:
        alpha = self._config.alpha
        soft = alpha * self._soft(outputs, said.to(outputs.device)) if alpha > 0 else None
        if alpha == 1:
            assert soft is not None
            return soft
        hard = (1 - alpha) * compute_loss(self.loss_fn, outputs, batch.target)
        return hard if soft is None else soft + hard

    def _soft(self, outputs: Tensor, said: Tensor) -> Tensor:
        if callable(self._config.soft_loss):
            loss = self._config.soft_loss(outputs, said)
            return loss.mean() if loss.ndim else loss
        if not self.is_kl:
            return F.mse_loss(outputs, said)
        t = self._config.temperature
        want, got = (torch.log_softmax(logits / t, dim=1) for logits in (said, outputs))
        return t * t * F.kl_div(got, want, reduction="none", log_target=True).sum(1).mean()


def _are_classes(outputs: Any, target: Any, loss_fn: LossFn | None) -> bool:
    if not isinstance(outputs, Tensor) or outputs.ndim < 2 or outputs.shape[1] < 2:
        return False
    if not isinstance(target, Tensor) or not target.is_floating_point():
        return True
    if loss_fn is not None:
        return is_cross_entropy(loss_fn)
    return target.shape == outputs.shape and are_probabilities(target)


def _check_where_classes_are(outputs: Any, target: Any, loss_fn: LossFn | None) -> None:
    """KL uses dimension 1; with more than two dimensions, the user's own loss may use another."""
    if not isinstance(outputs, Tensor) or outputs.ndim == 2:
        return
    shapes = (outputs.shape, outputs.shape[:1] + outputs.shape[2:])
    own_loss = loss_fn is not None and not is_cross_entropy(loss_fn)
    if own_loss or not isinstance(target, Tensor) or target.shape not in shapes:
        raise ValueError(
            "student: expected classes along dimension 1 of its outputs, as cross entropy has them,"
            f" got outputs {[*outputs.shape]}, and targets or a loss that do not say so: give "
            "Distillation(soft_loss=...), a function of the outputs of student and teacher"
        )


def _check_student(student: Any) -> None:
    for name, module in check_module(student).named_modules():
        kind = kind_of(module)
        if kind is not None and kind.is_frozen:
            raise ValueError(
                f"student: expected a model to train, got one whose layer '{name}' is quantized "
                "already: distill first and quantize then, or distill the result of fm.prepare_qat"
            )


def _check_rows(outputs: Tensor, data: Any, augment: Augment) -> None:
    memory = in_memory(select_half(data, "train"), "data")
    if memory is None or memory.n != len(outputs):
        rows = "data that is not in memory" if memory is None else f"{memory.n} rows"
        raise ValueError(
            "teacher: expected outputs for the rows of data, one each in its order, got "
            f"{len(outputs)} for {rows}: give (x, y) or a bundle, or the teacher itself"
        )
    if augment is not None:
        raise ValueError(
            "augment: expected none with outputs that were computed before, which are those of "
            "other images: give the teacher itself"
        )


def _check_alike(outputs: Any, said: list[Tensor]) -> None:
    for theirs in said:
        if not isinstance(outputs, Tensor) or outputs.shape != theirs.shape:
            got = [*outputs.shape] if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ValueError(
                f"student, teacher: expected outputs of one shape, got {got} of the student and "
                f"{[*theirs.shape]} of the teacher"
            )


def _all_outputs(objective: _Taught, batches: Iterator[Batch], bar: ProgressBar) -> Tensor:
    """What the teacher says of all rows, in their order."""
    found = []
    for batch in batches:
        found.append(objective.said(batch))
        bar.advance(batch.size)
    return torch.cat(found)
