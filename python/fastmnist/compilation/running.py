"""A traced model, run on a few rows: what shape each of its values has, and which are constants.

One native call treats every row of the caller's by itself. So a value must have as many rows as the
input had, whatever their number, and one shape behind them; that is seen by running the steps on
two rows and on three. Where no rows are given, they are made up from what layers say they take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.native import torch_class
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.rewriting.copies import throwaway_copy
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.steps import CONSTANT, Kind, Step

_FEW, _MORE = 2, 3


@dataclass(frozen=True)
class Seen:
    """What running showed.

    Attributes
    ----------
    shapes : dict of Node to tuple of int
        Of what depends on the inputs and is a tensor with a row for each of theirs: the shape of a
        row.
    constants : dict of Node to Tensor
        What depends on no input.
    parts : dict of Node to list of tuple of int
        The same of steps that give several tensors.
    uneven : dict of Node to tuple of int
        Shapes of tensors that depend on the inputs and have another number of rows.
    dtypes : dict of Node to dtype
        Of tensors that depend on the inputs.
    """

    shapes: dict[fx.Node, tuple[int, ...]]
    constants: dict[fx.Node, Tensor]
    parts: dict[fx.Node, list[tuple[int, ...]]]
    uneven: dict[fx.Node, tuple[int, ...]]
    dtypes: dict[fx.Node, torch.dtype]


class CannotRun(ValueError):
    """A step raised on the rows that it was run on."""

    def __init__(self, step: Step, error: Exception) -> None:
        kind = f" ({torch_class(step.module).__name__})" if step.module is not None else ""
        first = (str(error).strip().splitlines() or [""])[0]
        super().__init__(f"'{step.name}'{kind} raised {type(error).__name__}: {first}")


def inputs_of(graph: Graph) -> list[Step]:
    """The arguments that forward reads."""
    inputs = [step for step in graph.steps if step.kind is Kind.INPUT]
    return [step for step in inputs if not all(is_check(user) for user in step.users)]


def is_check(step: Step) -> bool:
    """Whether a step is one of fx's own, which make sure that an argument has its default."""
    if "_assert" in step.function:
        return True
    return step.function == "eq" and bool(step.users) and all(map(is_check, step.users))


def run_on(graph: Graph, rows: Mapping[str, Any]) -> Seen:
    """Run the steps on rows by the names of arguments; see :class:`Seen`."""
    few, dependent = _run(graph, _cut(rows, _FEW))
    more, _ = _run(graph, _cut(rows, _MORE))
    seen = Seen({}, {}, {}, {}, {})
    for node, value in few.items():
        other = more[node]
        if node not in dependent:
            if isinstance(value, Tensor):
                seen.constants[node] = value.detach()
        elif isinstance(value, Tensor):
            seen.dtypes[node] = value.dtype
            if (shape := _row_shape(value, other)) is not None:
                seen.shapes[node] = shape
            else:
                seen.uneven[node] = tuple(value.shape)
        elif isinstance(value, tuple | list) and all(isinstance(v, Tensor) for v in value):
            pairs = zip(value, other, strict=True)
            shapes = [_row_shape(one, another) for one, another in pairs]
            if None not in shapes:
                seen.parts[node] = [shape for shape in shapes if shape is not None]
    return seen


def _row_shape(few: Tensor, more: Any) -> tuple[int, ...] | None:
    fits = (
        few.ndim > 0
        and few.shape[0] == _FEW
        and isinstance(more, Tensor)
        and more.shape == (_MORE, *few.shape[1:])
    )
    return tuple(few.shape[1:]) if fits else None


