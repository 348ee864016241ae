"""``fastmnist export`` and ``fastmnist verify``: models in other forms, and whether they agree."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmnist.command.outputs import check_writable

if TYPE_CHECKING:
    from fastmnist.comparison.agreement import Form
    from fastmnist.pixels import PixelNormalization

_PROGRAM = "fastmnist-run"


class NeedsItsClass(ValueError):
    """A model that its class alone can make again."""


def run_info(options: argparse.Namespace) -> int:
    """Print what a file holds."""
    from fastmnist.display.tables import Table
    from fastmnist.files.atomic import write_atomically
    from fastmnist.measuring.metrics import shown
    from fastmnist.saving.facts import describe
    from fastmnist.searching.recipe import Recipe

    about = describe(options.file)
    if options.json:
        write_atomically(options.json, f"{json.dumps(about, indent=2)}\n".encode())
    table = Table(
        f"{options.file}: {about['bytes']:,} bytes, format {about['format']}",
        ["model", "kind", "measured", "changes", "recipe"],
    )
    for name, model in about["models"].items():
        fact = model["measured"] or {}
        score = shown(fact["metric"], fact["score"]) if fact else "-"
        where = f" of {fact['n']:,}" if "n" in fact else ""
        recipe = "-" if model["recipe"] is None else str(Recipe.from_yaml(model["recipe"]))
        kind = f"{model['type']}, {model['precision']}"
        table.row(name, kind, score + where, f"{len(model['changes'])}", recipe)
    print(table)
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Write a model of a file as ONNX, or alone into a file of its own."""
    check_writable(options.output)
    from fastmnist.onnx.exporting import export_onnx
    from fastmnist.saving.save_load import save

    suffix = Path(options.output).suffix.lower()
    file, output = Path(options.file), Path(options.output)
    if file.exists() and output.exists() and output.samefile(file):
        raise ValueError(f"OUTPUT: expected another file than '{file}', got the same")
    if suffix == ".onnx" and options.compress:
        raise ValueError("--compress: expected a file .safetensors, got one of ONNX")
    if suffix == ".safetensors" and (options.opset is not None or options.input is not None):
        raise ValueError("--opset, --input: expected a file .onnx, got one .safetensors")
    name, model = _model_of(options)
    if suffix == ".onnx":
        export_onnx(
            model, options.output, opset=options.opset or 21, input=options.input or "float32"
        )
    elif suffix == ".safetensors":
        save(options.output, {name: model}, compress=options.compress)
    else:
        raise ValueError(f"OUTPUT: expected a file .onnx or .safetensors, got '{options.output}'")
    size = Path(options.output).stat().st_size
    print(f"{name}: saved to {options.output}, {size:,} bytes")
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """Print a table of agreement for each model; status 1 where one decides otherwise."""
    check_writable(options.json)
    from fastmnist.comparison.agreement import agreement_table, agreements
    from fastmnist.files.atomic import write_atomically
    from fastmnist.files.container import read

    names = [*read(options.file).names]
    chosen = options.name or names
    if unknown := [name for name in chosen if name not in names]:
        raise ValueError(f"--name: expected one of {', '.join(names)}, got '{unknown[0]}'")
    if options.program is not None and shutil.which(options.program) is None:
        raise ValueError(f"--program: expected a program, got '{options.program}', which is none")
    pixels, floats, data = _rows(options)
    told_pixels = any(x is not None for x in (options.mean, options.std, options.pixels))
    others = _others(options)
    told: dict[str, Any] = {"file": options.file, "data": data, "models": {}}
    worst, refused = 0, False
    for i, name in enumerate(chosen):
        forms, means = _forms(options, name)
        # What pixels mean the file knows, unless it was said.
        own = floats if pixels is None or means is None or told_pixels else means.to_float(pixels)
        found, count = agreements([*forms, *others], pixels, own)
        if i:
            print()
        print(agreement_table(f"{name}, {data}", found, count))
        told["models"][name] = {"rows": count, "forms": [one.to_json() for one in found]}
        worst = max([worst, *(one.decides_otherwise or 0 for one in found)])
        refused = refused or any(one.why_not for one in found)
    if options.json:
        write_atomically(options.json, f"{json.dumps(told, indent=2)}\n".encode())
    return int(worst > options.allow or refused)


