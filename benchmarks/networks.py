"""The digits network as each peer runs it. Every case maps float32 rows to logits or classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import fastmnist as fm

Run = Callable[[Any], Any]


@dataclass(frozen=True)
class Case:
    """One way to run the network.

    Attributes
    ----------
    name : str
    run : callable
        Rows to logits, both in the peer's own array type.
    rows : callable
        uint8 pixels ``[N, 784]`` (NumPy) to what `run` takes; not timed.
    """

    name: str
    run: Run
    rows: Run


def _floats(pixels: np.ndarray) -> np.ndarray:
    return (pixels / np.float32(255)).astype(np.float32)


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(_floats(pixels))


def ours(model: nn.Module, calibration: Any) -> list[Case]:
    static = fm.quantize(model, fm.Static(calibration=calibration))
    net = fm.compile(static)
    return [
        Case("fastmnist compiled, uint8 rows", net, lambda p: p),
        Case("fastmnist compiled, float32 rows", net, _floats),
        Case("fastmnist module, static int8", static, _tensor),
        Case("fastmnist module, dynamic int8", fm.quantize(model, fm.Dynamic()), _tensor),
    ]


def numpy_float32(model: Any) -> Case:
    layers = [
        (np.ascontiguousarray(m.weight.detach().numpy().T), m.bias.detach().numpy())
        for m in (model.linear1, model.linear2, model.linear3)
    ]

    def run(x: np.ndarray) -> np.ndarray:
        for weight, bias in layers[:-1]:
            x = x @ weight
            x += bias
            np.maximum(x, 0, out=x)
        weight, bias = layers[-1]
        x = x @ weight
        x += bias
        return x

    return Case("NumPy float32", run, _floats)


def torch_float32(model: nn.Module) -> Case:
    return Case("torch eager float32", model, _tensor)


def torch_ao(model: nn.Module, calibration: torch.Tensor) -> list[Case]:
    """torch.ao dynamic and static int8, with the ceremony that its guides teach."""
    from torch.ao import quantization as ao

    class Stubbed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = ao.QuantStub(), ao.DeQuantStub()
            self.net = nn.Sequential(
                model.linear1, nn.ReLU(), model.linear2, nn.ReLU(), model.linear3
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.dequant(self.net(self.quant(x)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dynamic = ao.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
        engine = "x86" if "x86" in torch.backends.quantized.supported_engines else "fbgemm"
        torch.backends.quantized.engine = engine
        static = Stubbed().eval()
        ao.fuse_modules(static, [["net.0", "net.1"], ["net.2", "net.3"]], inplace=True)
        static.qconfig = ao.get_default_qconfig(engine)
        ao.prepare(static, inplace=True)
        static(calibration)
        ao.convert(static, inplace=True)
    return [
        Case("torch.ao dynamic int8", dynamic, _tensor),
        Case("torch.ao static int8", static, _tensor),
    ]


def onnx_runtime(model: Any, calibration: np.ndarray, threads: int) -> list[Case]:
    """ONNX Runtime float32, and its own static (QDQ) and dynamic int8."""
    import logging
    import tempfile
    from pathlib import Path

    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preprocessing that we don't need
    nodes, initializers, at = [], [], "x"
    layers = [model.linear1, model.linear2, model.linear3]
    for i, layer in enumerate(layers):
        weight = np.ascontiguousarray(layer.weight.detach().numpy().T)
        initializers.append(numpy_helper.from_array(weight, f"w{i}"))
        initializers.append(numpy_helper.from_array(layer.bias.detach().numpy(), f"b{i}"))
        out = "y" if i == len(layers) - 1 else f"h{i}"
        nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], [out]))
        if out != "y":
            nodes.append(helper.make_node("Relu", [out], [f"r{i}"]))
            at = f"r{i}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "digits",
        [value("x", TensorProto.FLOAT, ["n", 784])],
        [value("y", TensorProto.FLOAT, ["n", 10])],
        initializers,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"x": calibration}])

        def get_next(self) -> Any:
            return next(self.batches, None)

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            kind: str(Path(folder, f"{kind}.onnx")) for kind in ("float32", "static", "dynamic")
        }
        onnx.save(made, paths["float32"])
        quantize_static(paths["float32"], paths["static"], Reader(), per_channel=True)
        quantize_dynamic(paths["float32"], paths["dynamic"], weight_type=QuantType.QInt8)
        for kind, path in paths.items():
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            label = "float32" if kind == "float32" else f"{kind} int8"
            cases.append(
                Case(
                    f"ONNX Runtime {label}",
                    lambda x, run=session.run: run(None, {"x": x})[0],
                    _floats,
                )
            )
    return cases
