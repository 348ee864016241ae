"""Pruning taken back."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from fastmnist.rewriting.changes import UNPRUNED, Change
from fastmnist.rewriting.transform import Transform, transformed


def unprune(model: Any, *, inplace: bool = False) -> nn.Module:
    """Return a copy of `model` without masks, with the weights behind them restored.

    They have the values from when they were masked; the other weights keep the effects of
    fine-tuning. To keep the zeros and drop the masks instead, use ``torch.nn.utils.prune.remove``.

    Parameters
    ----------
    model : torch.nn.Module
        Pruned by :func:`prune` or by ``torch.nn.utils.prune``, any parameter; left unchanged.
    inplace : bool
        Change `model` itself, and return it: float32 on the CPU, in eval mode.

    Returns
    -------
    torch.nn.Module
        Of the same class, float32 on the CPU, in eval mode.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If there are no masks, or nothing to restore: after ``remove``, after quantizing, for
        removed neurons, and in models from :func:`~fastmnist.load` (files contain zeros under
        masks).

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model = fm.NeuralNetwork()
    >>> back = fm.unprune(fm.prune(model, fm.L1Unstructured(0.9)))
    >>> torch.equal(back.linear1.weight, model.linear1.weight)
    True
    """
    return transformed(model, _Undoing(), inplace=inplace)


class _Undoing(Transform):
    """What :func:`unprune` does."""

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        masked = _masked(root)
        if not masked:
            raise ValueError(
                "model: expected masks of torch.nn.utils.prune, got a model without any: what was "
                "made permanent (remove, quantize) or removed (Structured) cannot come back"
            )
        if not any(_behind(module, name).any() for _, module, name in masked):
            raise ValueError(
                "model: expected weights behind the masks, got zeros alone: a file of fm.save does "
                "not keep what was removed, and neither does pruning what was zero before"
            )
        return {path: module for path, module, _ in masked}

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        done = []
        with torch.no_grad():
            for path, module, name in _masked(root):
                module.get_buffer(f"{name}_mask").fill_(1)
                torch_prune.remove(module, name)
                done.append(Change(path, UNPRUNED, after=name))
        return root, done


def _masked(root: nn.Module) -> list[tuple[str, nn.Module, str]]:
    return [
        (path, module, hook._tensor_name)
        for path, module in root.named_modules()
        for hook in module._forward_pre_hooks.values()
        if isinstance(hook, torch_prune.BasePruningMethod)
    ]


def _behind(module: nn.Module, name: str) -> Any:
    mask = module.get_buffer(f"{name}_mask")
    return module.get_parameter(f"{name}_orig")[mask == 0]
