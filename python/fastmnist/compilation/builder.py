"""The canonical graph in the making: values, steps, and where a refusal is worded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, fx

from fastmnist.compilation.running import Seen
from fastmnist.int8.graph import GraphStep, Value
from fastmnist.int8.network import F32
from fastmnist.layers.native import torch_class
from fastmnist.rewriting.steps import Step

USE_THE_MODULE = (
    "the quantized module itself runs any model: call the result of fm.quantize(...) instead"
)
CALL_IT_AS_IT_IS = "the model is quantized already and runs without compiling: call it as it is"
Shape = tuple[int, ...]
MOST_COPIES = 1024  # of a number that is joined with a row of so many


class Refused(ValueError):
    """A step that cannot be compiled, by its name, and why."""

    def __init__(self, step: Step, why: str) -> None:
        kind = f" ({torch_class(step.module).__name__})" if step.module is not None else ""
        # By its own name, not by fx's, which numbers them.
        name = step.path or step.function or step.name
        super().__init__(f"model: cannot compile '{name}'{kind}: {why}; {USE_THE_MODULE}")


class Builder:
    """Steps and values, as they come.

    Attributes
    ----------
    values : list of Value
    steps : list of GraphStep
    of : dict of Node to int or list of int
        Which value, or values, a traced step gives.
    """

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.values: list[Value] = []
        self.steps: list[GraphStep] = []
        self.of: dict[fx.Node, int | list[int]] = {}

    # ---- values ----------------------------------------------------------------------------------

    def value(self, shape: Shape, constant: F32 | None = None) -> int:
        self.values.append(Value(shape, constant))
        return len(self.values) - 1

    def shape(self, value: int) -> Shape:
        return self.values[value].shape

    def add(self, kind: str, name: str, operands: Sequence[int], shape: Shape, **about: Any) -> int:
        """Put a step behind the others; give its value."""
        value = self.value(shape)
        self.steps.append(GraphStep(kind, name, tuple(operands), value, **about))
        return value

    def read(self, step: Step, argument: Any) -> int:
        """The value that an argument of a step is."""
        if not isinstance(argument, fx.Node) or not isinstance(self.of.get(argument), int):
            if isinstance(argument, fx.Node) and argument in self.seen.uneven:
                shape = [*self.seen.uneven[argument]]
                raise Refused(
                    step,
                    f"'{argument.name}' has shape {shape} for two rows, and each row must go by "
                    "itself",
                )
            raise Refused(step, f"expected a tensor that depends on the input, got {argument!r}")
        value = self.of[argument]
        assert isinstance(value, int)
        return value

    def reshaped(self, value: int, shape: Shape, name: str) -> int:
        """The same numbers in another shape."""
        own = self.shape(value)
        if own == shape:
            return value
        return self.add("reshape", name, [value], shape)

    def is_given(self, argument: Any) -> bool:
        """Whether an argument depends on the inputs."""
        return isinstance(argument, fx.Node) and argument in self.of

    # ---- constants -------------------------------------------------------------------------------

    def number_or_constant(self, step: Step, argument: Any) -> F32:
        """An argument that depends on no input, as an array."""
        if isinstance(argument, fx.Node):
            if argument not in self.seen.constants:
                raise Refused(step, f"expected a number or a constant, got '{argument.name}'")
            argument = self.seen.constants[argument]
        if isinstance(argument, Tensor):
            if argument.is_complex():
                raise Refused(step, "expected real numbers")
            return np.asarray(argument.detach().double().cpu().numpy(), np.float32)
        if isinstance(argument, bool) or not isinstance(argument, int | float):
            raise Refused(step, f"expected a number or a constant, got {argument!r}")
        with np.errstate(over="ignore"):
            return np.asarray(argument, np.float32)

    def operand(self, step: Step, argument: Any, shape: Shape) -> int:
        """An argument of a join as a value of this shape."""
        if self.is_given(argument):
            value = self.read(step, argument)
            own = self.shape(value)
            if own == shape:
                return value
            if own[:-1] == shape[:-1] and own[-1:] == (1,) and 1 < shape[-1] <= MOST_COPIES:
                return self.add("concat", step.name, [value] * shape[-1], shape)
            raise Refused(
                step, f"it joins rows of shapes {[*own]} and {[*shape]}: give them the same"
            )
        constant = self.number_or_constant(step, argument)
        if constant.ndim == len(shape) + 1 and constant.shape[0] == 1:
            constant = constant[0]
        try:
            spread = np.broadcast_to(constant, shape)
        except ValueError:
            raise Refused(
                step,
                f"its constant of shape {[*constant.shape]} differs from row to row: rows have "
                f"shape {[*shape]}",
            ) from None
        return self.value(shape, np.ascontiguousarray(spread, np.float32))
