"""The table of layers that torchsummary prints: output shapes, parameters, megabytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.layers.quantized import QuantizedLinear

_WIDTH = 64
_MB = 1024.0**2


@dataclass(frozen=True)
class LayerSummary:
    """One row: the layer's name, the shapes of its outputs, how many parameters it has."""

    name: str
    output_shapes: tuple[tuple[int, ...], ...]
    params: int


@dataclass(frozen=True)
class Summary:
    """What `summarize` finds; ``str()`` gives the table.

    Parameters
    ----------
    layers : tuple of LayerSummary
        In the order they are called in; one that is called again has a row for each call.
    total_params, trainable_params : int
        Numbers of weights and biases of the whole model, shared ones once.
    input_mb, forward_backward_mb, params_mb : float
        In MB of 1024 x 1024 bytes; activations are counted twice, for the backward pass.
    """

    layers: tuple[LayerSummary, ...]
    total_params: int
    trainable_params: int
    input_mb: float
    forward_backward_mb: float
    params_mb: float

    @property
    def total_mb(self) -> float:
        """All of it, in MB."""
        return self.input_mb + self.forward_backward_mb + self.params_mb

    def __str__(self) -> str:
        thin, thick = "-" * _WIDTH, "=" * _WIDTH
        lines = [thin, f"{'Layer (type)':>20}  {'Output Shape':>25} {'Param #':>15}", thick]
        for layer in self.layers:
            shapes = [list(shape) for shape in layer.output_shapes]
            shown = str(shapes[0] if len(shapes) == 1 else shapes)
            lines.append(f"{layer.name:>20}  {shown:>25} {layer.params:>15,}")
        return "\n".join(
            [
                *lines,
                thick,
                f"Total params: {self.total_params:,}",
                f"Trainable params: {self.trainable_params:,}",
                f"Non-trainable params: {self.total_params - self.trainable_params:,}",
                thin,
                f"Input size (MB): {self.input_mb:0.2f}",
                f"Forward/backward pass size (MB): {self.forward_backward_mb:0.2f}",
                f"Params size (MB): {self.params_mb:0.2f}",
                f"Estimated Total Size (MB): {self.total_mb:0.2f}",
                thin,
            ]
        )


def summary(
    model: nn.Module,
    input_size: int | Sequence[Any] = (1, 28, 28),
    batch_size: int = -1,
    device: torch.device | str = "cpu",
) -> None:
    """Print the table of layers, as torchsummary does.

    Parameters
    ----------
    model : torch.nn.Module
        Stays as it is: modes, hooks, gradients, random numbers.
    input_size : tuple of int, or list of such tuples
        Shape of one input without the batch dimension; a list for several inputs.
    batch_size : int
        What is shown as the batch dimension and multiplies the memory; -1 for any (counts 1).
    device : torch.device or str
        Where the inputs are made, for a model that has no tensors itself; else they are made
        where those are.

    Raises
    ------
    TypeError, ValueError
        If `model` is no module, `input_size` no shape, or the model does not take it.

    Examples
    --------
    >>> summary(nn.Linear(4, 2), (4,))
    ----------------------------------------------------------------
            Layer (type)               Output Shape         Param #
    ================================================================
                Linear-1                    [-1, 2]              10
    ================================================================
    Total params: 10
    Trainable params: 10
    Non-trainable params: 0
    ----------------------------------------------------------------
    Input size (MB): 0.00
    Forward/backward pass size (MB): 0.00
    Params size (MB): 0.00
    Estimated Total Size (MB): 0.00
    ----------------------------------------------------------------
    """
    print(summarize(model, input_size, batch_size, device))


def summarize(
    model: nn.Module,
    input_size: int | Sequence[Any] = (1, 28, 28),
    batch_size: int = -1,
    device: torch.device | str = "cpu",
) -> Summary:
    """Give what `summary` prints, as data.

    Parameters and errors are those of `summary`.

    Returns
    -------
    Summary

    Examples
    --------
    >>> summarize(nn.Linear(4, 2), (4,)).total_params
    10
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    sizes = _sizes(input_size)
    counted = [(t, grad) for m in model.modules() for t, grad in _own(m)]
    unique = {id(tensor): (tensor, grad) for tensor, grad in counted}.values()
    tensors = [*model.parameters(), *model.buffers()]
    where = tensors[0].device if tensors else torch.device(device)
    floats = [t.dtype for t in model.parameters() if t.is_floating_point()]
    # Zeros: random inputs would change what the caller's next random number is.
    inputs = [
        torch.zeros(2, *size, device=where, dtype=floats[0] if floats else torch.float32)
        for size in sizes
    ]
    rows: list[LayerSummary] = []
    activations = 0.0
    seen: set[int] = set()

    def record(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal activations
        outputs = [t for t in _tensors(output) if t.ndim]
        activations += sum(t.numel() / max(len(t), 1) * t.element_size() for t in outputs)
        # What is called a second time has its parameters in the first row already.
        params = 0 if id(module) in seen else sum(t.numel() for t, _ in _own(module))
        seen.add(id(module))
        shapes = tuple((batch_size, *t.shape[1:]) for t in outputs)
        rows.append(LayerSummary(f"{type(module).__name__}-{len(rows) + 1}", shapes, params))

    with _watched(model, record), torch.no_grad():
        try:
            model(*inputs)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ValueError(
                f"input_size: expected what the model takes, got {input_size}: {error}"
            ) from error
    batch = abs(batch_size)
    return Summary(
        layers=tuple(rows),
        total_params=sum(t.numel() for t, _ in unique),
        trainable_params=sum(t.numel() for t, grad in unique if grad),
        input_mb=sum(math.prod(size) for size in sizes) * batch * inputs[0].element_size() / _MB,
        forward_backward_mb=2 * activations * batch / _MB,
        params_mb=sum(t.numel() * t.element_size() for t, _ in unique) / _MB,
    )


def _own(module: nn.Module) -> list[tuple[Tensor, bool]]:
    """Give a module's own weights and biases; of an int8 one, its codes."""
    if isinstance(module, QuantizedLinear):
        return [(t, False) for t in (module.weight_int8, module.bias) if t is not None]
    found = [(p, p.requires_grad) for p in module.parameters(recurse=False)]
    names = () if found else ("weight", "bias")  # others keep int8 numbers as buffers
    return [*found, *((b, False) for n, b in module.named_buffers(recurse=False) if n in names)]


def _sizes(input_size: Any) -> list[tuple[int, ...]]:
    several = isinstance(input_size, Sequence) and len(input_size) > 0
    if several and all(isinstance(size, Sequence) for size in input_size):
        sizes = [tuple(size) for size in input_size]
    else:
        sizes = [tuple(input_size) if isinstance(input_size, Sequence) else (input_size,)]
    for size in sizes:
        if not all(isinstance(d, int) and d > 0 for d in size):
            raise ValueError(
                "input_size: expected a shape without the batch dimension, such as (1, 28, 28), or "
                f"a list of shapes, got {input_size!r}"
            )
    return sizes


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


@contextmanager
def _watched(model: nn.Module, record: Callable[[nn.Module, Any, Any], None]) -> Iterator[None]:
    """Put the model in eval mode with a hook on every layer, and back as it was."""
    modes = [(module, module.training) for module in model.modules()]
    hooks = []
    try:
        model.eval()
        for module, _ in modes:
            container = isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
            # The model itself is a row only where its layers would not tell it all.
            inner = module is model and any(True for _ in model.children()) and not _own(model)
            if not (container or inner):
                hooks.append(module.register_forward_hook(record))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