def _model_of(options: argparse.Namespace) -> tuple[str, Any]:
    from fastmnist.files.container import read
    from fastmnist.saving.save_load import load

    names = read(options.file).names
    name = (options.name or [None])[0]
    if name is None and len(names) > 1:
        raise ValueError(f"--name: expected one of {', '.join(names)}, got none")
    name = names[0] if name is None else name
    if name not in names:
        raise ValueError(f"--name: expected one of {', '.join(names)}, got '{name}'")
    try:
        loaded = load(options.file, into=_into(options))
        return name, loaded[name] if hasattr(loaded, "keys") else loaded
    except ValueError as error:
        if options.into is None and "into:" in str(error):
            raise NeedsItsClass(
                f"--into: expected the class of '{name}', as it is no chain of layers, got none: "
                "--into net.py:Net"
            ) from None
        raise


def _into(options: argparse.Namespace) -> Any:
    from fastmnist.command.references import call

    return None if options.into is None else call(options.into, "--into", "PKG.MOD:CLASS")


def _forms(options: argparse.Namespace, name: str) -> tuple[list[Form], PixelNormalization | None]:
    """All that this machine has of a model in the file, and what its pixels mean."""
    from fastmnist.comparison.agreement import of_library, of_program, of_python
    from fastmnist.compilation.compiling import compile
    from fastmnist.pixels import model_pixels
    from fastmnist.runtime.compiled import CompiledModel

    forms: list[Form] = []
    model: Any = None
    try:
        _, model = _model_of(argparse.Namespace(**{**vars(options), "name": [name]}))
    except NeedsItsClass as error:
        print(f"fastmnist: {error}; without it only what needs no class is asked", file=sys.stderr)
    if isinstance(model, CompiledModel):
        forms.append(of_python("compiled", model))
    elif model is not None:
        forms.append(of_python("module", model))
        with contextlib.suppress(ValueError):  # the module itself runs any model
            forms.append(of_python("compiled", compile(model)))
    forms.append(of_library("libfastmnist", options.file, name))
    program = options.program or shutil.which(_PROGRAM)
    if program:
        forms.append(of_program(_PROGRAM, program, options.file, name))
    means = None
    if isinstance(model, CompiledModel):
        means = model.network.pixels
    elif model is not None:
        means = model_pixels(model)
    return forms, means


def _others(options: argparse.Namespace) -> list[Form]:
    """What the file's models are held against beside."""
    from fastmnist.comparison.agreement import of_onnx, of_python
    from fastmnist.saving.save_load import load

    forms: list[Form] = []
    for path in options.against or []:
        suffix = Path(path).suffix.lower()
        if not Path(path).is_file():
            raise FileNotFoundError(f"--against: expected a file, got '{path}', which is none")
        if suffix == ".onnx":
            forms += of_onnx(path)
        elif suffix == ".safetensors":
            loaded = load(path, into=_into(options))
            models = dict(loaded) if hasattr(loaded, "keys") else {"model": loaded}
            forms += [of_python(f"{Path(path).name}: {name}", m) for name, m in models.items()]
        else:
            raise ValueError(f"--against: expected files .onnx or .safetensors, got '{path}'")
    return forms


def _rows(options: argparse.Namespace) -> tuple[Any, Any, str]:
    """Test rows as pixels, where they are images, and as real numbers."""
    import numpy as np
    import torch
    from torch import nn

    from fastmnist.command.sources import source_of
    from fastmnist.command.subject import set_up
    from fastmnist.data.batches import iter_batches
    from fastmnist.data.bundle import Data

    pixels, batch_fn = set_up(options)
    source = source_of(options.data, options.root, pixels, nn.Identity(), batch_fn)
    if isinstance(source.test, Data):
        half = source.test.test
        images = half.images.numpy()[: options.rows]
        return images, half.pixels.to_float(images), source.name
    parts = [
        batch.args[0]
        for batch in iter_batches(
            source.test, split="test", batch_size=1000, batch_fn=batch_fn, max_samples=options.rows
        )
    ]
    rows = torch.cat([torch.as_tensor(part) for part in parts]).to(torch.float32)
    return None, np.ascontiguousarray(rows.numpy()), source.name
