"""ONNX files written node by node, for the tests of import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model_of(
    nodes: Sequence[Any],
    arrays: dict[str, Any] | None = None,
    *,
    inputs: dict[str, tuple[int, list[Any]]] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 21,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """Make a model; its input is x, ``[N, 4]``, unless others are given."""
    given = {"x": (TensorProto.FLOAT, ["N", 4])} if inputs is None else inputs
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *about) for name, about in given.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (arrays or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def written(model: onnx.ModelProto, folder: Path) -> Path:
    """Write a model, whatever it is."""
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path
