"""Who teaches: a model, several, or outputs that were computed before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastmnist.data.arguments import run_model
from fastmnist.data.batch import Batch, as_tensor, is_array
from fastmnist.data.meaning import pixels_of
from fastmnist.measuring.evaluation import device_of
from fastmnist.pixels import PixelNormalization
from fastmnist.runtime.compiled import CompiledModel


class Teachers:
    """Models that are asked for their outputs, one or several.

    Parameters
    ----------
    models : list of modules or compiled models
    pixels : PixelNormalization or None
        What the data's pixels stand for. A model that knows them otherwise gets its own.
    """

    def __init__(self, models: list[Any], pixels: PixelNormalization | None) -> None:
        self.models, self._pixels = models, pixels

    @property
    def modules(self) -> list[nn.Module]:
        """Those that are torch modules."""
        return [model for model in self.models if isinstance(model, nn.Module)]

    def outputs(self, batch: Batch) -> list[Tensor]:
        """What each gives for a batch, float32, on the batch's device."""
        with torch.no_grad():
            return [self._output(model, i, batch) for i, model in enumerate(self.models)]

    def _output(self, model: Any, i: int, batch: Batch) -> Tensor:
        own = pixels_of(model)
        if own is not None and self._pixels is not None and own != self._pixels:
            if batch.pixels is None:
                raise ValueError(
                    f"{self._name(i)}: expected one that was trained on pixels of the data's mean "
                    f"and std, got {own} for data of {self._pixels}: give uint8 pixels"
                )
            batch = Batch((own.to_float(batch.pixels), *batch.args[1:]), batch.kwargs, None, 0)
        home = batch.args[0].device if batch.args and isinstance(batch.args[0], Tensor) else None
        if isinstance(model, nn.Module):
            batch = batch.to(device_of(model))
        outputs = run_model(model, batch, "data")
        if isinstance(outputs, np.ndarray):
            outputs = torch.from_numpy(outputs)
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            raise TypeError(
                f"{self._name(i)}: expected a model whose output is one floating tensor, got "
                f"{type(outputs).__name__}: wrap it in a module that returns the logits alone"
            )
        return outputs.to(home or outputs.device, torch.float32)

    def _name(self, i: int) -> str:
        return "teacher" if len(self.models) == 1 else f"teacher[{i}]"


def read_teacher(
    teacher: Any, pixels: PixelNormalization | None
) -> tuple[Teachers | None, Tensor | None]:
    """Tell the models that teach, or the outputs that were given in their place.

    Raises
    ------
    TypeError, ValueError
        If `teacher` is neither.
    """
    if is_array(teacher):
        outputs = as_tensor(teacher).detach()
        if not outputs.is_floating_point() or not outputs.ndim:
            raise TypeError(
                "teacher: expected floating outputs, one row for each row of data, got "
                f"{outputs.dtype} {[*outputs.shape]}"
            )
        if not bool(torch.isfinite(outputs).all()):
            raise ValueError("teacher: expected finite outputs, got NaN or infinity")
        return None, outputs.to(torch.float32)
    several = isinstance(teacher, Sequence) and not isinstance(teacher, str | nn.Module)
    models = [*teacher] if several else [teacher]
    if not models:
        raise ValueError("teacher: expected at least one model, got none")
    for model in models:
        if not isinstance(model, nn.Module | CompiledModel):
            raise TypeError(
                "teacher: expected a module, a compiled model, a list of them, or a tensor of "
                f"their outputs, got {'a list with ' * several}{type(model).__name__}"
            )
    return Teachers(models, pixels), None


def mean_of(outputs: list[Tensor], temperature: float | None) -> Tensor:
    """What an ensemble says.

    At a `temperature` T it is the logits whose softmax at T is the mean of the members'
    probabilities at T (the arithmetic mean that Hinton et al., section 1, speak of); with None the
    mean of the outputs themselves.
    """
    if len(outputs) == 1:
        return outputs[0]
    whole = torch.stack(outputs)
    if temperature is None:
        return whole.mean(0)
    logs = torch.log_softmax(whole / temperature, dim=2)
    return temperature * (torch.logsumexp(logs, dim=0) - float(np.log(len(outputs))))
