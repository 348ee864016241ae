"""Activations, norms and softmax as modules that run native kernels: one arithmetic everywhere.

What stands between int8 layers and cannot be part of them is computed by the same kernels as in a
compiled network, so that both give the same bits on every machine; torch's own functions round as
the machine's vector width has it. Each is of torch's class, has its attributes and parameters, and
falls back to torch's forward where the kernels do not serve: in training, on other devices and
dtypes, where a gradient is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling

from fastmnist._ops import activate, affine, layer_norm, softmax
from fastmnist.files.fields import required_field
from fastmnist.int8.activation import Activation
from fastmnist.layers.batchnorm import affine as gain_and_shift
from fastmnist.layers.functions import activation_of
from fastmnist.layers.own_forward import has_own_forward
from fastmnist.layers.quiet import Missing, QuietModule
from fastmnist.layers.registry import Arrays, Description, Kind, register

# By torch's class: the arguments that make one like it.
_ARGUMENTS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.LeakyReLU: ("negative_slope", "inplace"),
    nn.PReLU: ("num_parameters",),
    nn.ELU: ("alpha", "inplace"),
    nn.CELU: ("alpha", "inplace"),
    nn.SELU: ("inplace",),
    nn.GELU: ("approximate",),
    nn.SiLU: ("inplace",),
    nn.Mish: ("inplace",),
    nn.Hardswish: ("inplace",),
    nn.Hardsigmoid: ("inplace",),
    nn.Sigmoid: (),
    nn.Tanh: (),
    nn.Softplus: ("beta", "threshold"),
    nn.LogSigmoid: (),
    nn.Softsign: (),
    nn.GLU: ("dim",),
    nn.Softmax: ("dim",),
    nn.LogSoftmax: ("dim",),
    nn.LayerNorm: ("normalized_shape", "eps", "elementwise_affine"),
    nn.BatchNorm1d: ("num_features", "eps", "affine"),
}


_SIGMOID = Activation("sigmoid").arguments


class Native(QuietModule):
    """What all of these have in common: when kernels serve, and how files tell of them."""

    torch_class: type[nn.Module]

    def __call__(self, input: Any = Missing, /, *args: Any, **kwargs: Any) -> Any:
        quick = (
            type(input) is Tensor
            and not (args or kwargs or input.requires_grad or is_dynamo_compiling())
            and self.is_quiet()
        )
        if quick:
            return self.forward(input)
        if input is not Missing:
            args = (input, *args)
        return nn.Module.__call__(self, *args, **kwargs)

    def forward(self, input: Tensor) -> Tensor:
        serves = (
            isinstance(input, Tensor)
            and input.dtype is torch.float32
            and input.device.type == "cpu"
            and input.layout is torch.strided
            and not self.training
            and self._fits(input)
        )
        if not serves:
            return self.torchs(input)
        if torch.is_grad_enabled() and (input.requires_grad or self._learns()):
            if is_dynamo_compiling() or self.__dict__.get("inplace"):
                return self.torchs(input)
            learning = [p for p in self._parameters.values() if p is not None and p.requires_grad]
            y: Tensor = _WithGradient.apply(self, input, *learning)  # type: ignore[no-untyped-call]
            return y
        return self.natively(input)

    def _learns(self) -> bool:
        return any(p is not None and p.requires_grad for p in self._parameters.values())

    def _fits(self, x: Tensor) -> bool:
        """Whether kernels compute this on rows like these."""
        return True

    def natively(self, x: Tensor) -> Tensor:
        """By our kernels, on rows that fit."""
        raise NotImplementedError

    def torchs(self, x: Tensor) -> Tensor:
        """What torch's own class computes."""
        result: Tensor = self.torch_class.forward(self, x)
        return result

    def _get_name(self) -> str:
        return self.torch_class.__name__

    def describe(self) -> Description:
        """What the tensors leave out."""
        arguments = {name: getattr(self, name) for name in _ARGUMENTS[self.torch_class]}
        shape = arguments.get("normalized_shape")
        if shape is not None:
            arguments["normalized_shape"] = [*shape]
        return {"type": "native", "class": self.torch_class.__name__, "arguments": arguments}


