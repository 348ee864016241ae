"""ONNX Runtime: float32, its own static (QDQ) and dynamic int8; by run(), and by bound buffers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.peers.description import U8, Call, Case, Network, floats
from benchmarks.peers.onnx_files import OnnxFiles

NAMES = {
    "float32": "float32",
    "static": "static int8",
    "uint8": "static int8, uint8 rows",
    "dynamic": "dynamic int8",
}


def cases(network: Network) -> list[Case]:
    """Build all."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = network.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    files = OnnxFiles.of(network)
    result = []
    for kind, name in NAMES.items():
        path = str(getattr(files, kind))
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        label = f"ONNX Runtime {name}"
        rows = "uint8" if kind == "uint8" else "float32"
        result += [
            Case(label, "ONNX Runtime", rows, partial(_usual, session, rows)),
            Case(f"{label}, bound", "ONNX Runtime", rows, partial(_bound, session, rows), True),
        ]
    return result


def _usual(session: Any, rows: str, pixels: U8) -> Call:
    """Call it as its guides show."""
    return partial(_first, session.run, pixels if rows == "uint8" else floats(pixels))


def _first(run: Any, x: Any) -> Any:
    return run(None, {"x": x})[0]


def _bound(session: Any, rows: str, pixels: U8) -> Call:
    """Bind rows and outputs once: the fastest way it has to be called."""
    x = pixels if rows == "uint8" else floats(pixels)
    y = np.empty((len(x), session.get_outputs()[0].shape[1]), np.float32)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, x.dtype, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    return partial(_run, session.run_with_iobinding, binding, x, y)


def _run(run: Any, binding: Any, x: Any, y: Any) -> Any:
    run(binding)
    return y
