"""How a student is taught."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from torch import Tensor

SoftLoss: TypeAlias = Literal["kl", "mse"] | Callable[[Any, Any], Tensor] | None


@dataclass(frozen=True)
class Distillation:
    """The weight of the teacher, and how its outputs are compared with the student's.

    The loss is ``alpha * soft + (1 - alpha) * hard``. `hard` is the cross entropy with the targets.
    For classes, `soft` is ``T**2 * KL(softmax(teacher / T) || softmax(student / T))``, whose
    gradients keep their magnitude as the temperature T changes (Hinton, Vinyals and Dean,
    "Distilling the knowledge in a neural network", 2015, arXiv:1503.02531, section 2). For
    regressions, it is the mean squared difference between the two outputs.

    Parameters
    ----------
    temperature : float
        Above 0. 1 uses the teacher's probabilities unchanged; higher values reveal how it ranks the
        classes that it considers wrong. Small students do better with 2 to 5.
    alpha : float
        From 0, only the targets, to 1, only the teacher, when the data needs no targets.
    layers : mapping of str to str, optional
        Hidden layers to match, as student's name to teacher's name: the mean squared difference of
        their outputs is added to the loss. If their widths differ, a Linear layer that maps the
        student's to the teacher's is trained along and then discarded (Romero et al., "FitNets:
        hints for thin deep nets", ICLR 2015, arXiv:1412.6550, section 2.2).
    layer_weight : float
        Factor of that difference in the loss, at least 0.
    soft_loss : {"kl", "mse"} or callable, optional
        Replaces `soft`: ``soft_loss(student_outputs, teacher_outputs)``. Default: "kl" if the
        targets are classes, "mse" if they are other floats or there is a single output.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> Distillation(temperature=2.0, layers={"linear1": "1"}).alpha
    0.9
    """

    temperature: float = 4.0
    alpha: float = 0.9
    layers: Mapping[str, str] | None = None
    layer_weight: float = 1.0
    soft_loss: SoftLoss = None

    def __post_init__(self) -> None:
        temperature = _number("temperature", self.temperature, "a number above 0")
        if not temperature > 0:
            raise ValueError(f"temperature: expected a number above 0, got {temperature}")
        alpha = _number("alpha", self.alpha, "a number from 0 to 1")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha: expected a number from 0 to 1, got {alpha}")
        weight = _number("layer_weight", self.layer_weight, "a number of at least 0")
        if weight < 0:
            raise ValueError(f"layer_weight: expected a number of at least 0, got {weight}")
        if self.layers is not None:
            if not isinstance(self.layers, Mapping) or not all(
                isinstance(name, str) for pair in self.layers.items() for name in pair
            ):
                raise TypeError(
                    "layers: expected a mapping of the student's names to the teacher's, such as "
                    f"{{'linear1': 'linear1'}}, got {self.layers!r}"
                )
            object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))
        known = self.soft_loss is None or self.soft_loss in ("kl", "mse")
        if not (known or callable(self.soft_loss)):
            raise ValueError(
                f"soft_loss: expected 'kl', 'mse' or a function of two outputs, got "
                f"{self.soft_loss!r}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        layers = None if self.layers is None else dict(self.layers)  # no mappingproxy pickles
        given = (self.temperature, self.alpha, layers, self.layer_weight, self.soft_loss)
        return type(self), given


def _number(name: str, value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected {what}, got {type(value).__name__}")
    if not math.isfinite(float(value)):
        raise ValueError(f"{name}: expected {what}, got {value}")
    return float(value)
