"""A recipe carried out: one step after another, each followed by its training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fastmnist.clustering.clusterer import cluster
from fastmnist.clustering.configs import Clusters
from fastmnist.data.batch import BatchFn
from fastmnist.data.batches import iter_batches
from fastmnist.data.meaning import meaning_of
from fastmnist.display.callers import callers_level
from fastmnist.display.words import kind_of
from fastmnist.distillation.config import Distillation
from fastmnist.factorization.config import LowRank
from fastmnist.factorization.factorizing import factorize
from fastmnist.fusion.fusing import fuse
from fastmnist.layers.kept import distinct_values
from fastmnist.measuring.evaluation import Evaluation, evaluate
from fastmnist.measuring.metrics import MetricLike, metric_of, shown, unit_of
from fastmnist.measuring.scoring import LossFn
from fastmnist.pixels import explicit_pixels, set_model_pixels
from fastmnist.pruning import Cubic, CustomMask, Structured, prune
from fastmnist.quantization.configs import QAT, Dynamic, Half, Static
from fastmnist.quantization.converting import convert
from fastmnist.quantization.preparing import prepare_qat
from fastmnist.quantization.quantizing import quantize
from fastmnist.rewriting.copies import check_module, plain_copy
from fastmnist.rewriting.selection import check_has_linear, check_not_prepared, quantizable
from fastmnist.searching.recipe import Recipe, keep_recipe
from fastmnist.searching.splitting import held_out
from fastmnist.searching.steps import Step
from fastmnist.searching.tuning import Tuning, seeded
from fastmnist.searching.widths import narrowed
from fastmnist.searching.words import Finetune, Fuse, Student

_LOOKED_AT = 1024  # rows, to see whether a recipe does harm
_MUCH = {"accuracy": 5.0, "r2": 0.1}  # points, units: a loss that nobody intends
_GRADUAL = 4  # epochs from which weights are pruned in steps, with training between them


def optimize(
    model: nn.Module,
    data: Any,
    recipe: str | Recipe | tuple[Any, ...],
    test: Any = None,
    max_drop: float | None = None,
    *,
    batch_size: int = 128,
    loss_fn: LossFn | None = None,
    metric: MetricLike = None,
    greater_is_better: bool | None = None,
    batch_fn: BatchFn | None = None,
    pixels: str | None = None,
    mean: Any = None,
    std: Any = None,
    seed: int = 0,
    progress: bool | None = None,
) -> nn.Module:
    """Apply a recipe to a trained model, and return the result.

    Parameters
    ----------
    model : torch.nn.Module
        A trained float model; left unchanged.
    data : Data, Split, DataLoader, Dataset, (x, y), …
        Data to train and calibrate on; for a bundle, its training half. Without targets, the
        original model serves as the teacher.
    recipe : str, Recipe or tuple
        Steps as text, ``"prune80+cluster16+int8"``; the name of a built-in recipe (``fastmnist
        recipes`` lists them); a :class:`fastmnist.Recipe`; or a tuple of configurations,
        ``(fm.L1Unstructured(0.8), fm.Clusters(16), fm.Static())``.
    test : data, optional
        Data to measure `max_drop` on. Default: for a bundle, its test half; otherwise every tenth
        row of `data`, which is then excluded from training.
    max_drop : float, optional
        How much worse than `model` the result may be: accuracy in points, another metric in its own
        unit. Exceeding it is an error.
    batch_size : int
        Rows per training batch.
    loss_fn, metric, greater_is_better, batch_fn
        As for :func:`fastmnist.train` and :func:`fastmnist.evaluate`. Default loss: cross entropy
        for classes, mean squared error for other float targets.
    pixels, mean, std : optional
        What uint8 pixels of `data` mean, as for :class:`fastmnist.Static`.
    seed : int
        Makes training reproducible; torch's global random state stays unchanged.
    progress : bool, optional
        Show progress bars. None: only in a terminal or a notebook.

    Returns
    -------
    torch.nn.Module
        In eval mode. :func:`fastmnist.changes` lists what was done, and ``fm.Recipe.made(result)``
        returns the recipe, also after :func:`fastmnist.save` and :func:`fastmnist.load`.

    Raises
    ------
    TypeError, ValueError
        If the recipe has an unknown word (the error suggests the nearest) or an invalid order, a
        step does not apply to this model, or more than `max_drop` is lost.

    Examples
    --------
    >>> import fastmnist as fm
    >>> data = fm.load_dataset("digits")
    >>> model = fm.NeuralNetwork()
    >>> history = fm.train(model, data, epochs=2, seed=0)
    >>> small = fm.optimize(model, data, "prune80+cluster16+int8")
    >>> str(fm.Recipe.made(small))
    'prune80+cluster16+int8'
    """
    recipe = Recipe.of(recipe)
    told = told_model(model, pixels, mean, std)
    check_max_drop(max_drop)
    rows, judged = data, test
    with seeded(seed):  # a DataLoader that shuffles draws numbers, too
        if max_drop is not None and test is None:
            rows, judged = held_out(data, batch_fn, share=0.1, seed=seed)
        tuning = Tuning.of(
            rows,
            told,
            batch_size=batch_size,
            loss_fn=loss_fn,
            batch_fn=batch_fn,
            seed=seed,
            progress=progress,
        )
        result = told
        for step in recipe:
            result = apply(step, result, tuning)
        keep_recipe(result, recipe)
        if max_drop is None and tuning.has_targets:
            _warn_of_loss(recipe, told, result, tuning)
        if max_drop is not None:
            chosen = metric_of(metric, greater_is_better)
            before = evaluate(told, judged, metric=chosen, batch_fn=batch_fn, progress=progress)
            after = evaluate(
                result, judged, metric=chosen or before.metric, batch_fn=batch_fn, progress=progress
            )
            _check_drop(recipe, before, after, chosen or metric_of(before.metric), max_drop)
    return result


def told_model(model: Any, pixels: str | None, mean: Any, std: Any) -> nn.Module:
    """The model as a recipe begins with it: plain float32 on the CPU, knowing its pixels.

    Raises
    ------
    TypeError, ValueError
        If it is no module, is prepared or quantized, or has no Linear layer.
    """
    root = check_module(model)
    check_not_prepared(root)
    copied = plain_copy(root)
    check_has_linear(copied, quantizable(copied), "optimize", "give the float model")
    explicit = explicit_pixels(mean, std, pixels)
    if explicit is not None:
        set_model_pixels(copied, explicit)
    return copied.eval()


def apply(step: Step, model: nn.Module, tuning: Tuning, epochs: int | None = None) -> nn.Module:
    """Carry out one step; `epochs` replaces how long is trained after it.

    Raises
    ------
    TypeError, ValueError
        Naming the step.
    """
    try:
        return _applied(step, model, tuning, step.trained_epochs if epochs is None else epochs)
    except (RuntimeError, TypeError, ValueError) as error:
        text = str(error)
        if text.startswith("recipe: "):
            raise
        raise type(error)(f"recipe: '{step}': {text}") from error


def _applied(step: Step, model: nn.Module, tuning: Tuning, epochs: int) -> nn.Module:
    config = step.config

    def trained(module: nn.Module, count: int, teaching: Distillation | None = None) -> nn.Module:
        if not count:
            return module
        return tuning.train(module, count, step.lr, step.augment, teaching)

    if isinstance(config, Fuse):
        return fuse(model)
    if isinstance(config, Finetune):
        return trained(plain_copy(model), epochs)
    if isinstance(config, Distillation):
        return trained(plain_copy(model), epochs, config)
    if isinstance(config, Student):
        student = narrowed(model, config.widths, tuning.seed)
        return trained(student, epochs, config.distillation)
    if isinstance(config, LowRank):
        thin = factorize(model, config, tuning.data, epochs=0, batch_fn=tuning.batch_fn)
        return trained(thin, epochs)
    if isinstance(config, Clusters):
        few = _of_few_values(model, config)
        return trained(cluster(model, config, exclude=few or None), epochs)
    if isinstance(config, Static):
        calibrated = config
        if config.calibration is None:
            calibrated = replace(config, calibration=tuning.data, batch_fn=tuning.batch_fn)
        return quantize(model, calibrated)
    if isinstance(config, Dynamic | Half):
        return quantize(model, config)
    if isinstance(config, QAT):
        return convert(trained(prepare_qat(model, config), epochs))
    if isinstance(config, Structured | CustomMask) or epochs < _GRADUAL:
        return trained(prune(model, config), epochs)
    return _pruned_gradually(config, model, epochs, trained)


def _of_few_values(model: nn.Module, config: Clusters) -> list[str]:
    """Layers that have fewer distinct weights than that already, unless it is all of them."""
    layers = quantizable(model)
    few = [
        name
        for name, layer in layers.items()
        if isinstance(weight := getattr(layer, "weight", None), torch.Tensor)
        and distinct_values(weight.detach().numpy(), config.scope) < config.n
    ]
    return few if len(few) < len(layers) else []


def _pruned_gradually(
    config: Any,
    model: nn.Module,
    epochs: int,
    trained: Callable[[nn.Module, int], nn.Module],
) -> nn.Module:
    """Half of the epochs between steps that prune ever more, the rest when all is gone."""
    steps = epochs // 2
    done = 0

    def one_epoch(module: nn.Module) -> None:
        nonlocal done
        done += 1
        if done <= steps:
            _take(module, trained(module, 1))

    result = prune(model, config, schedule=Cubic(steps=steps), finetune=one_epoch, epochs=1)
    return trained(result, epochs - steps)


def _take(module: nn.Module, trained: nn.Module) -> None:
    """Weights of what was trained, where that is a copy."""
    if trained is not module:
        module.load_state_dict(trained.state_dict())


def _warn_of_loss(recipe: Recipe, before: nn.Module, after: nn.Module, tuning: Tuning) -> None:
    """Say it where a recipe does much harm, on some of the rows that it was trained on."""
    rows = [
        *iter_batches(
            tuning.data,
            split="train",
            batch_size=_LOOKED_AT,
            max_samples=_LOOKED_AT,
            batch_fn=tuning.batch_fn,
            pixels=meaning_of(tuning.data, before).pixels,
            model=before,
        )
    ]
    try:
        outputs = [
            evaluate(
                model,
                ((batch.args, batch.kwargs, batch.target) for batch in rows),
                batch_fn=lambda batch: batch,
                raw=True,
                progress=False,
            )
            for model in (before, after)
        ]
    except (TypeError, ValueError):  # outputs that only the user's loss understands
        return
    metric = metric_of(outputs[0].metric)
    if metric is None or metric.name not in _MUCH:
        return
    lost = metric.loss_of(*outputs)
    if lost > _MUCH[metric.name]:
        unit = " points" if unit_of(metric.name) == 100 else f" of {metric.name}"
        warnings.warn(
            f"recipe '{recipe}' lost {lost:.3g}{unit} of {outputs[0].n:,} rows that it was trained "
            "on: train longer (prune80@5), remove less, or let fm.search look for a recipe",
            UserWarning,
            stacklevel=callers_level(),
        )


def check_max_drop(max_drop: Any) -> None:
    if max_drop is None:
        return
    if isinstance(max_drop, bool) or not isinstance(max_drop, int | float):
        raise TypeError(f"max_drop: expected a number, got {kind_of(max_drop)}")
    if not 0 <= max_drop < float("inf"):
        raise ValueError(f"max_drop: expected 0 or more, got {max_drop}")


def _check_drop(
    recipe: Recipe, before: Evaluation, after: Evaluation, metric: Any, max_drop: float
) -> None:
    lost = metric.loss_of(before, after)
    if lost <= max_drop:
        return
    unit = " points" if unit_of(metric.name) == 100 else f" of {metric.name}"
    raise ValueError(
        f"max_drop: expected a loss of at most {max_drop:g}{unit}, got {lost:.3g} with '{recipe}' "
        f"({shown(metric.name, before)} → {shown(metric.name, after)}, n = {after.n:,}): train "
        "longer (prune80@5), remove less, or let fm.search look for a recipe"
    )
