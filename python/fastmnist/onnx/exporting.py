"""``fm.export_onnx``: a module or a compiled model as an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastmnist._version import __version__
from fastmnist.compilation.builder import CALL_IT_AS_IT_IS, USE_THE_MODULE
from fastmnist.compilation.compiling import compile
from fastmnist.files.atomic import check_path, write_atomically
from fastmnist.int8.graph import GraphStep, Input, NetworkGraph, Value
from fastmnist.int8.network import QuantizedNetwork
from fastmnist.onnx.about import KEY, described
from fastmnist.onnx.formulas import PIXELS
from fastmnist.onnx.needed import check_opset, onnx_package
from fastmnist.onnx.steps import Steps
from fastmnist.onnx.writer import Writer
from fastmnist.pixels import PixelNormalization
from fastmnist.rewriting.changes import recipe_text
from fastmnist.runtime.compiled import CompiledModel
from fastmnist.runtime.graph_packing import pixels_in_place

_ADVICE = "torch.onnx.export takes the float model as it is"
INPUT_TYPES = ("float32", "uint8")


def export_onnx(
    model: Any,
    path: str | os.PathLike[str],
    opset: int = 21,
    input: str = "float32",
    *,
    example: Any = None,
) -> Path:
    """Write a model as an ONNX file, for ONNX Runtime, OpenVINO and others.

    Int8 layers are written in QDQ form: uint8 activations, int8 weights with a scale per output
    (4 bits as INT4, from opset 21 on), biases in float32. Rows that are quantized by their own
    range have that rule written out. Everything that :func:`fastmnist.compile` takes is written,
    and the file is checked before it is there.

    Other runtimes round elsewhere than fastmnist does, so that a code may differ by one; and some
    add products up in 16 bits on processors without VNNI, where sums may saturate. See the page
    "ONNX" of the documentation.

    Parameters
    ----------
    model : torch.nn.Module or CompiledModel
        As for :func:`fastmnist.compile`; a float module is written in float32.
    path : str or path
        The file, which is written whole or not at all.
    opset : int
        From 13 to the newest that the installed ``onnx`` knows. Below 20 GELU is written as
        a formula; Mish below 18, LayerNorm below 17, Hardswish below 14.
    input : {"float32", "uint8"}
        What rows are: real values, as the module takes them, or pixels. These stand for what the
        model was trained with, ``(p/255 - mean)/std``.
    example : tensor, tuple of arguments, or dict of keywords, optional
        As for :func:`fastmnist.compile`. The file's input then has the shape of these rows:
        ``[N, 1, 28, 28]`` for images; without, ``[N, features]``.

    Returns
    -------
    pathlib.Path
        Of the file. Its tensors are called "input" and "output"; with several inputs or outputs,
        as the arguments of forward and the keys of the dict, or "output0", "output1", ….

    Raises
    ------
    ImportError
        If the package ``onnx`` is not installed: ``pip install "fastmnist[onnx]"``.
    TypeError, ValueError
        If a step of the model cannot be written (the error names it), `opset` or `input` is
        unknown, or `input` is "uint8" and the model does not know what a pixel stands for.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastmnist as fm, tempfile, torch
    >>> q = fm.quantize(fm.NeuralNetwork(), fm.Static(torch.rand(64, 784)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = fm.export_onnx(q, f"{folder}/digits.onnx")
    ...     back = fm.import_onnx(path)
    >>> x = torch.rand(5, 784)
    >>> torch.equal(back(x), q(x))
    True
    """
    onnx = onnx_package()
    check_path(path)
    check_opset(opset)
    if input not in INPUT_TYPES:
        raise ValueError(f"input: expected 'float32' or 'uint8', got {input!r}")
    graph = as_graph(_network_of(model, example))
    if input == "uint8":
        _check_pixels(graph)
    shapes = _shapes(graph, example)
    made = _written(graph, opset, input, shapes, recipe_text(model))
    onnx.checker.check_model(made, full_check=True)
    target = Path(path)
    write_atomically(target, made.SerializeToString())
    return target


def _network_of(model: Any, example: Any) -> QuantizedNetwork | NetworkGraph:
    if isinstance(model, CompiledModel):
        return model.network
    if isinstance(example, Tensor) and example.dtype == torch.uint8:
        example = example.float()  # its shape is what is asked for
    try:
        return compile(model, plan="fixed", example=example).network
    except ValueError as error:
        text = str(error).replace("cannot compile", "cannot export")
        for advice in (USE_THE_MODULE, CALL_IT_AS_IT_IS):
            text = text.replace(advice, _ADVICE)
        error.args = (text,)
        raise


def as_graph(network: QuantizedNetwork | NetworkGraph) -> NetworkGraph:
    """A chain of int8 layers as a graph of one step."""
    if isinstance(network, NetworkGraph):
        return network
    values = (Value((network.inputs,)), Value((network.outputs,)))
    given = Input("input", 0, network.pixels, any_shape=True)
    step = GraphStep("int8", network.layers[0].name, (0,), 1, network=network)
    return NetworkGraph(values, (given,), (step,), (1,))


def _check_pixels(graph: NetworkGraph) -> None:
    for given in graph.inputs:
        if given.pixels is None:
            raise ValueError(
                f"input: expected 'float32', as it is not known what pixels of '{given.name}' "
                "stand for, got 'uint8': calibrate on pixels, or give mean= and std=, or "
                'pixels="0..255", when quantizing or compiling'
            )


def _shapes(graph: NetworkGraph, example: Any) -> list[tuple[int, ...]]:
    """The shape of a row of each input: that of the example's, where any shape will do."""
    shapes = [graph.values[given.value].shape for given in graph.inputs]
    if example is None:
        return shapes
    if isinstance(example, dict):
        given = [example.get(name.name) for name in graph.inputs]
    else:
        given = [*example] if isinstance(example, tuple | list) else [example]
    for i, (port, rows) in enumerate(zip(graph.inputs, given, strict=False)):
        size = tuple(int(n) for n in getattr(rows, "shape", ())[1:])
        if port.any_shape and size and np.prod(size) == np.prod(shapes[i]):
            shapes[i] = size
    return shapes


def _written(
    graph: NetworkGraph,
    opset: int,
    input_type: str,
    shapes: Sequence[tuple[int, ...]],
    recipe: str | None,
) -> Any:
    onnx = onnx_package()
    helper, proto = onnx.helper, onnx.TensorProto
    names = ["input"] if len(graph.inputs) == 1 else [given.name for given in graph.inputs]
    keys = _output_names(graph, names)
    writer = Writer(opset, [*names, *keys])
    steps = Steps(graph, writer)
    ports = []
    for name, given, shape in zip(names, graph.inputs, shapes, strict=True):
        kind = proto.UINT8 if input_type == "uint8" else proto.FLOAT
        ports.append(helper.make_tensor_value_info(name, kind, ["N", *shape]))
        own = graph.values[given.value].shape
        value = name if shape == own else steps.reshaped(name, own, name)
        if input_type == "uint8":
            _as_pixels(steps, given, value)
        else:
            steps.names[given.value] = value
    for step in graph.steps:
        steps.write(step)
    outputs = []
    for key, given_back in zip(keys, graph.outputs, strict=True):
        last = next(step for step in graph.steps if step.value == given_back)
        writer.give(steps.names[given_back], key, names)
        kind = proto.INT64 if last.kind == "argmax" else proto.FLOAT
        shape = graph.values[given_back].shape
        outputs.append(helper.make_tensor_value_info(key, kind, ["N", *shape]))
    made = helper.make_graph(writer.nodes, "fastmnist", ports, outputs, writer.initializers)
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        made,
        producer_name="fastmnist",
        producer_version=__version__,
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
    )
    about = {"fastmnist.version": __version__, KEY: described(graph, names, keys)}
    if recipe is not None:
        about["fastmnist.recipe"] = recipe
    helper.set_model_props(model, about)
    return model


def _output_names(graph: NetworkGraph, inputs: Sequence[str]) -> list[str]:
    if isinstance(graph.structure, tuple):
        keys = [*graph.structure]
    elif len(graph.outputs) == 1:
        keys = ["output"]
    else:
        keys = [f"output{i}" for i in range(len(graph.outputs))]
    # A tensor of ONNX has one name: an output that is called as an input is told apart.
    taken, made = {*inputs, ""}, []
    for key in keys:
        while key in taken:
            key += "_output"
        taken.add(key)
        made.append(key)
    return made


def _as_pixels(steps: Steps, given: Input, name: str) -> None:
    """Enter an input of pixels: as the codes that they are, or as what these stand for."""
    assert given.pixels is not None
    readers = [step for step in steps.graph.steps if given.value in step.operands]
    as_codes = all(step.network is not None and step.network.kind != "dynamic" for step in readers)
    if as_codes and pixels_in_place(steps.graph, given):
        steps.pixels[given.value] = name
        return
    shape = steps.graph.values[given.value].shape
    steps.names[given.value] = _real_values(steps.writer, given.pixels, name, shape)


def _real_values(
    writer: Writer, pixels: PixelNormalization, name: str, shape: tuple[int, ...]
) -> str:
    """Write what pixels stand for, rounded as ToTensor and Normalize do."""
    if pixels.is_raw or pixels.is_identity:
        return writer.formula(PIXELS[2 if pixels.is_raw else 1], {"pixels": name}, "pixels")
    if pixels.channels == 1:
        mean, std = np.array(pixels.mean), np.array(pixels.std)
    else:
        size = int(np.prod(shape))
        mean, std = (part.reshape(shape) for part in pixels.per_feature(size))
    filled = {"pixels": name, "mean": mean.astype(np.float32), "std": std.astype(np.float32)}
    return writer.formula(PIXELS[0], filled, "pixels")
