"""OpenVINO: the float32 model as it runs it by default (in bfloat16 on AMX), and static int8.

The int8 model is ONNX Runtime's QDQ file, which OpenVINO reads. Once as its guides show (compiled
for any batch size, called with an array), once compiled for the very batch size, with memory of
rows and outputs shared; both on one stream. Pruned weights are kept compressed, as it can.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import openvino as ov

from benchmarks.peers.description import U8, Call, Case, Network, aligned, floats
from benchmarks.peers.onnx_files import OnnxFiles


def cases(network: Network) -> list[Case]:
    """Build both."""
    core = ov.Core()
    files = OnnxFiles.of(network)
    paths = {
        "float32": files.float32,
        "static int8": files.static,
        "static int8, uint8 rows": files.uint8,
    }
    models = {name: core.read_model(path) for name, path in paths.items()}
    result = []
    for name, model in models.items():
        rows = "uint8" if "uint8" in name else "float32"
        compiler = Compiler(core, model, network, rows)
        result += [
            Case(f"OpenVINO {name}", "OpenVINO", rows, compiler.usual),
            Case(f"OpenVINO {name}, one batch size", "OpenVINO", rows, compiler.prepare, True),
        ]
    return result


class Compiler:
    """One model, compiled for each batch size that is asked for."""

    def __init__(self, core: Any, model: Any, network: Network, rows: str) -> None:
        self.core, self.model, self.network = core, model, network
        self.convert = aligned if rows == "uint8" else floats
        self.compiled: dict[int, Any] = {}
        self.config = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(network.threads),
        }
        if network.zeros > 0:  # layers with at least so many zeros are decompressed on the fly
            self.config["CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"] = f"{network.zeros - 0.02:.2f}"
        if "ONEDNN_MAX_CPU_ISA" in os.environ:  # it would take bfloat16 all the same, and fail
            self.config["INFERENCE_PRECISION_HINT"] = "f32"

    def usual(self, pixels: U8) -> Call:
        """Return a call of the model that takes any number of rows."""
        if 0 not in self.compiled:
            self.compiled[0] = self.core.compile_model(self.model, "CPU", self.config)
        return partial(_first, self.compiled[0], self.convert(pixels))

    def prepare(self, pixels: U8) -> Call:
        """Return a call on these rows, with an inference request of its own."""
        rows = len(pixels)
        if rows not in self.compiled:
            model = self.model.clone()
            model.reshape([rows, self.network.layers[0].inputs])
            self.compiled[rows] = self.core.compile_model(model, "CPU", self.config)
        request = self.compiled[rows].create_infer_request()
        x = self.convert(pixels)
        request.set_input_tensor(ov.Tensor(x, shared_memory=True))
        return partial(_run, request.infer, request.get_output_tensor().data, x)


def _first(model: Any, x: Any) -> Any:
    return model(x)[0]


def _run(infer: Any, y: Any, x: Any) -> Any:
    infer(share_inputs=True, share_outputs=True)
    return y
