"""Save and load models: plain tensors and a description, in one safetensors file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from fastmnist.files.container import SavedFile, read, to_bytes, write
from fastmnist.files.fields import required_field
from fastmnist.files.graph_records import compiled_from, compiled_to
from fastmnist.files.records import (
    Arrays,
    pixels_from_json,
    pixels_to_json,
)
from fastmnist.int8.empty_neurons import without_empty_neurons
from fastmnist.int8.graph import NetworkGraph
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.plain import mark_resized
from fastmnist.layers.registry import kind_of, model_class
from fastmnist.pixels import model_pixels, set_model_pixels
from fastmnist.rewriting.changes import (
    Change,
    changes,
    keep_recipe_text,
    recipe_text,
    record,
)
from fastmnist.rewriting.copies import plain_copy
from fastmnist.rewriting.hooks import has_hooks
from fastmnist.rewriting.masks import make_permanent
from fastmnist.rewriting.selection import (
    check_not_prepared,
    named_layers,
    switch_off_transformer_fast_path,
)
from fastmnist.rewriting.swapping import put
from fastmnist.runtime.compiled import CompiledModel
from fastmnist.runtime.planning import check_environment
from fastmnist.saving.chains import build_chain, describe_chain
from fastmnist.saving.checkpoints import told_to_load_elsewhere
from fastmnist.saving.computed import (
    clusters_of,
    joined_clusters,
    masks_of,
    parted_clusters,
    restore_clusters,
    restore_masks,
)
from fastmnist.saving.empty_neurons import leave_out_empty_neurons
from fastmnist.saving.facts import measured_facts
from fastmnist.saving.layers import (
    build_layer,
    describe_layers,
    is_frozen,
    load_tensors,
    to_array,
)
from fastmnist.saving.own_class import own_class_of
from fastmnist.saving.programs import program_of, without_program

_TORCH_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


def save(
    path: str | os.PathLike[str], models: Any, compress: bool = False, *, measured: Any = None
) -> None:
    """Save a model, or several by name, to one safetensors file.

    Parameters
    ----------
    path : str or path
        Replaced atomically, and left unchanged if anything fails. Use the extension .safetensors;
        an extension that torch's files use causes a warning.
    models : nn.Module, CompiledModel or dict of them
        Float, fused, pruned, clustered, quantized or compiled. Masked weights are saved as zeros,
        and clustered ones as their shared values, so :func:`unprune` and :func:`uncluster` cannot
        restore anything after loading.
    compress : bool
        Whether to write as few bytes as possible: all models then form one tensor, coded by
        adaptive context models (``docs/format.md``). Loaded models give the same bits. Chains of
        int8 layers lose neurons that contribute nothing, so their layers may become smaller (in
        float models, ``fm.prune(..., remove_empty=True)`` removes them, which changes the rounding
        of sums). How often calibration saw a zero in each input, which helps to choose kernels, is
        stored as an average. It pays off for pruned and clustered weights, and costs a second per
        few million weights when saving, less when loading.

    measured : Report, score, or dict of str to score, optional
        How good the models are, kept as plain facts: what :func:`compare` returned, or by name what
        :func:`evaluate` did. :func:`describe` tells them again.

    Raises
    ------
    TypeError, ValueError
        If there is nothing to save, a name is not plain text, or a model contains state other than
        tensors.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastmnist as fm, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "digits.safetensors")
    >>> fm.save(path, {"original": fm.NeuralNetwork()})
    >>> [*fm.load(path)]
    ['original']
    """
    described, single = _described(models, compress)
    for name, fact in measured_facts(measured, [*described]).items():
        described[name][0]["measured"] = fact
    if str(path).endswith(_TORCH_ENDINGS):
        warnings.warn(
            f"path: '{path!s}' is written as safetensors, which torch.load does not read: "
            "call it .safetensors, load it with fm.load, or keep torch's own format with "
            "torch.save(model.state_dict(), path)",
            UserWarning,
            stacklevel=2,
        )
    write(path, described, single, compress)


def size(models: Any, compress: bool = False) -> int:
    """Return the size in bytes of the file that :func:`save` would write, without writing it.

    Parameters
    ----------
    models : nn.Module, CompiledModel or dict of them
    compress : bool
        As for :func:`save`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`save`.

    Examples
    --------
    >>> import fastmnist as fm
    >>> model = fm.NeuralNetwork()
    >>> fm.size(model) > 3.5 * fm.size(fm.quantize(model, fm.Dynamic()))
    True
    """
    return len(to_bytes(*_described(models, compress), compress))


def _described(
    models: Any, compress: bool
) -> tuple[dict[str, tuple[dict[str, Any], Arrays]], bool]:
    """Descriptions and tensors by name, and whether a single model was given."""
    if not isinstance(compress, bool):
        raise TypeError(f"compress: expected a bool, got {type(compress).__name__}")
    single = not isinstance(models, Mapping)
    named = {"model": models} if single else models
    if not named:
        raise ValueError("models: expected at least one model, got an empty dict")
    for name in named:
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"models: expected names without '/', got {name!r}")
        if not name.isprintable():
            raise ValueError(f"models: expected names that can be printed, got {name!r}")
    return {name: _describe(name, model, compress) for name, model in named.items()}, single


def load(path: str | os.PathLike[str], into: nn.Module | None = None) -> Any:
    """Load what :func:`save` saved, without unpickling anything.

    Parameters
    ----------
    path : str or path
    into : nn.Module, optional
        A model of the saved class, for models that are not a chain of layers. Its structure is used
        (the model itself is left unchanged); weights and quantized parts come from the file,
        without calibration.

    Returns
    -------
    Mapping of str to model, or the model itself if only one was saved
        A mapping reads and builds each model on first access. Until then it keeps the file open:
        it may be deleted or replaced meanwhile, as :func:`save` does it, but not changed in place.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    TypeError
        If `into` is not a module.
    ValueError
        If the file is not from fastmnist (for weights saved by another tool, the error says what
        they are and how to load them), is damaged, or contains a model that does not fit `into`.
    """
    if into is not None and not isinstance(into, nn.Module):
        hint = f": did you mean {into.__name__}()?" if isinstance(into, type) else ""
        raise TypeError(f"into: expected a torch.nn.Module, got {type(into).__name__}{hint}")
    check_environment()
    try:
        file = read(path)
    except ValueError:
        elsewhere = told_to_load_elsewhere(path)
        if elsewhere is None:
            raise
        raise ValueError(f"{path!s}: {elsewhere}") from None
    loaded = Loaded(str(path), file, into)
    return loaded["model"] if file.single and "model" in file.names else loaded


class Loaded(Mapping[str, Any]):
    """The models of a file, by name, each built when it is first asked for."""

    def __init__(self, path: str, file: SavedFile, into: nn.Module | None) -> None:
        self._path, self._file, self._into = path, file, into
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._file.names:
            raise KeyError(
                f"{self._path}: expected one of its models, {', '.join(self._file.names)}, got "
                f"'{name}'"
            )
        if name not in self._built:
            try:
                description, arrays = self._file.model(name)
                with torch.random.fork_rng(devices=[]):  # new layers draw weights
                    self._built[name] = _build(description, arrays, self._into)
            except (
                ArithmeticError,
                AttributeError,
                LookupError,
                RuntimeError,
                TypeError,
                ValueError,
            ) as error:
                raise ValueError(f"{self._path}: model '{name}': {error}") from None
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.names)

    def __len__(self) -> int:
        return len(self._file.names)

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # an open file is of this process alone

    def __repr__(self) -> str:
        return f"Loaded({self._path!r}: {', '.join(self._file.names)})"


def _describe(name: str, model: Any, compress: bool) -> tuple[dict[str, Any], Arrays]:
    if isinstance(model, CompiledModel):
        network = model.network
        if compress and not isinstance(network, NetworkGraph):
            network = without_empty_neurons(network)
        told, numbers = compiled_to(network)
        return {**told, **_made_by(model)}, numbers
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"models: expected modules or compiled models, got {type(model).__name__} as '{name}'"
        )
    plain = plain_copy(model)
    _check_finished(name, plain)
    if kind_of(plain) is not None and any(map(has_hooks, plain.modules())):
        raise ValueError(
            f"models: expected no hooks on '{name}', which is one layer that a file makes anew, "
            "got some: remove them, or put the layer into a class of your own"
        )
    for module in plain.modules():
        if isinstance(module, FusedLinear):
            module.fold_norms()
    if compress:
        leave_out_empty_neurons(plain)
    masked, clustered, parted = masks_of(plain), clusters_of(plain), parted_clusters(plain)
    make_permanent(plain)
    description: dict[str, Any] = {
        "type": "module",
        "class": own_class_of(plain),
        "pixels": pixels_to_json(model_pixels(plain)),
        "changes": [change.to_json() for change in changes(plain)],
        "masked": masked,
        **({"clustered": clustered} if clustered else {}),
        "replaced": describe_layers(plain),
        "chain": describe_chain(plain),
        **_made_by(model),
    }
    arrays: Arrays = {}
    for key, value in plain.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"models: '{name}' holds '{key}', expected a tensor, got {type(value).__name__}"
            )
        arrays[key] = to_array(value)
    for path, _ in clustered:
        del arrays[f"{path}.weight" if path else "weight"]
    arrays |= parted
    for path, tensor in masked:  # a product with 0 may be -0, which would not count as zero
        key = f"{path}.{tensor}" if path else tensor
        arrays[key] = arrays[key] + np.zeros((), arrays[key].dtype)
    if description["chain"] is None and not clustered:
        program, numbers = program_of(plain.eval(), arrays)
        return {**description, **program}, {**arrays, **numbers}
    return description, arrays


def _made_by(model: Any) -> dict[str, Any]:
    text = recipe_text(model)
    return {} if text is None else {"recipe": text}


def _check_finished(name: str, model: nn.Module) -> None:
    try:
        check_not_prepared(model)
    except ValueError:
        raise ValueError(
            f"models: expected finished models, got '{name}', which is prepared for quantization: "
            "fm.convert it first; torch.save(model.state_dict(), …) keeps it as it is"
        ) from None


def _build(description: dict[str, Any], arrays: Arrays, into: nn.Module | None) -> Any:
    """A model as described. The structure first, then its numbers, then what lies on top of them:
    frozen, masked, clustered, what pixels mean, what was done."""
    kind = description.get("type")
    made_by = description.get("recipe")
    if made_by is not None and not isinstance(made_by, str):
        raise ValueError(f"recipe: expected text, got {type(made_by).__name__}")
    if kind == "compiled":
        net = CompiledModel(compiled_from(description, arrays))
        keep_recipe_text(net, made_by)
        return net
    if kind != "module":
        raise ValueError(f"type: expected 'compiled' or 'module', got {kind!r}")
    clustered = description.get("clustered", [])
    arrays = joined_clusters(clustered, without_program(arrays))
    replaced = required_field(description, "replaced", dict)
    own_class = model_class(description.get("class"))
    if "" in replaced:
        model = build_layer(replaced[""], "", arrays)
        _tell_again(model)
        if parts := {path: part for path, part in replaced.items() if path}:
            _fill(model, parts, arrays)
    elif into is not None or own_class is not None:
        model = plain_copy(into) if into is not None else own_class()  # type: ignore[misc]
        _fill(model, replaced, arrays)
    elif isinstance(description.get("chain"), list):
        model = build_chain(description["chain"], replaced, arrays)
    else:
        raise ValueError(
            "into: expected an instance of its class, as it is no chain of layers, got none: "
            "fm.load(path, into=Net())"
        )
    switch_off_transformer_fast_path(model)
    if any(map(is_frozen, replaced.values())):
        model.requires_grad_(False)  # as quantize returns it
    model.eval()
    restore_masks(model, required_field(description, "masked", list))
    restore_clusters(model, clustered)
    pixels = pixels_from_json(description.get("pixels"))
    if pixels is not None:
        set_model_pixels(model, pixels)
    record(model, map(Change.from_json, required_field(description, "changes", list)))
    keep_recipe_text(model, made_by)
    return model


def _fill(model: nn.Module, replaced: dict[str, Any], arrays: Arrays) -> None:
    """Put the described layers into a model of its class, and load all numbers."""
    make_permanent(model)
    for path, part in replaced.items():
        layer = build_layer(part, path, arrays)
        _tell_again(layer)
        try:
            model.get_submodule(path)
        except AttributeError:
            raise ValueError(
                f"into: expected a model of the class that was saved, with a layer '{path}', got "
                f"{type(model).__name__}, which has none: give a new instance of that class"
            ) from None
        # A layer with several names is put under each of them, once. It may have parts itself.
        if path in {name for name, _ in named_layers(model)}:
            put(model, path, layer)
    load_tensors(model, arrays)


def _tell_again(layer: nn.Module) -> None:
    """What the file had to tell of a layer of torch's, the next file has to tell too."""
    kind = kind_of(layer)
    if kind is not None and kind.describe(layer) is None:
        mark_resized(layer)
