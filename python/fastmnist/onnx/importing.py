"""``fm.import_onnx``: an ONNX file as a torch module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import nn

from fastmnist.files.atomic import check_path
from fastmnist.onnx.about import about_of
from fastmnist.onnx.building import Rows
from fastmnist.onnx.folding import fold
from fastmnist.onnx.matching import Found, Matcher
from fastmnist.onnx.needed import onnx_package
from fastmnist.onnx.operators import Operators
from fastmnist.onnx.reading import (
    File,
    Node,
    Port,
    Unreadable,
    read_file,
    take_inputs_as_attributes,
)
from fastmnist.pixels import set_model_pixels

_WRONG = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_FLOATS, _UINT8 = (1, 10, 11, 6, 7, 16), 2


def import_onnx(path: str | os.PathLike[str]) -> nn.Module:
    """Read an ONNX file as a torch module of Linear layers.

    Takes MLPs, chains and small graphs, of ``torch.onnx.export``, ONNX Runtime's quantizers,
    sklearn-onnx, and :func:`fastmnist.export_onnx`. Nothing in the file is run.

    Float layers become ``nn.Linear``, int8 ones fastmnist's, with just the codes and scales of the
    file: int8 activations are uint8 ones less 128, which is the same. Where a file rounds values to
    codes between steps that are float here, they are kept within the codes' range and not rounded.
    Layers behind DynamicQuantizeLinear, which has one range for the whole batch, take each row by
    its own, so that an answer does not depend on its neighbours. Of classifiers that sklearn-onnx
    wrote the probabilities are handed back, not the labels.

    Parameters
    ----------
    path : str or path
        The file. Numbers that it keeps apart are read from its own folder only.

    Returns
    -------
    torch.nn.Module
        In eval mode: a Sequential where the file is a chain, else a ``torch.fx.GraphModule``. It
        takes float32 rows ``[N, ...]``, in the order of the file's inputs, and gives a tensor, or
        a tuple of several. What a pixel stands for it knows if fastmnist wrote the file.

    Raises
    ------
    ImportError
        If the package ``onnx`` is not installed: ``pip install "fastmnist[onnx]"``.
    OSError
        If the file cannot be read.
    TypeError, ValueError
        If it is no ONNX file, is damaged, or holds what is no part of such a network (the error
        names the operator).

    Examples
    --------
    >>> import fastmnist as fm, tempfile
    >>> model = fm.NeuralNetwork()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     back = fm.import_onnx(fm.export_onnx(model, f"{folder}/net.onnx"))
    >>> [type(layer).__name__ for layer in back]
    ['Linear', 'ReLU', 'Linear', 'ReLU', 'Linear']
    """
    onnx_package()
    check_path(path)
    try:
        with np.errstate(all="ignore"):  # infinities are looked for where they matter
            return _imported(read_file(Path(path)))
    except Unreadable:
        raise
    except _WRONG as error:
        # Attributes and shapes that contradict each other: what the file says, not what we do.
        raise Unreadable(
            f"expected operators whose shapes and attributes fit, got {type(error).__name__}: "
            f"{error}"
        ) from error


def _imported(file: File) -> nn.Module:
    coded = fold(file)
    take_inputs_as_attributes(file)
    _check_order(file)
    file.outputs = _wanted_outputs(file)
    about = about_of(file)
    matcher = Matcher(file)
    founds = {node.outputs[0]: found for node in file.nodes if (found := matcher.found(node))}
    operators = Operators(file, matcher, coded, about)
    needed = _needed(file, matcher, founds)
    inputs = [port for port in file.inputs if port.name in needed]
    if not inputs:
        raise Unreadable("expected outputs that depend on an input, got constants")
    for port in inputs:
        operators.enter(port, _row_shape(port))
    for node in file.nodes:
        if any(name in needed and name not in file.constants for name in node.outputs):
            found = founds.get(node.outputs[0])
            if found is not None:
                operators.take_found(found)
            else:
                operators.take(node)
    outputs: list[Rows] = []
    for port in file.outputs:
        outputs.append(operators.rows(port.name, f"output '{port.name}'"))
    made = operators.building.module(outputs, about.structure)
    known = {operators.meaning.get(port.name) for port in inputs}
    if len(known) == 1:
        set_model_pixels(made, known.pop())
    return made


def _check_order(file: File) -> None:
    """Each value is given once, before it is read."""
    known = {port.name for port in file.inputs} | {*file.constants} | {""}
    given: set[str] = {port.name for port in file.inputs}
    for node in file.nodes:
        if not node.outputs:
            raise Unreadable(f"expected outputs of {node}, got none")
        for name in node.inputs:
            if name not in known:
                raise Unreadable(f"expected input '{name}' of {node} before it, got none")
        for name in node.outputs:
            if name and name in given:
                raise Unreadable(f"expected each value once, got '{name}' twice")
            given.add(name)
            known.add(name)
    for port in file.outputs:
        if port.name not in known:
            raise Unreadable(f"expected an operator that gives output '{port.name}', got none")


def _wanted_outputs(file: File) -> list[Port]:
    """Outputs without the labels that sklearn-onnx puts beside the probabilities."""
    made_by = {name: node for node in file.nodes for name in node.outputs}
    wanted = []
    for port in file.outputs:
        kinds = {node.kind for node in _behind(port.name, made_by)}
        is_label = port.element not in (0, 1, 10, 11) and any(
            kind.startswith("ai.onnx.ml.") and kind != "ai.onnx.ml.Scaler" for kind in kinds
        )
        if not is_label:
            wanted.append(port)
    return wanted or file.outputs


def _behind(name: str, made_by: dict[str, Node]) -> Iterator[Node]:
    """The operators that a value is made by."""
    waiting, seen = [name], {name}
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None:
            continue
        yield node
        for given in node.inputs:
            if given not in seen:
                seen.add(given)
                waiting.append(given)


def _needed(file: File, matcher: Matcher, founds: dict[str, Found]) -> set[str]:
    """The values that outputs are made of, of steps found together without those between."""
    waiting = [port.name for port in file.outputs]
    needed = set(waiting)
    while waiting:
        name = waiting.pop()
        if name in file.constants or (node := matcher.node_of(name)) is None:
            continue
        found = founds.get(node.outputs[0])
        for given in node.inputs if found is None else (found.reads,):
            if given and given not in needed:
                needed.add(given)
                waiting.append(given)
    return needed


def _row_shape(port: Port) -> tuple[int, ...]:
    if port.element == 0:
        raise Unreadable(f"expected a tensor as input '{port.name}', got another kind")
    if port.element not in _FLOATS and port.element != _UINT8:
        raise Unreadable(
            f"expected floats, integers or uint8 pixels as input '{port.name}', got element type "
            f"{port.element}"
        )
    if not port.shape:
        raise Unreadable(f"expected rows as input '{port.name}', got no shape")
    row: list[int] = []
    for size in port.shape[1:]:
        if not isinstance(size, int) or size < 1:
            raise Unreadable(
                f"expected input '{port.name}' whose rows have a fixed shape, got {port.shape}: "
                "export it with the number of rows alone as dynamic dimension"
            )
        row.append(size)
    return tuple(row)
