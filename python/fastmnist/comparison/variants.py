"""The usual line-up: one trained model and what every optimization makes of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from fastmnist.clustering.clusterer import cluster
from fastmnist.clustering.configs import Clusters
from fastmnist.compilation.compiling import compile as compile_model
from fastmnist.data.batches import BatchFn, check_repeatable, iter_batches
from fastmnist.data.meaning import meaning_of
from fastmnist.display.callers import callers_level
from fastmnist.distillation.config import Distillation
from fastmnist.distillation.distilling import distill
from fastmnist.factorization.config import LowRank
from fastmnist.factorization.factorizing import factorize
from fastmnist.fusion.fusing import fuse
from fastmnist.pixels import PixelNormalization, explicit_pixels, set_model_pixels
from fastmnist.pruning import L1Unstructured, Structured, prune
from fastmnist.pruning.methods import checked_integer
from fastmnist.quantization.configs import Dynamic, Half, Static
from fastmnist.quantization.quantizing import quantize
from fastmnist.rewriting.copies import plain_copy
from fastmnist.rewriting.verify import Rows

_ROWS = 8  # as an example


def variants(
    model: nn.Module,
    data: Any,
    *,
    prune_amount: float = 0.5,
    epochs: int = 1,
    batch_fn: BatchFn | None = None,
    pixels: str | None = None,
    mean: Any = None,
    std: Any = None,
) -> dict[str, Any]:
    """Make the usual variants of a trained model, ready for :func:`fastmnist.compare`.

    Parameters
    ----------
    model : torch.nn.Module
        A trained model; left unchanged. Variants that cannot be made from it are skipped, with a
        warning: the compiled ones if a step cannot be part of one call, ``clustered`` if a layer
        has fewer than 16 distinct weights, ``low-rank`` if no layer would become smaller,
        ``distilled`` if neurons cannot be removed.
    data : Data, Split, DataLoader, (x, y), …
        Data to calibrate on, and to teach the distilled variant; for a bundle, its training half.
    prune_amount : float
        Share of each layer's weights that the pruned variants lose, without fine-tuning.
    epochs : int
        Epochs for which the distilled variant is taught.
    batch_fn : callable, optional
        Reads a batch of `data`, as for :func:`fastmnist.evaluate`.
    pixels, mean, std : optional
        What uint8 pixels of `data` mean, as for :class:`fastmnist.Static`. The variants record it,
        so a comparison of them uses it too.

    Returns
    -------
    dict of str to model
        ``original``, ``fused``, ``dynamic int8``, ``static int8``, ``bfloat16``, ``pruned N %``,
        ``pruned + int8``, ``4-bit`` (static, 4-bit weights), ``clustered`` (static int8, 16 values
        per layer), ``low-rank`` (half the weights, by :func:`fastmnist.factorize`), ``distilled``
        (half of each hidden layer's neurons, taught by the model), ``compiled float32`` (the
        original as one native call) and ``compiled`` (the static int8 network as one).

    Raises
    ------
    TypeError, ValueError
        As raised by the transforms.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> x, y = torch.rand(64, 1, 28, 28), torch.randint(0, 10, (64,))
    >>> [*fm.variants(fm.NeuralNetwork(), (x, y))][:4]
    ['original', 'fused', 'dynamic int8', 'static int8']
    """
    check_repeatable(data, "data", "for each variant")
    checked_integer("epochs", epochs, 1)
    config = Static(calibration=data, batch_fn=batch_fn, pixels=pixels, mean=mean, std=std)
    static = quantize(model, config)
    pruned = prune(model, L1Unstructured(prune_amount))
    made: dict[str, Any] = {
        "original": model,
        "fused": fuse(model),
        "dynamic int8": quantize(model, Dynamic(pixels=pixels, mean=mean, std=std)),
        "static int8": static,
        "bfloat16": quantize(model, Half()),
        f"pruned {prune_amount:.0%}".replace("%", " %"): pruned,
        "pruned + int8": quantize(pruned, config),
    }
    told = _told(model, pixels, mean, std)
    rows = _first_rows(told, data, batch_fn)
    ways: dict[str, Callable[[], Any]] = {
        "4-bit": lambda: quantize(model, replace(config, weight_bits=4)),
        "clustered": lambda: quantize(cluster(model, Clusters(16)), config),
        "low-rank": lambda: factorize(told, LowRank(ratio=0.5), data, batch_fn=batch_fn),
        "distilled": lambda: _distilled(told, data, epochs, batch_fn),
        "compiled float32": lambda: compile_model(told, example=rows),
        "compiled": lambda: _compiled(
            static,
            lambda: compile_model(
                model, data, batch_fn=batch_fn, pixels=pixels, mean=mean, std=std
            ),
            rows,
        ),
    }
    for name, way in ways.items():
        try:
            made[name] = way()
        except (TypeError, ValueError) as error:
            warnings.warn(f"left out '{name}': {error}", UserWarning, stacklevel=callers_level())
    return made


def _compiled(static: nn.Module, anew: Callable[[], Any], rows: Rows) -> Any:
    """The static model as one call; made anew of the float one where that can be joined to more:
    what is compiled has one way in."""
    try:
        return compile_model(static, example=rows)
    except ValueError:
        return anew()


def _first_rows(model: nn.Module, data: Any, batch_fn: BatchFn | None) -> Rows:
    """Some rows as the model is called with."""
    pixels = meaning_of(data, model).pixels or PixelNormalization()
    batches = iter_batches(
        data,
        split="train",
        batch_size=_ROWS,
        batch_fn=batch_fn,
        max_samples=_ROWS,
        pixels=pixels,
        model=model,
        name="data",
    )
    return Rows.first_of(next(batches), "data")


def _told(model: nn.Module, pixels: str | None, mean: Any, std: Any) -> nn.Module:
    """The model, or a copy that knows what uint8 pixels stand for."""
    explicit = explicit_pixels(mean, std, pixels)
    if explicit is None:
        return model
    copied = plain_copy(model)
    set_model_pixels(copied, explicit)
    return copied


def _distilled(model: nn.Module, data: Any, epochs: int, batch_fn: BatchFn | None) -> nn.Module:
    student = prune(model, Structured(0.5))
    return distill(
        student,
        model,
        data,
        Distillation(alpha=1.0),  # by the teacher alone: data may be without targets
        epochs=epochs,
        batch_size=128,
        seed=0,
        batch_fn=batch_fn,
    )
