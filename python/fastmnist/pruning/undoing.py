"""Pruning taken back."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from fastmnist.rewriting.changes import Change, record
from fastmnist.rewriting.copies import plain_copy


def unprune(model: Any) -> nn.Module:
    """Return a copy of `model` without masks: the weights behind them come back.

    They are what they were when they were masked; what fine-tuning did to the others stays.
    To keep the zeros and drop the masks instead, use ``torch.nn.utils.prune.remove``.

    Parameters
    ----------
    model : torch.nn.Module
        Pruned by :func:`prune` or by ``torch.nn.utils.prune``, any parameter; left as it was.

    Returns
    -------
    torch.nn.Module
        Of the same class, float32 on the CPU, in eval mode.

    Raises
    ------
    TypeError
        If `model` is no module.
    ValueError
        If it holds no masks, or nothing behind them: after ``remove``, after quantizing, for
        neurons that are removed and in models from :func:`~fastmnist.load` (a file holds zeros
        under masks) there is nothing left that could come back.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model = fm.NeuralNetwork()
    >>> back = fm.unprune(fm.prune(model, fm.L1Unstructured(0.9)))
    >>> torch.equal(back.linear1.weight, model.linear1.weight)
    True
    """
    whole = plain_copy(model)
    masked = [
        (path, module, hook._tensor_name)
        for path, module in whole.named_modules()
        for hook in module._forward_pre_hooks.values()
        if isinstance(hook, torch_prune.BasePruningMethod)
    ]
    if not masked:
        raise ValueError(
            "model: expected masks of torch.nn.utils.prune, got a model without any: what was "
            "made permanent (remove, quantize) or removed (Structured) cannot come back"
        )
    if not any(_behind(module, name).any() for _, module, name in masked):
        raise ValueError(
            "model: expected weights behind the masks, got zeros alone: a file of fm.save does not "
            "keep what was removed, and neither does pruning what was zero before"
        )
    done = []
    with torch.no_grad():
        for path, module, name in masked:
            module.get_buffer(f"{name}_mask").fill_(1)
            torch_prune.remove(module, name)
            done.append(Change(path, f"unpruned: {name} as it was behind its mask"))
    record(whole, done)
    return whole


def _behind(module: nn.Module, name: str) -> Any:
    mask = module.get_buffer(f"{name}_mask")
    return module.get_parameter(f"{name}_orig")[mask == 0]
