"""ONNX Runtime: float32, its own static (QDQ) and dynamic int8; by run(), and by bound buffers."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.peers import onnx_files
from benchmarks.peers.description import U8, Call, Case, Network, floats


def cases(network: Network) -> list[Case]:
    """Build all three."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = network.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    result = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: Path(folder, f"{kind}.onnx") for kind in ("float32", "static", "dynamic")}
        onnx_files.write_float32(network, paths["float32"])
        onnx_files.write_static(network, paths["float32"], paths["static"])
        onnx_files.write_dynamic(paths["float32"], paths["dynamic"])
        for kind, path in paths.items():
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            name = "float32" if kind == "float32" else f"{kind} int8"
            label = f"ONNX Runtime {name}"
            result += [
                Case(label, "ONNX Runtime", "float32", partial(_usual, session)),
                Case(f"{label}, bound", "ONNX Runtime", "float32", partial(_bound, session), True),
            ]
    return result


def _usual(session: Any, pixels: U8) -> Call:
    """Call it as its guides show."""
    x = floats(pixels)
    return partial(_first, session.run, x)


def _first(run: Any, x: Any) -> Any:
    return run(None, {"x": x})[0]


def _bound(session: Any, pixels: U8) -> Call:
    """Bind rows and outputs once: the fastest way it has to be called."""
    x = floats(pixels)
    y = np.empty((len(x), session.get_outputs()[0].shape[1]), np.float32)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    return partial(_run, session.run_with_iobinding, binding, x, y)


def _run(run: Any, binding: Any, x: Any, y: Any) -> Any:
    run(binding)
    return y
