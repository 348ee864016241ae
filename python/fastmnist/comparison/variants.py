"""The usual line-up: one trained model and what every optimization makes of it."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from fastmnist.compilation.compiling import compile as compile_model
from fastmnist.data.batches import BatchFn, check_repeatable
from fastmnist.display.callers import callers_level
from fastmnist.fusion.fusing import fuse
from fastmnist.pruning import L1Unstructured, prune
from fastmnist.quantization.configs import Dynamic, Half, Static
from fastmnist.quantization.quantizing import quantize


def variants(
    model: nn.Module,
    data: Any,
    *,
    prune_amount: float = 0.5,
    batch_fn: BatchFn | None = None,
    pixels: str | None = None,
    mean: Any = None,
    std: Any = None,
) -> dict[str, Any]:
    """Make the usual variants of a trained model, ready for :func:`fastmnist.compare`.

    Parameters
    ----------
    model : torch.nn.Module
        A trained model; left as it was. If its layers form no chain, ``compiled`` is left out,
        with a warning.
    data : Data, Split, DataLoader, (x, y), …
        To calibrate on; of a bundle, its training half.
    prune_amount : float
        Share of each layer's weights that the pruned variants lose, without fine-tuning.
    batch_fn : callable, optional
        Reads a batch of `data`, as for :func:`fastmnist.evaluate`.
    pixels, mean, std : optional
        What uint8 pixels of `data` stand for, as for :class:`fastmnist.Static`; the results know it
        afterwards, and so does a comparison of them.

    Returns
    -------
    dict of str to model
        ``original``, ``fused``, ``dynamic int8``, ``static int8``, ``bfloat16``,
        ``pruned N %``, ``pruned + int8`` and ``compiled`` (the static int8 network as one native
        call).

    Raises
    ------
    TypeError, ValueError
        As the transforms do.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> x, y = torch.rand(64, 1, 28, 28), torch.randint(0, 10, (64,))
    >>> [*fm.variants(fm.NeuralNetwork(), (x, y))][:4]
    ['original', 'fused', 'dynamic int8', 'static int8']
    """
    check_repeatable(data, "data", "for each variant")
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
    try:
        try:
            made["compiled"] = compile_model(static)
        except ValueError:
            # Of the float model more can be joined: what is compiled has one way in.
            made["compiled"] = compile_model(
                model, data, batch_fn=batch_fn, pixels=pixels, mean=mean, std=std
            )
    except ValueError as error:
        warnings.warn(f"left out 'compiled': {error}", UserWarning, stacklevel=callers_level())
    return made
