"""Running ONNX files in ONNX Runtime, for the tests of export and import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

Array = npt.NDArray[Any]
# The newest opset that the ONNX Runtime of these tests is sure to run.
NEWEST_RUN = 21


def session(model: Path | bytes) -> ort.InferenceSession:
    """Open a file in one thread; without sums that saturate on processors without VNNI."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(model: Path | bytes, *inputs: Array) -> list[Array]:
    """Run a file on its inputs, in order; give its outputs."""
    opened = session(model)
    names = [port.name for port in opened.get_inputs()]
    outputs: list[Array] = opened.run(None, dict(zip(names, inputs, strict=True)))
    return outputs


def assert_near(want: Any, got: Any, most: float, what: object = "") -> None:
    """Hold outputs against each other: differences relative to the largest number."""
    want, got = np.asarray(want), np.asarray(got)
    assert want.shape == got.shape, what
    assert want.dtype == got.dtype, what
    if want.dtype.kind == "i":
        assert (want == got).mean() > 0.95, what
        return
    scale = np.abs(want).max() + 1e-9
    assert np.abs(want - got).max() <= most * scale, f"{what}: {np.abs(want - got).max() / scale}"


def kinds(path: Path) -> list[str]:
    """Names of a file's operators, in order."""
    return [node.op_type for node in onnx.load(path).graph.node]
