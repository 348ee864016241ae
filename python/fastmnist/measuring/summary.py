"""The table of layers that torchsummary prints: output shapes, parameters, megabytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.data.batch import as_input, tree_map
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.pixels import PixelNormalization

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
    *,
    dtypes: torch.dtype | Sequence[torch.dtype] | None = None,
    example: Any = None,
) -> None:
    """Print the table of layers, as torchsummary does.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged, including modes, hooks, gradients and random state.
    input_size : tuple of int, or list of such tuples
        Shape of one input without the batch dimension; a list for several inputs.
    batch_size : int
        Shown as the batch dimension, and multiplies the memory; -1 for any (counts as 1).
    device : torch.device or str
        Where the inputs are created if the model has no tensors; otherwise they are created on the
        model's device.
    dtypes : torch.dtype, or one for each input, optional
        Types of the inputs, such as ``torch.int64`` for an Embedding. Default: the model's own
        float type.
    example : tensor, tuple of arguments, or dict of keywords, optional
        Rows to call the model with, instead of `input_size` and `dtypes`.

    Raises
    ------
    TypeError, ValueError
        If `model` is not a module, `input_size` is not a shape, or the model does not accept it.

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
    print(summarize(model, input_size, batch_size, device, dtypes=dtypes, example=example))


def summarize(
    model: nn.Module,
    input_size: int | Sequence[Any] = (1, 28, 28),
    batch_size: int = -1,
    device: torch.device | str = "cpu",
    *,
    dtypes: torch.dtype | Sequence[torch.dtype] | None = None,
    example: Any = None,
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
    >>> summarize(nn.Embedding(100, 8), (5,), dtypes=torch.int64).layers[0].output_shapes
    ((-1, 5, 8),)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    counted = [(t, grad) for m in model.modules() for t, grad in _own(m)]
    unique = {id(tensor): (tensor, grad) for tensor, grad in counted}.values()
    tensors = [*model.parameters(), *model.buffers()]
    where = tensors[0].device if tensors else torch.device(device)
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    if example is None:
        args, kwargs = _made(input_size, dtypes, model, where), {}
    elif dtypes is not None:
        raise ValueError("dtypes: expected none with example=, which has its own; leave it out")
    else:
        args, kwargs = _of_example(example, where)
    inputs = [*_tensors([args, kwargs])]
    rows: list[LayerSummary] = []
    activations = 0.0
    seen: set[int] = set()

    def record(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal activations
        outputs = [t for t in _tensors(output) if t.ndim]
        activations += sum(t.numel() / max(len(t), 1) * t.element_size() for t in outputs)
        # On a second call, the parameters are already in the first row.
        params = 0 if id(module) in seen else sum(t.numel() for t, _ in _own(module))
        seen.add(id(module))
        shapes = tuple((batch_size, *t.shape[1:]) for t in outputs)
        rows.append(LayerSummary(f"{type(module).__name__}-{len(rows) + 1}", shapes, params))

    with _watched(model, record), torch.no_grad():
        try:
            model(*args, **kwargs)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            got = " and ".join(f"{t.dtype} {list(t.shape[1:])}" for t in inputs)
            raise ValueError(
                f"{'input_size' if example is None else 'example'}: expected what the model takes, "
                f"got {got}: {error}: give dtypes= (torch.int64 for an Embedding), or example=, "
                "rows that it takes"
            ) from error
    batch = abs(batch_size)
    return Summary(
        layers=tuple(rows),
        total_params=sum(t.numel() for t, _ in unique),
        trainable_params=sum(t.numel() for t, grad in unique if grad),
        input_mb=sum(math.prod(t.shape[1:]) * t.element_size() for t in inputs) * batch / _MB,
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


def _made(
    input_size: Any, dtypes: Any, model: nn.Module, device: torch.device
) -> tuple[Tensor, ...]:
    """Inputs of zeros: random ones would change what the caller's next random number is."""
    sizes = _sizes(input_size)
    if dtypes is None:
        floats = [t.dtype for t in model.parameters() if t.is_floating_point()]
        dtypes = floats[0] if floats else torch.float32
    types = [*dtypes] if isinstance(dtypes, Sequence) else [dtypes] * len(sizes)
    if len(types) != len(sizes) or not all(isinstance(dtype, torch.dtype) for dtype in types):
        raise ValueError(
            f"dtypes: expected a torch.dtype, or one for each of {len(sizes)} inputs, got "
            f"{dtypes}: give such as torch.int64, or [torch.int64, torch.float32]"
        )
    pairs = zip(sizes, types, strict=True)
    return tuple(torch.zeros(2, *size, device=device, dtype=dtype) for size, dtype in pairs)


def _of_example(example: Any, device: torch.device) -> tuple[tuple[Any, ...], dict[str, Any]]:
    rows = tree_map(lambda tensor: tensor.to(device), as_input(example, PixelNormalization()))
    if isinstance(rows, Mapping):
        return (), dict(rows)
    return (tuple(rows) if isinstance(rows, tuple | list) else (rows,)), {}


def _sizes(input_size: Any) -> list[tuple[int, ...]]:
    got = repr(input_size)
    if any(True for _ in _tensors(input_size)) or len(got) > 100:  # rows: no one reads them
        got = f"{type(input_size).__name__} of rows"
    several = isinstance(input_size, Sequence) and len(input_size) > 0
    if several and all(isinstance(size, Sequence) for size in input_size):
        sizes = [tuple(size) for size in input_size]
    else:
        sizes = [tuple(input_size) if isinstance(input_size, Sequence) else (input_size,)]
    for size in sizes:
        if not all(isinstance(d, int) and d > 0 for d in size):
            raise ValueError(
                "input_size: expected a shape without the batch dimension, such as (1, 28, 28), or "
                f"a list of shapes, got {got}: give example=, for rows instead of shapes"
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
            # The model itself gets a row only if its layers do not account for everything.
            inner = module is model and any(True for _ in model.children()) and not _own(model)
            if not (container or inner):
                hooks.append(module.register_forward_hook(record))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