class _WithGradient(torch.autograd.Function):
    """Our kernels' values, so that a prepared model in eval mode gives the converted one's bits;
    and the gradient that torch's own function has there."""

    @staticmethod
    def forward(ctx: Any, module: Native, x: Tensor, *learning: Tensor) -> Tensor:
        ctx.module = module
        ctx.save_for_backward(x, *learning)
        return module.natively(x.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, *learning = ctx.saved_tensors
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            y = ctx.module.torchs(again)
            wanted = torch.autograd.grad(y, [again, *learning], gradients[0], allow_unused=True)
        return None, *wanted


class _Activation(Native):
    """One number in, one out."""

    def _fits(self, x: Tensor) -> bool:
        return self._function() is not None

    def natively(self, x: Tensor) -> Tensor:
        y: Tensor = activate(x, *self.__dict__["_looked_up"][1])  # when it was asked whether x fits
        # Who asked for it in place reads the input again, under its old name.
        return x.copy_(y) if self.__dict__.get("inplace") else y

    def _function(self) -> tuple[Any, ...] | None:
        """Number and parameters as the operator takes them, looked up where attributes changed."""
        own = self.__dict__
        weight = own["_parameters"].get("weight")  # of PReLU
        # By its number: writing through `weight.data` leaves no other trace.
        slope = float(weight.detach()) if weight is not None and weight.numel() == 1 else None
        key = (*(own.get(name) for name in _ARGUMENTS[self.torch_class]), slope)
        if own.get("_looked_up", ((), None))[0] != key:
            function = activation_of(self)
            own["_looked_up"] = (key, None if function is None else function.arguments)
        looked_up: tuple[Any, ...] | None = own["_looked_up"][1]
        return looked_up


class _Softmax(Native):
    """Over the last dimension; over others it is torch's."""

    dim: int | None

    def _fits(self, x: Tensor) -> bool:
        return self.dim in (-1, x.dim() - 1)

    def natively(self, x: Tensor) -> Tensor:
        y: Tensor = softmax(x, self.torch_class is nn.LogSoftmax)
        return y


class _Glu(Native):
    """One half by the sigmoid of the other, multiplied as a join is."""

    dim: int

    def _fits(self, x: Tensor) -> bool:
        return x.dim() > 0 and x.shape[self.dim] % 2 == 0

    def natively(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, self.dim)
        y: Tensor = value * activate(gate.contiguous(), *_SIGMOID)
        return y


class _LayerNorm(Native):
    """Over the last dimensions, which count as one."""

    normalized_shape: tuple[int, ...]
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def _fits(self, x: Tensor) -> bool:
        over = self.normalized_shape
        return x.shape[-len(over) :] == over

    def natively(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if (weight is None) != (bias is None):
            some = weight if bias is None else bias
            weight = torch.ones_like(some) if weight is None else weight  # type: ignore[arg-type]
            bias = torch.zeros_like(some) if bias is None else bias  # type: ignore[arg-type]
        if len(self.normalized_shape) == 1:
            y: Tensor = layer_norm(x, weight, bias, self.eps)
            return y
        parts = (None if part is None else part.reshape(-1) for part in (weight, bias))
        rows: Tensor = layer_norm(x.flatten(-len(self.normalized_shape)), *parts, self.eps)
        return rows.view(x.shape)


class _BatchNorm1d(Native):
    """By its statistics, as gain and shift: ``fma(x, gain, shift)``."""

    running_mean: Tensor | None
    num_features: int

    def _fits(self, x: Tensor) -> bool:
        known = self.running_mean is not None
        return known and x.dim() in (2, 3) and x.shape[1] == self.num_features

    def natively(self, x: Tensor) -> Tensor:
        parts = [part.detach().float() for part in gain_and_shift(self)]  # type: ignore[arg-type]
        if x.dim() == 3:
            parts = [part[:, None].expand(x.shape[1:]).contiguous() for part in parts]
        y: Tensor = affine(x, *parts)
        return y


def _made(base: type[nn.Module], how: type[Native]) -> type[nn.Module]:
    name = f"Native{base.__name__}"
    # QuietModule's __call__ is not inherited: each class says that it wants it.
    about = {"torch_class": base, "__module__": __name__, "__call__": Native.__call__}
    made = type(name, (how, base), about)
    globals()[name] = made  # pickles find it by that
    return made


_OTHERS = {
    nn.GLU: _Glu,
    nn.Softmax: _Softmax,
    nn.LogSoftmax: _Softmax,
    nn.LayerNorm: _LayerNorm,
    nn.BatchNorm1d: _BatchNorm1d,
}
_NATIVE: dict[type[nn.Module], type[nn.Module]] = {
    base: _made(base, _OTHERS.get(base, _Activation)) for base in _ARGUMENTS
}


def torch_class(module: nn.Module | None) -> type:
    """The class of torch's that a module stands for; else its own."""
    return module.torch_class if isinstance(module, Native) else type(module)


def make_native(module: nn.Module) -> bool:
    """Make a module itself one that runs native kernels; whether it can be."""
    cls = _NATIVE.get(type(module))
    if cls is None or has_own_forward(module):
        return False
    module.__class__ = cls
    return True


def _rebuild(description: Description, prefix: str, arrays: Arrays) -> nn.Module:
    name = required_field(description, "class", str)
    base = next((cls for cls in _ARGUMENTS if cls.__name__ == name), None)
    if base is None:
        raise ValueError(f"class: expected one of torch's activations or norms, got '{name}'")
    given = required_field(description, "arguments", dict)
    arguments = {key: given[key] for key in _ARGUMENTS[base] if key in given}
    _check_sizes(base, arguments, prefix, arrays)
    try:
        made: nn.Module = base(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"arguments of '{prefix}': {error}") from None
    if base is nn.LayerNorm and f"{prefix}bias" not in arrays:
        made.register_parameter("bias", None)
    make_native(made)
    return made.eval()


def _check_sizes(
    base: type[nn.Module], arguments: dict[str, Any], prefix: str, arrays: Arrays
) -> None:
    """Only so large as the file's tensors are: a file must not make us allocate more."""
    sizes: dict[type[nn.Module], tuple[str, Callable[[Any], Any]]] = {
        nn.PReLU: ("num_parameters", lambda n: (n,)),
        nn.BatchNorm1d: ("num_features", lambda n: (n,)),
        nn.LayerNorm: ("normalized_shape", tuple),
    }
    for key, value in arguments.items():
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, bool | int | float | str) for part in parts):
            raise ValueError(f"{key}: expected plain values, got {value!r}")
    if base not in sizes:
        return
    name, shape_of = sizes[base]
    if base is nn.LayerNorm and arguments.get("elementwise_affine") is not True:
        return
    key = f"{prefix}running_mean" if base is nn.BatchNorm1d else f"{prefix}weight"
    array = arrays.get(key)
    try:
        fits = array is not None and array.shape == shape_of(arguments.get(name)) and array.size > 0
    except TypeError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: expected the shape of tensor '{key}', got {arguments.get(name)}")


for _cls in _NATIVE.values():
    register(_cls, Kind("native", lambda m: m.describe(), _rebuild))
