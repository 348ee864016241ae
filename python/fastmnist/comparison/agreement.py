"""Whether all forms of a model answer the same: modules, compiled, files, other runtimes."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import fastmnist._core as _core
from fastmnist.display.tables import Table
from fastmnist.runtime.compiled import CompiledModel

Rows = npt.NDArray[Any]
Outputs = npt.NDArray[Any]
_BATCH = 1000
_OF_RANGE = 0.05  # how far an output that is no class may be off


@dataclass(frozen=True)
class Form:
    """One way to ask a model.

    Attributes
    ----------
    name : str
    ask : callable
        ``ask(pixels, floats)`` gives a list of outputs ``[N, …]``, or an array with a class for
        each row; `pixels` is None where the rows are no images.
    """

    name: str
    ask: Callable[[Rows | None, Rows], list[Outputs] | Outputs]


@dataclass(frozen=True)
class Agreement:
    """How a form answers beside the first one.

    Attributes
    ----------
    form : str
    decides_otherwise : int or None
        Rows whose largest output is another, or of outputs that are no classes those off by more
        than a twentieth of their range; None where the form was refused.
    largest : float or None
        Largest difference of an output; None for forms that give classes alone.
    same_bits : bool or None
    why_not : str
        What a form that was refused said.
    """

    form: str
    decides_otherwise: int | None
    largest: float | None
    same_bits: bool | None
    why_not: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(self.__dict__)


def agreements(
    forms: Iterable[Form], pixels: Rows | None, floats: Rows
) -> tuple[list[Agreement], int]:
    """Ask every form for the same rows; the first is what the others are held against.

    Parameters
    ----------
    forms : iterable of Form
    pixels : uint8 array or None
    floats : float32 array
        The same rows as real numbers.

    Returns
    -------
    list of Agreement, int
        One for each form, and how many rows there were.

    Raises
    ------
    ValueError
        If the first form refuses them: there is nothing to hold others against.
    """
    found: list[Agreement] = []
    first: list[Outputs] = []
    for form in forms:
        try:
            outputs = form.ask(pixels, floats)
        except Exception as error:  # a runtime of anybody's: the others are asked all the same
            told = " ".join(str(error).split())
            if not first:
                raise ValueError(
                    f"{form.name}: expected answers to hold others against, got "
                    f"{type(error).__name__}: {told}"
                ) from error
            found.append(Agreement(form.name, None, None, None, f"{type(error).__name__}: {told}"))
            continue
        first = first or (outputs if isinstance(outputs, list) else [outputs])
        found.append(_compared(form.name, first, outputs))
    return found, len(floats)


def _compared(name: str, first: list[Outputs], outputs: list[Outputs] | Outputs) -> Agreement:
    if not isinstance(outputs, list):  # classes
        return Agreement(name, int((_classes(first[0]) != outputs).sum()), None, None)
    if len(outputs) != len(first) or any(
        a.size != b.size for a, b in zip(first, outputs, strict=False)
    ):
        shapes = [[*one.shape] for one in first], [[*one.shape] for one in outputs]
        return Agreement(name, None, None, None, f"expected shapes {shapes[0]}, got {shapes[1]}")
    same, largest, decided = True, 0.0, np.zeros(len(first[0]), bool)
    for a, b in zip(first, outputs, strict=True):
        b = np.ascontiguousarray(b).reshape(a.shape)
        same = same and a.dtype == b.dtype and bool(np.array_equal(_bits(a), _bits(b)))
        with np.errstate(invalid="ignore"):
            apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
        apart[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
        apart[np.isnan(apart)] = np.inf  # a number here, none there
        largest = max(largest, float(apart.max(initial=0.0)))
        if a.ndim == 2 and a.shape[1] > 1:
            decided |= _classes(a) != _classes(b)
        else:
            finite = a[np.isfinite(a)]
            most = _OF_RANGE * float(np.ptp(finite)) if finite.size else 0.0
            decided |= (apart.reshape(len(a), -1) > most).any(1)
    return Agreement(name, int(decided.sum()), largest, same)


def _bits(outputs: Outputs) -> Outputs:
    return np.ascontiguousarray(outputs).reshape(-1).view(np.uint8)


def _classes(outputs: Outputs) -> Outputs:
    classes: Outputs = outputs.reshape(len(outputs), -1).argmax(1)
    return classes


def agreement_table(title: str, found: list[Agreement], rows: int) -> Table:
    """Lay them out."""
    table = Table(title, ["form", "decides otherwise", "largest difference", "same bits"])
    for one in found:
        decides = "-" if one.decides_otherwise is None else f"{one.decides_otherwise:,}"
        largest = "-" if one.largest is None else f"{one.largest:.3g}"
        same = {True: "yes", False: "no", None: "-"}[one.same_bits]
        table.row(one.form, *(("refused", "", "") if one.why_not else (decides, largest, same)))
        if one.why_not:
            table.note(f"{one.form}: {one.why_not}")
    table.note(f"{rows:,} rows; all are held against {found[0].form}")
    return table


# ---- forms ---------------------------------------------------------------------------------------


def in_batches(ask: Callable[[Rows], Any], rows: Rows) -> list[Outputs]:
    """Ask for some rows after the other, and join each output."""
    parts = [_listed(ask(rows[at : at + _BATCH])) for at in range(0, len(rows), _BATCH)]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _listed(outputs: Any) -> list[Outputs]:
    """What a model gives as a list of arrays."""
    if isinstance(outputs, Mapping):
        outputs = [*outputs.values()]
    if isinstance(outputs, tuple | list):
        return [part for output in outputs for part in _listed(output)]
    return [outputs.detach().numpy() if isinstance(outputs, torch.Tensor) else np.asarray(outputs)]


def of_python(name: str, model: Any) -> Form:
    """A module or a compiled model."""

    def ask(pixels: Rows | None, floats: Rows) -> list[Outputs]:
        if isinstance(model, CompiledModel):
            takes = pixels is not None and model.takes_pixels
            return in_batches(model, pixels if takes and pixels is not None else floats)
        assert isinstance(model, nn.Module)
        with torch.no_grad():
            return in_batches(lambda rows: model(torch.from_numpy(rows)), floats)

    return Form(name, ask)


def of_library(name: str, path: str | os.PathLike[str], model: str) -> Form:
    """A model of a file as C++ programs have it."""

    def ask(pixels: Rows | None, floats: Rows) -> list[Outputs]:
        net = _core.NativeModel(os.fsencode(path), model)
        rows = floats
        if pixels is not None and net.takes_pixels:
            rows = pixels
        flat = np.ascontiguousarray(rows.reshape(len(rows), -1))
        return net.run(flat)

    return Form(name, ask)


def of_program(name: str, program: str, path: str | os.PathLike[str], model: str) -> Form:
    """A model of a file in ``fastmnist-run``, which prints classes."""

    def ask(pixels: Rows | None, floats: Rows) -> Outputs:
        import subprocess
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            rows, classes = Path(folder, "rows.npy"), Path(folder, "classes")
            takes = pixels is not None and _core.NativeModel(os.fsencode(path), model).takes_pixels
            given = pixels if takes and pixels is not None else floats
            np.save(rows, np.ascontiguousarray(given.reshape(len(given), -1)))
            done = subprocess.run(
                [program, str(path), str(rows), "--model", model, "--output", str(classes)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise ValueError(done.stderr.strip() or f"exit status {done.returncode}")
            return np.loadtxt(classes, dtype=np.int64, ndmin=1)

    return Form(name, ask)


def of_onnx(path: str | os.PathLike[str]) -> list[Form]:
    """An ONNX file in each runtime that is installed."""
    name = Path(path).name
    forms = []
    if importlib.util.find_spec("onnxruntime"):
        forms.append(Form(f"ONNX Runtime: {name}", _in_onnx_runtime(path)))
    if importlib.util.find_spec("openvino"):
        forms.append(Form(f"OpenVINO: {name}", _in_openvino(path)))
    if not forms:
        raise ModuleNotFoundError(
            f"against: expected onnxruntime or openvino for '{name}', found neither: "
            "pip install onnxruntime"
        )
    return forms


def _in_onnx_runtime(path: str | os.PathLike[str]) -> Callable[[Rows | None, Rows], list[Outputs]]:
    def ask(pixels: Rows | None, floats: Rows) -> list[Outputs]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
        given = session.get_inputs()[0]
        rows = _shaped(given.shape, pixels if "uint8" in given.type else floats)
        return in_batches(lambda x: session.run(None, {given.name: x}), rows)

    return ask


def _in_openvino(path: str | os.PathLike[str]) -> Callable[[Rows | None, Rows], list[Outputs]]:
    def ask(pixels: Rows | None, floats: Rows) -> list[Outputs]:
        import openvino

        model = openvino.Core().compile_model(os.fspath(path), "CPU")
        given = model.input(0)
        wants_pixels = given.element_type == openvino.Type.u8
        sizes = [d.get_length() if d.is_static else None for d in given.partial_shape]
        rows = _shaped(sizes, pixels if wants_pixels else floats)
        return in_batches(lambda x: [model(x)[output] for output in model.outputs], rows)

    return ask


def _shaped(shape: list[Any], rows: Rows | None) -> Rows:
    """Rows in the shape that a model's input has; sizes that are no numbers are any."""
    if rows is None:
        raise ValueError("expected rows of pixels, as the file asks for, got none")
    sizes = [size if isinstance(size, int) and size > 0 else None for size in shape[1:]]
    if len(sizes) == rows.ndim - 1 and all(
        want in (None, got) for want, got in zip(sizes, rows.shape[1:], strict=True)
    ):
        return np.ascontiguousarray(rows)
    if None in sizes:
        return np.ascontiguousarray(rows.reshape(len(rows), -1))
    return np.ascontiguousarray(rows.reshape(len(rows), *sizes))
