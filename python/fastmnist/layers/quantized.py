"""The modules that transforms put into a model.

:class:`FusedLinear` is a float Linear with its activation; :class:`QuantizedChain` is one or more
quantized Linear layers that run as one operator. Both sit under the name of the first layer that
they replace; ``Identity`` stands under the other names.

State-dict keys of a chain, under its own name (**contract**)::

    layers.<i>.weight            int8    [outputs, inputs]
    layers.<i>.weight_scale      float32 [outputs]
    layers.<i>.bias              float32 [outputs]
    layers.<i>.input_scale       float32 []              static and affine only
    layers.<i>.input_zero_point  int32   []              static and affine only
    input_multiplier             float32 [inputs]        affine only
    input_offset                 float32 [inputs]        affine only
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.compiler import is_dynamo_compiling

import fastmnist._ops as _ops
from fastmnist.files.records import bound_to_json, from_arrays, pixels_to_json, to_arrays
from fastmnist.int8.network import QuantizedLayer, QuantizedNetwork, activation_name
from fastmnist.int8.quantizer import pins_pixels
from fastmnist.int8.sparse_encoding import Encoded, decode, encode
from fastmnist.layers.quiet import Missing, QuietModule
from fastmnist.runtime.planning import pack_and_plan

_FLOATS, _PIXELS = torch.float32, torch.uint8


class QuantizedLinear(nn.Module):
    """The buffers of one layer of a :class:`QuantizedChain`. Not called by itself."""

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor

    def __init__(self, layer: QuantizedLayer, kind: str) -> None:
        super().__init__()
        self.name = layer.name
        self.clamp = layer.clamp
        for key, array in to_arrays(QuantizedNetwork((layer,), kind), "").items():
            name = key.removeprefix("layers.0.")
            if name != key:
                self.register_buffer(name, torch.tensor(array))

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the zeros, where that is smaller."""
        state = self.__dict__.copy()
        on_cpu = self.weight.device.type == "cpu"
        encoded = encode(self.weight.detach().numpy()) if on_cpu else None
        if encoded is not None:
            # As tensors: torch.save writes those as they are, and NumPy's bytes twice as long.
            parts = (torch.from_numpy(encoded.bitmask), torch.from_numpy(encoded.values))
            state["_buffers"] = {**self._buffers, "weight": (*parts, encoded.shape)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        weight = state["_buffers"]["weight"]
        if isinstance(weight, tuple):
            bitmask, values, shape = weight
            dense = torch.from_numpy(decode(Encoded(bitmask.numpy(), values.numpy(), shape)))
            state = {**state, "_buffers": {**state["_buffers"], "weight": dense}}
        super().__setstate__(state)  # type: ignore[no-untyped-call]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        _apply_keeping_dtypes(self, fn)
        return self

    def extra_repr(self) -> str:
        activation = activation_name(self.clamp) or None
        text = f"{self.in_features}, {self.out_features}, activation={activation}"
        if "input_scale" in self._buffers:
            scale, zero_point = self.get_buffer("input_scale"), self.get_buffer("input_zero_point")
            text += f", input_scale={scale.item():.4g}, input_zero_point={zero_point.item()}"
        return f"{text}, weight={self.weight.dtype}".replace("torch.", "")


class QuantizedChain(QuietModule):
    """One or more quantized Linear layers, run as one operator: floats or pixels in, floats out.

    Between its layers activations are handed over as uint8 (static) or requantized per row
    (dynamic); the answers are bit for bit those of the layers run one by one.

    Parameters
    ----------
    network : QuantizedNetwork

    Raises
    ------
    RuntimeError
        When called on an input that requires grad, with grad mode on.
    TypeError, ValueError
        When called on another dtype or number of features, or on uint8 where the calibration
        saw no pixels.
    """

    packed: Tensor

    def __init__(self, network: QuantizedNetwork) -> None:
        super().__init__()
        self.kind = network.kind
        self.pixels = network.pixels
        if network.multiplier is not None and network.offset is not None:
            self.register_buffer("input_multiplier", torch.tensor(network.multiplier))
            self.register_buffer("input_offset", torch.tensor(network.offset))
        self.layers = nn.ModuleList(
            QuantizedLinear(layer, network.kind) for layer in network.layers
        )
        # Of the first layer, which code may ask for under its name; and of all together.
        self.in_features, self.out_features = network.inputs, network.layers[0].outputs
        self.outputs = network.outputs
        # Whether uint8 rows need no look at their shape: one mean and std stand for any.
        self.takes_pixels = network.pixels is not None and network.pixels.channels == 1
        self.register_load_state_dict_post_hook(_repack_after_load)  # type: ignore[no-untyped-call]
        self.repack()
        self.eval()

    def network(self) -> QuantizedNetwork:
        """Return the canonical layers that the buffers hold."""
        arrays = {
            name: buffer.detach().cpu().numpy()
            for name, buffer in self.state_dict().items()
            if name != "packed"
        }
        return from_arrays(arrays, "", self.description())

    def description(self) -> dict[str, Any]:
        """Return what the state_dict leaves out, as plain JSON."""
        rows = [
            {"name": layer.name, "clamp": [bound_to_json(b) for b in layer.clamp]}
            for layer in self._quantized_layers()
        ]
        return {"kind": self.kind, "layers": rows, "pixels": pixels_to_json(self.pixels)}

    def _quantized_layers(self) -> list[QuantizedLinear]:
        return [layer for layer in self.layers if isinstance(layer, QuantizedLinear)]

    def repack(self) -> None:
        """Lay the weights out for this machine again, after a change of the buffers."""
        # Cloned into torch's memory, which is aligned as the kernels like it; NumPy's is not.
        packed = torch.from_numpy(pack_and_plan(self.network())[0]).clone()
        # Machine-specific: neither in the state_dict nor in pickles.
        self.register_buffer("packed", packed, persistent=False)

    def __call__(self, input: Any = Missing, /, *args: Any, **kwargs: Any) -> Any:
        own = self.__dict__
        # All that is usual in one condition. Whatever else there is, forward converts it or says
        # what is wrong; shapes and devices are the operator's to refuse.
        if (
            type(input) is Tensor
            and ((dtype := input.dtype) is _FLOATS or (dtype is _PIXELS and own["takes_pixels"]))
            and not (input.requires_grad or args or kwargs or is_dynamo_compiling())
            and self.is_quiet()
        ):
            try:
                return _ops.mlp_eager(input, own["_buffers"]["packed"], own["outputs"])
            except Exception:  # of the types that a C++ program sees
                pass
        if input is not Missing:
            args = (input, *args)
        return nn.Module.__call__(self, *args, **kwargs)

    def forward(self, input: Tensor) -> Tensor:
        if isinstance(input, fx.Proxy):  # torch.fx traces: the operator is recorded
            return _ops.mlp(input, self.packed, self.outputs)
        if not isinstance(input, Tensor):
            raise TypeError(
                f"input: expected a torch.Tensor, got {type(input).__name__}: use torch.as_tensor"
            )
        if input.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                "input requires grad, but a quantized layer has no gradient: use torch.no_grad() "
                "or torch.inference_mode() for inference; to train a quantized model on, make it "
                "trainable with fm.prepare_qat(model, fm.QAT())"
            )
        if input.dtype == torch.uint8:
            if self.pixels is None:
                raise ValueError(
                    "input: expected floats, got uint8: the calibration saw no pixels; calibrate "
                    "on pixels or give mean= and std= when quantizing"
                )
            if self.pixels.channels > 1 and input.dim() != 2:
                raise ValueError(
                    f"input: expected flattened uint8 images [N, {self.in_features}], channel "
                    f"after channel, as mean and std differ by channel, got {[*input.shape]}"
                )
        elif input.dtype != torch.float32:
            if not input.is_floating_point():
                raise TypeError(f"input: expected floats or uint8 pixels, got {input.dtype}")
            input = input.float()
        if input.dim() < 1 or input.shape[-1] != self.in_features:
            raise ValueError(
                f"input: expected shape [..., {self.in_features}], got {[*input.shape]}"
            )
        if input.device.type != "cpu":
            raise ValueError(
                f"input: expected a CPU tensor, got one on '{input.device}': use input.cpu()"
            )
        y: Tensor = _ops.mlp(input, self.packed, self.outputs)
        return y

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedChain:
        for layer in self._quantized_layers():
            layer._apply(fn)
        _apply_keeping_dtypes(self, fn)
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_buffers"] = {k: v for k, v in self._buffers.items() if k != "packed"}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.repack()

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            where = self.__dict__["_modules"]["layers"][0].name
            raise AttributeError(
                f"'{where}' is an int8 layer, which has no {name} of its own (its layers[0] has): "
                f"where forward reads it, leave the layer in float with exclude=['{where}']"
            )
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        pixels = "" if self.pixels is None else ", takes uint8 pixels"
        return f"{self.in_features}, {self.outputs}, int8 {self.kind}{pixels}"


def _repack_after_load(module: nn.Module, incompatible_keys: Any) -> None:
    if isinstance(module, QuantizedChain):
        # What was loaded may have been calibrated on other rows than pixels.
        if module.pixels is not None and not pins_pixels(module.network()):
            module.pixels, module.takes_pixels = None, False
        module.repack()


def _apply_keeping_dtypes(module: nn.Module, fn: Callable[[Tensor], Tensor]) -> None:
    """Move buffers, but never let ``.half()`` or ``.to(bfloat16)`` round scales and biases."""
    for key, buffer in module._buffers.items():
        if buffer is not None:
            moved = fn(buffer)
            module._buffers[key] = moved if moved.dtype == buffer.dtype else buffer.to(moved.device)
