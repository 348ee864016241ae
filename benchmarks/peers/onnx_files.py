"""A network as ONNX files: float32, static int8 (QDQ), dynamic int8. For those who read them."""

from __future__ import annotations

import logging
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.description import Network, floats


class OnnxFiles:
    """The files of one network, written when they are first asked for, until another asks."""

    _latest: OnnxFiles | None = None

    def __init__(self, network: Network) -> None:
        self.network = network
        self._folder = tempfile.TemporaryDirectory()

    @classmethod
    def of(cls, network: Network) -> OnnxFiles:
        """Return the network's files: two libraries read them, and writing takes seconds."""
        if cls._latest is None or cls._latest.network is not network:
            cls._latest = cls(network)
        return cls._latest

    @cached_property
    def float32(self) -> Path:
        write_float32(self.network, path := self._path("float32"))
        return path

    @cached_property
    def static(self) -> Path:
        write_static(self.network, self.float32, path := self._path("static"))
        return path

    @cached_property
    def uint8(self) -> Path:
        write_uint8(self.static, path := self._path("uint8"))
        return path

    @cached_property
    def dynamic(self) -> Path:
        write_dynamic(self.float32, path := self._path("dynamic"))
        return path

    def _path(self, name: str) -> Path:
        return Path(self._folder.name, f"{name}.onnx")


def write_float32(network: Network, path: Path) -> None:
    """Write the float network: one Gemm, and one Relu where there is one, per layer."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, initializers, at = [], [], "x"
    for i, layer in enumerate(network.layers):
        weight = np.ascontiguousarray(layer.weight.T)
        initializers.append(numpy_helper.from_array(weight, f"w{i}"))
        initializers.append(numpy_helper.from_array(layer.bias, f"b{i}"))
        out = "y" if i == len(network.layers) - 1 else f"r{i}"
        product = f"h{i}" if layer.relu else out
        nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], [product], f"gemm{i}"))
        if layer.relu:
            nodes.append(helper.make_node("Relu", [product], [out], f"relu{i}"))
        at = out
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "network",
        [value("x", TensorProto.FLOAT, ["n", network.layers[0].inputs])],
        [value("y", TensorProto.FLOAT, ["n", network.layers[-1].outputs])],
        initializers,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    onnx.save(made, str(path))


def write_static(network: Network, source: Path, path: Path) -> None:
    """Write the same with quantizers (QDQ): uint8 activations, int8 weights per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"x": floats(network.calibration)}])

        def get_next(self) -> Any:
            return next(self.batches, None)

    _silence()
    quantize_static(
        str(source),
        str(path),
        Reader(),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def write_uint8(static: Path, path: Path) -> None:
    """Write the static network once more, for pixels: without its first quantizer.

    Calibrated on 0…1 that one has a scale of 1/255 and a zero point of 0: a pixel is its code.
    """
    import onnx
    from onnx import TensorProto

    model = onnx.load(str(static))
    graph = model.graph
    (first,) = (n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "x")
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == first.output[0]:
                node.input[i] = "x"
    graph.node.remove(first)
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    onnx.save(model, str(path))


def write_dynamic(source: Path, path: Path) -> None:
    """Write the same with int8 weights, activations quantized at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    _silence()
    quantize_dynamic(str(source), str(path), weight_type=QuantType.QInt8)


def _silence() -> None:
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preprocessing that we don't need
