"""The int8 Linear layer: a module at its own path, floats (or pixels) in, floats out.

It is an ``nn.Linear``, so that a model's own code goes on as before, but holds codes and scales
instead of float weights. State-dict keys under its path (**contract**)::

    weight_scale       float32 [outputs]            a frozen Parameter
    bias               float32 [outputs] or absent  a frozen Parameter
    weight_int8        int8    [outputs, inputs]
    input_scale        float32 []                   static and affine only
    input_zero_point   int32   []                   static and affine only
    input_multiplier   float32 [inputs]             affine only
    input_offset       float32 [inputs]             affine only

Beside them it keeps the weights once more as this machine's kernels read them (``packed``): neither
in the state_dict nor in pickles, made again whenever numbers are loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.compiler import is_dynamo_compiling

from fastmnist._ops import mlp, mlp_eager
from fastmnist.files.records import (
    clamp_to_json,
    function_to_json,
    layer_arrays,
    layer_from_arrays,
    pixels_to_json,
    zeros_to_json,
)
from fastmnist.int8.activation import Activation
from fastmnist.int8.network import U8, QuantizedNetwork, activation_name
from fastmnist.int8.quantizer import pins_pixels
from fastmnist.int8.sparse_encoding import Encoded, decode, encode
from fastmnist.layers.batchnorm import check_rows
from fastmnist.layers.inputs import check_tensor, readable_rows
from fastmnist.layers.kept import Kept
from fastmnist.layers.quiet import Missing, QuietModule
from fastmnist.layers.registry import Arrays, Description, saved
from fastmnist.layers.torch_onnx import NotForTorchOnnx, refuse_onnx_export
from fastmnist.layers.writes import counted_with, times_written
from fastmnist.runtime.planning import pack_and_plan

_FLOATS, _PIXELS = torch.float32, torch.uint8
_PARAMETERS = ("weight_scale", "bias")
_OF_INPUT = ("input_scale", "input_zero_point", "input_multiplier", "input_offset")


@saved("int8", is_frozen=True, takes_numbers=True)
class QuantizedLinear(QuietModule, NotForTorchOnnx, nn.Linear):
    """One int8 Linear(+activation): ``function(clamp(x @ weight.T + bias))``, callable alone.

    Parameters
    ----------
    network : QuantizedNetwork
        Of one layer: its numbers, and how rows become codes.
    bias : bool
        Whether it has one; without, the network's must be zeros.
    follows_norm : bool
        Whether a BatchNorm1d was folded in: inputs must be rows of features then.

    Attributes
    ----------
    name : str
        Where it was in the model that was quantized.
    kind : {"static", "affine", "dynamic"}
    clamp : (float, float)
        Bounds of the output; ``(0, inf)`` is ReLU.
    function : Activation or None
        What follows the clamp.
    pixels : PixelNormalization or None
        What a uint8 pixel stands for; None where uint8 rows are refused.
    input_zeros : uint8 ``[in_features]`` or None
        See :class:`QuantizedLayer`. No buffer, as no answer depends on it.
    kept : Kept
        Which zeros and shared values a training from here is to keep.

    Raises
    ------
    RuntimeError
        When called on an input that requires grad, with grad mode on, or after a parameter of its
        own was made to require grad.
    TypeError, ValueError
        When called on another dtype or number of features, or on uint8 where the calibration
        saw no pixels.
    """

    packed: Tensor
    packed_of: tuple[Tensor | None, ...]
    packed_at: int
    weight_int8: Tensor
    weight_scale: nn.Parameter
    # Also of those that were pickled before these were known.
    input_zeros: U8 | None = None
    kept: Kept = Kept()
    function: Activation | None = None

    def __init__(
        self, network: QuantizedNetwork, *, bias: bool = True, follows_norm: bool = False
    ) -> None:
        nn.Module.__init__(self)  # nn.Linear's would draw float weights
        (layer,) = network.layers
        self.name, self.kind, self.clamp = layer.name, network.kind, layer.clamp
        self.pixels, self.follows_norm = network.pixels, follows_norm
        self.input_zeros, self.function = layer.input_zeros, layer.function
        self.in_features, self.out_features = layer.inputs, layer.outputs
        # Whether uint8 rows need no look at their shape: one mean and std stand for any.
        self.takes_pixels = network.pixels is not None and network.pixels.channels == 1
        self.register_parameter("bias", None)
        with torch.inference_mode(False):  # what is made in that mode can never be loaded into
            for key, array in layer_arrays(network, 0, "").items():
                tensor = torch.tensor(array)
                if key not in _PARAMETERS:
                    self.register_buffer(key, tensor)
                elif key != "bias" or bias:
                    self.register_parameter(key, nn.Parameter(tensor, requires_grad=False))
        self.repack()
        self.eval()

    # ---- what it holds ---------------------------------------------------------------------------

    @property
    def weight(self) -> Tensor:
        """The real weights ``[outputs, inputs]``, made of codes and scales: read-only.

        Writing into the tensor raises, as what was written would be lost.
        """
        with torch.inference_mode():
            weight = self.weight_int8.float() * self.weight_scale.detach()[:, None]
            if self.kind == "affine" and float(self.get_buffer("input_scale")) == 1.0:
                weight *= self.get_buffer("input_multiplier")  # the columns' scales are folded in
            return weight

    @weight.setter
    def weight(self, value: Any) -> NoReturn:
        self._refuse_weight("assigned to")

    def reset_parameters(self) -> NoReturn:
        """Raise TypeError: there are no float weights to draw."""
        self._refuse_weight("reset")

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        if name not in _PARAMETERS:
            self._refuse_weight("replaced, pruned or parametrized")
        super().register_parameter(name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        if name.startswith("weight_") and name != "weight_int8":
            self._refuse_weight("masked or parametrized")
        super().register_buffer(name, tensor, persistent)

    def __delattr__(self, name: str) -> None:
        if name == "weight" or name in _PARAMETERS or name in self._buffers:
            self._refuse_weight("deleted or parametrized")
        super().__delattr__(name)

    def _refuse_weight(self, done: str) -> NoReturn:
        raise TypeError(
            f"weight of '{self.name}': it cannot be {done}, as the layer is int8: change the float "
            "model before quantizing it, or leave the layer in float with "
            f"exclude=['{self.name}']; fm.prepare_qat makes an int8 model trainable again"
        )

    def network(self) -> QuantizedNetwork:
        """Return the layer as the canonical arrays that its tensors hold."""
        arrays = {
            name: value.detach().cpu().numpy() for name, value in nn.Module.state_dict(self).items()
        }
        return layer_from_arrays(arrays, "", self.describe())

    def describe(self) -> Description:
        """What the state_dict leaves out, as plain JSON."""
        return {
            "type": "int8",
            "kind": self.kind,
            "name": self.name,
            "clamp": clamp_to_json(self.clamp),
            **function_to_json(self.function),
            "bias": self.bias is not None,
            "follows_norm": self.follows_norm,
            "pixels": pixels_to_json(self.pixels),
            **zeros_to_json(self.input_zeros),
            **self.kept.to_json(),
        }

    @classmethod
    def rebuild(cls, description: Description, prefix: str, arrays: Arrays) -> QuantizedLinear:
        """Make one as described, with its numbers."""
        network = layer_from_arrays(arrays, prefix, description)
        follows_norm = description.get("follows_norm") is True
        made = cls(network, bias=description.get("bias") is not False, follows_norm=follows_norm)
        made.kept = Kept.from_json(description)
        return made

    def take_function(self, function: Activation) -> None:
        """Apply a function to the outputs from now on; there must be none yet."""
        if self.function is not None:
            raise ValueError(f"function: expected none yet, got {self.function.title}")
        self.function = function
        self.repack()

    def repack(self) -> None:
        """Lay the weights out for this machine again, after a change of the numbers."""
        network = self.network()
        if not pins_pixels(network):  # other numbers than those of pixels, written or loaded
            self.pixels, self.takes_pixels = None, False
            network = self.network()
        # Cloned into torch's memory, which is aligned as the kernels like it; NumPy's is not.
        # Not in 16 bits: a module holds its canonical weights, too, and must stay smaller than the
        # float one; what a call through torch costs leaves little of what they would gain.
        packed = torch.from_numpy(pack_and_plan(network, without=("int16",))[0]).clone()
        self.register_buffer("packed", packed, persistent=False)
        self._note_what_is_packed()

    def _note_what_is_packed(self) -> None:
        """Remember which tensors were packed and how often they had been written."""
        with torch.no_grad(), torch.inference_mode(False):
            for key in _OF_INPUT:
                if key in self._buffers:  # counted with the codes, as each look takes its time
                    self._buffers[key] = counted_with(self.weight_int8, self.get_buffer(key))
        self.packed_of = self._numbers()
        self.packed_at = times_written(*self.packed_of[:3])

    def _is_packed(self) -> bool:
        """Whether no number was written or replaced since."""
        numbers = self._numbers()
        same = all(a is b for a, b in zip(numbers, self.packed_of, strict=True))
        return same and times_written(*numbers[:3]) == self.packed_at

    def _numbers(self) -> tuple[Tensor | None, ...]:
        of_input = (self._buffers[key] for key in _OF_INPUT if key in self._buffers)
        return (self.bias, self.weight_scale, self.weight_int8, *of_input)

    # ---- what it computes ------------------------------------------------------------------------

    def __call__(self, input: Any = Missing, /, *args: Any, **kwargs: Any) -> Any:
        own = self.__dict__
        parameters, buffers, of = own["_parameters"], own["_buffers"], own["packed_of"]
        bias, scale, codes = parameters["bias"], parameters["weight_scale"], buffers["weight_int8"]
        # What is usual. Else forward converts or says what is wrong; shapes the operator refuses.
        if (
            type(input) is Tensor
            and ((dtype := input.dtype) is _FLOATS or (dtype is _PIXELS and own["takes_pixels"]))
            and not (
                input.requires_grad
                or args
                or kwargs
                or scale.requires_grad
                or (bias is not None and bias.requires_grad)
                or is_dynamo_compiling()
            )
            # _is_packed, written out: a call of it would take longer than a small layer.
            and (bias is of[0] and scale is of[1] and codes is of[2])
            and (
                (kind := own["kind"]) == "dynamic"
                or (buffers["input_scale"] is of[3] and buffers["input_zero_point"] is of[4])
            )
            and (kind != "affine" or buffers["input_multiplier"] is of[5])
            and (kind != "affine" or buffers["input_offset"] is of[6])
            and (at := own["packed_at"]) >= 0
            and at == scale._version + codes._version + (0 if bias is None else bias._version)
            and not (own["follows_norm"] and input.dim() > 2)
            and self.is_quiet()
        ):
            try:
                return mlp_eager(input, buffers["packed"], own["out_features"])
            except Exception:  # of the types that a C++ program sees
                pass
        if input is not Missing:
            args = (input, *args)
        return nn.Module.__call__(self, *args, **kwargs)

    def forward(self, input: Tensor) -> Tensor:
        if isinstance(input, fx.Proxy):  # torch.fx traces: the operator is recorded
            return mlp(input, self.packed, self.out_features)
        check_tensor(input)
        if self.weight_scale.requires_grad or (self.bias is not None and self.bias.requires_grad):
            raise RuntimeError(
                f"layer '{self.name}': expected requires_grad=False, as an int8 layer has no "
                "gradient, got True: use requires_grad_(False) on it; to train a quantized model "
                "on, make it trainable with fm.prepare_qat(model, fm.QAT())"
            )
        if input.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                "input: expected no gradient, which a quantized layer has not, got a tensor that "
                "requires grad: use torch.no_grad() "
                "or torch.inference_mode() for inference; to train a quantized model on, make it "
                "trainable with fm.prepare_qat(model, fm.QAT())"
            )
        is_traced = is_dynamo_compiling() or type(self.weight_int8) is not Tensor
        if is_traced or not self._is_packed():
            (refuse_onnx_export if is_traced else self.repack)()
        if self.follows_norm:
            check_rows(self.name, input)
        rows = readable_rows(input, self.in_features, self.pixels)
        y: Tensor = mlp(rows, self.packed, self.out_features)
        return y

    # ---- how it travels --------------------------------------------------------------------------

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if f"{prefix}weight" in state_dict:
            # An error without `strict`, too: the int8 numbers would stay as they were, in silence.
            error_msgs.append(
                f"'{prefix}weight': a float weight does not fit an int8 layer: load it into the "
                "float model, and quantize that"
            )
            return
        names = [*self._parameters, *self._buffers]
        before = {n: t.detach().clone() for n in names if (t := getattr(self, n)) is not None}
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if all(torch.equal(getattr(self, name), tensor) for name, tensor in before.items()):
            return  # as when a file's layer, which has its numbers, is loaded with the model's
        try:
            self.repack()
        except ValueError:
            for name, tensor in before.items():  # all of the layer, or nothing
                self._put(name, tensor)
            raise

    def _put(self, name: str, tensor: Tensor) -> None:
        if name in self._parameters:
            self._parameters[name] = nn.Parameter(tensor, requires_grad=False)
        else:
            self._buffers[name] = tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        # Moved with the model, but never rounded: `.half()` would spoil scales and biases.
        for key, parameter in self._parameters.items():
            if parameter is not None:
                moved = _moved(parameter.detach(), fn)
                if moved.device.type == parameter.device.type:
                    parameter.data = moved
                else:
                    self._parameters[key] = nn.Parameter(moved, parameter.requires_grad)
        for key, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[key] = _moved(buffer, fn)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> QuantizedLinear:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))  # `packed` too
        (made._note_what_is_packed if self._is_packed() else made.repack)()
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the packed form, and without the zeros where that is smaller."""
        buffers = {key: buffer for key, buffer in self._buffers.items() if key != "packed"}
        on_cpu = self.weight_int8.device.type == "cpu"
        encoded = encode(self.weight_int8.detach().numpy()) if on_cpu else None
        if encoded is not None:
            # As tensors: torch.save writes those as they are, and NumPy's bytes twice as long.
            parts = (torch.from_numpy(encoded.bitmask), torch.from_numpy(encoded.values))
            buffers["weight_int8"] = (*parts, encoded.shape)  # type: ignore[assignment]
        return {**self.__dict__, "_buffers": buffers, "packed_of": ()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        weight = state["_buffers"]["weight_int8"]
        if isinstance(weight, tuple):
            bitmask, values, shape = weight
            dense = torch.from_numpy(decode(Encoded(bitmask.numpy(), values.numpy(), shape)))
            state = {**state, "_buffers": {**state["_buffers"], "weight_int8": dense}}
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.repack()

    def extra_repr(self) -> str:
        text = f"{self.in_features}, {self.out_features}, int8 {self.kind}"
        names = (activation_name(self.clamp), self.function.title if self.function else "")
        activation = ", ".join(filter(None, names)) or None
        text += f", bias={self.bias is not None}, activation={activation}"
        if self.kind != "dynamic":
            scale, zero_point = self.get_buffer("input_scale"), self.get_buffer("input_zero_point")
            text += f", input_scale={scale.item():.4g}, input_zero_point={zero_point.item()}"
        return text if self.pixels is None else f"{text}, takes uint8 pixels"


def _moved(tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    moved = fn(tensor)
    return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)