def _cut(rows: Mapping[str, Any], count: int) -> dict[str, Any]:
    """So many rows, the first ones, again and again where there are fewer."""

    def cut(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.ndim == 0 or len(value) == 0:
            return value
        return value[torch.arange(count) % len(value)].clone()

    return {name: cut(value) for name, value in rows.items()}


def _run(graph: Graph, rows: Mapping[str, Any]) -> tuple[dict[fx.Node, Any], set[fx.Node]]:
    values: dict[fx.Node, Any] = {}
    dependent: set[fx.Node] = set()

    def of(argument: Any) -> Any:
        return fx.map_arg(argument, lambda node: values[node])

    with torch.no_grad():
        for step in graph.steps:
            node = step.node
            if any(source in dependent for source in node.all_input_nodes):
                dependent.add(node)
            if is_check(step):
                continue
            try:
                values[node] = _value_of(graph, step, rows, of)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise CannotRun(step, error) from error
            if node.op == "placeholder" and isinstance(values[node], Tensor):
                dependent.add(node)
    return values, dependent


def _value_of(graph: Graph, step: Step, rows: Mapping[str, Any], of: Callable[[Any], Any]) -> Any:
    node = step.node
    if node.op == "placeholder":
        return rows.get(str(node.target))
    if node.op == "get_attr":
        constant = node.meta.get(CONSTANT)
        return _attribute(graph.root, str(node.target)) if constant is None else constant
    if node.op == "call_module":
        assert step.module is not None
        return step.module(*of(node.args), **of(node.kwargs))
    if node.op == "call_method":
        itself, *others = of(node.args)
        return getattr(itself, str(node.target))(*others, **of(node.kwargs))
    if node.op == "call_function":
        assert callable(node.target)
        return node.target(*of(node.args), **of(node.kwargs))
    return None


def noise_like(rows: Mapping[str, Any]) -> dict[str, Any]:
    """A few rows of noise: rows of zeros hide what they are multiplied with."""
    return {name: _noise_like(value) for name, value in _cut(rows, _FEW).items()}


def repeated(graph: Graph, model: nn.Module, noise: Mapping[str, Any]) -> list[Tensor] | None:
    """What a model gives for rows of noise; None where its steps give anything else."""
    values, _ = _run(graph, {name: _copied(value) for name, value in noise.items()})
    outputs = fx.map_arg(graph.steps[-1].node.args[0], lambda node: values[node])
    given = {name: value for name, value in noise.items() if value is not None}
    with torch.no_grad():
        again = throwaway_copy(model).eval()(**given)
    one, other = tensors_of(outputs), tensors_of(again)
    same = len(one) == len(other) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )
    return other if same else None


def _noise_like(value: Any) -> Any:
    """Numbers of both signs, the same ones each time; of integers nothing is known, they stay."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    generator = torch.Generator().manual_seed(0)
    return torch.randn(value.shape, generator=generator).to(value.dtype)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors of nested outputs, in order."""
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in tensors_of(part)]
    return [value] if isinstance(value, Tensor) else []


def _attribute(root: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(root.get_submodule(owner), name)


# ---- Rows that nobody gave -----------------------------------------------------------------------


def made_up_rows(graph: Graph) -> dict[str, Tensor]:
    """Rows of zeros, as wide as the layers that read the inputs say.

    Raises
    ------
    ValueError
        Naming the input whose width no layer tells.
    """
    rows = {}
    for step in inputs_of(graph):
        width = _width_of(step, set())
        if width is None:
            raise ValueError(
                f"model: expected to find out how wide rows of '{step.node.target}' are from the "
                "layer that reads them, and cannot: give example= (rows like those that it will "
                "be called with)"
            )
        rows[str(step.node.target)] = torch.zeros(_FEW, width)
    return rows


_KEEPS_WIDTH = {Kind.PASS, Kind.DROPOUT, Kind.CLAMP, Kind.ELEMENTWISE, Kind.FLATTEN, Kind.ROWS}


def _width_of(step: Step, seen: set[fx.Node]) -> int | None:
    """How wide a step's value is, by what reads it."""
    if step.node in seen:
        return None
    seen.add(step.node)
    for user in step.users:
        width = _width_by(user)
        if width is None and user.kind in _KEEPS_WIDTH:
            width = _width_of(user, seen)
        if width is None and user.kind is Kind.ARITHMETIC:
            others = [_width_given(other) for other in user.inputs if other is not step]
            width = next((w for w in others if w), None) or _width_of(user, seen)
        if width is not None:
            return width
    return None


def _width_by(step: Step) -> int | None:
    module = step.module
    if is_known_linear(module) or isinstance(module, QuantizedLinear):
        return module.in_features
    if isinstance(module, nn.BatchNorm1d):
        return module.num_features
    if isinstance(module, nn.LayerNorm):
        return int(module.normalized_shape[-1])
    return None


def _width_given(step: Step) -> int | None:
    """How wide what it gives is, by its own layer or those before it."""
    if isinstance(step.module, nn.Linear):
        return int(step.module.out_features)
    keeps = step.kind in (*_KEEPS_WIDTH, Kind.NORM, Kind.ARITHMETIC)
    if keeps or isinstance(step.module, nn.LayerNorm):
        widths = (_width_given(before) for before in step.inputs)
        return next((width for width in widths if width), None)
    return None
