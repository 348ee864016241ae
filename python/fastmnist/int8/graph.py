"""Graphs of int8 networks, float32 layers and what joins them: plain NumPy, no machine in it.

What a :class:`QuantizedNetwork` is to a chain of int8 layers, a :class:`NetworkGraph` is to
networks with activations, joins, norms, float layers, several inputs or several outputs: what files
and pickles hold, and what ``_core`` packs. Free of torch.

A *value* is what a step gives for one row of the caller's (a *sample*): an array of a shape. A step
works along the last dimension; those before it are positions, each treated as a row of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from fastmnist.int8.activation import Activation
from fastmnist.int8.network import (
    F32,
    NO_CLAMP,
    QuantizedLayer,
    QuantizedNetwork,
    activation_name,
)
from fastmnist.pixels import PixelNormalization

# What a step does, as csrc/pack/graph.h has it. Joins take two values of as many numbers.
JOINS = ("add", "subtract", "multiply", "divide")
KINDS = (
    "int8", "float", "activate", "clamp", "slopes", "affine", *JOINS, "concat", "slice",
    "transpose", "mean", "sum", "softmax", "log_softmax", "layer_norm", "argmax", "reshape",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Value:
    """What stands between steps, of one sample.

    Attributes
    ----------
    shape : tuple of int
        Without the dimension of rows; ``()`` for a single number.
    constant : float32 array of that shape, or None
        Where it is the same for all samples.
    """

    shape: tuple[int, ...]
    constant: F32 | None = None

    @property
    def width(self) -> int:
        return self.shape[-1] if self.shape else 1

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Input:
    """An argument of the model.

    Attributes
    ----------
    name : str
    value : int
        Its index among the values.
    pixels : PixelNormalization or None
        What a uint8 pixel stands for; None if uint8 rows are refused.
    any_shape : bool
        Whether rows may have any shape of as many numbers.
    """

    name: str
    value: int
    pixels: PixelNormalization | None = None
    any_shape: bool = False


@dataclass(frozen=True, eq=False)
class GraphStep:
    """One step.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    name : str
        What it was in the model: a path, or the name of a function.
    operands : tuple of int
    value : int
        Indexes of the values that it reads, and of the one that it gives.
    network : QuantizedNetwork or None
        Of kind "int8".
    weight, bias : float32 arrays or None
        "float": ``[outputs, inputs]`` and ``[outputs]``; "slopes" (weight alone) and "affine"
        (``x * weight + bias``): of the value's shape; "layer_norm": of the last dimension, or None.
    function : Activation or None
        Of kinds "activate" and "float".
    clamp : (float, float)
        Of kinds "clamp" and "float": before the function.
    epsilon : float
        Of kind "layer_norm".
    begin : int
        Of kind "slice": the first number of the last dimension.
    """

    kind: str
    name: str
    operands: tuple[int, ...]
    value: int
    network: QuantizedNetwork | None = None
    weight: F32 | None = None
    bias: F32 | None = None
    function: Activation | None = None
    clamp: tuple[float, float] = NO_CLAMP
    epsilon: float = 0.0
    begin: int = 0

    @property
    def activation(self) -> str:
        """What people call the clamp and the function behind it; "" if there is neither."""
        names = (activation_name(self.clamp), self.function.title if self.function else "")
        return ", ".join(filter(None, names))


@dataclass(frozen=True, eq=False)
class NetworkGraph:
    """Values and the steps that give them, in the order in which they run.

    Attributes
    ----------
    values : tuple of Value
    inputs : tuple of Input
    steps : tuple of GraphStep
    outputs : tuple of int
        Indexes of values that steps give, each once.
    structure : None, "tuple", "list" or tuple of str
        How outputs are handed back: the single one, a tuple, a list, or a dict with these keys.
    keyword_out : bool
        Whether `out` is given by name only: the model takes more arguments by position than these
        inputs, and none of them must be written to.
    """

    values: tuple[Value, ...]
    inputs: tuple[Input, ...]
    steps: tuple[GraphStep, ...]
    outputs: tuple[int, ...]
    structure: str | tuple[str, ...] | None = None
    keyword_out: bool = False
    _users: Counter[int] = field(default_factory=Counter, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._users.update(operand for step in self.steps for operand in step.operands)

    def readers(self, value: int) -> int:
        """How many steps read a value."""
        return self._users[value]

    @property
    def networks(self) -> tuple[QuantizedNetwork, ...]:
        """The int8 parts, in order."""
        return tuple(step.network for step in self.steps if step.network is not None)

    @property
    def layers(self) -> tuple[QuantizedLayer | GraphStep, ...]:
        """The layers in order: those of the int8 parts, and the steps that are float32 ones."""
        found: list[QuantizedLayer | GraphStep] = []
        for step in self.steps:
            if step.network is not None:
                found += step.network.layers
            elif step.kind == "float":
                found.append(step)
        return tuple(found)

    @property
    def tail(self) -> GraphStep | None:
        """The step that gives the only output, or None where there are several."""
        if len(self.outputs) != 1:
            return None
        return next(step for step in self.steps if step.value == self.outputs[0])

    @property
    def pixels(self) -> PixelNormalization | None:
        """What a uint8 pixel stands for, where all inputs agree."""
        told = {given.pixels for given in self.inputs}
        return told.pop() if len(told) == 1 else None

    def as_network(self) -> QuantizedNetwork | None:
        """The chain of int8 layers that this is, if it is nothing else."""
        alone = len(self.steps) == 1 and len(self.inputs) == 1 and self.structure is None
        if not alone or self.keyword_out:
            return None
        (step,), (given,) = self.steps, self.inputs
        flat = len(self.values[step.value].shape) == 1 and len(self.values[given.value].shape) == 1
        same_pixels = step.network is not None and step.network.pixels == given.pixels
        return step.network if flat and same_pixels else None
