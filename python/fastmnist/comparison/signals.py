"""How far each layer's outputs are from those of the first variant, in dB.

Layers are found by their path in both. Where one has taken in what followed it, a norm or an
activation, its output is held against that of the last of these in the first variant, or, of an
activation that is a call and no module, against the first variant's output put through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from fastmnist.data.batch import Batch
from fastmnist.int8.network import NO_CLAMP
from fastmnist.layers.functions import torchs
from fastmnist.measuring.sqnr import sqnr
from fastmnist.rewriting.changes import FUSED, changes

ROWS = 512
_MOST_DB = 300.0


@dataclass
class Signals:
    """What a variant gave for the rows.

    Attributes
    ----------
    layers : dict of str to torch.Tensor
        The output of each module's first call, in the order in which these were done.
    outputs : torch.Tensor or None
        None where they are no single tensor.
    """

    layers: dict[str, Tensor] = field(default_factory=dict)
    outputs: Tensor | None = None


def signals_of(variant: Any, rows: Batch, paths: set[str] | None) -> Signals:
    """Run a variant, in the mode that it is in, and keep what its layers give.

    Parameters
    ----------
    paths : set of str or None
        Of modules to listen to; None: all that have weights of their own, or no parts.
    """
    found = Signals()
    with _listened(variant, found.layers, paths):
        outputs = variant(*rows.args, **rows.kwargs)
    if hasattr(outputs, "__array__") and not isinstance(outputs, Tensor):
        outputs = torch.as_tensor(outputs)
    found.outputs = outputs.detach() if isinstance(outputs, Tensor) else None
    return found


@contextmanager
def _listened(variant: Any, outputs: dict[str, Tensor], paths: set[str] | None) -> Any:
    hooks = []
    if _has_layers(variant):
        for path, module in variant.named_modules():
            has_own = any(True for _ in module.parameters(recurse=False))
            wanted = path in paths if paths is not None else has_own or not [*module.children()]
            if wanted:
                hooks.append(module.register_forward_hook(_keeping(path, outputs)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _keeping(path: str, outputs: dict[str, Tensor]) -> Any:
    def keep(module: nn.Module, args: Any, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) and output else output
        if isinstance(output, Tensor) and path not in outputs:
            # A copy: an activation in place would write into what was kept.
            outputs[path] = output.detach().clone()

    return keep


def _has_layers(variant: Any) -> TypeGuard[nn.Module]:
    """Whether it can be listened to: scripted modules take no hooks, and what ``torch.compile``
    made would be compiled anew with them."""
    return isinstance(variant, nn.Module) and not (
        isinstance(variant, torch.jit.ScriptModule) or hasattr(variant, "_orig_mod")
    )


def sqnr_by_layer(
    first: Any, before: Signals, variant: Any, after: Signals
) -> dict[str, float | None]:
    """Compare the layers of two variants; those of one that is no module have none."""
    if not _has_layers(first) or not _has_layers(variant):
        return {}
    modules, absorbed = dict(variant.named_modules()), _absorbed(variant)
    order = {path: i for i, path in enumerate(before.layers)}
    found: dict[str, float | None] = {}
    for path, module in first.named_modules():
        if not any(True for _ in module.parameters(recurse=False)) or path not in order:
            continue
        if path not in after.layers or isinstance(modules.get(path), nn.Identity):
            continue
        last = max([path, *absorbed.get(path, ())], key=lambda p: order.get(p, -1))
        expected, got = before.layers[last], after.layers[path]
        if last == path and path in absorbed:
            expected = _activated(modules[path], expected)
        if expected.shape == got.shape:
            found[path] = decibels(expected, got)
    return found


def wanted_paths(first: Any) -> set[str]:
    """The paths of the layers that are compared, with weights of their own."""
    if not _has_layers(first):
        return set()
    named = first.named_modules()
    return {path for path, module in named if any(True for _ in module.parameters(recurse=False))}


def _absorbed(variant: nn.Module) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for change in changes(variant):
        if change.kind == FUSED:
            found.setdefault(change.layer, []).append(str(change.after))
    return found


def _activated(layer: nn.Module, values: Tensor) -> Tensor:
    """What a layer does behind its product and bias."""
    low, high = getattr(layer, "clamp", NO_CLAMP)
    values = values.clamp(low, high) if (low, high) != NO_CLAMP else values
    function = getattr(layer, "function", None)
    return values if function is None else torchs(function)(values)


def decibels(expected: Tensor, got: Tensor) -> float | None:
    """The SQNR between outputs of one shape; None where they are equal.

    Examples
    --------
    >>> decibels(torch.ones(4), torch.ones(4))
    >>> decibels(torch.tensor([10.0, 0.0]), torch.tensor([10.0, 1.0]))
    20.0
    """
    if torch.equal(expected, got):
        return None
    return max(-_MOST_DB, min(_MOST_DB, sqnr(expected.float(), got.float())))
