"""Plain copies: what every transform starts from.

A transform leaves its input as it was and works on a float32 CPU copy in eval mode, whatever the
input was: on a GPU, in bfloat16, wrapped by DDP or ``torch.compile``, pruned by
``torch.nn.utils.prune``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fastmnist.pixels import unwrap


def check_module(model: Any) -> nn.Module:
    """Return `model` unwrapped, or raise TypeError if it is no ``nn.Module``."""
    if not isinstance(model, nn.Module):
        hint = ""
        if isinstance(model, type) and issubclass(model, nn.Module):
            hint = f": did you mean {model.__name__}()?"
        raise TypeError(f"model: expected a torch.nn.Module, got {_kind(model)}{hint}")
    return cast("nn.Module", unwrap(model))


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def plain_copy(model: nn.Module) -> nn.Module:
    """Deep-copy `model` as its float32 CPU self in eval mode.

    Raises
    ------
    TypeError
        If `model` is no module, or holds something that cannot be deep-copied (named).
    ValueError
        If it has tensors without data: a lazy layer that never ran, or the meta device.
    """
    return checked_copy(check_module(model)).cpu().float().eval()


def checked_copy(model: nn.Module) -> nn.Module:
    """Deep-copy `model` as it is, with the errors of :func:`plain_copy`."""
    _check_has_data(model)
    # torch.nn.utils.prune keeps `weight` as the result of a product, which deepcopy refuses.
    memo: dict[int, Any] = {}
    with torch.no_grad():
        for module in model.modules():
            for value in vars(module).values():
                if isinstance(value, torch.Tensor) and not value.is_leaf:
                    memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise TypeError(
            f"model: {_uncopyable(model)} cannot be deep-copied ({type(error).__name__}: {error}): "
            "remove it or give it a __deepcopy__"
        ) from error


def _check_has_data(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"model: expected layers with weights, got '{name}' of a lazy layer that never "
                "ran: call the model on one batch first"
            )
        if tensor.is_meta:
            raise ValueError(
                f"model: expected weights in memory, got '{name}' on device 'meta', which holds "
                "none: use model.to_empty(device='cpu') and load a state_dict"
            )


def rehearsed(model: nn.Module, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Change `model` itself, after a copy has shown that no error comes half way.

    A model that cannot be copied is changed without that.
    """
    try:
        copied: nn.Module | None = checked_copy(model)
    except TypeError:
        copied = None
    if copied is not None:
        change(copied)
    return change(model)


def has_computed_weights(model: nn.Module) -> str | None:
    """The first name of a layer with weight_norm, spectral_norm or another parametrization."""
    for name, module in model.named_modules():
        hooks = module._forward_pre_hooks.values()
        if parametrize.is_parametrized(module) or any(
            isinstance(hook, WeightNorm | SpectralNorm) for hook in hooks
        ):
            return str(name)
    return None


def _uncopyable(model: nn.Module) -> str:
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name in ("_modules", "_parameters", "_buffers"):
                continue
            try:
                copy.deepcopy(value)
            except Exception:
                return f"attribute '{f'{path}.{name}' if path else name}'"
    return "it"
