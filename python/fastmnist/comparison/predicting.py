"""The classes that models give to the rows of a data set: what confusions and disagreements count.

Rows are gone through once for all models, so that data which can be read only once serves, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastmnist.data.arguments import run_model
from fastmnist.data.batch import Batch, BatchFn
from fastmnist.data.batches import iter_batches, select_half
from fastmnist.data.meaning import meaning_of
from fastmnist.measuring.evaluation import device_of, in_mode
from fastmnist.measuring.readings import Readings
from fastmnist.measuring.scoring import classes_of
from fastmnist.pixels import explicit_pixels


@dataclass(frozen=True)
class Predictions:
    """What several models say to one batch.

    Attributes
    ----------
    batch : Batch
    targets : torch.Tensor or None
        int64, on the CPU, flat; None of data without targets.
    classes : list of torch.Tensor
        Likewise, for each model.
    known : int
        How many classes the outputs have; 0 where they are classes themselves.
    """

    batch: Batch
    targets: Tensor | None
    classes: list[Tensor]
    known: int


def predictions_of(
    models: Sequence[Any],
    names: Sequence[str],
    data: Any,
    *,
    purpose: str,
    batch_size: int,
    batch_fn: BatchFn | None,
    pixels: str | None,
    mean: Any,
    std: Any,
) -> Iterator[Predictions]:
    """Go through the data, for a bundle, its test half, with all models in eval mode.

    Parameters
    ----------
    models : modules, compiled models or other callables
    names : list of str
        The arguments that they are, for errors.
    purpose : str
        What targets are needed for; "": for nothing, so there may be none.

    Raises
    ------
    TypeError, ValueError
        If something is no model, the outputs or the targets are no classes, or `data` is no data.
    """
    for name, model in zip(names, models, strict=True):
        if not callable(model) or isinstance(model, type):
            got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
            raise TypeError(f"{name}: expected a module or a callable, got {got}")
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size: expected an integer of at least 1, got {batch_size!r}")
    given = explicit_pixels(mean, std, pixels)
    meaning = meaning_of(data, *models, given=given)
    readings = Readings(meaning.is_told)
    homes = [device_of(model) if isinstance(model, nn.Module) else None for model in models]
    with torch.no_grad(), ExitStack() as modes:
        for model in models:
            modes.enter_context(
                in_mode(model if isinstance(model, nn.Module) else None, training=False)
            )
        for batch in iter_batches(
            data,
            split="test",
            batch_size=batch_size,
            batch_fn=batch_fn,
            pixels=meaning.pixels,
            model=models[0],
            purpose=purpose,
        ):
            readings.add(batch)
            found, targets, known = [], None, 0
            for name, model, home in zip(names, models, homes, strict=True):
                moved = batch if home is None or home.type == "cpu" else batch.to(home)
                outputs = run_model(model, moved, "data")
                if isinstance(outputs, np.ndarray):
                    outputs = torch.from_numpy(outputs)
                own, targets = _classes(name, outputs, moved.target)
                found.append(own)
                if outputs.ndim > 1 and outputs.is_floating_point():
                    known = max(known, outputs.shape[1])
            yield Predictions(batch, targets, found, known)
        readings.warn(lambda x: models[0](x if homes[0] is None else x.to(homes[0])))


def _classes(name: str, outputs: Any, target: Any) -> tuple[Tensor, Tensor | None]:
    if target is None and isinstance(outputs, Tensor) and outputs.ndim == 2:
        # One that any class fits: the outputs' own is what is asked.
        target = torch.zeros(len(outputs), dtype=torch.int64, device=outputs.device)
        given = False
    else:
        given = target is not None
    classes = classes_of(outputs, target, probabilities=True)
    if classes is None:
        raise ValueError(
            f"{name}, data: expected outputs [N, classes] (or a class for each row) and targets "
            f"that are classes, got {_form(outputs)} and {_form(target) if given else 'none'}: "
            "where they are numbers, or several labels a row, fm.evaluate and fm.compare measure "
            "by metric="
        )
    own, targets = (part.detach().to("cpu", torch.int64) for part in classes)
    return own, targets if given else None


def _form(value: Any) -> str:
    return f"{value.dtype} {[*value.shape]}" if isinstance(value, Tensor) else type(value).__name__


def labels_of(data: Any, labels: Sequence[Any] | None, least: int) -> tuple[str, ...]:
    """Names of the classes: those given, the data's own, or numbers.

    Raises
    ------
    TypeError, ValueError
        If those given are no list, or too few.
    """
    if labels is not None:
        if isinstance(labels, str) or not isinstance(labels, Sequence):
            raise TypeError(f"labels: expected a list of names, got {type(labels).__name__}")
        if len(labels) < least:
            raise ValueError(f"labels: expected {least}, one for each class, got {len(labels)}")
        return tuple(map(str, labels))
    half = select_half(data, "test")
    own = getattr(getattr(half, "dataset", half), "classes", None)
    if isinstance(own, list | tuple) and len(own) >= least:
        return tuple(map(str, own))
    return tuple(map(str, range(least)))
