"""OpenVINO: the float32 model as it runs it by default (in bfloat16 on AMX), and static int8.

The int8 model is ONNX Runtime's QDQ file, which OpenVINO reads. Once as its guides show (compiled
for any batch size, called with an array), once compiled for the very batch size, with memory of
rows and outputs shared; both on one stream.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import openvino as ov

from benchmarks.peers import onnx_files
from benchmarks.peers.description import U8, Call, Case, Network, floats


def cases(network: Network) -> list[Case]:
    """Build both."""
    core = ov.Core()
    with tempfile.TemporaryDirectory() as folder:
        plain, static = Path(folder, "float32.onnx"), Path(folder, "static.onnx")
        onnx_files.write_float32(network, plain)
        onnx_files.write_static(network, plain, static)
        models = {"float32": core.read_model(plain), "static int8": core.read_model(static)}
    result = []
    for name, model in models.items():
        compiler = Compiler(core, model, network)
        result += [
            Case(f"OpenVINO {name}", "OpenVINO", "float32", compiler.usual),
            Case(f"OpenVINO {name}, one batch size", "OpenVINO", "float32", compiler.prepare, True),
        ]
    return result


class Compiler:
    """One model, compiled for each batch size that is asked for."""

    def __init__(self, core: Any, model: Any, network: Network) -> None:
        self.core, self.model, self.network = core, model, network
        self.compiled: dict[int, Any] = {}
        self.config = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(network.threads),
        }
        if "ONEDNN_MAX_CPU_ISA" in os.environ:  # it would take bfloat16 all the same, and fail
            self.config["INFERENCE_PRECISION_HINT"] = "f32"

    def usual(self, pixels: U8) -> Call:
        """Return a call of the model that takes any number of rows."""
        if 0 not in self.compiled:
            self.compiled[0] = self.core.compile_model(self.model, "CPU", self.config)
        return partial(_first, self.compiled[0], floats(pixels))

    def prepare(self, pixels: U8) -> Call:
        """Return a call on these rows, with an inference request of its own."""
        rows = len(pixels)
        if rows not in self.compiled:
            model = self.model.clone()
            model.reshape([rows, self.network.layers[0].inputs])
            self.compiled[rows] = self.core.compile_model(model, "CPU", self.config)
        request = self.compiled[rows].create_infer_request()
        x = floats(pixels)
        request.set_input_tensor(ov.Tensor(x, shared_memory=True))
        return partial(_run, request.infer, request.get_output_tensor().data, x)


def _first(model: Any, x: Any) -> Any:
    return model(x)[0]


def _run(infer: Any, y: Any, x: Any) -> Any:
    infer(share_inputs=True, share_outputs=True)
    return y
